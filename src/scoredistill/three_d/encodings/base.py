r"""Base class of encodings, which map points of the cube [-1, 1]^3 to features for a small network or a linear map.

Every encoding has L levels, from coarse to fine. With `detail` in [0, 1], level l = 0 .. L - 1 is multiplied by

    w_l = clamp( 1 + detail (L - 1) - l, 0, 1 ),

so detail 0 uses the coarsest level alone, detail 1 uses all, and in between the levels fade in one after the other
(coarse to fine as in BARF, Lin et al. 2021, https://arxiv.org/abs/2104.06405, but with a linear window).
"""

from abc import ABC, abstractmethod

from jaxtyping import Float
from torch import Tensor, nn


class Encoding(nn.Module, ABC):
    """Abstract base of maps from points to features with levels that fade in.

    Args:
        levels: number of levels.
        features: channels of the output, over all levels.

    Raises:
        ValueError: if a number is below 1.
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
        """Level of detail in [0, 1]; 1 by default. It belongs to a schedule and is not saved with the parameters."""
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
        """Features of points in [-1, 1]^3; points outside are clamped to the cube."""
