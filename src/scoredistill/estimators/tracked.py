r"""Mean shift towards one draw that every particle keeps and refines while the bandwidth shrinks.

A mean has no detail, and a fresh draw of y for every gradient costs many network evaluations. Here each particle keeps
one draw at a noise level r, z = y + r n, and takes its prediction from z and from the particle x, which is another
noised observation of y with the kernel's standard deviation h:

    d = E[ y | y ~ p(y) N(x; y, h^2 I) N(z; y, r^2 I) ] = D(u; tau),        grad = x - d,        r = spread * h,

    u = (z + spread^2 x) / (1 + spread^2),        1 / tau^2 = 1 / r^2 + 1 / h^2,        z <- d + (r' / r)(z - d).

The network is evaluated at the step's time t, so tau = sigma_t / alpha_t, h = tau sqrt(1 + 1 / spread^2) and r =
tau sqrt(1 + spread^2).

So a gradient takes one network evaluation. By the tower property its mean over z is the mean shift at bandwidth h for
any spread, if z is a draw of the product density, which the probability flow of that density makes it
(`sampling.product_sample` takes the same steps at a fixed x and h). The spread says who leads:

    spread -> 0      the draw: z follows the prior's own flow, DDIM, and x follows its predictions; samples
    spread -> inf    the particle: u -> x and h -> tau, `MeanShift` with the sampler "mean"; modes

As the bandwidth falls with the time schedule, z and x meet: the run is over when h is below its smallest value
(`times.Bandwidth`).

References: Mean-shift distillation (Thamizharasan et al. 2025), https://arxiv.org/abs/2502.15989; that the draw is kept
is ours.
"""

import math
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from scoredistill.estimators.base import Batch, Estimate, Estimator
from scoredistill.priors.base import Prior
from scoredistill.rng import Rng, draw_noise
from scoredistill.sampling import LARGEST, product_denoise
from scoredistill.schedule import per_sample


class TrackedMSD(Estimator):
    """Mean shift towards a draw that each particle keeps; the formula is that of the module.

    It has a state, the draws, so an estimator belongs to one run, whose steps show the same particles in the same
    order: not for views from random cameras or for some of the windows of an image.

    Args:
        spread: noise of the draw over the bandwidth, positive. Small values give samples, large ones modes.

    Raises:
        ValueError: for a spread that is not positive; in a run, if the number or shape of particles changes.
    """

    def __init__(self, spread: float = 1.0):
        if not 0 < spread < float("inf"):
            raise ValueError(f"spread must be positive and finite, not {spread}")
        self.spread = spread
        self._kept: tuple[Tensor, Tensor] | None = None  # the last prediction and the noise (z - d) / r

    @torch.no_grad()
    def __call__(self, prior: Prior, batch: Batch, t: Float[Tensor, " b"], rng: Rng = None) -> Estimate:
        x = batch.x
        bandwidth = prior.schedule.ratio(t).clamp(max=LARGEST) * math.hypot(1, 1 / self.spread)
        r = self.spread * bandwidth
        first = self._kept is None
        center, noise = (x, draw_noise(x, rng)) if self._kept is None else self._moved(x)
        z = center + per_sample(r, x) * noise
        d = product_denoise(prior, z, r, x, bandwidth, batch.cond)
        self._kept = d, noise if first else (z - d) / per_sample(r, x)
        return Estimate(x - d, info={"bandwidth": bandwidth.mean()})

    def displace(self, by: Float[Tensor, " b *d"]) -> None:
        """Move the kept predictions, so that the draws follow what another term asks for."""
        if self._kept is not None:
            self._kept = self._kept[0] - by, self._kept[1]

    def _moved(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The kept prediction and noise where x lives.

        Raises:
            ValueError: if they are those of other particles.
        """
        assert self._kept is not None
        clean, noise = (kept.to(x) for kept in self._kept)
        if clean.shape != x.shape:
            raise ValueError(
                f"the particles were {list(clean.shape)} and are {list(x.shape)} now: show the same particles in every "
                "step, or use MSD"
            )
        return clean, noise

    def state_dict(self) -> dict[str, Any]:
        return {} if self._kept is None else {"clean": self._kept[0].clone(), "noise": self._kept[1].clone()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._kept = (state["clean"], state["noise"]) if state else None
