r"""Numbers about sets of images, through the `ImageFeatures` of a network: `EfficientNet` or `Clip`.

    frechet_distance    |m - m'|^2 + tr(C + C' - 2 (C C')^(1/2))
    kernel_distance     unbiased squared MMD of the kernel (<f, f'> / d + 1)^3
    diversity           mean distance of two different images of a set

References: Heusel et al. 2017, https://arxiv.org/abs/1706.08500; Binkowski et al. 2018, https://arxiv.org/abs/1801.01401.
Values are comparable only between sets of images seen by the same network; the Fréchet distance also only between
sets of the same size, since it is biased upwards by about 1/n. Sums are taken in float64.
"""

from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor


@runtime_checkable
class ImageFeatures(Protocol):
    """A network that describes images."""

    def image_features(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b f"]:
        """One row per image; images are in [0, 1] and of any size."""
        ...


def frechet_distance(features: Float[Tensor, "n f"], others: Float[Tensor, "m f"]) -> float:
    """Fréchet distance of the Gaussians fitted to two sets of features; 0 for equal sets.

    tr (C C')^(1/2) is the sum of the roots of the eigenvalues of C C', which are the singular values of x y^T for
    C = x^T x and C' = y^T y: far less work where images are fewer than features.

    Args:
        features, others: at least 2 each.
    """
    a, b = _checked(features, others)
    x, y = ((z - z.mean(0)) / (len(z) - 1) ** 0.5 for z in (a, b))  # C = x^T x
    if min(len(x), len(y)) <= x.shape[1]:
        root = torch.linalg.svdvals(x @ y.T).sum()
    else:
        root = torch.linalg.eigvals((x.T @ x) @ (y.T @ y)).real.clamp(min=0).sqrt().sum()
    return float((a.mean(0) - b.mean(0)).square().sum() + x.square().sum() + y.square().sum() - 2 * root)


def kernel_distance(features: Float[Tensor, "n f"], others: Float[Tensor, "m f"]) -> float:
    """Squared maximum mean discrepancy of the cubic kernel (KID): unbiased, so it can be below 0 for equal laws."""
    a, b = _checked(features, others)
    within = [(_cubic(s, s).sum() - _cubic(s, s).trace()) / (len(s) * (len(s) - 1)) for s in (a, b)]
    return float(within[0] + within[1] - 2 * _cubic(a, b).mean())


def diversity(features: Float[Tensor, "n f"]) -> float:
    """Mean Euclidean distance between two different rows; 0 if all are alike."""
    a, _ = _checked(features, features)
    return float(torch.cdist(a, a).sum() / (len(a) * (len(a) - 1)))


def _cubic(a: Tensor, b: Tensor) -> Tensor:
    return (a @ b.T / a.shape[1] + 1) ** 3


def _checked(features: Tensor, others: Tensor) -> tuple[Tensor, Tensor]:
    if min(len(features), len(others)) < 2:
        raise ValueError(f"{len(features)} and {len(others)} images: a set needs at least 2")
    if not bool(features.isfinite().all() and others.isfinite().all()):
        raise ValueError("features are not finite: were the images?")
    return features.detach().double(), others.detach().double()
