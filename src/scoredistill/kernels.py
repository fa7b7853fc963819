r"""Kernels between particles, which weigh the score of one particle for another.

    K_ij = k(u_ij),    u_ij = |f_i - f_j|^2 / (2 h^2),    f = features of the particles

    RBF                    k(u) = exp(-u)
    inverse multiquadric   k(u) = (1 + 2 u)^(-1/2) = (1 + |f_i - f_j|^2 / h^2)^(-1/2)

The radial basis function vanishes beyond a few h; the inverse multiquadric falls only as h / |f_i - f_j|, which makes a
Stein discrepancy sensitive to distant particles (Measuring sample quality with kernels, Gorham & Mackey 2017,
https://arxiv.org/abs/1703.01717). Both are positive definite in every dimension.

The median rule balances sum_j K_ij (Stein variational gradient descent, Liu & Wang 2016,
https://arxiv.org/abs/1608.04471): with m the median
distance of distinct particles, h = scale * m / sqrt(2 log(N + 1)), so that u = log(N + 1) at the median for scale 1:
there RBF has K = 1 / (N + 1) and the inverse multiquadric K = (1 + 2 log(N + 1))^(-1/2). The zero diagonal is left out
of the median, so that N = 2 and equal particles stay finite. "paper" is the rule of CSD's released code, which includes
the diagonal: h^2 = median of all squared distances / (2 log(N + 1)); where that is 0, particles do not interact.

In many dimensions particles are about equally far from each other, so the median rule fixes the weight of the others by
N alone: (N - 1) / 2N, whatever they show. `middle` sets K at the median distance itself, in place of 1 / (N + 1).

The kernel gradient moves particle i away from the others, sum_j grad_{x_j} K_ij = sum_j J_j^T [-k'(u_ij) (f_i - f_j)]
/ h^2, with J_j the derivative of the features of particle j (the identity without features).
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

FLOOR = 1e-8  # smallest bandwidth: equal particles give K = 1, not 0 / 0


@dataclass(frozen=True)
class Kernel(ABC):
    """Abstract base of kernels of the distance between particles or their features; subclasses define k(u) and k'(u).

    Args:
        bandwidth: h in units of the features' distance, or "median" or "paper" for the rules of the module.
        scale: multiplies h. Wider kernels share more of the scores: particles agree more where the task has many
            answers in a common direction, nothing is gained where it has one, and the answer is lost where the
            direction depends on the place (docs/estimators/csd.md). At scale 1 equidistant particles give the others
            (N - 1) / 2N of the weight.
        features: maps particles [n, *d] to features [n, *f]; the particles themselves by default.
        middle: K at the median distance for scale 1, in (0, 1), for the bandwidth "median".

    Raises:
        ValueError: for an unknown bandwidth, a bandwidth or scale that is not positive, or a `middle` outside (0, 1) or
            with another bandwidth.
    """

    bandwidth: float | str = "median"
    scale: float = 1.0
    features: Callable[[Tensor], Tensor] | None = None
    middle: float | None = None

    def __post_init__(self) -> None:
        named = self.bandwidth in ("median", "paper")
        if not named and not (isinstance(self.bandwidth, (int, float)) and self.bandwidth > 0):
            raise ValueError(f'bandwidth must be "median", "paper" or a positive number, not {self.bandwidth!r}')
        if not self.scale > 0:
            raise ValueError(f"scale must be positive, not {self.scale}")
        if self.middle is not None and not (self.bandwidth == "median" and 0 < self.middle < 1):
            raise ValueError(f'middle must lie in (0, 1), with bandwidth="median", not {self.middle}')

    @abstractmethod
    def profile(self, u: Float[Tensor, " *n"]) -> Float[Tensor, " *n"]:
        """k(u) for u >= 0, with k(0) = 1."""

    @abstractmethod
    def inverse(self, k: float) -> float:
        """u with k(u) = k, for k in (0, 1)."""

    @abstractmethod
    def slope(self, u: Float[Tensor, " *n"]) -> Float[Tensor, " *n"]:
        """k'(u), negative."""

    def __call__(self, x: Float[Tensor, " n *d"]) -> Float[Tensor, "n n"]:
        """Return K, with ones on the diagonal. Memory O(n^2 + n d)."""
        flat = self._features(x)
        squared = _pairwise_squared(flat)
        return self.profile(squared / (2 * self._width(squared) ** 2))

    def repulsion(self, x: Float[Tensor, " n *d"]) -> tuple[Float[Tensor, "n n"], Float[Tensor, " n *d"]]:
        """Return K and the kernel gradient sum_j grad_{x_j} K_ij, which moves particle i away from the others.

        h is held fixed. Memory O(n^2 + n d). Features are differentiated, with one backward pass per particle.
        """
        with torch.enable_grad():
            others = x.detach().requires_grad_(self.features is not None)
            f = self._features(others)
        flat = f.detach()
        squared = _pairwise_squared(flat)
        width = self._width(squared)
        u = squared / (2 * width**2)
        weight = -self.slope(u) / width**2
        rows = []
        for i in range(len(x)):
            away = weight[i, :, None] * (flat[i] - flat)  # differences first: coinciding particles give exactly 0
            pulled = away if self.features is None else torch.autograd.grad(f, others, away, retain_graph=True)[0]
            rows.append(pulled.sum(0))
        return self.profile(u), torch.stack(rows).reshape_as(x)

    @torch.no_grad()
    def average(self, x: Float[Tensor, " n *d"]) -> Float[Tensor, " n *d"]:
        """Return the kernel-weighted mean of the particles for each of them, sum_j K_ij x_j / sum_j K_ij.

        Each particle itself is included. For `RBF(h)` this is the denoiser D_q(x_i; h) of the particles' own density q,
        so that average(x) - x is h^2 times the gradient of log q_h.
        """
        kernel = self(x)
        return ((kernel / kernel.sum(1, keepdim=True)) @ x.flatten(1)).reshape_as(x)

    def _features(self, x: Tensor) -> Tensor:
        return (x if self.features is None else self.features(x)).flatten(1)

    def _width(self, squared: Tensor) -> Tensor:
        if not isinstance(self.bandwidth, str):
            return torch.as_tensor(float(self.bandwidth) * self.scale, dtype=squared.dtype, device=squared.device)
        n = len(squared)
        if n == 1:
            return squared.new_ones(())
        i, j = torch.triu_indices(n, n, offset=1, device=squared.device)
        middle = squared.median() if self.bandwidth == "paper" else squared[i, j].median()
        u = math.log(n + 1) if self.middle is None else self.inverse(self.middle)
        return (self.scale * middle.sqrt() / math.sqrt(2 * u)).clamp(min=FLOOR)


