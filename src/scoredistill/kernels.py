r"""Kernels between particles: how much one particle's score counts for another.

    K_ij = exp( -|f_i - f_j|^2 / (2 h^2) )        f = features of the particles

The median rule makes sum_j K_ij about balanced (Liu & Wang 2016, https://arxiv.org/abs/1608.04471): with m the median
distance of distinct particles, h = scale * m / sqrt(2 log(N + 1)), so that K = 1 / (N + 1) at the median for scale 1.
The zero diagonal is left out of the median: N = 2 and equal particles stay finite.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

FLOOR = 1e-8  # smallest bandwidth: equal particles give K = 1, not 0 / 0


@dataclass(frozen=True)
class RBF:
    """Radial basis function kernel on particles or on features of them.

    Args:
        bandwidth: h in units of the features' distance, or "median" for the rule above.
        scale: multiplies h. Wider means that particles share their scores more: more consistent, less varied.
        features: maps particles [n, *d] to features [n, *f]; the particles themselves by default.
    """

    bandwidth: float | str = "median"
    scale: float = 1.0
    features: Callable[[Tensor], Tensor] | None = None

    def __post_init__(self) -> None:
        if self.bandwidth != "median" and not (isinstance(self.bandwidth, (int, float)) and self.bandwidth > 0):
            raise ValueError(f'bandwidth must be "median" or a positive number, not {self.bandwidth!r}')
        if not self.scale > 0:
            raise ValueError(f"scale must be positive, not {self.scale}")

    def __call__(self, x: Float[Tensor, "n *d"]) -> Float[Tensor, "n n"]:
        """K with ones on the diagonal. Memory O(n^2 + n d)."""
        squared = self._squared_distances(x)
        return (-squared / (2 * self._width(squared) ** 2)).exp()

    def repulsion(self, x: Float[Tensor, "n *d"]) -> tuple[Float[Tensor, "n n"], Float[Tensor, "n *d"]]:
        r"""K and the kernel gradient sum_j grad_{x_j} K_ij, the direction that takes particle i away from the others.

        On the particles themselves it is sum_j K_ij (x_i - x_j) / h^2, in memory O(n^2 + n d). On features it is
        taken by automatic differentiation, one backward pass per particle, with h held fixed.
        """
        n = len(x)
        if self.features is None:
            flat = x.flatten(1)
            squared = _pairwise_squared(flat, flat)
            width = self._width(squared)
            kernel = (-squared / (2 * width**2)).exp()
            # row by row: differences first, so that coinciding particles give 0 and not rounding errors over h^2
            away = torch.stack([kernel[i] @ (flat[i] - flat) for i in range(n)])
            return kernel, (away / width**2).reshape_as(x)
        with torch.enable_grad():
            others = x.detach().requires_grad_()
            f = self.features(others).flatten(1)
            squared = _pairwise_squared(f.detach(), f)
            width = self._width(squared.detach())
            kernel = (-squared / (2 * width**2)).exp()
            rows = [torch.autograd.grad(kernel[i].sum(), others, retain_graph=True)[0].sum(0) for i in range(n)]
        return kernel.detach(), torch.stack(rows)

    def _squared_distances(self, x: Tensor) -> Tensor:
        f = (x if self.features is None else self.features(x)).flatten(1)
        return _pairwise_squared(f, f)

    def _width(self, squared: Tensor) -> Tensor:
        if self.bandwidth != "median":
            return torch.as_tensor(float(self.bandwidth) * self.scale, dtype=squared.dtype, device=squared.device)
        n = len(squared)
        if n == 1:
            return squared.new_ones(())
        i, j = torch.triu_indices(n, n, offset=1, device=squared.device)
        return (self.scale * squared[i, j].median().sqrt() / math.sqrt(2 * math.log(n + 1))).clamp(min=FLOOR)


def _pairwise_squared(a: Tensor, b: Tensor) -> Tensor:
    """|a_i - b_j|^2 without the cancellation of the expanded square, [n, m]."""
    return torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist").square()
