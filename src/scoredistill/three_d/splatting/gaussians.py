r"""Colored Gaussians in space: 3D Gaussian Splatting (Kerbl et al. 2023), https://arxiv.org/abs/2308.04079.

    Sigma = R S S^T R^T,    R = rotation(quaternion / |quaternion|),    S = diag(exp(scales))

Opacities are sigmoid(opacities). Colors are spherical harmonics of degree 0 or 1 (up to 3 in the paper) of the unit
direction d = (x, y, z) from the camera to the mean,

    rgb = max(0, 1/2 + c_0 Y_0 + Y_1 (-c_1 y + c_2 z - c_3 x)),    Y_0 = 1 / (2 sqrt(pi)),  Y_1 = sqrt(3 / (4 pi)).
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

from scoredistill.three_d.rotations import matrix_to_quaternion, quaternion_product, quaternion_to_matrix

Y0 = 1 / (2 * math.sqrt(math.pi))
Y1 = math.sqrt(3 / (4 * math.pi))


@dataclass(frozen=True)
class Gaussians:
    """g Gaussians, in the parametrization that is optimized.

    Args:
        means: in world coordinates, [g, 3].
        scales: logarithms of the standard deviations along the axes of each Gaussian, [g, 3].
        quaternions: rotations (w, x, y, z), of any length but 0, [g, 4].
        opacities: logits, [g].
        colors: coefficients of spherical harmonics, [g, k, 3], with k = 1 (degree 0) or 4 (degree 1).

    Raises:
        ValueError: if the number of coefficients is not 1 or 4.
    """

    means: Float[Tensor, "g 3"]
    scales: Float[Tensor, "g 3"]
    quaternions: Float[Tensor, "g 4"]
    opacities: Float[Tensor, " g"]
    colors: Float[Tensor, "g k 3"]

    def __post_init__(self) -> None:
        if self.colors.shape[1] not in (1, 4):
            raise ValueError(f"colors need 1 or 4 coefficients (degree 0 or 1), not {self.colors.shape[1]}")

    def __len__(self) -> int:
        return len(self.means)

    def rotations(self) -> Float[Tensor, "g 3 3"]:
        """Rotation matrices R, whose columns are the axes of the Gaussians."""
        return quaternion_to_matrix(self.quaternions)

    def roots(self) -> Float[Tensor, "g 3 3"]:
        """Square roots R S of the covariances: Sigma = (R S) (R S)^T."""
        return self.rotations() * self.scales.exp()[:, None]

    def rotated(self, rotation: Float[Tensor, "3 3"]) -> "Gaussians":
        """The Gaussians in a world that is rotated about its origin, with their colors.

        With v = (-c_3, -c_1, c_2), colors of degree 1 are Y_1 v . d, so v rotates as the direction d does.
        """
        colors = self.colors
        if colors.shape[1] > 1:
            vector = torch.stack([-colors[:, 3], -colors[:, 1], colors[:, 2]], 1)
            x, y, z = (rotation @ vector).unbind(1)
            colors = torch.stack([colors[:, 0], -y, z, -x], 1)
        quaternions = quaternion_product(matrix_to_quaternion(rotation), self.quaternions)
        return Gaussians(self.means @ rotation.T, self.scales, quaternions, self.opacities, colors)

    def rgb(self, eyes: Float[Tensor, "n 3"]) -> Float[Tensor, "n g 3"]:
        """Colors seen from each camera center, at least 0."""
        flat = 0.5 + Y0 * self.colors[:, 0].expand(len(eyes), -1, -1)
        if self.colors.shape[1] > 1:
            x, y, z = normalize(self.means - eyes[:, None], dim=-1).unsqueeze(-1).unbind(-2)
            flat = flat + Y1 * (z * self.colors[:, 2] - y * self.colors[:, 1] - x * self.colors[:, 3])
        return flat.clamp(min=0)

    def normals(self, eyes: Float[Tensor, "n 3"]) -> Float[Tensor, "n g 3"]:
        """Unit normals: the shortest axis of each Gaussian, turned towards each camera center."""
        shortest = self.scales.detach().argmin(1)
        axes = self.rotations().gather(2, shortest[:, None, None].expand(-1, 3, 1))[..., 0]
        away = ((self.means - eyes[:, None]) * axes).sum(-1, keepdim=True) > 0
        return torch.where(away, -axes, axes)

    @classmethod
    def of_points(
        cls,
        points: Float[Tensor, "g 3"],
        rgb: Float[Tensor, "g 3"],
        opacity: float = 0.1,
        degree: int = 0,
        neighbors: int = 3,
    ) -> "Gaussians":
        """Isotropic Gaussians at points, as wide as the root mean square distance to the nearest neighbors.

        Args:
            points: the means.
            rgb: colors in [0, 1].
            opacity: of all Gaussians, between 0 and 1.
            degree: of the spherical harmonics, 0 or 1.
            neighbors: number of nearest neighbors that set the width.

        Raises:
            ValueError: if there are not more points than neighbors, or opacity or degree is out of range.
        """
        if len(points) <= neighbors:
            raise ValueError(f"expected at least {neighbors + 1} points, got {len(points)}")
        if not 0 < opacity < 1 or degree not in (0, 1):
            raise ValueError(f"opacity must lie between 0 and 1 and degree be 0 or 1, not {opacity} and {degree}")
        near = [torch.cdist(part, points).topk(neighbors + 1, largest=False).values for part in points.split(1024)]
        width = torch.cat(near)[:, 1:].square().mean(1).clamp(min=1e-7).log() / 2
        colors = points.new_zeros(len(points), (degree + 1) ** 2, 3)
        colors[:, 0] = (rgb - 0.5) / Y0
        return cls(
            points.clone(),
            width[:, None].repeat(1, 3),
            points.new_tensor([1.0, 0.0, 0.0, 0.0]).repeat(len(points), 1),
            points.new_full((len(points),), math.log(opacity / (1 - opacity))),
            colors,
        )
