r"""Images of any size as one canvas of latents, and back.

Images are padded by reflection to whole latents and to at least one window, and cropped again, so nothing is
stretched. Large ones pass the autoencoder in overlapping tiles, averaged under a tent, so memory is that of a tile; on
a canvas that wraps around, tiles go on across the seam and it closes.
"""

import copy

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from scoredistill.priors.base import Prior
from scoredistill.window_grid import Layout, padding

TILE = 6  # windows along a tile's side
FRAMES = 8  # images in one pass of the autoencoder


class Canvas:
    """The source of an edit in an editor's space.

    Args:
        prior: the editor, of `load_prior`.
        images: [f, 3, h, w] in [0, 1], all frames.
        wrap: whether the left border meets the right one; the width must then divide by the latents' factor.

    Attributes:
        source: latents of the padded images, [f, c, H, W].
        image: what the editor sees of the source beside its own latents, of the same shape.
        window: (height, width) of a window in latents.
        encoded, decoded: tiles that passed the autoencoder so far.
    """

    encoded = decoded = 0

    def __init__(self, prior: Prior, images: Float[Tensor, "f 3 h w"], wrap: bool = False):
        self.prior, self.wrap = prior, wrap
        self.factor: int = prior.codec.factor  # type: ignore[attr-defined]
        self.window: tuple[int, int] = tuple(prior.latent_shape[1:])  # type: ignore[attr-defined]
        self.size = (images.shape[-2], images.shape[-1])
        down, across = padding(self.size, self.factor, [n * self.factor for n in self.window], wrap)
        self._padding = down, across
        padded = _reflected(images, down, across)
        self.source = self.encode(images)
        self.image = self._encode(padded, lambda tile: prior.encode_source(tile)["image"])  # type: ignore[attr-defined]
        if self.image.shape != self.source.shape:
            raise ValueError("editing by windows needs an editor that sees the source as latents: use InstructPix2Pix")

    def some(self, which: Int[Tensor, " k"]) -> "Canvas":
        """The canvas of some of the images, without another pass of the autoencoder; what it costs counts here."""
        made = copy.copy(self)
        made.source, made.image = (v[which.to(v.device)] for v in (self.source, self.image))
        made.encoded = made.decoded = 0
        return made

    @property
    def frames(self) -> int:
        """How many images."""
        return len(self.source)

    def layout(self, stride: float, profile: str) -> Layout:
        """Windows at a stride given in windows."""
        step = (max(1, round(self.window[0] * stride)), max(1, round(self.window[1] * stride)))
        return Layout((self.source.shape[-2], self.source.shape[-1]), self.window, step, self.wrap, profile)

    def encode(self, images: Float[Tensor, "f 3 h w"]) -> Float[Tensor, "f c H W"]:
        """Latents of other images of the source's size, padded as the source is."""
        return self._encode(_reflected(images, *self._padding), self.prior.encode_image)  # type: ignore[attr-defined]

    @torch.no_grad()
    def decode(self, latents: Float[Tensor, "f c H W"]) -> Float[Tensor, "f 3 h w"]:
        """Images in [0, 1] of the source's size, on the CPU."""
        tiles, pixels = self._tiles(1), self._tiles(self.factor)
        self.decoded += len(tiles.boxes()) * len(latents)
        made = _through(latents, tiles, pixels, self.factor, self.prior.decode)
        return made[..., : self.size[0], : self.size[1]].clamp_(0, 1)

    @torch.no_grad()
    def _encode(self, padded: Tensor, encode) -> Tensor:  # type: ignore[no-untyped-def]
        self._padded = (padded.shape[-2] // self.factor, padded.shape[-1] // self.factor)
        device = self.prior.device  # type: ignore[attr-defined]
        self.encoded += len(self._tiles(1).boxes()) * len(padded)
        cast = lambda tile: encode(tile.to(device))
        return _through(padded, self._tiles(self.factor), self._tiles(1), 1 / self.factor, cast).to(device)

    def _tiles(self, factor: int) -> Layout:
        """Tiles of the canvas, in pixels that are `factor` to a latent."""
        height, width = self._padded
        tile = [min(side, TILE * window) for side, window in zip((height, width), self.window, strict=True)]
        if self.wrap:
            tile[1] = min(tile[1], width // 2)
        stride = [
            max(1, side // 2) if side < whole else side for side, whole in zip(tile, (height, width), strict=True)
        ]
        big = lambda pair: (pair[0] * factor, pair[1] * factor)
        return Layout(big(self._padded), big(tile), big(stride), self.wrap, "tent")


def _through(values: Tensor, before: Layout, after: Layout, scale: float | int, network) -> Tensor:  # type: ignore[no-untyped-def]
    """Tile by tile through a network that turns sides of `before` into those of `after`, on the CPU."""
    boxes = before.boxes()
    there = (boxes * scale).round().long()
    covered = after.coverage(there)
    made = []
    for frames in values.split(FRAMES):
        total: Tensor | None = None
        for one, other in zip(boxes, there, strict=True):
            n, which = len(frames), torch.arange(len(frames))
            tile = network(before.take(frames, one.expand(n, 2), which)).float().cpu()
            if len(boxes) == 1:
                total = tile * covered
                continue
            total = tile.new_zeros(n, tile.shape[1], *after.size) if total is None else total
            after.add(total, tile * after.weight(), other.expand(n, 2), which)
        assert total is not None
        made.append(total.div_(covered))
    return made[0] if len(made) == 1 else torch.cat(made)


def _reflected(images: Tensor, down: int, across: int) -> Tensor:
    """Padded below and to the right by reflection, as often as it takes."""
    while down or across:
        height, width = images.shape[-2:]
        add = min(down, height - 1), min(across, width - 1)
        if add == (0, 0):
            return functional.pad(images, (0, across, 0, down), mode="replicate")
        images = functional.pad(images, (0, add[1], 0, add[0]), mode="reflect")
        down, across = down - add[0], across - add[1]
    return images


def work_size(size: tuple[int, int], shorter: int, factor: int, wrap: bool) -> tuple[int, int]:
    """(height, width) at which to work: the shorter side as wanted, at most the source's own, same proportions.

    A width that wraps is made a multiple of the factor.
    """
    share = min(1.0, shorter / min(size)) if shorter else 1.0
    height, width = (max(1, round(side * share)) for side in size)
    return height, max(factor, round(width / factor) * factor) if wrap else width
