"""Views under transforms: gradients come back by the inverse, their mean moves the image, tiles have no border."""

import pytest
import torch

from scoredistill import distill
from scoredistill.estimators import MSD
from scoredistill.generators import Encoded, Latents, Pixels, Seen
from scoredistill.generators.seen import TRANSFORMS
from scoredistill.priors import GaussianMixture
from scoredistill.priors.base import Prior
from scoredistill.schedule import VE
from scoredistill.times import Bandwidth

ALL = list(TRANSFORMS)
INVERSE = {name: name for name in ALL} | {"rotate90": "rotate270", "rotate270": "rotate90"}


def images(n=1, size=(4, 4)):
    return Latents(n, (3, *size), rng=torch.Generator().manual_seed(0))


def test_the_transforms_are_the_eight_symmetries_of_a_square():
    corner = torch.arange(4.0).reshape(2, 2)
    assert TRANSFORMS["rotate90"](corner).tolist() == [[1, 3], [0, 2]]  # counterclockwise
    assert TRANSFORMS["mirror"](corner).tolist() == [[1, 0], [3, 2]]
    assert TRANSFORMS["flip"](corner).tolist() == [[2, 3], [0, 1]]
    assert len({tuple(change(corner).flatten().tolist()) for change in TRANSFORMS.values()}) == 8


@pytest.mark.parametrize("name", ALL)
def test_the_gradient_comes_back_by_the_inverse(name):
    base = images(2)
    views = torch.cat([Seen(base, [name]).views()[:, :2], torch.tensor([[1, 3], [0, 2]])], 1)
    grad = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(1))
    Seen(base, [name])(views).backward(grad)
    back = TRANSFORMS[INVERSE[name]](grad)
    assert torch.equal(base.values.grad[0], back[0].roll((-1, -3), (-2, -1)))
    assert torch.equal(base.values.grad[1], back[1].roll((0, -2), (-2, -1)))


def test_views_of_an_image_move_it_by_their_mean():
    """Plain steps of mean shift go to the mean of T^-1 y; here the prior wants one pixel bright, upright and turned."""
    bright = torch.zeros(1, 4)
    bright[0, 0] = 1
    prior = Flat(GaussianMixture(bright, torch.tensor([1e-4]), schedule=VE(0.001, 100.0)))
    image = Latents.of(torch.zeros(1, 1, 2, 2))
    seen = Seen(image, ["identity", "rotate180"])
    for _ in distill(seen, prior, MSD(), steps=3, times=Bandwidth(prior.schedule, 1.0, 0.5),
                     optimizer=lambda p: torch.optim.SGD(p, lr=1.0)):  # fmt: skip
        pass
    assert image.values.detach()[0, 0] == pytest.approx(torch.tensor([[0.5, 0.0], [0.0, 0.5]]), abs=1e-3)


class Flat(Prior):
    """A prior of vectors as one of images of two by two pixels."""

    def __init__(self, prior):
        self.prior, self.schedule = prior, prior.schedule

    def eps(self, x_t, t, cond=None):
        return self.prior.eps(x_t.flatten(1), t).view_as(x_t)

    def denoise(self, x_t, t, cond=None):
        return self.prior.denoise(x_t.flatten(1), t).view_as(x_t)


def test_views_are_pairs_of_image_and_transform():
    seen = Seen(images(2), ["identity", "mirror", "flip"])
    assert seen.views()[:, :2].tolist() == [[0, 0], [0, 1], [0, 2], [1, 0], [1, 1], [1, 2]]
    some = seen.views(4, torch.Generator().manual_seed(0))
    assert len({tuple(row) for row in some.tolist()}) == 4
    assert torch.equal(seen(some), seen(seen.views())[some[:, 0] * 3 + some[:, 1]])
    assert not seen.views()[:, 2:].any()


def test_shifts_are_drawn_anew_and_repeat_with_the_seed():
    seen = Seen(images(size=(5, 7)), rolled=True)
    rng = lambda: torch.Generator().manual_seed(3)
    assert torch.equal(seen.views(rng=rng()), seen.views(rng=rng()))
    again = rng()
    assert not torch.equal(seen.views(rng=again), seen.views(rng=again))
    shifts = torch.cat([seen.views(rng=again) for _ in range(100)])[:, 2:]
    assert set((shifts[:, 0] % 5).tolist()) == set(range(5))
    assert set((shifts[:, 1] % 7).tolist()) == set(range(7))


def test_each_transform_has_its_prompt():
    seen = Seen(images(2), ["identity", "mirror"])
    cond = seen.conditions({"text": torch.tensor([[1.0], [2.0]])})
    assert cond(seen.views())["text"].flatten().tolist() == [1, 2, 1, 2]
    with pytest.raises(ValueError, match="has 1 rows for 2 transforms: give one for each"):
        seen.conditions({"text": torch.zeros(1, 1)})


def test_images_are_decoded_before_they_are_turned():
    seen = Seen(images(), ["rotate90"])
    stripes = lambda x: torch.arange(4.0).view(1, 1, 1, 4).expand(len(x), 3, 4, 4)
    assert seen.images(seen.views(), stripes)[0, 0, :, 0].tolist() == [3, 2, 1, 0]
    pixels = Seen(Pixels(1, (4, 4)), ["mirror"])
    shown = pixels.images(pixels.views(), lambda x: x * 0)
    assert torch.equal(shown, pixels.generator.values.detach().flip(-1))
    assert Encoded(pixels, Flat(GaussianMixture(torch.zeros(1, 4), torch.ones(1))))(pixels.views()).shape == (
        1,
        3,
        4,
        4,
    )


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Seen(images(), []), "transforms must be a list of identity"),
        (lambda: Seen(images(), "mirror"), "not 'mirror'"),
        (lambda: Seen(images(), ["rotate45"]), "rotate45"),
        (lambda: Seen(images()).views(2), "from 1 to all 1 views, not 2"),
        (lambda: Seen(images()).views(0), "not 0"),
        (lambda: square(["identity", "transpose"]), "transpose needs square images, not 4 x 6"),
    ],
)
def test_mistakes_are_said(make, said):
    with pytest.raises(ValueError, match=said):
        make()


def square(transforms):
    seen = Seen(images(size=(4, 6)), transforms)
    seen(seen.views())
