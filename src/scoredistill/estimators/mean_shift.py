r"""Mean-shift distillation.

The mean shift of a sample x under a Gaussian kernel of variance s is

    m(x) = E[ y | y ~ p(y) N(x; y, s I) ] - x = s grad log p_s(x),        grad = -m(x),

where p_s is the density smoothed by the kernel. Its fixed points are the modes of p_s, which tend to those of p as s
shrinks: the bandwidth is annealed, and the run ends when it falls below its smallest value.

By Tweedie's formula the expectation is the denoiser itself, E[y | ...] = D(x; sqrt s), so one network evaluation at the
*un-noised* x gives the exact mean shift of an exact prior: the sampler "mean", the default. A network is not trained on
clean inputs at that noise level, but a clean x is the center of the noised inputs of its training: measured on trained
networks in 2 to 256 dimensions, the error at clean inputs is smaller than at noised ones
(docs/results/toy/networks.md). 20 to 40 steps of x - grad with a geometrically shrinking bandwidth suffice; with many
more, particles drift with the network's error.

The other samplers draw y: "ancestral" by the reverse SDE that starts at x; "product" by the probability flow of the
product density, from noise around the first prediction; "paper" by the published recipe, whose kernel is not noised,
so that y has too little variance and a bias (docs/errata.md). A draw of few steps has nearly the right mean and too
little variance, see the functions of `sampling`. A single draw preserves diversity where the mean seeks modes.

The paper writes its kernel as exp(-|r|^2 / lambda^2), so s = lambda^2 / 2 and the bandwidth here is
sqrt s = lambda / sqrt 2.

Reference: Mean-shift distillation (Thamizharasan et al. 2025), https://arxiv.org/abs/2502.15989.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from scoredistill.estimators.base import Batch, Estimate, Estimator
from scoredistill.priors.base import Prior
from scoredistill.priors.conditions import Cond, expand_cond
from scoredistill.rng import Rng, draw_noise
from scoredistill.sampling import LARGEST, LEVELS, STEP_VARIABLES, paper_sample, posterior_sample, product_sample

SAMPLERS = ("mean", "product", "ancestral", "paper")
ANCHORS = ("x", "inverted")


@dataclass(frozen=True)
class MeanShift(Estimator):
    """The negative mean shift, grad = x - (mean of y).

    Args:
        bandwidth: sqrt s, the kernel's standard deviation in the units of x. None takes it from t,
            sqrt s = sigma_t / alpha_t, so that the loop's time schedule anneals it.
        sampler: "mean" (one network evaluation, deterministic), or "product", "ancestral" or "paper", which draw y
            with `steps` evaluations.
        steps: network evaluations per drawn y, at least 1.
        samples: number of draws of y that are averaged. One preserves diversity, the average seeks modes.
        antithetic: draw y in pairs with opposite noise; `samples` must be even.
        dt, anchor, interval: options of the sampler "paper", see `sampling.paper_sample`.
        levels: option of the sampler "product", see `sampling.product_sample`; "prior" for bandwidths larger than the
            data.

    Raises:
        ValueError: for an unknown option, or one that does not belong to the sampler.
    """

    bandwidth: float | None = None
    sampler: str = "mean"
    steps: int = 8
    samples: int = 1
    antithetic: bool = False
    dt: str = "sigma2"
    anchor: str = "x"
    interval: tuple[float, float] | None = None
    levels: str = "kernel"

    def __post_init__(self) -> None:
        if self.sampler not in SAMPLERS:
            raise ValueError(f"unknown sampler {self.sampler!r}: use one of {', '.join(SAMPLERS)}")
        if self.bandwidth is not None and not self.bandwidth > 0:
            raise ValueError(f"bandwidth must be positive, not {self.bandwidth}")
        if self.steps < 1 or self.samples < 1:
            raise ValueError(f"steps and samples must be at least 1, not {self.steps} and {self.samples}")
        if self.antithetic and self.samples % 2:
            raise ValueError(f"antithetic pairs need an even number of samples, not {self.samples}")
        if self.dt not in STEP_VARIABLES:
            raise ValueError(f"unknown dt {self.dt!r}: use one of {', '.join(STEP_VARIABLES)}")
        if self.anchor not in ANCHORS:
            raise ValueError(f"unknown anchor {self.anchor!r}: use one of {', '.join(ANCHORS)}")
        if self.interval is not None and not 0 <= self.interval[0] <= self.interval[1] <= 1:
            raise ValueError(f"interval must be (lo, hi) with 0 <= lo <= hi <= 1, not {self.interval}")
        if self.sampler != "paper" and (self.dt, self.anchor, self.interval) != ("sigma2", "x", None):
            raise ValueError("dt, anchor and interval belong to the sampler 'paper': leave them out")
        if self.levels not in LEVELS:
            raise ValueError(f"unknown levels {self.levels!r}: use one of {', '.join(LEVELS)}")
        if self.sampler != "product" and self.levels != "kernel":
            raise ValueError("levels belong to the sampler 'product': leave them out")

    @torch.no_grad()
    def __call__(self, prior: Prior, batch: Batch, t: Float[Tensor, " b"], rng: Rng = None) -> Estimate:
        x = batch.x
        ratio = self.bandwidth_at(prior, t)
        if self.sampler == "mean":
            y = prior.denoise_at(x, ratio, batch.cond)
        else:
            y = self._average(prior, x, ratio, batch.cond, rng)
        return Estimate(x - y, info={"bandwidth": ratio.mean()})

    def bandwidth_at(self, prior: Prior, t: Float[Tensor, " b"]) -> Float[Tensor, " b"]:
        """sqrt s of each particle, clamped to the range of the prior's schedule (and finite where alpha_t = 0)."""
        if self.bandwidth is not None:
            t = prior.schedule.time_of(torch.full_like(t, self.bandwidth))
        return prior.schedule.ratio(t).clamp(max=LARGEST)

    def _average(self, prior: Prior, x: Tensor, ratio: Tensor, cond: Cond | None, rng: Rng) -> Tensor:
        """Mean of `samples` draws of y per particle; all draws are rows of the same network calls."""
        n = self.samples
        rows = x.repeat_interleave(n, 0)
        if cond is not None:
            cond = {k: v.repeat_interleave(n, 0) for k, v in expand_cond(cond, len(x)).items()}

        def draw(z: Tensor) -> Tensor:
            drawn = z.reshape(len(x), n, *x.shape[1:])
            if not self.antithetic:
                return draw_noise(drawn, rng).flatten(0, 1)
            noise = draw_noise(drawn[:, ::2], rng)
            return torch.cat([noise, -noise], 1).flatten(0, 1)

        around = (prior, rows, ratio.repeat_interleave(n), self.steps, cond, draw)
        if self.sampler == "paper":
            y = paper_sample(*around, self.dt, self.anchor, self.interval)
        elif self.sampler == "product":
            y = product_sample(*around, self.levels)
        else:
            y = posterior_sample(*around)
        return y.reshape(len(x), n, *x.shape[1:]).mean(1)
