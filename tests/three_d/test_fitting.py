"""Fitting scenes to posed images: which rays, which loss, resuming, changing images, and a scene found again."""

import pytest
import torch

from scoredistill.three_d.camera import around, orbit
from scoredistill.three_d.capture import Capture
from scoredistill.three_d.encodings import DenseGrid
from scoredistill.three_d.fitting import PosedImages, adam, fit, held_out_psnr, scene_of
from scoredistill.three_d.scenes.nerf import Field, NeRF
from scoredistill.three_d.scenes.splats import Splats

SIZE = (12, 16)


def ball(rng):
    """A ball with colors, some of them sharp: something to find again."""
    field = Field(DenseGrid((4,), 2, std=1.0, rng=rng), layers=0, blob=(40.0, 0.5), density=50.0, rng=rng)
    return NeRF(field, 48)


def capture_of(scene, n=10, held_out=(2, 7), size=SIZE):
    cameras = around(torch.arange(n) * 137.5, torch.linspace(-20, 60, n), 3.0, 40.0, size)
    with torch.no_grad():
        rendering = scene.render(cameras)
    names = tuple(f"{i}.png" for i in range(n))
    return Capture(rendering.rgb.clamp(0, 1), cameras, names, held_out, rendering.opacity.clamp(0, 1))


def gray(n=3, value=0.5, alpha=None):
    given = None if alpha is None else torch.full((n, 1, *SIZE), alpha)
    return PosedImages(torch.full((n, 3, *SIZE), value), orbit(n, size=SIZE), given)


def empty(views, **given):
    """A scene that shows nothing but its white background, and cannot learn."""
    scene = scene_of(views, DenseGrid((2,), 1), samples=4, **given)
    scene.field.base = -100.0
    return scene


def losses(scene, views, **given):
    return [float(step.loss) for step in fit(scene, views, **given)]


def test_rays_of_pixels_are_those_of_the_cameras():
    views = PosedImages.of(capture_of(NeRF(Field(DenseGrid((2,), 1)), 4)))
    assert len(views) == 8
    origins, directions = views.cameras.rays()
    index = torch.tensor([0, 3, 7]), torch.tensor([0, 5, 11]), torch.tensor([15, 2, 0])
    found = views.rays(*index)
    torch.testing.assert_close(found[0], origins[index])
    torch.testing.assert_close(found[1], directions[index])


def test_a_step_samples_all_images(monkeypatch):
    views, asked = gray(5), []
    scene = empty(views)
    trace = scene.trace
    monkeypatch.setattr(scene, "trace", lambda o, d: asked.append(o) or trace(o, d))
    losses(scene, views, steps=2, rays=100)
    counts = [torch.cdist(o, views.cameras.eyes).argmin(1).bincount(minlength=5) for o in asked]
    assert [len(o) for o in asked] == [100, 100]
    assert min(int(c.min()) for c in counts) > 5
    assert not torch.equal(asked[0], asked[1])


def test_the_loss_is_the_mean_squared_error():
    views = gray()
    assert losses(empty(views), views, steps=2, rays=50) == pytest.approx([0.25, 0.25])
    views = gray(alpha=0.3)
    assert losses(empty(views), views, steps=1, rays=50) == pytest.approx([0.25 + 0.3**2])


@pytest.mark.parametrize("whole", [False, True], ids=["rays", "images"])
def test_masked_pixels_are_in_no_loss_and_no_psnr(whole, rng):
    """Half of the images is wrong by 1, half by 1/2; the mask leaves the latter."""
    views = gray(4, 0.5, alpha=0.0)
    views.images[..., :8], views.alpha[..., :8] = 0.0, 1.0
    views.mask = torch.ones(4, 1, *SIZE)
    views.mask[..., :8] = 0
    nothing = empty(views)
    scene = Splats(30, size=SIZE, rng=rng) if whole else nothing
    if whole:
        with torch.no_grad():
            scene.opacities.fill_(-100.0)
    assert losses(scene, views, steps=2) == pytest.approx([0.25, 0.25], abs=1e-4)
    capture = Capture(views.images, views.cameras, tuple("abcd"), (1,), mask=views.mask)
    assert held_out_psnr(nothing, capture) == pytest.approx(10 * torch.tensor(4.0).log10().item(), abs=1e-3)
    assert PosedImages.of(capture).mask.shape == (3, 1, *SIZE)


