"""Average an estimator over several draws of its noise, all in the same network calls."""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from scoredistill.estimators.base import Batch, Estimate, Estimator
from scoredistill.priors.base import Prior
from scoredistill.priors.conditions import Cond, expand_cond
from scoredistill.rng import Rng


@dataclass(frozen=True)
class Averaged(Estimator):
    """Mean of `samples` estimates per particle; its variance falls as 1 / samples and its cost grows as samples.

    With `Residual(noise=Random(antithetic=True))` as the base and an even number of samples, draws come in pairs of
    opposite noise.

    Args:
        base: a stateless estimator whose particles do not interact.
        samples: draws per particle, at least 1.
    """

    base: Estimator
    samples: int = 2

    def __post_init__(self) -> None:
        if self.samples < 1:
            raise ValueError(f"samples must be at least 1, not {self.samples}")

    @torch.no_grad()
    def __call__(self, prior: Prior, batch: Batch, t: Float[Tensor, " b"], rng: Rng = None) -> Estimate:
        n, b = self.samples, len(batch.x)

        def rows(x: Tensor) -> Tensor:
            return x.repeat_interleave(n, 0)

        def cond_rows(cond: Cond | None) -> Cond | None:
            return None if cond is None else {name: rows(value) for name, value in expand_cond(cond, b).items()}

        if rng is not None and not isinstance(rng, torch.Generator):
            rng = [g for g in rng for _ in range(n)]
        source = None if batch.source is None else rows(batch.source.expand_as(batch.x))
        group = None if batch.group is None else rows(batch.group)
        conds = {"cond": cond_rows(batch.cond), "source_cond": cond_rows(batch.source_cond)}
        wide = replace(batch, x=rows(batch.x), source=source, group=group, **conds)
        estimate = self.base(prior, wide, rows(t), rng)
        return replace(estimate, grad=estimate.grad.reshape(b, n, *batch.x.shape[1:]).mean(1), x_t=None)
