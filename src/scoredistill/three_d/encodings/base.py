r"""Encodings take points of the cube [-1, 1]^3 to features, which a small network or a linear map reads.

All have levels, coarse to fine. `detail` in [0, 1] says how many of L levels take part; level l = 0 .. L - 1 is
multiplied by

    w_l = clamp( 1 + detail (L - 1) - l, 0, 1 ),

so that detail 0 shows the coarsest level alone, detail 1 shows all, and in between they fade in one after the other
(coarse to fine as in BARF, Lin et al. 2021, https://arxiv.org/abs/2104.06405, with a linear window).
"""

from abc import ABC, abstractmethod

from jaxtyping import Float
from torch import Tensor, nn


class Encoding(nn.Module, ABC):
    """A map from points to features, with levels that fade in; a subclass computes one level after the other.

    Args:
        levels: how many.
        features: width of the output.
    """

    def __init__(self, levels: int, features: int):
        super().__init__()
        if levels < 1 or features < 1:
            raise ValueError(f"an encoding needs levels and features of at least 1, not {levels} and {features}")
        self.levels = levels
        self.features = features
        self._detail = 1.0

    @property
    def detail(self) -> float:
        """How much of the levels takes part, in [0, 1]; a part of a schedule, not saved with the parameters."""
        return self._detail

    @detail.setter
    def detail(self, value: float) -> None:
        if not 0 <= value <= 1:
            raise ValueError(f"detail must lie in [0, 1], not {value}")
        self._detail = float(value)

    def fades(self) -> list[float]:
        """The factor w_l of each level, coarsest first."""
        shown = 1 + self.detail * (self.levels - 1)
        return [min(max(shown - level, 0.0), 1.0) for level in range(self.levels)]

    @abstractmethod
    def forward(self, points: Float[Tensor, "n 3"]) -> Float[Tensor, "n f"]:
        """Features [n, features] of points in [-1, 1]^3; points outside take the nearest point of the cube."""
