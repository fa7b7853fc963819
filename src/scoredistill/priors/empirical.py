r"""The ideal denoiser of a finite data set: what a perfectly trained network would compute.

    E[x | x_t] = sum_i softmax_i( -|x_t - alpha y_i|^2 / (2 sigma^2) ) y_i
    log p_t(x_t) = log (1/n) sum_i N(x_t; alpha y_i, sigma^2 I)

It works on data of any shape (points, pictures, latents), so modes are the data themselves and mode alignment can be
measured in any dimension. Reference: Karras et al. 2022, https://arxiv.org/abs/2206.00364, appendix B.3.
"""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from scoredistill.priors.base import Cond, Prior, expand_cond
from scoredistill.schedule import VP, Schedule, per_sample

CHUNK = 2**19  # pairs of sample and datum held at once: 4 MiB in float64, so that they stay in a processor's cache
FLOOR = -60.0  # smallest logit: far below rounding, and `exp` is ten times as fast where it does not underflow


class Empirical(Prior):
    """Ideal denoiser of `data`, exact up to rounding, in memory bounded by chunks of samples.

    Args:
        data: [n, *d].
        labels: integer class of each datum, [n]; then cond = {"label": Long[b]} selects a class, -1 means all.
        schedule: the noise schedule.
    """

    def __init__(
        self,
        data: Float[Tensor, "n *d"],
        labels: Shaped[Tensor, "n"] | Sequence[int] | None = None,
        schedule: Schedule | None = None,
    ):
        if len(data) == 0:
            raise ValueError("data must hold at least one sample")
        self.data = data
        self.schedule = VP() if schedule is None else schedule
        self.labels = None if labels is None else torch.as_tensor(labels, device=data.device)
        flat = data.flatten(1)
        self._centre = flat.mean(0)  # distances of centred data cancel fewer digits
        flat = flat - self._centre
        # a row (y, -|y|^2 / 2, 1) makes the logits one product, and the weighted sum of data and of ones another
        self._table = torch.cat([flat, -0.5 * flat.square().sum(-1, keepdim=True), torch.ones_like(flat[:, :1])], 1)

    def eps(self, x_t: Float[Tensor, "b *d"], t: Float[Tensor, "b"], cond: Cond | None = None) -> Float[Tensor, "b *d"]:
        alpha, sigma = (per_sample(c, x_t) for c in self.schedule(t))
        return (x_t - alpha * self.denoise(x_t, t, cond)) / sigma

    def denoise(
        self, x_t: Float[Tensor, "b *d"], t: Float[Tensor, "b"], cond: Cond | None = None
    ) -> Float[Tensor, "b *d"]:
        label = self._label(x_t, cond)
        out = torch.empty_like(x_t)
        for part in self._parts(len(x_t)):
            total = self._weights(x_t[part], t[part], None if label is None else label[part]) @ self._table
            out[part] = (total[:, :-2] / total[:, -1:] + self._centre).reshape_as(out[part])
        return out

    def log_prob(self, x: Float[Tensor, "b *d"], t: Float[Tensor, "b"], cond: Cond | None = None) -> Float[Tensor, "b"]:
        """log p_t(x_t) of the noised data (of one class, if `cond` names it). Natural logarithm.

        At sigma_t = 0 the data are points without a density, and the result is infinite or not a number.
        """
        label = self._label(x, cond)
        out = x.new_empty(len(x))
        for part in self._parts(len(x)):
            own = None if label is None else label[part]
            weights = self._weights(x[part], t[part], own)
            alpha, sigma = (per_sample(c, x[part]) for c in self.schedule(t[part]))
            away = (x[part] - alpha * self.data[weights.argmax(-1)]).flatten(1) / sigma.reshape(-1, 1)
            log_norm = 0.5 * away.shape[1] * (2 * math.pi * sigma.flatten().square()).log()
            out[part] = weights.sum(-1).log() - 0.5 * away.square().sum(-1) - log_norm - self._log_count(own)
        return out

    def null(self, cond: Cond) -> Cond:
        return {"label": torch.full_like(cond["label"], -1)}

    def _parts(self, samples: int) -> list[slice]:
        rows = max(1, CHUNK // len(self.data))
        return [slice(i, i + rows) for i in range(0, samples, rows)]

    def _label(self, x_t: Tensor, cond: Cond | None) -> Tensor | None:
        if cond is None:
            return None
        if self.labels is None:
            raise ValueError("this data set has no classes: make it with labels=")
        return expand_cond(cond, len(x_t))["label"]

    def _inside(self, label: Tensor) -> Tensor:
        """Whether a datum belongs to a sample's class, [rows, n]."""
        return (label[:, None] < 0) | (self.labels == label[:, None])

    def _log_count(self, label: Tensor | None) -> Tensor:
        """Logarithm of how many data a sample's class has, [] or [rows]."""
        if label is None:
            return self._centre.new_tensor(len(self.data)).log()
        return self._inside(label).sum(-1).to(self._centre.dtype).log()

    def _weights(self, x_t: Tensor, t: Tensor, label: Tensor | None) -> Tensor:
        """exp of -|x_t - alpha y|^2 / (2 sigma^2) less its maximum, [rows, n]; sigma = 0 picks the nearest datum."""
        alpha, sigma = (c.to(x_t.dtype)[:, None] for c in self.schedule(t))
        x = x_t.flatten(1) - alpha * self._centre
        logits = torch.cat([alpha * x, alpha**2, torch.zeros_like(alpha)], 1) @ self._table.T
        if label is not None:
            logits.masked_fill_(~self._inside(label), -torch.inf)
        logits = logits - logits.amax(-1, keepdim=True)
        return logits.div_(sigma.square().clamp(min=torch.finfo(x_t.dtype).tiny)).clamp_(min=FLOOR).exp_()
