r"""Grids of overlapping windows on a canvas, and weighted means over them.

A window of h x w pixels starts at (top, left). Windows are `stride` apart, and the last one is moved back inside the
canvas. On a canvas that wraps around (a 360-degree panorama), windows continue across the seam. `offset` moves the
whole grid; a random one (`offsets`) puts the borders of windows elsewhere each time.

The mean over the windows that cover a pixel q, of values v_i with a profile p (1, or a tent that favors the middle of a
window), is

    mean(q) = sum_i p(q - s_i) v_i(q - s_i) / sum_i p(q - s_i),

so that a constant stays constant wherever there is a window.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

PROFILES = ("flat", "tent")


@dataclass(frozen=True)
class Layout:
    """A grid of overlapping windows.

    Args:
        size: (height, width) of the canvas, at least those of a window.
        window: (height, width) of a window.
        stride: (down, across) between windows, from 1 to the window's sides.
        wrap: whether the right border continues at the left one.
        profile: "flat" or "tent".

    Raises:
        ValueError: for an unknown profile, a stride out of range, or a window larger than the canvas.
    """

    size: tuple[int, int]
    window: tuple[int, int]
    stride: tuple[int, int]
    wrap: bool = False
    profile: str = "flat"

    def __post_init__(self) -> None:
        if self.profile not in PROFILES:
            raise ValueError(f"unknown profile {self.profile!r}: use one of {', '.join(PROFILES)}")
        for side, window, stride in zip(self.size, self.window, self.stride, strict=True):
            if not 1 <= stride <= window:
                raise ValueError(f"the stride must lie between 1 and the window's {window} pixels, not {stride}")
            if window > side:
                raise ValueError(f"a window of {window} pixels does not fit into {side}: pad the canvas")

    def offsets(self, rng: torch.Generator) -> tuple[int, int]:
        """Draw a random offset: uniform over one stride, or over the whole width where the canvas wraps."""
        down, across = self.stride
        reach = (down, self.size[1] if self.wrap else across)
        drawn = [int(torch.randint(n, (1,), generator=rng)) for n in reach]
        return drawn[0], drawn[1]

    def boxes(self, offset: tuple[int, int] | None = None) -> Int[Tensor, "n 2"]:
        """Return (top, left) of each window, row by row; the grid is moved up and left by the offset."""
        tops = _starts(self.size[0], self.window[0], self.stride[0], None if offset is None else offset[0])
        if self.wrap:
            n = math.ceil(self.size[1] / self.stride[1])
            shift = 0 if offset is None else offset[1]
            lefts = [(k * self.size[1] // n + shift) % self.size[1] for k in range(n)]
        else:
            lefts = _starts(self.size[1], self.window[1], self.stride[1], None if offset is None else offset[1])
        return torch.cartesian_prod(torch.tensor(tops), torch.tensor(lefts)).unique(dim=0)

    def weight(self) -> Float[Tensor, "h w"]:
        """The profile p of a window, in (0, 1]."""
        if self.profile == "flat":
            return torch.ones(self.window)
        down, across = (_tent(n) for n in self.window)
        return down[:, None] * across

    def take(
        self, canvas: Float[Tensor, "f c H W"], boxes: Int[Tensor, "n 2"], frames: Int[Tensor, " n"] | None = None
    ):
        """Cut windows from a canvas, [n, c, h, w]: from its first frame, or from the given frame of each window."""
        where = self._where(boxes.to(canvas.device), frames)
        return canvas.movedim(1, -1)[where].movedim(-1, 1)

    def put(
        self,
        values: Float[Tensor, "n c h w"],
        boxes: Int[Tensor, "n 2"],
        frames: Int[Tensor, " n"] | None = None,
        count: int = 1,
    ) -> Float[Tensor, "f c H W"]:
        """Sum windows on an empty canvas of `count` frames."""
        canvas = values.new_zeros(count, *self.size, values.shape[1]).movedim(-1, 1)
        return self.add(canvas, values, boxes, frames)

    def add(
        self,
        canvas: Float[Tensor, "f c H W"],
        values: Float[Tensor, "n c h w"],
        boxes: Int[Tensor, "n 2"],
        frames: Int[Tensor, " n"] | None = None,
    ) -> Float[Tensor, "f c H W"]:
        """Add windows to a canvas in place, and return it."""
        where = self._where(boxes.to(values.device), frames)
        canvas.movedim(1, -1).index_put_(where, values.movedim(1, -1), accumulate=True)
        return canvas

    def coverage(self, boxes: Int[Tensor, "n 2"]) -> Float[Tensor, "H W"]:
        """sum_i p(q - s_i) at every pixel; 0 where there is no window."""
        weight = self.weight()
        return self.put(weight.expand(len(boxes), 1, *weight.shape), boxes)[0, 0]

    def _where(self, boxes: Tensor, frames: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        rows = boxes[:, :1] + torch.arange(self.window[0], device=boxes.device)
        columns = (boxes[:, 1:] + torch.arange(self.window[1], device=boxes.device)) % self.size[1]
        which = torch.zeros(len(boxes), dtype=torch.long, device=boxes.device) if frames is None else frames.to(boxes)
        return which[:, None, None], rows[:, :, None], columns[:, None, :]


def padding(size: Sequence[int], multiple: int, least: Sequence[int], wrap: bool = False) -> tuple[int, int]:
    """Number of pixels to add below and to the right, so that sides are multiples and hold a window.

    Args:
        size: (height, width) of the canvas.
        multiple: number that divides the padded sides.
        least: (height, width) of a window.
        wrap: whether the canvas wraps around.

    Raises:
        ValueError: if the canvas wraps and its width would need padding, which would open the seam.
    """
    made = [max(-(-side // multiple) * multiple, low) for side, low in zip(size, least, strict=True)]
    if wrap and made[1] != size[1]:
        raise ValueError(f"a panorama that wraps must be at least {least[1]} and a multiple of {multiple} pixels wide")
    return made[0] - size[0], made[1] - size[1]


def _starts(side: int, window: int, stride: int, offset: int | None) -> list[int]:
    last = side - window
    if last == 0:
        return [0]
    if offset is None:
        return [min(k * stride, last) for k in range(math.ceil(last / stride) + 1)]
    return [min(max(k * stride - offset % stride, 0), last) for k in range(math.ceil(last / stride) + 2)]


def _tent(n: int) -> Tensor:
    middle = (n - 1) / 2
    return 1 - (torch.arange(n) - middle).abs() / (middle + 1)
