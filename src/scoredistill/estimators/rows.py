r"""Weighted sums of noise predictions, planned so that every distinct evaluation is made once and all in one call.

A `Row` is one weighted prediction, a_k(t) eps(latent_k, time_k, cond_k). A `Plan` takes rows apart into evaluations:
a guided row becomes the terms of the prior's guidance, and evaluations of the same latent, time and condition are
shared. The network is called once with all evaluations, and the plan adds up what it returned.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from scoredistill.estimators.base import Batch
from scoredistill.priors.base import Prior, Terms
from scoredistill.priors.conditions import Cond, cat_conds, expand_cond
from scoredistill.schedule import Schedule, per_sample

Coefficient = float | Callable[[Schedule, Tensor], Tensor]  # a number, or (schedule, t[b]) -> [b]
LATENTS, CONDS = ("x", "source"), ("cond", "null", "source")


@dataclass(frozen=True)
class Row:
    """One weighted prediction.

    Args:
        coefficient: a_k, a number or a function of (schedule, t).
        latent: "x" or "source".
        later: predict at the second time instead of at t.
        cond: "cond" (the batch's condition), "null" (no condition), "source" (the batch's `source_cond`), or a
            condition of 1 or b rows.
        guided: use the guidance of the prior; False queries the network behind it.
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
    """Rows of a guided prediction e_0 + scale (e_c - e_0), times `sign`; for None, of the prior as it is given."""
    if scale is None:
        return (Row(sign, latent, cond=cond, guided=True),)
    return (Row(sign * (1 - scale), latent, cond="null"), Row(sign * scale, latent, cond=cond))


@dataclass(frozen=True, eq=False)
class Evaluation:
    """One evaluation of the network on a batch.

    Attributes:
        latent: "x" or "source".
        later: at the second time instead of at t.
        cond: the condition; evaluations are equal only if this is the same object.
    """

    latent: str
    later: bool
    cond: Cond | None


class Plan:
    """Rows of a residual as distinct evaluations and the sum that they enter.

    Args:
        prior: gives the terms of its guidance and the null condition.
        batch: gives the conditions that rows name.

    Attributes:
        evaluations: the distinct ones, in the order in which rows first need them.
    """

    def __init__(self, prior: Prior, batch: Batch):
        self.evaluations: list[Evaluation] = []
        self._schedule, self._x = prior.schedule, batch.x
        self._conditions = _Conditions(prior, batch)
        self._sum: list[tuple[Coefficient, list[tuple[Tensor | float, int]]]] = []

    def add(self, row: Row, t: Float[Tensor, " b"]) -> None:
        """Add a row that is evaluated at time t."""
        terms = self._conditions.terms(row, t)
        self._sum.append((row.coefficient, [(a, self._index(row, cond)) for a, cond in terms]))

    def cond(self) -> Cond | None:
        """The conditions of all evaluations, stacked; None if they have none."""
        conds = [each.cond for each in self.evaluations if each.cond is not None]
        return cat_conds(*(expand_cond(cond, len(self._x)) for cond in conds)) if conds else None

    def total(self, eps: Sequence[Float[Tensor, " b *d"]], t: Float[Tensor, " b"]) -> Float[Tensor, " b *d"]:
        """sum_k a_k(t) eps_k, given the prediction of each evaluation.

        The terms of a row are added first, so that equal rows of opposite sign cancel exactly.
        """
        total = torch.zeros_like(self._x)
        for coefficient, terms in self._sum:
            parts = (scaled(a, self._schedule, t, eps[index]) for a, index in terms)
            total = total + scaled(coefficient, self._schedule, t, sum(parts, torch.zeros_like(total)))
        return total

    def _index(self, row: Row, cond: Cond | None) -> int:
        for index, known in enumerate(self.evaluations):
            if (known.latent, known.later) == (row.latent, row.later) and known.cond is cond:
                return index
        self.evaluations.append(Evaluation(row.latent, row.later, cond))
        return len(self.evaluations) - 1


class _Conditions:
    """Conditions by name and terms of guidance, each made once, so that equal conditions are one object."""

    def __init__(self, prior: Prior, batch: Batch):
        self.prior, self.batch = prior, batch
        self._named: dict[str, Cond | None] = {}
        self._guided: list[tuple[Cond | None, bool, Terms]] = []

    def terms(self, row: Row, t: Tensor) -> Terms:
        cond = self._of_name(row.cond) if isinstance(row.cond, str) else row.cond
        if not row.guided:
            return [(1.0, cond)]
        for known, later, terms in self._guided:
            if known is cond and later == row.later:
                return terms
        self._guided.append((cond, row.later, self.prior.terms(t, cond)))
        return self._guided[-1][2]

    def _of_name(self, name: str) -> Cond | None:
        if name not in self._named:
            self._named[name] = self._make(name)
        return self._named[name]

    def _make(self, name: str) -> Cond | None:
        cond = self.batch.cond
        if name == "source":
            return self._of_name("cond") if self.batch.source_cond is None else self.batch.source_cond
        return self.prior.null(cond) if name == "null" and cond is not None else cond


def scaled(value: Coefficient | Tensor, schedule: Schedule, t: Tensor, x: Tensor) -> Tensor:
    """value * x, for a number, one number per sample, or a function of (schedule, t)."""
    scale = value(schedule, t) if callable(value) else value
    return per_sample(scale, x) * x if isinstance(scale, Tensor) else scale * x
