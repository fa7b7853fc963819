r"""Images of any size as one canvas of latents, and back.

Images are padded by reflection to whole latents and to at least one window, and cropped again, so nothing is
stretched. Large images pass the autoencoder in overlapping tiles that are averaged with tent-shaped weights, so the
memory needed is that of one tile; on a canvas that wraps around, tiles continue across the seam.
"""

import copy
from collections.abc import Callable
from itertools import chain

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from scoredistill.priors.base import Editor
from scoredistill.window_grid import Layout, padding

TILE = 6  # side of a tile in windows
FRAMES = 8  # images in one pass of the autoencoder
UNFIT = "editing in windows needs an editor conditioned on the latents of the source: use InstructPix2Pix"


class Canvas:
    """The source of an edit in the latent space of an editor.

    Args:
        prior: the editor.
        images: all frames, [f, 3, h, w] in [0, 1].
        wrap: whether the left border joins the right one; the width must then be a multiple of the latents' factor.

    Attributes:
        source: latents of the padded images, [f, c, H, W].
        image: the editor's condition of the source, of the same shape.
        window: (height, width) of a window in latents.
        encoded, decoded: number of tiles that passed the autoencoder so far.

    Raises:
        ValueError: if the editor's condition of the source does not consist of latents.
    """

    encoded = decoded = 0

    def __init__(self, prior: Editor, images: Float[Tensor, "f 3 h w"], wrap: bool = False):
        self.prior, self.wrap = prior, wrap
        self.factor = prior.factor
        _, *window = prior.latent_shape
        self.window = (window[0], window[1])
        self.size = (images.shape[-2], images.shape[-1])
        down, across = padding(self.size, self.factor, [n * self.factor for n in self.window], wrap)
        self._padding = down, across
        padded = _reflected(images, down, across)
        self.source = self.encode(images)
        self.image = self._encode(padded, self._condition)
        if self.image.shape != self.source.shape:
            raise ValueError(UNFIT)

    def _condition(self, tile: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b c p q"]:
        """The editor's condition of tiles.

        Raises:
            ValueError: if it does not consist of latents.
        """
        made = self.prior.encode_source(tile)["image"]
        if made.ndim != 4:
            raise ValueError(UNFIT)
        return made

    def some(self, which: Int[Tensor, " k"]) -> "Canvas":
        """The canvas of some of the images, without another pass of the autoencoder, with counts of its own."""
        made = self.uncounted()
        made.source, made.image = (v[which.to(v.device)] for v in (self.source, self.image))
        return made

    def uncounted(self) -> "Canvas":
        """The same canvas with counts of its own, for uses that are no cost of the edit."""
        made = copy.copy(self)
        made.encoded = made.decoded = 0
        return made

    @property
    def frames(self) -> int:
        """Number of images."""
        return len(self.source)

    def layout(self, stride: float, profile: str) -> Layout:
        """The layout of windows at a stride given in windows."""
        step = (max(1, round(self.window[0] * stride)), max(1, round(self.window[1] * stride)))
        return Layout((self.source.shape[-2], self.source.shape[-1]), self.window, step, self.wrap, profile)

    def encode(self, images: Float[Tensor, "f 3 h w"]) -> Float[Tensor, "f c H W"]:
        """Latents of other images of the source's size, padded as the source is."""
        return self._encode(_reflected(images, *self._padding), self.prior.encode_image)

    @torch.no_grad()
    def decode(self, latents: Float[Tensor, "f c H W"]) -> Float[Tensor, "f 3 h w"]:
        """Images in [0, 1] of the source's size, on the CPU."""
        tiles, pixels = self._tiles(1), self._tiles(self.factor)
        self.decoded += len(tiles.boxes()) * len(latents)
        made = _through(latents, tiles, pixels, self.factor, self.prior.decode)
        return made[..., : self.size[0], : self.size[1]].clamp_(0, 1)

    @torch.no_grad()
    def _encode(self, padded: Tensor, encode: Callable[[Tensor], Tensor]) -> Tensor:
        self._padded = (padded.shape[-2] // self.factor, padded.shape[-1] // self.factor)
        device = self.prior.device
        self.encoded += len(self._tiles(1).boxes()) * len(padded)
        cast = lambda tile: encode(tile.to(device))
        return _through(padded, self._tiles(self.factor), self._tiles(1), 1 / self.factor, cast).to(device)

    def _tiles(self, factor: int) -> Layout:
        """The layout of tiles of the canvas, in units of which a latent has `factor` per side."""
        height, width = self._padded
        tile = [min(side, TILE * window) for side, window in zip((height, width), self.window, strict=True)]
        if self.wrap:
            tile[1] = min(tile[1], width // 2)
        stride = [
            max(1, side // 2) if side < whole else side for side, whole in zip(tile, (height, width), strict=True)
        ]
        big = lambda pair: (pair[0] * factor, pair[1] * factor)
        return Layout(big(self._padded), big(tile), big(stride), self.wrap, "tent")


def _through(
    values: Tensor, before: Layout, after: Layout, scale: int | float, network: Callable[[Tensor], Tensor]
) -> Tensor:
    """Values tile by tile through a network, on the CPU.

    Args:
        values: [f, c, h, w] of the size of `before`.
        before, after: layouts of the tiles of the network's input and output.
        scale: sides of the output relative to those of the input.
        network: maps a batch of tiles.
    """
    boxes = before.boxes()
    there = (boxes * scale).round().long()
    covered = after.coverage(there)
    made = []
    for frames in values.split(FRAMES):
        n, which = len(frames), torch.arange(len(frames))
        tiles = (network(before.take(frames, box.expand(n, 2), which)).float().cpu() for box in boxes)
        first = next(tiles)
        if len(boxes) == 1:
            made.append((first * covered).div_(covered))
            continue
        total = first.new_zeros(n, first.shape[1], *after.size)
        for tile, box in zip(chain([first], tiles), there, strict=True):
            after.add(total, tile * after.weight(), box.expand(n, 2), which)
        made.append(total.div_(covered))
    return made[0] if len(made) == 1 else torch.cat(made)


def _reflected(images: Tensor, down: int, across: int) -> Tensor:
    """The images padded at the bottom and on the right by reflection, repeatedly if the padding is wide."""
    while down or across:
        height, width = images.shape[-2:]
        add = min(down, height - 1), min(across, width - 1)
        if add == (0, 0):
            return functional.pad(images, (0, across, 0, down), mode="replicate")
        images = functional.pad(images, (0, add[1], 0, add[0]), mode="reflect")
        down, across = down - add[0], across - add[1]
    return images


def work_size(size: tuple[int, int], shorter: int, factor: int, wrap: bool) -> tuple[int, int]:
    """(height, width) at which an edit works, in the proportions of the source.

    Args:
        size: (height, width) of the source.
        shorter: wanted shorter side, limited to that of the source; 0 for the size of the source.
        factor: pixels along one side of a latent; a width that wraps becomes a multiple of it.
        wrap: whether the left border joins the right one.
    """
    scale = min(1.0, shorter / min(size)) if shorter else 1.0
    height, width = (max(1, round(side * scale)) for side in size)
    return height, max(factor, round(width / factor) * factor) if wrap else width
