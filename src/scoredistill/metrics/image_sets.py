r"""Metrics of sets of images, computed from the `ImageFeatures` of a network such as `EfficientNet` or `Clip`.

    frechet_distance    |m - m'|^2 + tr(C + C' - 2 (C C')^(1/2))
    kernel_distance     unbiased squared MMD of the kernel (<f, f'> / d + 1)^3 (KID)
    diversity           mean distance between two different images of a set

Values are comparable only for features of the same network. The Fréchet distance is comparable only for sets of the
same size, since it is biased upwards by about 1/n. Sums are computed in float64.

KID is meant for Inception's features, whose inner products are of the size of their dimension d. For unit features
|<f, f'>| / d is at most 1/d, so that the cubic kernel is linear, 1 + 3 <f, f'> / d, up to a relative 1/d, and KID says
nothing beyond the difference of the means, 3 |m - m'|^2 / d. For CLIP's features use `point_sets.mmd`, whose Gaussian
kernel tells any two distributions apart, at a bandwidth like the distances of the features: at 10, as in CMMD, it is
linear on unit features as well.

References: FID (Heusel et al. 2017), https://arxiv.org/abs/1706.08500; KID (Binkowski et al. 2018),
https://arxiv.org/abs/1801.01401; CMMD: Rethinking FID (Jayasumana et al. 2024), https://arxiv.org/abs/2401.09603.
"""

from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor


@runtime_checkable
class ImageFeatures(Protocol):
    """A network that maps images to features."""

    def image_features(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b f"]:
        """Features of images in [0, 1] of any size, one row per image."""
        ...


def frechet_distance(features: Float[Tensor, "n f"], others: Float[Tensor, "m f"]) -> float:
    """Fréchet distance of the Gaussians fitted to two sets of features; 0 for equal sets.

    tr (C C')^(1/2) is the sum of the square roots of the eigenvalues of C C'. For C = x^T x and C' = y^T y, these are
    the singular values of x y^T, which are far cheaper if there are fewer images than features.

    Args:
        features, others: at least 2 rows each.

    Raises:
        ValueError: if there are fewer than 2 rows, or values are not finite.
    """
    a, b = _checked(features, others)
    x, y = ((z - z.mean(0)) / (len(z) - 1) ** 0.5 for z in (a, b))  # C = x^T x
    if min(len(x), len(y)) <= x.shape[1]:
        root = torch.linalg.svdvals(x @ y.T).sum()
    else:
        root = torch.linalg.eigvals((x.T @ x) @ (y.T @ y)).real.clamp(min=0).sqrt().sum()
    return float((a.mean(0) - b.mean(0)).square().sum() + x.square().sum() + y.square().sum() - 2 * root)


def kernel_distance(features: Float[Tensor, "n f"], others: Float[Tensor, "m f"]) -> float:
    """Kernel distance (KID): unbiased squared MMD of the cubic kernel, negative at times for equal distributions.

    The kernel is that of Inception's features; unit features need `point_sets.mmd` (see above).
    """
    a, b = _checked(features, others)
    within = [(_cubic(s, s).sum() - _cubic(s, s).trace()) / (len(s) * (len(s) - 1)) for s in (a, b)]
    return float(within[0] + within[1] - 2 * _cubic(a, b).mean())


def diversity(features: Float[Tensor, "n f"]) -> float:
    """Mean Euclidean distance between two different rows; 0 if all are equal."""
    a, _ = _checked(features, features)
    return float(torch.cdist(a, a).sum() / (len(a) * (len(a) - 1)))


def _cubic(a: Tensor, b: Tensor) -> Tensor:
    return (a @ b.T / a.shape[1] + 1) ** 3


def _checked(features: Tensor, others: Tensor) -> tuple[Tensor, Tensor]:
    if min(len(features), len(others)) < 2:
        raise ValueError(f"sets of {len(features)} and {len(others)} images are too small: give at least 2 images each")
    if not bool(features.isfinite().all() and others.isfinite().all()):
        raise ValueError("features have values that are not finite: check the images")
    return features.detach().double(), others.detach().double()
