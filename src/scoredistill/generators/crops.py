"""Windows of the images of another generator."""

from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from scoredistill.generators.base import Generator


class Crops(Generator):
    """Overlapping windows of the images that another generator renders; a view is (image, top, left).

    The windows of a step are cut from one rendering, and the first and the last touch the borders.

    Args:
        generator: renders images [n, 3, H, W] when all of its views are asked for.
        size: (H, W).
        window: (height, width) of a window, at most (H, W).
        stride: largest distance between neighboring windows.
        mask: fraction of the gradient that passes at each pixel, [1, 1, H, W]; all of it by default.

    Raises:
        ValueError: if the windows are larger than the images.
    """

    def __init__(
        self, generator: Generator, size: tuple[int, int], window: tuple[int, int], stride: tuple[int, int],
        mask: Float[Tensor, "1 1 H W"] | None = None,
    ):  # fmt: skip
        super().__init__()
        if any(w > s for w, s in zip(window, size, strict=True)):
            raise ValueError(f"windows of {window[0]} x {window[1]} do not fit into images of {size[0]} x {size[1]}")
        self.generator, self.window = generator, window
        self._mask = mask
        tops, lefts = (
            torch.linspace(0, s - w, 1 + -(-(s - w) // d)).round().long()
            for s, w, d in zip(size, window, stride, strict=True)
        )
        self.places = torch.cartesian_prod(torch.arange(len(generator.views())), tops, lefts)

    def views(self, n: int | None = None, rng: torch.Generator | None = None) -> Int[Tensor, "v 3"]:
        """Choose n distinct windows at random; all of them by default."""
        if n is None or n >= len(self.places):
            return self.places
        return self.places[torch.randperm(len(self.places), generator=rng)[:n].sort().values]

    def forward(self, views: Int[Tensor, "v 3"]) -> Float[Tensor, "v 3 h w"]:
        images = self.generator(self.generator.views())
        if self._mask is not None:
            images = images.detach() + self._mask * (images - images.detach())
        return self.cut(images, views)

    def cut(self, images: Float[Tensor, "n c H W"], views: Int[Tensor, "v 3"]) -> Float[Tensor, "v c h w"]:
        """Windows of images of the size that the generator renders."""
        height, width = self.window
        return torch.stack([images[i, :, y : y + height, x : x + width] for i, y, x in views.tolist()])

    def images(self, views: Tensor, decode: Callable[[Tensor], Tensor]) -> Tensor:
        return self(views)