def test_images_may_change_between_steps():
    views = gray()
    seen = []
    for step in fit(empty(views), views, steps=3, rays=50):
        seen.append(float(step.loss))
        if step.index == 0:
            views.images[:] = 0.8
        else:
            views.images = torch.zeros_like(views.images)
    assert seen == pytest.approx([0.25, 0.04, 1.0])


def test_a_pixel_is_compared_with_its_own_ray():
    """Images of the background alone, which is known by direction: any mix-up of rows, columns or views shows."""
    views = gray()
    scene = empty(views, background=None)
    with torch.no_grad():
        views.images = scene.render(views.cameras).rgb
    assert float(views.images.std()) > 0.01
    assert losses(scene, views, steps=1, rays=200)[0] < 1e-10


def test_a_scene_is_found_again(rng):
    capture = capture_of(ball(rng), 16, (3, 9), (24, 24))
    scene = scene_of(PosedImages.of(capture), DenseGrid((8, 16), 4, rng=rng), samples=32)
    before = held_out_psnr(scene, capture)
    values = losses(scene, PosedImages.of(capture), steps=80, rays=384)
    assert values[-1] < 0.02 * values[0]
    assert before < 15
    assert held_out_psnr(scene, capture) > 30


@pytest.mark.parametrize("whole", [False, True], ids=["rays", "images"])
def test_a_resumed_fit_is_bit_identical(whole, rng):
    views = PosedImages.of(capture_of(ball(rng)), alpha=True)

    def new():
        g = torch.Generator().manual_seed(5)
        if whole:
            return Splats(30, rng=g, size=SIZE)
        return scene_of(views, DenseGrid((4, 8), 2, rng=g), samples=16)

    given = {"steps": 20, "rays": 200}
    scene, state, seen = new(), None, []
    for step in fit(scene, views, rng=torch.Generator().manual_seed(3), **given):
        seen.append(float(step.loss))
        if step.index == 13:
            state = step.state_dict()
    again = new()
    resumed = [float(step.loss) for step in fit(again, views, rng=torch.Generator(), state=state, **given)]
    assert resumed == seen[14:]
    for a, b in zip(scene.parameters(), again.parameters(), strict=True):
        assert torch.equal(a, b)


def test_splats_are_fitted_by_whole_images(rng):
    views = PosedImages.of(capture_of(ball(rng)), alpha=True)
    scene = Splats(100, rng=rng, size=SIZE)
    values = losses(scene, views, steps=60, rays=2 * SIZE[0] * SIZE[1])
    assert sum(values[-10:]) < 0.6 * sum(values[:10])


def test_learning_rates_decay_or_stay_constant():
    views = gray()
    scene = empty(views)
    made = adam(scene, (0.4, 0.2))
    tables = {id(p) for p in scene.field.encoding.parameters()}
    assert [{id(p) in tables for p in group["params"]} for group in made.param_groups] == [{True}, {False}]
    rates = [
        [g["lr"] for g in step.optimizer.param_groups]
        for step in fit(scene, views, steps=4, rays=8, optimizer=made, decay=0.01)
    ]
    assert rates[0] == [0.4, 0.2]
    assert rates[2] == pytest.approx([0.04, 0.02])
    sgd = lambda parameters: torch.optim.SGD(parameters, lr=0.3)
    for step in fit(scene, views, steps=3, rays=8, optimizer=sgd, decay=1.0):
        assert isinstance(step.optimizer, torch.optim.SGD)
        assert step.optimizer.param_groups[0]["lr"] == 0.3


def test_held_out_psnr_is_the_mean_over_images():
    views = gray(3)
    images = torch.stack([torch.full((3, *SIZE), v) for v in (0.0, 0.9, 0.99)])
    capture = Capture(images, views.cameras, ("a", "b", "c"), (1, 2))
    assert held_out_psnr(empty(views), capture) == pytest.approx(30.0, abs=1e-3)  # 20 and 40 dB under white
    with pytest.raises(ValueError, match="no held-out images"):
        held_out_psnr(empty(views), Capture(images, views.cameras, ("a", "b", "c")))


def test_impossible_arguments_are_refused_before_any_work():
    views = gray()
    scene = empty(views)
    for wrong, reason in (({"steps": 0}, "steps and rays"), ({"rays": 0}, "steps and rays"), ({"decay": 0.0}, "decay")):
        with pytest.raises(ValueError, match=reason):
            fit(scene, views, **wrong)
    with pytest.raises(ValueError, match="3 images of 16x12"):
        PosedImages(views.images, orbit(2, size=SIZE))
    with pytest.raises(ValueError, match="alpha must be"):
        PosedImages(views.images, views.cameras, torch.zeros(2, 1, *SIZE))