@dataclass(frozen=True)
class RBF(Kernel):
    """Radial basis function, exp(-|f_i - f_j|^2 / (2 h^2)), on particles or their features. Arguments: `Kernel`."""

    def profile(self, u: Float[Tensor, " *n"]) -> Float[Tensor, " *n"]:
        return (-u).exp()

    def inverse(self, k: float) -> float:
        return -math.log(k)

    def slope(self, u: Float[Tensor, " *n"]) -> Float[Tensor, " *n"]:
        return -(-u).exp()


@dataclass(frozen=True)
class InverseMultiquadric(Kernel):
    """Heavy-tailed kernel, (1 + |f_i - f_j|^2 / h^2)^(-1/2), on particles or their features. Arguments: `Kernel`."""

    def profile(self, u: Float[Tensor, " *n"]) -> Float[Tensor, " *n"]:
        return (1 + 2 * u).rsqrt()

    def inverse(self, k: float) -> float:
        return (k**-2 - 1) / 2

    def slope(self, u: Float[Tensor, " *n"]) -> Float[Tensor, " *n"]:
        return -((1 + 2 * u) ** -1.5)


def _pairwise_squared(flat: Tensor) -> Tensor:
    """|f_i - f_j|^2 without the cancellation of the expanded square, [n, n]."""
    return torch.cdist(flat, flat, compute_mode="donot_use_mm_for_euclid_dist").square()
