r"""Estimators that move x towards a clean sample, found by several steps of the probability flow.

    grad = x - ODE_K(x_t),    x_t = alpha_t x + sigma_t n

ODE_K takes K DDIM steps from t to a clean sample. K = 1 is E[x | x_t], with the gradient of a `Residual` of weight
sigma / alpha. With n found by inverting x, the gradient compares two flows, one up and one down: probability-flow
distillation (PFD). It vanishes where both use the same score; between two Gaussians x - grad is the exact map from one
to the other, which tends to the optimal transport map as t grows.
"""

from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from scoredistill.estimators.base import Batch, Estimate, Estimator
from scoredistill.estimators.noise import Inverted, Noise, with_scale
from scoredistill.priors.base import Prior
from scoredistill.rng import Rng
from scoredistill.sampling import ode_sample
from scoredistill.schedule import perturb


@dataclass(frozen=True)
class OdeTarget(Estimator):
    """The difference between x and the end of a probability flow from x_t, grad = x - ODE_K(x_t).

    Args:
        noise: where the noise comes from.
        steps: K, network evaluations of the flow from t to 0, at least 1.
        scale: classifier-free guidance scale of that flow; None uses the prior as it is given.
    """

    noise: Noise = field(default_factory=Inverted)
    steps: int = 4
    scale: float | None = None

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError(f"steps must be at least 1, not {self.steps}")

    @torch.no_grad()
    def __call__(self, prior: Prior, batch: Batch, t: Float[Tensor, " b"], rng: Rng = None) -> Estimate:
        noise = self.noise(prior, batch, [t], rng)[0]
        guided, cond = with_scale(prior, self.scale, batch.cond)
        return Estimate(batch.x - ode_sample(guided, perturb(prior.schedule, batch.x, t, noise), t, self.steps, cond))
