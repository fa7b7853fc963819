r"""Several views of one image, under flips, quarter rotations, transposition and periodic shifts.

With a prompt for each view, an image is one thing upright and another one upside down. With shifts x(q) -> x(q + s)
that wrap around the borders, drawn anew in every step, no place of the image is its border: it is a seamless tile.

Each transform T only moves pixels, so that the gradient of a view goes back by the inverse. The views of an image in a
step, v of them, move it by the mean of what they ask for,

    update = (1 / v) sum_i T_i^{-1} g_i.

Reference: Visual Anagrams (Geng et al. 2023), https://arxiv.org/abs/2311.17919, average the noise that a sampler
predicts for the views in the same way.
"""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from scoredistill.generators.base import Generator
from scoredistill.priors.conditions import Cond

TRANSFORMS: dict[str, Callable[[Tensor], Tensor]] = {
    "identity": lambda x: x,
    "rotate90": lambda x: x.rot90(1, (-2, -1)),
    "rotate180": lambda x: x.rot90(2, (-2, -1)),
    "rotate270": lambda x: x.rot90(3, (-2, -1)),
    "mirror": lambda x: x.flip(-1),
    "flip": lambda x: x.flip(-2),
    "transpose": lambda x: x.mT,
    "antitranspose": lambda x: x.mT.flip(-2, -1),
}
"""Rotations are counterclockwise; "mirror" swaps left and right, "flip" top and bottom."""


class Seen(Generator):
    """The images of another generator, each seen under several transforms; a view is (image, transform, down, right).

    Latents of most autoencoders do not turn with their images: see images, with `Decoded(...)` as the estimator or
    `Encoded(Seen(...), prior)`, unless the prior's samples are images.

    Args:
        generator: renders images [n, c, h, w], or other samples whose last two axes are height and width.
        transforms: names in `TRANSFORMS`; those that swap the sides need square images.
        rolled: shift each image by a random number of pixels in every step, with wrap-around, before the transform. The
            views of an image have different shifts.

    Raises:
        ValueError: for unknown or no transforms; when rendering, for images that a transform does not fit.
    """

    def __init__(self, generator: Generator, transforms: Sequence[str] = ("identity",), rolled: bool = False):
        super().__init__()
        if isinstance(transforms, str) or not transforms or any(name not in TRANSFORMS for name in transforms):
            raise ValueError(f"transforms must be a list of {', '.join(TRANSFORMS)}, not {transforms!r}")
        self.generator, self.transforms, self.rolled = generator, tuple(transforms), rolled
        self._seen = generator.views()

    def facts(self) -> dict[str, object]:
        return {"generator": self.generator, "transforms": self.transforms, "rolled": self.rolled}

    def views(self, n: int | None = None, rng: torch.Generator | None = None) -> Int[Tensor, "v 4"]:
        """Choose n distinct pairs of image and transform at random; all of them, image by image, by default.

        Args:
            n: number of views.
            rng: also draws the shifts, if `rolled`.

        Raises:
            ValueError: if there are fewer views than n.
        """
        count = len(self._seen) * len(self.transforms)
        if n is not None and not 1 <= n <= count:
            raise ValueError(f"a step renders from 1 to all {count} views, not {n}: change the number of particles")
        chosen = torch.arange(count)
        if n is not None and n < count:
            chosen = torch.randperm(count, generator=rng)[:n].sort().values
        shifts = torch.randint(2**30, (len(chosen), 2), generator=rng) if self.rolled else torch.zeros(len(chosen), 2)
        which = torch.stack([chosen // len(self.transforms), chosen % len(self.transforms)], 1)
        return torch.cat([which, shifts.long()], 1)

    def forward(self, views: Int[Tensor, "v 4"]) -> Float[Tensor, "v c h w"]:
        images, which, counts = views[:, 0].unique(return_inverse=True, return_counts=True)
        rendered = self.generator(self._seen[images])
        share = counts.reciprocal().to(rendered).view(-1, *[1] * (rendered.ndim - 1))
        return self._transformed(rendered.detach() + share * (rendered - rendered.detach()), which, views)

    def images(self, views: Tensor, decode: Callable[[Tensor], Tensor]) -> Tensor:
        images, which = views[:, 0].unique(return_inverse=True)
        return self._transformed(self.generator.images(self._seen[images], decode), which, views)

    def conditions(self, cond: Cond) -> Callable[[Tensor], Cond]:
        """A condition with a row per transform as a function of the views, for `distill(..., cond=)`.

        Raises:
            ValueError: if an entry does not have a row per transform.
        """
        for name, value in cond.items():
            if len(value) != len(self.transforms):
                raise ValueError(
                    f"condition {name!r} has {len(value)} rows for {len(self.transforms)} transforms: give one for each"
                )
        return lambda views: {name: value[views[:, 1].to(value.device)] for name, value in cond.items()}

    def _transformed(self, images: Tensor, which: Tensor, views: Tensor) -> Tensor:
        """The view of each row, of the image that `which` names."""
        names = {self.transforms[k] for k in views[:, 1].tolist()}
        turned = sorted(name for name in names if name in ("rotate90", "rotate270", "transpose", "antitranspose"))
        if turned and images.shape[-1] != images.shape[-2]:
            raise ValueError(f"{turned[0]} needs square images, not {images.shape[-2]} x {images.shape[-1]}")
        rows = zip(which.tolist(), views[:, 1:].tolist(), strict=True)
        return torch.stack(
            [TRANSFORMS[self.transforms[k]](images[i].roll((down, right), (-2, -1))) for i, (k, down, right) in rows]
        )
