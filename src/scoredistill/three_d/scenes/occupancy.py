"""Occupancy grid: a coarse record of the density of a field, so that empty space is skipped when rendering.

Reference: Mueller et al. 2022 (Instant Neural Graphics Primitives), section E, https://arxiv.org/abs/2201.05989.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from scoredistill.rng import seed_of

CELLS = 32  # along each side of the grid


class Counting(nn.Module):
    """A module whose buffer `count` stays on the host when the module moves: it is read in every step."""

    count: Tensor

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Any:
        count = self.count
        super()._apply(fn, recurse)
        self.count = count
        return self


class Occupancy(Counting):
    """Largest recent and last density in each cell of the cube [-1, 1]^3.

    Args:
        cells: along each side of the cube.
        seed: of the positions in the cells at which the density is queried.
    """

    def __init__(self, cells: int = CELLS, seed: int = 0):
        super().__init__()
        self.cells, self.seed = cells, seed
        self.memory: Tensor
        self.last: Tensor
        self.register_buffer("memory", torch.full((cells,) * 3, math.inf))
        self.register_buffer("last", torch.zeros((cells,) * 3))
        self.register_buffer("count", torch.tensor(0))

    @torch.no_grad()
    def update(self, density: Callable[[Tensor], Tensor], decay: float = 0.8) -> None:
        """Query the density at one random position in each cell; earlier values decay by the factor `decay`."""
        rng = torch.Generator().manual_seed(seed_of(self.seed, int(self.count)))
        steps = torch.arange(self.cells)
        corner = torch.stack(torch.meshgrid(steps, steps, steps, indexing="ij"), -1).float()
        places = 2 * (corner + torch.rand(corner.shape, generator=rng)) / self.cells - 1
        found = density(places.reshape(-1, 3).to(self.memory)).reshape(self.memory.shape)
        before = torch.where(self.memory.isinf(), torch.zeros_like(found), self.memory)
        self.memory.copy_(torch.maximum(found, decay * before))
        self.last.copy_(found)
        self.count += 1

    def extremes(self) -> Float[Tensor, "2 c c c"]:
        """The largest recent density in each cell and its neighbors, and the smallest of the last update; a copy.

        The smallest is that of the last update alone, so that matter which has vanished occludes nothing.
        """
        both = torch.stack([self.memory, -self.last])
        wide = functional.max_pool3d(both[:, None], 3, 1, 1)[:, 0]
        return torch.stack([wide[0], -wide[1]])

    def at(self, values: Float[Tensor, "k c c c"], points: Float[Tensor, " *m 3"]) -> Float[Tensor, " k *m"]:
        """Values of the cells that contain the points."""
        place = ((points + 1) * (self.cells / 2)).long().clamp(0, self.cells - 1)
        return values.flatten(1)[:, (place[..., 0] * self.cells + place[..., 1]) * self.cells + place[..., 2]]
