r"""Guidance wraps a prior and is a prior. All rows of a guided evaluation go through the network in one call.

    classifier-free guidance   eps_u + s (eps_c - eps_u)          s = 1 is the conditional model (diffusers' convention)

Elsewhere s is counted differently: threestudio writes eps_c + s' (eps_c - eps_u), so its 100 is 101 here; the
mean-shift paper's (1 + w) eps_c - w eps_u has s = 1 + w.

References: Ho & Salimans 2022, https://arxiv.org/abs/2207.12598; limited interval: Kynkaanniemi et al. 2024,
https://arxiv.org/abs/2404.07724.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from scoredistill.priors.base import Cond, Prior, PriorWrapper, cat_conds, expand_cond
from scoredistill.schedule import per_sample


class Guided(PriorWrapper):
    """Classifier-free guidance: eps_u + s (eps_c - eps_u), two rows per sample in one call.

    Args:
        prior: the prior to guide.
        scale: s; 1 is the conditional model (one row), 0 the unconditional one (one row).
        interval: guide only for t in [lo, hi]; the plain conditional model elsewhere.
        uncond: what "no condition" or a negative condition is; by default the prior's own (`Prior.null`).
    """

    def __init__(
        self, prior: Prior, scale: float, interval: tuple[float, float] | None = None, uncond: Cond | None = None
    ):
        super().__init__(prior)
        if interval is not None and not 0 <= interval[0] <= interval[1] <= 1:
            raise ValueError(f"interval must be (lo, hi) with 0 <= lo <= hi <= 1, not {interval}")
        self.scale, self.interval, self.uncond = float(scale), interval, uncond

    def eps(self, x_t: Float[Tensor, "b *d"], t: Float[Tensor, "b"], cond: Cond | None = None) -> Float[Tensor, "b *d"]:
        return self._guide(self.prior.eps, x_t, t, cond)

    def denoise(
        self, x_t: Float[Tensor, "b *d"], t: Float[Tensor, "b"], cond: Cond | None = None
    ) -> Float[Tensor, "b *d"]:
        return self._guide(self.prior.denoise, x_t, t, cond)

    def _guide(self, predict: Callable[..., Tensor], x_t: Tensor, t: Tensor, cond: Cond | None) -> Tensor:
        """Guidance is linear, so it is the same for the noise and for the denoised sample."""
        if cond is None:
            raise ValueError("a guided prior needs a condition: pass cond=, or use the prior without Guided")
        if self.scale == 1:
            return predict(x_t, t, cond)
        scale = torch.full_like(t, self.scale)
        if self.interval is not None:
            inside = (t >= self.interval[0]) & (t <= self.interval[1])
            if not bool(inside.any()):  # a sync, but it saves half of the rows for those who asked for an interval
                return predict(x_t, t, cond)
            scale = torch.where(inside, scale, 1.0)
        uncond = self.prior.null(cond) if self.uncond is None else self.uncond
        if self.scale == 0 and self.interval is None:
            return predict(x_t, t, expand_cond(uncond, len(x_t)))
        rows = cat_conds(expand_cond(uncond, len(x_t)), expand_cond(cond, len(x_t)))
        without, with_cond = predict(torch.cat([x_t, x_t]), torch.cat([t, t]), rows).chunk(2)
        return without + per_sample(scale, x_t) * (with_cond - without)
