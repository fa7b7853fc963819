r"""Estimators that compare a prediction of the noise with the noise that is there.

    grad = w(t) [ eps(alpha_t x + sigma_t n, t) - n ]

Score distillation sampling (SDS): Poole et al. 2022, https://arxiv.org/abs/2209.14988. On a Gaussian prior N(mu, v I)
with S = alpha^2 v + sigma^2 its mean is w sigma alpha (x - mu) / S and its standard deviation w alpha^2 v / S per
coordinate, whatever x is: the gradient stays noisy at the mode.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from scoredistill.estimators.base import Batch, Estimate, Estimator
from scoredistill.priors.base import Prior
from scoredistill.sampling import Rng, draw_noise
from scoredistill.schedule import Weight, per_sample, perturb, weight_at


@dataclass(frozen=True)
class Residual(Estimator):
    """w(t) (eps(x_t, t) - n) with fresh noise n: one network row per particle (two with guidance), one call.

    Args:
        weight: "sigma2" (w = sigma_t^2), "uniform" (w = 1) or a callable of (alpha, sigma).
    """

    weight: Weight = "sigma2"

    @torch.no_grad()
    def __call__(self, prior: Prior, batch: Batch, t: Float[Tensor, "b"], rng: Rng = None) -> Estimate:
        noise = draw_noise(batch.x, rng)
        x_t = perturb(prior.schedule, batch.x, t, noise)
        weight = weight_at(self.weight, prior.schedule, t)
        return Estimate(per_sample(weight, batch.x) * (prior.eps(x_t, t, batch.cond) - noise))
