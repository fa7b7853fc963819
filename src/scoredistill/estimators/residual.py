r"""Estimators that are linear in predictions of the noise: nearly all of the literature.

    grad = w(t) [ sum_k a_k(t) eps(latent_k, time_k, cond_k) - reference ] + kappa(t) (x - source)

The latents are x_t = alpha_t x + sigma_t n and source_t = alpha_t source + sigma_t n with the *same* noise n, which a
`Noise` provides. The reference is

    "noise"     n itself: the residual vanishes where the prior sees only the noise that is there
    "slope"     (r_t n_t - r_s n_s) / (r_t - r_s), r = sigma / alpha: the noise that the path adds between s and t.
                On a path made by DDIM steps it is the prediction at s, which costs no network row
    "zero"      nothing

All rows of one evaluation go through the network in one call; a row that is asked for twice is computed once. A
guided prior is taken apart into its rows, so that it costs no further call.

Example: score distillation sampling (SDS), Poole et al. 2022, https://arxiv.org/abs/2209.14988, is `Residual()`:
w(t) (eps(x_t, t) - n). On a Gaussian prior N(mu, v I) with S = alpha^2 v + sigma^2 its mean is
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
from scoredistill.priors.base import Prior, Terms
from scoredistill.priors.conditions import Cond, cat_conds, expand_cond
from scoredistill.priors.guidance import plain
from scoredistill.rng import Rng
from scoredistill.schedule import Schedule, Weight, per_sample, perturb, weight_at

Coefficient = float | Callable[[Schedule, Tensor], Tensor]  # a number, or (schedule, t[b]) -> [b]
LATENTS, CONDS, REFERENCES = ("x", "source"), ("cond", "null", "source"), ("noise", "slope", "zero")


@dataclass(frozen=True)
class Row:
    """One weighted prediction.

    Args:
        coefficient: a_k, a number or a function of (schedule, t).
        latent: "x" or "source".
        later: predict at the second time instead of at t.
        cond: "cond" (the batch's), "null" (none), "source" (the batch's `source_cond`), or a condition of 1 or b rows.
        guided: with the guidance of the prior; False asks the network behind it.
    """

    coefficient: Coefficient = 1.0
    latent: str = "x"
    later: bool = False
    cond: str | Cond = "cond"
    guided: bool = False

    def __post_init__(self) -> None:
        if self.latent not in LATENTS:
            raise ValueError(f"unknown latent {self.latent!r}: use one of {', '.join(LATENTS)}")
        if isinstance(self.cond, str) and self.cond not in CONDS:
            raise ValueError(f"unknown condition {self.cond!r}: use one of {', '.join(CONDS)}, or a condition")


def guided(scale: float | None, latent: str = "x", cond: str | Cond = "cond", sign: float = 1.0) -> tuple[Row, ...]:
    """The rows of a guided prediction: of e_0 + scale (e_c - e_0), or of the prior as it is given for None."""
    if scale is None:
        return (Row(sign, latent, cond=cond, guided=True),)
    return (Row(sign * (1 - scale), latent, cond="null"), Row(sign * scale, latent, cond=cond))


@dataclass(frozen=True)
class Residual(Estimator):
    """Weighted predictions minus a reference, plus an anchor; see the module.

    Args:
        weight: w: "sigma2" (sigma_t^2), "uniform" (1) or a callable of (alpha, sigma).
        rows: the predictions.
        noise: where the noise comes from.
        reference: "noise", "slope" or "zero".
        anchor: kappa, a number or a function of (schedule, t).
        second: the second time s from (t, rng); rows that are `later` and the reference "slope" use it.
        shift: c; latents of x are moved by c(t) (x - source).
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
            raise ValueError("a slope or a later row needs the second time: pass second=")

    @property
    def needs_source(self) -> bool:
        """Whether batches must have a source."""
        return self.anchor != 0.0 or self.shift != 0.0 or any(row.latent == "source" for row in self.rows)

    @torch.no_grad()
    def __call__(self, prior: Prior, batch: Batch, t: Float[Tensor, " b"], rng: Rng = None) -> Estimate:
        if self.needs_source and batch.source is None:
            raise ValueError("this estimator edits: give the samples to start from as Batch(source=...)")
        s = None if self.second is None else self.second(t, rng)
        n_t, n_s = self._noises(prior, batch, t, s, rng)
        predicted = self._predict(prior, batch, (t, n_t), (s, n_s))
        self.noise.observe(predicted)
        grad = predicted
        if self.reference == "noise":
            grad = predicted - n_t
        elif self.reference == "slope":
            grad = predicted - _slope(prior.schedule, t, n_t, s, n_s)
        grad = per_sample(weight_at(self.weight, prior.schedule, t), grad) * grad
        if self.anchor != 0.0:
            grad = grad + _scaled(self.anchor, prior.schedule, t, _edit(batch))
        return Estimate(grad, x_t=perturb(prior.schedule, batch.x, t, n_t) if self.shift == 0.0 else None)

    def state_dict(self) -> dict[str, Any]:
        return self.noise.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.noise.load_state_dict(state)

    def _noises(self, prior: Prior, batch: Batch, t: Tensor, s: Tensor | None, rng: Rng) -> tuple[Tensor, Tensor]:
        """The noise at t and at s, where the path passes the smaller time first."""
        if s is None:
            n_t = self.noise(prior, batch, [t], rng)[0]
            return n_t, n_t
        if self.reference == "slope":
            n_s, n_t = self.noise(prior, batch, [s, t], rng)
        else:
            n_t, n_s = self.noise(prior, batch, [t, s], rng)
        return n_t, n_s

    def _predict(
        self, prior: Prior, batch: Batch, now: tuple[Tensor, Tensor], then: tuple[Tensor | None, Tensor]
    ) -> Tensor:
        """sum_k a_k eps_k: every distinct row once, all in one call of the network behind the prior's guidance."""
        t, b = now[0], len(batch.x)
        conds = _Conditions(prior, batch)
        latents: dict[tuple[str, bool], tuple[Tensor, Tensor]] = {}
        wanted: dict[tuple[str, bool, int], Cond | None] = {}
        parts = []
        for row in self.rows:
            if isinstance(row.coefficient, float) and row.coefficient == 0:
                continue
            place = (row.latent, row.later)
            if place not in latents:
                latents[place] = self._latent(prior.schedule, batch, row.latent, then if row.later else now)
            terms = conds.terms(row, latents[place][1])
            wanted |= {(*place, id(cond)): cond for _, cond in terms}
            parts.append((row.coefficient, [(inner, (*place, id(cond))) for inner, cond in terms]))
        if not wanted:
            return torch.zeros_like(batch.x)
        used = [cond for cond in wanted.values() if cond is not None]
        stacked = cat_conds(*(expand_cond(cond, b) for cond in used)) if used else None
        x_t, times = (torch.cat(rows) for rows in zip(*(latents[key[:2]] for key in wanted), strict=True))
        network = prior.unguided if stacked is None or all(row.guided for row in self.rows) else plain(prior)
        eps = dict(zip(wanted, network.eps(x_t, times, stacked).split(b), strict=True))
        total = torch.zeros_like(batch.x)
        for outer, terms_of_row in parts:  # row by row, so that equal rows of opposite sign cancel exactly
            predicted = sum((_scaled(a, prior.schedule, t, eps[key]) for a, key in terms_of_row), 0 * total)
            total = total + _scaled(outer, prior.schedule, t, predicted)
        return total

    def _latent(
        self, schedule: Schedule, batch: Batch, latent: str, at: tuple[Tensor | None, Tensor]
    ) -> tuple[Tensor, Tensor]:
        time, noise = at
        assert time is not None
        if latent == "source":
            assert batch.source is not None
            return perturb(schedule, batch.source.expand_as(batch.x), time, noise), time
        x_t = perturb(schedule, batch.x, time, noise)
        if self.shift != 0.0:
            x_t = x_t + _scaled(self.shift, schedule, time, _edit(batch))
        return x_t, time


