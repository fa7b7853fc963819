r"""The ideal denoiser of a finite data set: what a perfectly trained network would compute.

    E[x | x_t] = sum_i softmax_i( -|x_t - alpha y_i|^2 / (2 sigma^2) ) y_i

It works on data of any shape (points, pictures, latents), so modes are the data themselves and mode alignment can be
measured in any dimension. Reference: Karras et al. 2022, https://arxiv.org/abs/2206.00364, appendix B.3.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from scoredistill.priors.base import Cond, Prior, expand_cond
from scoredistill.schedule import VP, Schedule, per_sample

CHUNK = 2**24  # pairs of sample and datum held at once: 128 MiB in float64


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
        self._flat = flat - self._centre
        self._norms = self._flat.square().sum(-1)

    def eps(self, x_t: Float[Tensor, "b *d"], t: Float[Tensor, "b"], cond: Cond | None = None) -> Float[Tensor, "b *d"]:
        alpha, sigma = (per_sample(c, x_t) for c in self.schedule(t))
        return (x_t - alpha * self.denoise(x_t, t, cond)) / sigma

    def denoise(
        self, x_t: Float[Tensor, "b *d"], t: Float[Tensor, "b"], cond: Cond | None = None
    ) -> Float[Tensor, "b *d"]:
        label = None if cond is None else expand_cond(cond, len(x_t))["label"]
        out = torch.empty_like(x_t)
        rows = max(1, CHUNK // len(self.data))
        for i in range(0, len(x_t), rows):
            part = slice(i, i + rows)
            weights = self._logits(x_t[part], t[part], None if label is None else label[part]).softmax(-1)
            out[part] = (weights @ self._flat + self._centre).reshape_as(out[part])
        return out

    def null(self, cond: Cond) -> Cond:
        return {"label": torch.full_like(cond["label"], -1)}

    def _logits(self, x_t: Tensor, t: Tensor, label: Tensor | None) -> Tensor:
        """-|x_t - alpha y|^2 / (2 sigma^2) up to a constant per row; [rows, n]. sigma = 0 picks the nearest datum."""
        alpha, sigma = (c.to(x_t.dtype)[:, None] for c in self.schedule(t))
        x = x_t.flatten(1) - alpha * self._centre
        logits = alpha * (x @ self._flat.T) - 0.5 * alpha**2 * self._norms
        if label is not None:
            if self.labels is None:
                raise ValueError("this data set has no classes: make it with labels=")
            outside = (label[:, None] >= 0) & (self.labels != label[:, None])
            logits = logits.masked_fill(outside, -torch.inf)
        logits = logits - logits.amax(-1, keepdim=True)
        return logits / sigma.square().clamp(min=torch.finfo(x_t.dtype).tiny)
