r"""A prior of windows as a prior of a whole canvas, by averaging predictions where windows overlap.

    eps(X, t) = mean over windows covering a pixel of eps(window of X, t)

Sampling through it is MultiDiffusion (Bar-Tal et al. 2023), https://arxiv.org/abs/2302.08113; with windows that do not
overlap, the prior is used on separate crops.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from scoredistill.priors.base import Prior, PriorWrapper
from scoredistill.priors.conditions import Cond, expand_cond
from scoredistill.schedule import per_sample
from scoredistill.window_grid import Layout

Maps = Float[Tensor, "r H W"]
TINY = 1e-6


class Windowed(PriorWrapper):
    """A prior whose samples are canvases [f, c, H, W], evaluated window by window in one batched call.

    Conditions of the shape of a canvas are cut into windows as well; all others apply to every window.

    Args:
        prior: the prior of windows.
        layout: the grid of windows.
        offset: offset of the grid, see `Layout.boxes`.
        maps: weights of several conditions, [regions, H, W]; a condition then has one row per region, or frames x
            regions rows frame by frame, and windows where a region has no weight are not evaluated for it. Such
            conditions are for samplers: put guidance inside, Windowed(Guided(...)). Where no region has weight, clean
            samples are 0.

    Raises:
        ValueError: if maps have another size than the canvas, negative entries, or no weight at all.
    """

    def __init__(self, prior: Prior, layout: Layout, offset: tuple[int, int] | None = None, maps: Maps | None = None):
        super().__init__(prior)
        self.layout = layout
        whole = torch.ones(1, *layout.size) if maps is None else maps.detach().to("cpu", torch.float32)
        if tuple(whole.shape[1:]) != tuple(layout.size) or bool((whole < 0).any()):
            raise ValueError(f"maps must be [regions, {layout.size[0]}, {layout.size[1]}] and at least 0")
        boxes, self.maps = layout.boxes(offset), whole
        seen = torch.cat([layout.take(weights[None, None], boxes) for weights in whole], 1)  # [n, regions, h, w]
        where = (seen.flatten(2).amax(2) > 0).nonzero()
        if not len(where):
            raise ValueError("no region has any weight: give maps that are positive somewhere")
        self.boxes = boxes[where[:, 0]]
        self.regions = where[:, 1]
        self._share = layout.weight() * seen[where[:, 0], where[:, 1]]
        covered = layout.put(self._share[:, None], self.boxes)
        self.covered = covered[0, 0]

    def eps(
        self, x_t: Float[Tensor, " b *d"], t: Float[Tensor, " b"], cond: Cond | None = None
    ) -> Float[Tensor, " b *d"]:
        _, sigma = self.schedule(t)
        return self._mean(self.prior.eps, x_t, t, cond, x_t / per_sample(sigma, x_t).clamp(min=TINY))

    def denoise(
        self, x_t: Float[Tensor, " b *d"], t: Float[Tensor, " b"], cond: Cond | None = None
    ) -> Float[Tensor, " b *d"]:
        return self._mean(self.prior.denoise, x_t, t, cond, torch.zeros_like(x_t))

    def _mean(self, predict, x_t: Tensor, t: Tensor, cond: Cond | None, elsewhere: Tensor) -> Tensor:  # type: ignore[no-untyped-def]
        count, n = len(x_t), len(self.boxes)
        frames = torch.arange(count).repeat_interleave(n)
        boxes, regions = self.boxes.repeat(count, 1), self.regions.repeat(count)
        rows = None if cond is None else self._cut(cond, x_t, frames, boxes, regions)
        seen = predict(self.layout.take(x_t, boxes, frames), t[frames.to(t.device)], rows)
        share = self._share.to(seen).repeat(count, 1, 1)[:, None]
        covered = self.covered.to(seen)
        total = self.layout.put(share * seen, boxes, frames, count)
        return torch.where(covered > 0, total / covered.clamp(min=torch.finfo(covered.dtype).tiny), elsewhere)

    def _cut(self, cond: Cond, x_t: Tensor, frames: Tensor, boxes: Tensor, regions: Tensor) -> dict[str, Tensor]:
        made, k = {}, len(self.maps)
        for name, value in cond.items():
            if value.shape[1:] == x_t.shape[1:]:
                made[name] = self.layout.take(value.expand_as(x_t), boxes, frames)
            else:
                if len(value) not in (1, k, len(x_t) * k):
                    raise ValueError(
                        f"condition {name!r} has {len(value)} rows for {k} regions of {len(x_t)} frames: give 1, {k} "
                        f"or {len(x_t) * k}"
                    )
                rows = expand_cond({name: value}, k)[name] if len(value) in (1, k) else value
                which = regions if len(rows) == k else frames * k + regions
                made[name] = rows[which.to(rows.device)]
        return made
