"""Where the pixels of an image lie: in the whole image of which it is a crop, and at which scale."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

SIDE = 64
"""Distances of edits (strokes, blocks, stripes, frames) are given in 1/64 of the side of an editor's images."""


def unit_of(side: int) -> float:
    """Pixels in 1/64 of the side of an editor's images, such as 2 for an editor of 128x128 pixels.

    The scale belongs to the editor, not to the image: an image larger than the editor's own is edited in windows, in
    which a stroke or a stripe has to look as it did in training.
    """
    return side / SIDE


@dataclass(frozen=True)
class View:
    """Crops of whole images.

    An edit may depend on a crop's place only through this. An editor sees the pixels of a crop and nothing else.

    Attributes:
        size: (height, width) in pixels of the whole image, the same for all.
        corner: (top, left) of each crop in its whole image, in pixels, [b, 2]; one row if all are the same.
        origin: (y, x) of the point from which phases count, in pixels of the whole image, [b, 2] or one row.
        unit: pixels in 1/64 of the side of an editor's images (`unit_of`).
    """

    size: tuple[int, int]
    corner: Int[Tensor, "#b 2"]
    origin: Float[Tensor, "#b 2"]
    unit: float = 1.0

    @classmethod
    def whole(cls, size: tuple[int, int], unit: float = 1.0) -> View:
        """The view of images that are no crops; phases count from their center."""
        return cls.of_crops(size, torch.zeros(1, 2, dtype=torch.long), unit)

    @classmethod
    def of_crops(cls, size: tuple[int, int], corner: Int[Tensor, "#b 2"], unit: float = 1.0) -> View:
        """The view of crops of whole images of a size; phases count from the center of the whole image."""
        return cls(size, corner, torch.tensor([[size[0] / 2, size[1] / 2]]), unit)

    def centered(self, size: tuple[int, int]) -> View:
        """The same view, with phases that count from the center of each crop, of (height, width) pixels."""
        center = self.corner + torch.tensor([[size[0] / 2, size[1] / 2]])
        return View(self.size, self.corner, center, self.unit)

    def rows(self, chosen: Int[Tensor, " n"]) -> View:
        """The view of some of the crops."""
        corner, origin = (x if len(x) == 1 else x[chosen.to(x.device)] for x in (self.corner, self.origin))
        return View(self.size, corner, origin, self.unit)

    def pixels(self, images: Float[Tensor, "b 3 h w"]) -> tuple[Float[Tensor, "#b h 1"], Float[Tensor, "#b 1 w"]]:
        """Centers (y, x) of the pixels of crops, in pixels of the whole image."""
        top, left = self.corner.to(images).unbind(1)
        y, x = (torch.arange(n, device=images.device, dtype=images.dtype) + 0.5 for n in images.shape[2:])
        return (top[:, None] + y)[:, :, None], (left[:, None] + x)[:, None, :]

    def coordinates(self, images: Float[Tensor, "b 3 h w"]) -> tuple[Float[Tensor, "#b h 1"], Float[Tensor, "#b 1 w"]]:
        """Centers (y, x) of the pixels of crops, from the origin, in units."""
        y, x = self.pixels(images)
        down, across = self.origin.to(images).unbind(1)
        return (y - down[:, None, None]) / self.unit, (x - across[:, None, None]) / self.unit
