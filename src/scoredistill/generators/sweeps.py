"""Plans of the windows that cover a canvas: which windows a sweep visits, in which order, and how they overlap."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from scoredistill.rng import seed_of
from scoredistill.window_grid import Layout


@dataclass(frozen=True, eq=False)
class Sweep:
    """One pass over a canvas.

    Attributes:
        views: the windows in the order of their visit, each (frame, top, left, region, scale).
        coverage: sum of the weights of all windows of a frame at every pixel.
    """

    views: Int[Tensor, "v 5"]
    coverage: Float[Tensor, "H W"]

    def __len__(self) -> int:
        return len(self.views)


@dataclass(frozen=True, eq=False)
class SweepPlan:
    """All sweeps over a canvas; each is a function of its number and the seed alone.

    Args:
        layouts: the grid of windows of each scale.
        maps: weights of the regions, [regions, H, W], at least 0; a region is visited where it has weight.
        frames: number of frames; all have the same windows.
        jitter: draw the grid's offset anew for each sweep.
        seed: of offsets and order.
    """

    layouts: Mapping[int, Layout]
    maps: Float[Tensor, "r H W"]
    frames: int
    jitter: bool = True
    seed: int = 0
    _latest: dict[int, Sweep] = field(default_factory=dict, init=False, repr=False)  # the last one made

    def sweep(self, index: int) -> Sweep:
        """The sweep of a number, from 0.

        Raises:
            ValueError: if no region has any weight.
        """
        if index not in self._latest:
            made = self._make(index)
            self._latest.clear()
            self._latest[index] = made
        return self._latest[index]

    def _make(self, index: int) -> Sweep:
        rng = torch.Generator().manual_seed(seed_of(self.seed, index))
        places, coverage = [], torch.zeros(self.maps.shape[1:])
        for scale, layout in self.layouts.items():
            boxes = layout.boxes(layout.offsets(rng) if self.jitter else None)
            for region, weights in enumerate(self.maps):
                seen = layout.take(weights[None, None], boxes)[:, 0]
                kept = boxes[seen.flatten(1).amax(1) > 0]
                if len(kept):
                    coverage += weights * layout.coverage(kept)
                    places.append(functional.pad(functional.pad(kept, (0, 1), value=region), (0, 1), value=scale))
        if not places:
            raise ValueError("no region has any weight: give maps that are positive somewhere")
        found = torch.cat(places)
        found = found[torch.randperm(len(found), generator=rng)]
        each = found.repeat_interleave(self.frames, 0)
        return Sweep(torch.cat([torch.arange(self.frames).repeat(len(found))[:, None], each], 1), coverage)