class _Conditions:
    """The conditions of a batch by name, each made once: equal rows are recognized by being the same object."""

    def __init__(self, prior: Prior, batch: Batch):
        self.prior, self.batch = prior, batch
        self._made: dict[str, Cond | None] = {}
        self._terms: dict[tuple[int, bool], Terms] = {}

    def terms(self, row: Row, time: Tensor) -> Terms:
        cond = self._named(row.cond) if isinstance(row.cond, str) else row.cond
        if not row.guided:
            return [(1.0, cond)]
        key = (id(cond), row.later)
        if key not in self._terms:
            self._terms[key] = self.prior.terms(time, cond)
        return self._terms[key]

    def _named(self, name: str) -> Cond | None:
        if name not in self._made:
            cond = self.batch.cond
            if name == "source" and self.batch.source_cond is not None:
                cond = self.batch.source_cond
            elif name == "source":
                cond = self._named("cond")
            elif name == "null" and cond is not None:
                cond = self.prior.null(cond)
            self._made[name] = cond
        return self._made[name]


def _edit(batch: Batch) -> Tensor:
    """x - source."""
    assert batch.source is not None
    return batch.x - batch.source


def _slope(schedule: Schedule, t: Tensor, n_t: Tensor, s: Tensor | None, n_s: Tensor) -> Tensor:
    """(r_t n_t - r_s n_s) / (r_t - r_s)."""
    assert s is not None
    r_t, r_s = (per_sample(schedule.ratio(time), n_t) for time in (t, s))
    return (r_t * n_t - r_s * n_s) / (r_t - r_s)


def _scaled(value: Coefficient | Tensor, schedule: Schedule, t: Tensor, x: Tensor) -> Tensor:
    """value * x for a number, a tensor per sample, or a function of (schedule, t)."""
    scale = value(schedule, t) if callable(value) else value
    return per_sample(scale, x) * x if isinstance(scale, Tensor) else scale * x
