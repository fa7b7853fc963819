r"""Layout of a hash grid: the resolution of each level, its rows in the table, and the row of each vertex.

With L levels, N_0 vertices per axis at the coarsest, N_(L-1) at the finest and at most T rows per level,

    scale       s_l = b^l N_0 - 1,    b = (N_(L-1) / N_0)^(1 / (L - 1))
    vertices    R_l = ceil(s_l) + 1 per axis; level l has T_l = min(R_l^3, T) rows in the table
    index       i + R j + R^2 k   where R_l^3 <= T,   else   (i  xor  2654435761 j  xor  805459861 k) mod 2^32 mod T

so vertices lie on the faces of the cube at the coarsest and the finest level, and vertices of a hashed level may share
a row. The paper shifts positions by half a cell; this layout, without the shift, is that of drjit.nn.HashGridEncoding
with align_corners.

Reference: Mueller et al. 2022, https://arxiv.org/abs/2201.05989, section 3.
"""

import math
from dataclasses import dataclass

from jaxtyping import Int
from torch import Tensor

PRIMES = (1, 2654435761, 805459861)


@dataclass(frozen=True)
class Layout:
    """Sizes of a hash grid, and the place of its levels in the table.

    Args:
        levels: number of levels L.
        features: feature channels per level.
        table: largest number of rows per level, T; at least 8, a multiple of `features`.
        coarsest, finest: vertices per axis of the first and the last level, N_0 and N_(L-1).

    Raises:
        ValueError: if a number is out of range.
    """

    levels: int = 8
    features: int = 2
    table: int = 2**14
    coarsest: int = 16
    finest: int = 128

    def __post_init__(self) -> None:
        if min(self.levels, self.features) < 1:
            raise ValueError(f"levels and features must be at least 1, not {self.levels} and {self.features}")
        if not 2 <= self.coarsest <= self.finest:
            raise ValueError(f"resolutions must be 2 <= coarsest <= finest, not {self.coarsest} and {self.finest}")
        if self.table < 8 or self.table % self.features:
            raise ValueError(f"a table needs at least 8 rows, a multiple of {self.features}, not {self.table}")

    @property
    def growth(self) -> float:
        """Ratio b of successive resolutions, reduced by 1e-12 so that s_(L-1) does not round up to one more vertex."""
        return (self.finest / self.coarsest) ** (1 / (self.levels - 1)) * (1 - 1e-12) if self.levels > 1 else 1.0

    def scale(self, level: int) -> float:
        """Scale s_l of a level: grid cells per side of the cube."""
        return 2.0 ** (level * math.log2(self.growth)) * self.coarsest - 1

    def resolution(self, level: int) -> int:
        """Vertices per axis of a level, R_l."""
        return math.ceil(self.scale(level)) + 1

    def rows(self, level: int) -> int:
        """Rows of a level, T_l, rounded up to a multiple of `features`."""
        cells = self.resolution(level) ** 3
        return min(cells + -cells % self.features, self.table)

    def start(self, level: int) -> int:
        """First row of a level; `start(levels)` is the total number of rows."""
        return sum(self.rows(i) for i in range(level))

    def index(
        self, i: Int[Tensor, " *#n"], j: Int[Tensor, " *#n"], k: Int[Tensor, " *#n"], level: int
    ) -> Int[Tensor, " *n"]:
        """Rows of the vertices (i, j, k), counted from the start of their level."""
        side, rows = self.resolution(level), self.rows(level)
        if side**3 <= rows:
            return i + side * j + side**2 * k
        mixed = (i * PRIMES[0]) ^ (j * PRIMES[1]) ^ (k * PRIMES[2])
        return mixed & (rows - 1) if rows & (rows - 1) == 0 else (mixed & 0xFFFFFFFF) % rows
