r"""Estimators that are linear in noise predictions: nearly all of the literature.

    grad = w(t) [ sum_k a_k(t) eps(latent_k, time_k, cond_k) - reference ] + kappa(t) (x - source)

The latents are x_t = alpha_t x + sigma_t n and source_t = alpha_t source + sigma_t n with the *same* noise n, which a
`Noise` provides. The reference is

    "noise"     n itself: the residual vanishes where the prior predicts exactly the noise that was added
    "slope"     (r_t n_t - r_s n_s) / (r_t - r_s), r = sigma / alpha: the noise that the path adds between s and t.
                On a path made by DDIM steps it is the prediction at s, without a further network evaluation
    "zero"      nothing

All evaluations of one gradient go through the network in one call, and equal evaluations are made once. The terms of a
guided prior are part of the same call (see `rows.Plan`).

Example: score distillation sampling (SDS), DreamFusion (Poole et al. 2022), https://arxiv.org/abs/2209.14988, is
`Residual()`: w(t) (eps(x_t, t) - n). On a Gaussian prior N(mu, v I) with S = alpha^2 v + sigma^2 its mean is
w sigma alpha (x - mu) / S and its standard deviation w alpha^2 v / S per coordinate, whatever x is: the gradient stays
noisy at the mode.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from scoredistill.estimators.base import Batch, Estimate, Estimator
from scoredistill.estimators.noise import Noise, Random
from scoredistill.estimators.rows import Coefficient, Plan, Row, scaled
from scoredistill.priors.base import Prior
from scoredistill.priors.guidance import plain
from scoredistill.rng import Rng
from scoredistill.schedule import Schedule, Weight, per_sample, perturb, weight_at

REFERENCES = ("noise", "slope", "zero")


@dataclass(frozen=True)
class Residual(Estimator):
    """Weighted sum of predictions minus a reference, plus an anchor; the formula is that of the module.

    Args:
        weight: w(t): "sigma2" (sigma_t^2), "uniform" (1) or a callable of (alpha, sigma).
        rows: the predictions.
        noise: where the noise comes from.
        reference: "noise", "slope" or "zero".
        anchor: kappa, a number or a function of (schedule, t).
        second: the second time s as a function of (t, rng), for rows that are `later` and the reference "slope".
        shift: c, a number or a function of (schedule, t); latents of x are moved by c(t) (x - source).

    Raises:
        ValueError: for an unknown reference, or if a second time is needed and missing. When called: if the estimator
            needs a source and the batch has none.
    """

    weight: Weight = "sigma2"
    rows: tuple[Row, ...] = (Row(guided=True),)
    noise: Noise = Random()
    reference: str = "noise"
    anchor: Coefficient = 0.0
    second: Callable[[Tensor, Rng], Tensor] | None = None
    shift: Coefficient = 0.0

    def __post_init__(self) -> None:
        if self.reference not in REFERENCES:
            raise ValueError(f"unknown reference {self.reference!r}: use one of {', '.join(REFERENCES)}")
        if self.second is None and (self.reference == "slope" or any(row.later for row in self.rows)):
            raise ValueError("the reference 'slope' and rows that are later need a second time: pass second=")

    @property
    def needs_source(self) -> bool:
        """Whether batches must have a source."""
        return self.anchor != 0.0 or self.shift != 0.0 or any(row.latent == "source" for row in self.rows)

    @torch.no_grad()
    def __call__(self, prior: Prior, batch: Batch, t: Float[Tensor, " b"], rng: Rng = None) -> Estimate:
        if self.needs_source and batch.source is None:
            raise ValueError("this estimator edits a source: pass the samples to start from as Batch(source=...)")
        now, then = self._moments(prior, batch, t, rng)
        predicted = self._predict(prior, batch, now, then)
        self.noise.observe(predicted)
        grad = predicted
        if self.reference == "noise":
            grad = predicted - now.noise
        elif self.reference == "slope":
            grad = predicted - _slope(prior.schedule, now, then)
        grad = per_sample(weight_at(self.weight, prior.schedule, t), grad) * grad
        if self.anchor != 0.0:
            grad = grad + scaled(self.anchor, prior.schedule, t, batch.x - _source(batch))
        return Estimate(grad, x_t=perturb(prior.schedule, batch.x, t, now.noise) if self.shift == 0.0 else None)

    def state_dict(self) -> dict[str, Any]:
        return self.noise.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.noise.load_state_dict(state)

    def _moments(self, prior: Prior, batch: Batch, t: Tensor, rng: Rng) -> tuple["_Moment", "_Moment"]:
        """The times t and s with their noise; twice the first without a second time."""
        if self.second is None:
            now = _Moment(t, self.noise(prior, batch, [t], rng)[0])
            return now, now
        s = self.second(t, rng)
        if self.reference == "slope":  # the path passes the smaller time first
            n_s, n_t = self.noise(prior, batch, [s, t], rng)
        else:
            n_t, n_s = self.noise(prior, batch, [t, s], rng)
        return _Moment(t, n_t), _Moment(s, n_s)

    def _predict(self, prior: Prior, batch: Batch, now: "_Moment", then: "_Moment") -> Tensor:
        """sum_k a_k eps_k: every distinct evaluation once, all in one call of the network behind linear guidance."""
        plan = Plan(prior, batch)
        for row in self.rows:
            if not (isinstance(row.coefficient, float) and row.coefficient == 0):
                plan.add(row, (then if row.later else now).t)
        if not plan.evaluations:
            return torch.zeros_like(batch.x)
        moments = [then if each.later else now for each in plan.evaluations]
        latents = {
            (each.latent, each.later): self._latent(prior.schedule, batch, each.latent, at)
            for each, at in zip(plan.evaluations, moments, strict=True)
        }
        x_t = torch.cat([latents[each.latent, each.later] for each in plan.evaluations])
        cond = plan.cond()
        network = prior.unguided if cond is None or all(row.guided for row in self.rows) else plain(prior)
        eps = network.eps(x_t, torch.cat([at.t for at in moments]), cond).split(len(batch.x))
        return plan.total(eps, now.t)

    def _latent(self, schedule: Schedule, batch: Batch, latent: str, at: "_Moment") -> Tensor:
        if latent == "source":
            return perturb(schedule, _source(batch).expand_as(batch.x), at.t, at.noise)
        x_t = perturb(schedule, batch.x, at.t, at.noise)
        return x_t if self.shift == 0.0 else x_t + scaled(self.shift, schedule, at.t, batch.x - _source(batch))


@dataclass(frozen=True)
class _Moment:
    """A time per particle, [b], and the noise of each particle at that time, [b, *d]."""

    t: Tensor
    noise: Tensor


def _source(batch: Batch) -> Tensor:
    """The source, or the particles where there is none (and no part of the estimator uses it)."""
    return batch.x if batch.source is None else batch.source


def _slope(schedule: Schedule, now: _Moment, then: _Moment) -> Tensor:
    """(r_t n_t - r_s n_s) / (r_t - r_s)."""
    r_t, r_s = (per_sample(schedule.ratio(at.t), at.noise) for at in (now, then))
    return (r_t * now.noise - r_s * then.noise) / (r_t - r_s)
