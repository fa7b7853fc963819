r"""Collaborative score distillation: https://arxiv.org/abs/2307.04787.

Several samples are particles of a Stein variational gradient descent (Liu & Wang 2016,
https://arxiv.org/abs/1608.04471) and share what an estimator says of each of them. With d_j the base estimate of
particle j and K_ij a kernel of clean particles,

    row (default)     grad_i = sum_j K_ij d_j / sum_j K_ij
    paper             grad_i = 1/N sum_j ( K_ij d_j - gamma grad_{x_j} K_ij ),  gamma = 1

Normalised by rows the step size does not depend on N, so coupling on and off compare fairly.

Without `repulsion` nothing keeps the particles of a clean kernel apart: coupled SDS is a consensus, and a population of
it collapses as SDS does. (Were the kernel one of the *noised* particles, the -n_j in d_j would be the entropy term, by
Stein's identity, and an explicit kernel gradient would count it twice; but such a kernel flattens as t grows. Numbers:
docs/errors_in_print.md.) The paper's Eqs. 7 and 8, read with descent, attract; the sign here repels. On a Gaussian
prior of variance v, gamma = w v sigma alpha / (alpha^2 v + sigma^2) has that Gaussian as its law; in the thousands of
dimensions of a picture the term is a fraction of a percent of the score.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from scoredistill.estimators.base import Batch, Estimate, Estimator, EstimatorWrapper
from scoredistill.kernels import RBF
from scoredistill.priors.base import Prior
from scoredistill.sampling import Rng

NORMALISE = ("row", "paper")


@dataclass(frozen=True)
class Stein(EstimatorWrapper):
    """Couple any estimator's particles through a kernel.

    Args:
        base: estimator of the single particles.
        kernel: callable x[n, *d] -> K[n, n]; for the repulsion it also needs `repulsion` (see RBF). K_ij weighs what
            particle j says for particle i; it need not be symmetric.
        normalise: "row" or "paper", see above.
        repulsion: gamma, the coefficient of the kernel gradient; None is 0 for "row" and 1 for "paper".
    """

    base: Estimator
    kernel: Callable[[Tensor], Tensor] = field(default_factory=RBF)
    normalise: str = "row"
    repulsion: float | None = None

    def __post_init__(self) -> None:
        if self.normalise not in NORMALISE:
            raise ValueError(f"unknown normalise {self.normalise!r}: use one of {', '.join(NORMALISE)}")
        if self._gamma and not hasattr(self.kernel, "repulsion"):
            raise ValueError("repulsion needs a kernel with a `repulsion` method, such as RBF; or give repulsion=0.0")

    @property
    def _gamma(self) -> float:
        if self.repulsion is not None:
            return self.repulsion
        return 1.0 if self.normalise == "paper" else 0.0

    @torch.no_grad()
    def __call__(self, prior: Prior, batch: Batch, t: Float[Tensor, "b"], rng: Rng = None) -> Estimate:
        estimate = self.base(prior, batch, t, rng)
        if self._gamma:
            kernel, away = self.kernel.repulsion(batch.x)  # type: ignore[attr-defined]
        else:
            kernel, away = self.kernel(batch.x), None
        total = (kernel @ estimate.grad.flatten(1)).reshape_as(batch.x)
        if away is not None:
            total = total - self._gamma * away
        scale = kernel.sum(1) if self.normalise == "row" else torch.full_like(kernel[0], len(kernel))
        grad = total / scale.reshape(-1, *[1] * (batch.x.ndim - 1))
        return Estimate(grad, estimate.loss, {**estimate.info, "kernel": kernel.mean()})
