r"""Dense encodings: a grid of features per level, or three planes per level.

`DenseGrid`: level l holds one feature vector per vertex of a grid of R_l^3 vertices that spans the cube; a point gets
the trilinear interpolation of the 8 vertices around it. Levels are concatenated.

`TriPlane`: level l holds three planes of R_l^2 vertices; a point gets the product of the three bilinear interpolations,

    f(x, y, z) = P_xy(x, y) P_yz(y, z) P_zx(z, x),

as in K-Planes (Fridovich-Keil et al. 2023, https://arxiv.org/abs/2301.10241), whose planes are initialized around 1. A
product can be local in space, a sum cannot. Planes of two axes are those of EG3D (Chan et al. 2022,
https://arxiv.org/abs/2112.07945).

Both interpolate with `torch.nn.functional.grid_sample`, whose first derivatives with respect to values and points are
exact (the one with respect to points jumps at the faces of the cells). It has no second derivatives: normals can be
computed, but a loss on normals cannot be differentiated. `HashGrid` with the torch backend can, and is a dense grid
where its table holds all vertices.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import grid_sample

from scoredistill.rng import draw_noise
from scoredistill.three_d.encodings.base import Encoding


class DenseGrid(Encoding):
    """Grids of feature vectors with trilinear interpolation; levels are concatenated.

    Args:
        resolutions: vertices per axis of each level, coarsest first.
        features: channels per level; the output has features times levels channels.
        std: standard deviation of the initial values.
        rng: draws the initial values.
    """

    def __init__(
        self,
        resolutions: Sequence[int] = (16, 32, 64),
        features: int = 4,
        std: float = 0.1,
        rng: torch.Generator | None = None,
    ):
        super().__init__(len(resolutions), features * len(resolutions))
        self.resolutions = _checked(resolutions)
        self.values = nn.ParameterList(  # [z, y, x, feature]: contiguous features of a vertex are faster
            [nn.Parameter(std * draw_noise(torch.empty(r, r, r, features), rng)) for r in self.resolutions]
        )

    def forward(self, points: Float[Tensor, "n 3"]) -> Float[Tensor, "n f"]:
        """Features of points, the coarsest level first."""
        where = points[None, None, None]
        levels = []
        for values, fade in zip(self.values, self.fades(), strict=True):
            if fade == 0:
                levels.append(points.new_zeros(len(points), values.shape[-1]))
                continue
            found = grid_sample(values.permute(3, 0, 1, 2)[None], where, padding_mode="border", align_corners=True)
            levels.append(fade * found[0, :, 0, 0].T)
        return torch.cat(levels, 1)


class TriPlane(Encoding):
    """Three planes of feature vectors per level, interpolated and multiplied; levels are concatenated.

    Args:
        resolutions: vertices per axis of each level, coarsest first.
        features: channels per level; the output has features times levels channels.
        std: standard deviation of the initial values around 1.
        rng: draws the initial values.
    """

    def __init__(
        self,
        resolutions: Sequence[int] = (64, 128),
        features: int = 8,
        std: float = 0.1,
        rng: torch.Generator | None = None,
    ):
        super().__init__(len(resolutions), features * len(resolutions))
        self.resolutions = _checked(resolutions)
        self.values = nn.ParameterList(
            [nn.Parameter(1 + std * draw_noise(torch.empty(3, features, r, r), rng)) for r in self.resolutions]
        )

    def forward(self, points: Float[Tensor, "n 3"]) -> Float[Tensor, "n f"]:
        """Features of points, the coarsest level first."""
        x, y, z = points.unbind(1)
        where = torch.stack([torch.stack(pair, 1) for pair in ((x, y), (y, z), (z, x))])[:, None]  # [3, 1, n, 2]
        levels = []
        for values, fade in zip(self.values, self.fades(), strict=True):
            if fade == 0:
                levels.append(points.new_zeros(len(points), values.shape[1]))
                continue
            found = grid_sample(values, where, padding_mode="border", align_corners=True)[:, :, 0]  # [3, features, n]
            levels.append(fade * (found[0] * found[1] * found[2]).T)
        return torch.cat(levels, 1)


def _checked(resolutions: Sequence[int]) -> tuple[int, ...]:
    if any(r < 2 for r in resolutions) or sorted(resolutions) != list(resolutions):
        raise ValueError(f"resolutions must be at least 2 and not decrease, not {tuple(resolutions)}")
    return tuple(resolutions)
