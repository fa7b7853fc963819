"""Carried here by the move."""

import math
from dataclasses import dataclass

from jaxtyping import Int
from torch import Tensor

PRIMES = (1, 2654435761, 805459861)


@dataclass(frozen=True)
class Layout:
    """Sizes of a hash grid, and where its levels lie in the table.

    Args:
        levels: L.
        features: numbers per vertex and level.
        table: T, the most rows of a level; a multiple of 2.
        coarsest, finest: N_0 and N_(L-1), vertices per axis.

    Raises:
        ValueError: for numbers out of range.
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
        """b; a hair smaller, so that s_(L-1) is not rounded up to a vertex more."""
        return (self.finest / self.coarsest) ** (1 / (self.levels - 1)) * (1 - 1e-12) if self.levels > 1 else 1.0

    def scale(self, level: int) -> float:
        """s_l."""
        return 2.0 ** (level * math.log2(self.growth)) * self.coarsest - 1

    def resolution(self, level: int) -> int:
        """R_l."""
        return math.ceil(self.scale(level)) + 1

    def rows(self, level: int) -> int:
        """T_l, rounded up to a multiple of `features`."""
        cells = self.resolution(level) ** 3
        return min(cells + -cells % self.features, self.table)

    def start(self, level: int) -> int:
        """The first row of a level; that of level L is the number of all rows."""
        return sum(self.rows(i) for i in range(level))

    def index(
        self, i: Int[Tensor, " *#n"], j: Int[Tensor, " *#n"], k: Int[Tensor, " *#n"], level: int
    ) -> Int[Tensor, " *n"]:
        """Rows of vertices (i, j, k) within a level."""
        side, rows = self.resolution(level), self.rows(level)
        if side**3 <= rows:
            return i + side * j + side**2 * k
        mixed = (i * PRIMES[0]) ^ (j * PRIMES[1]) ^ (k * PRIMES[2])
        return mixed & (rows - 1) if rows & (rows - 1) == 0 else (mixed & 0xFFFFFFFF) % rows
