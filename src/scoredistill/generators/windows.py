r"""One canvas, many overlapping windows: panoramas, large photographs, the frames of a video.

The parameters are the canvas itself, [frames, c, H, W], in the prior's space or in pixels. A view is a window of it,
(frame, top, left, region, scale). A *sweep* visits the whole canvas once: a grid of windows whose offset is drawn anew,
in random order, the same for all frames. Steps take the next windows of the sweep, a few or all, and however it is
split, a sweep moves every pixel by the mean of its windows' gradients,

    update(q) = sum_i m_i(q) p(q - s_i) g_i(q - s_i) / sum_i m_i(q) p(q - s_i),

with the profile p and, where there are several instructions, the map m of each. So no pixel is visited more than
another; the released code of CSD draws windows at random and visits the middle up to 16 times as often as the border.

A window of scale k sees k h x k w pixels, reduced by averaging, and its gradient goes back to all of them: wider
context, coarser changes. Windows of all scales belong to a sweep.
"""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from scoredistill.generators.base import Generator
from scoredistill.rng import seed_of
from scoredistill.window_grid import Layout


class Windows(Generator):
    """A canvas that is optimized window by window.

    Args:
        canvas: start values, [frames, c, H, W].
        window: (height, width) that the prior sees.
        stride: between windows; half a window by default.
        wrap: whether the right border meets the left one.
        profile: "tent" trusts the middle of a window more than its border, "flat" does not.
        scales: sizes of windows in multiples of `window`; those that do not fit are left out.
        maps: weights of several instructions, [regions, H, W], at least 0; one region everywhere by default. Windows
            where a region has no weight are not visited for it.
        jitter: draw the grid's offset anew for each sweep.
        seed: of offsets and order.
        exchange: what to do with the gradient of the whole canvas before it is used, [f, c, H, W] to the same.
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
        self.window, self.jitter, self.seed, self.exchange = window, jitter, seed, exchange
        if not scales or 1 not in scales or any(not isinstance(k, int) or k < 1 for k in scales):
            raise ValueError(f"scales must be whole numbers from 1 up and hold 1, not {tuple(scales)}")
        fitting = [k for k in scales if k == 1 or (k * window[0] <= size[0] and k * window[1] <= size[1])]
        self.layouts = {
            k: Layout(size, (k * window[0], k * window[1]), (k * step[0], k * step[1]), wrap, profile) for k in fitting
        }
        whole = torch.ones(1, *size) if maps is None else maps.detach().to("cpu", torch.float32)
        if whole.shape[1:] != size or bool((whole < 0).any()):
            raise ValueError(f"maps must be [regions, {size[0]}, {size[1]}] and at least 0")
        self.maps = whole
        self.sweep: Tensor
        self.cursor: Tensor
        self.register_buffer("sweep", torch.tensor(0))
        self.register_buffer("cursor", torch.tensor(0))
        self._planned: tuple[int, Tensor, Tensor] | None = None
        self._coverage: Tensor | None = None  # of the sweep that the last views belong to

    def steps(self, sweeps: int, n: int | None = None) -> int:
        """How many steps of n windows (or of all) `sweeps` sweeps take; a sweep's last step may have fewer."""
        return sum(-(-self.count(k) // n) if n else 1 for k in range(sweeps))

    def count(self, sweep: int) -> int:
        """How many windows a sweep has."""
        return len(self._plan(sweep)[0])

    def views(self, n: int | None = None, rng: torch.Generator | None = None) -> Int[Tensor, "v 5"]:
        """The next n windows of the sweep, or what is left of it; all of it by default. `rng` is not used, see seed."""
        if n is not None and n < 1:
            raise ValueError(f"a step needs at least one window, not {n}")
        order, self._coverage = self._plan(int(self.sweep))
        start = int(self.cursor)
        end = len(order) if n is None else min(start + n, len(order))
        if end == len(order):
            self.sweep += 1
            self.cursor.zero_()
        else:
            self.cursor.fill_(end)
        return order[start:end]

    def forward(self, views: Int[Tensor, "v 5"]) -> Float[Tensor, "v c h w"]:
        return _Crops.apply(self.canvas, self, views)

    def crops(self, canvas: Float[Tensor, "f c H W"], views: Int[Tensor, "v 5"]) -> Float[Tensor, "v c h w"]:
        """The same windows of another canvas of the same size, such as the source, without gradient."""
        made = canvas.new_empty(len(views), canvas.shape[1], *self.window)
        for k, layout in self.layouts.items():
            here = (views[:, 4] == k).nonzero()[:, 0].to(canvas.device)
            seen = layout.take(canvas.detach(), views[here.cpu(), 1:3], views[here.cpu(), 0])
            made[here] = functional.avg_pool2d(seen, k) if k > 1 else seen
        return made

    def spread(
        self, grads: Float[Tensor, "v c h w"], views: Int[Tensor, "v 5"], coverage: Float[Tensor, "H W"] | None = None
    ) -> Float[Tensor, "f c H W"]:
        """Gradients of windows as a gradient of the canvas: the mean of the module, of these windows' share.

        Args:
            coverage: of the sweep that the views belong to; by default that of the views given last.
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
        """m p / sum of m p over the sweep, for each window, [n, h, w]."""
        maps = layout.take(self.maps[:, None], boxes, regions)[:, 0]
        covered = layout.take(coverage[None, None], boxes)[:, 0]
        return layout.weight() * maps / covered.clamp(min=torch.finfo(covered.dtype).tiny)

    def _plan(self, sweep: int) -> tuple[Tensor, Tensor]:
        """The windows of a sweep in their order, and their coverage of the canvas."""
        if self._planned is None or self._planned[0] != sweep:
            rng = torch.Generator().manual_seed(seed_of(self.seed, sweep))
            places, coverage = [], torch.zeros(self.maps.shape[1:])
            for k, layout in self.layouts.items():
                boxes = layout.boxes(layout.offsets(rng) if self.jitter else None)
                for region, weights in enumerate(self.maps):
                    seen = layout.take(weights[None, None], boxes)[:, 0]
                    kept = boxes[seen.flatten(1).amax(1) > 0]
                    if len(kept):
                        coverage += weights * layout.coverage(kept)
                        places.append(functional.pad(functional.pad(kept, (0, 1), value=region), (0, 1), value=k))
            if not places:
                raise ValueError("no region has any weight: give masks with something in them")
            found = torch.cat(places)
            found = found[torch.randperm(len(found), generator=rng)]
            frames = torch.arange(len(self.canvas))
            each = found.repeat_interleave(len(frames), 0)
            self._planned = (sweep, torch.cat([frames.repeat(len(found))[:, None], each], 1), coverage)
        return self._planned[1], self._planned[2]


class _Crops(torch.autograd.Function):
    """Windows of a canvas, whose gradients come back as `Windows.spread` says."""

    @staticmethod
    def forward(ctx, canvas: Tensor, windows: Windows, views: Tensor) -> Tensor:  # type: ignore[no-untyped-def]
        ctx.windows, ctx.views, ctx.coverage = windows, views, windows._coverage
        return windows.crops(canvas, views)

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None, None]:  # type: ignore[no-untyped-def]
        return ctx.windows.spread(grad, ctx.views, ctx.coverage), None, None
