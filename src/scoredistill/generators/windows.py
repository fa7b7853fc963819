r"""One canvas, many overlapping windows: panoramas, large photographs, the frames of a video.

The parameters are the canvas itself, [frames, c, H, W], in the prior's space or in pixels. A view is a window of it,
(frame, top, left, region, scale). A *sweep* visits the whole canvas once: a grid of windows with a new random offset,
in random order, the same for all frames (`sweeps.SweepPlan`). Each step takes the next windows of the sweep, a few or
all of them. However a sweep is split into steps, it moves every pixel by the weighted mean of its windows' gradients,

    update(q) = sum_i m_i(q) p(q - s_i) g_i(q - s_i) / sum_i m_i(q) p(q - s_i),

with the profile p of a window and, where there are several instructions, the map m of each. So no pixel is visited more
often than another; the released code of CSD draws windows at random and visits the middle of a canvas up to 16 times as
often as its border.

A window of scale k covers k h x k w pixels, reduced by averaging, and its gradient goes back to all of them: wider
context, coarser changes. A sweep holds windows of all scales.
"""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from scoredistill.generators.base import Generator
from scoredistill.generators.sweeps import SweepPlan
from scoredistill.window_grid import Layout


class Windows(Generator):
    """A canvas that is optimized window by window.

    The position in the sweeps is part of the state (`sweep`, `cursor`), so that a resumed run continues with the next
    windows.

    Args:
        canvas: initial values, [frames, c, H, W].
        window: (height, width) of the samples that the prior sees.
        stride: (down, across) between windows; half a window by default.
        wrap: whether the right border continues at the left one, as in a 360-degree panorama.
        profile: "tent" gives the middle of a window more weight than its border, "flat" gives all pixels the same.
        scales: sizes of windows in multiples of `window`, with 1 among them; those larger than the canvas are left out.
        maps: weights of several instructions, [regions, H, W], at least 0; one region everywhere by default. A window
            is visited for a region only if the region has weight in it.
        jitter: draw the grid's offset anew for each sweep.
        seed: of offsets and order.
        exchange: function of the gradient of the whole canvas, [frames, c, H, W], whose result is used in its place.

    Raises:
        ValueError: if scales are not positive integers that include 1, if maps have another size than the canvas or
            negative entries, or if a window does not fit into the canvas.
    """

    def __init__(
        self,
        canvas: Float[Tensor, "f c H W"],
        window: tuple[int, int],
        stride: tuple[int, int] | None = None,
        wrap: bool = False,
        profile: str = "tent",
        scales: Sequence[int] = (1,),
        maps: Float[Tensor, "r H W"] | None = None,
        jitter: bool = True,
        seed: int = 0,
        exchange: Callable[[Tensor], Tensor] | None = None,
    ):
        super().__init__()
        self.canvas = nn.Parameter(canvas.detach().clone())
        size = (canvas.shape[-2], canvas.shape[-1])
        step = stride or (max(1, window[0] // 2), max(1, window[1] // 2))
        self.window, self.exchange = window, exchange
        if not scales or 1 not in scales or any(not isinstance(k, int) or k < 1 for k in scales):
            raise ValueError(f"scales must be whole numbers from 1 up and hold 1, not {tuple(scales)}")
        fitting = [k for k in scales if k == 1 or (k * window[0] <= size[0] and k * window[1] <= size[1])]
        self.layouts = {
            k: Layout(size, (k * window[0], k * window[1]), (k * step[0], k * step[1]), wrap, profile) for k in fitting
        }
        self.maps = torch.ones(1, *size) if maps is None else maps.detach().to("cpu", torch.float32)
        if self.maps.shape[1:] != size or bool((self.maps < 0).any()):
            raise ValueError(f"maps must be [regions, {size[0]}, {size[1]}] and at least 0")
        self.plan = SweepPlan(self.layouts, self.maps, len(canvas), jitter, seed)
        self.sweep: Tensor
        self.cursor: Tensor
        self.register_buffer("sweep", torch.tensor(0))
        self.register_buffer("cursor", torch.tensor(0))
        self._coverage: Tensor | None = None  # of the sweep that the last views belong to

    def facts(self) -> dict[str, object]:
        return {"canvas": tuple(self.canvas.shape), "window": self.window, **super().facts()}

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "Windows":
        """Move the canvas alone: the position in the sweeps is read in every step, so it stays on the CPU."""
        sweep, cursor = self.sweep, self.cursor
        super()._apply(fn, recurse)
        self.sweep, self.cursor = sweep, cursor
        return self

    def steps(self, sweeps: int, n: int | None = None) -> int:
        """Number of steps of n windows (of a whole sweep by default) in `sweeps` sweeps.

        The last step of a sweep may have fewer windows.
        """
        return sum(-(-self.count(k) // n) if n else 1 for k in range(sweeps))

    def count(self, sweep: int) -> int:
        """Number of windows of a sweep."""
        return len(self.plan.sweep(sweep))

    def views(self, n: int | None = None, rng: torch.Generator | None = None) -> Int[Tensor, "v 5"]:
        """Return the next n windows of the sweep, or what is left of it, and advance.

        Args:
            n: number of windows, at least 1; all that are left by default.
            rng: not used; the order follows from `seed`.
        """
        if n is not None and n < 1:
            raise ValueError(f"a step needs at least one window, not {n}")
        sweep, start = self.plan.sweep(int(self.sweep)), int(self.cursor)
        self._coverage = sweep.coverage
        end = len(sweep) if n is None else min(start + n, len(sweep))
        if end == len(sweep):
            self.sweep += 1
            self.cursor.zero_()
        else:
            self.cursor.fill_(end)
        return sweep.views[start:end]

    def forward(self, views: Int[Tensor, "v 5"]) -> Float[Tensor, "v c h w"]:
        return _Crops.apply(self.canvas, self, views)

    def crops(self, canvas: Float[Tensor, "f c H W"], views: Int[Tensor, "v 5"]) -> Float[Tensor, "v c h w"]:
        """The same windows of another canvas of this size, such as the source, without gradient."""
        made = canvas.new_empty(len(views), canvas.shape[1], *self.window)
        for k, layout in self.layouts.items():
            here = (views[:, 4] == k).nonzero()[:, 0]
            seen = layout.take(canvas.detach(), views[here, 1:3], views[here, 0])
            made[here.to(canvas.device)] = functional.avg_pool2d(seen, k) if k > 1 else seen
        return made

    def spread(
        self, grads: Float[Tensor, "v c h w"], views: Int[Tensor, "v 5"], coverage: Float[Tensor, "H W"] | None = None
    ) -> Float[Tensor, "f c H W"]:
        """Gradients of windows as a gradient of the canvas: these windows' part of the weighted mean above.

        Args:
            coverage: of the sweep that the views belong to; by default that of the last call of `views`.

        Raises:
            ValueError: if `views` was never called and no coverage is given.
        """
        coverage = self._coverage if coverage is None else coverage
        if coverage is None:
            raise ValueError("gradients come to windows that views() chose: call it first")
        total = torch.zeros_like(self.canvas)
        for k, layout in self.layouts.items():
            here = (views[:, 4] == k).nonzero()[:, 0]
            boxes, frames = views[here, 1:3], views[here, 0]
            share = self._share(layout, boxes, views[here, 3], coverage).to(grads)
            values = grads[here.to(grads.device)]
            values = values.repeat_interleave(k, 2).repeat_interleave(k, 3) if k > 1 else values
            total += layout.put(share[:, None] * values, boxes, frames, len(self.canvas))
        return total if self.exchange is None else self.exchange(total)

    def images(self, views: Tensor, decode: Callable[[Tensor], Tensor]) -> Tensor:
        return decode(self.crops(self.canvas, views))

    def _share(self, layout: Layout, boxes: Tensor, regions: Tensor, coverage: Tensor) -> Tensor:
        """m p / (sum of m p over the sweep) for each window, [n, h, w]."""
        maps = layout.take(self.maps[:, None], boxes, regions)[:, 0]
        covered = layout.take(coverage[None, None], boxes)[:, 0]
        return layout.weight() * maps / covered.clamp(min=torch.finfo(covered.dtype).tiny)


class _Crops(torch.autograd.Function):
    """Windows of a canvas whose gradients are combined by `Windows.spread`."""

    @staticmethod
    def forward(ctx, canvas: Tensor, windows: Windows, views: Tensor) -> Tensor:  # type: ignore[no-untyped-def]
        ctx.windows, ctx.views, ctx.coverage = windows, views, windows._coverage
        return windows.crops(canvas, views)

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None, None]:  # type: ignore[no-untyped-def]
        return ctx.windows.spread(grad, ctx.views, ctx.coverage), None, None
