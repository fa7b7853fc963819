r"""Exact Gaussian mixtures, for which every quantity of a diffusion model has a closed form.

For p(x) = sum_k w_k N(x; mu_k, C_k) the noised density is p_t(x_t) = sum_k w_k N(x_t; alpha mu_k, S_k) with
S_k = alpha^2 C_k + sigma^2 I. With responsibilities rho_k(x_t) and u_k = S_k^{-1} (x_t - alpha mu_k),

    eps(x_t, t) = sigma sum_k rho_k u_k,        E[x | x_t] = sum_k rho_k (mu_k + alpha C_k u_k).

Both are computed directly, so that neither loses precision at either end of the schedule.
"""

import math
from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from scoredistill.priors.base import Prior
from scoredistill.priors.conditions import Cond, expand_cond
from scoredistill.schedule import VP, Schedule

GATHER = 2**22  # entries of axes, one matrix per sample, that are gathered at once
CHUNK = 2**16  # pairs of sample and component worked on at once


class GaussianMixture(Prior):
    """Gaussian mixture in d dimensions with exact noise prediction, denoiser and log density.

    Args:
        means: means of the components, [k, d].
        covs: covariance matrices [k, d, d], or variances [k] of isotropic components.
        weights: positive weights, [k], normalized internally; equal by default.
        schedule: the noise schedule; `VP()` by default.
        labels: integer class of each component, [k]; then cond = {"label": Long[b]} selects a class, -1 selects all.

    Raises:
        ValueError: if a covariance is not positive definite or a weight is not positive.
    """

    def __init__(
        self,
        means: Float[Tensor, "k d"],
        covs: Float[Tensor, "k d d"] | Float[Tensor, " k"],
        weights: Float[Tensor, " k"] | None = None,
        schedule: Schedule | None = None,
        labels: Tensor | Sequence[int] | None = None,
    ):
        if covs.ndim == 1:
            spread, self.axes = covs[:, None].expand_as(means), None
        else:
            spread, self.axes = torch.linalg.eigh(covs)
        if not bool((spread > 0).all()):
            raise ValueError("covariances must be positive definite (variances, if given, must be > 0)")
        self.means, self.spread = means, spread
        weights = torch.ones(len(means), dtype=means.dtype, device=means.device) if weights is None else weights
        if not bool((weights > 0).all()):
            raise ValueError("mixture weights must be positive")
        self.weights = weights / weights.sum()
        self.schedule = VP() if schedule is None else schedule
        self.labels = None if labels is None else torch.as_tensor(labels, device=means.device)
        self._spread = list(self.spread.T.contiguous())  # per axis [k]: planes of samples and components are fast
        projected = means if self.axes is None else torch.einsum("kd,kdi->ki", means, self.axes)
        self._projected = list(projected.T.contiguous())

    def facts(self) -> dict[str, object]:
        classes = () if self.labels is None else ("label",)
        shape = {"components": len(self.means), "sample": tuple(self.means.shape[1:]), "conditions": classes}
        return {**shape, **super().facts(), "dtype": self.means.dtype, "device": self.means.device}

    def eps(self, x_t: Float[Tensor, "b d"], t: Float[Tensor, " b"], cond: Cond | None = None) -> Float[Tensor, "b d"]:
        def part(x: Tensor, alpha: Tensor, sigma: Tensor, cond: Cond | None) -> Tensor:
            resp, u, _ = self._posterior(x, alpha, sigma, cond)
            return sigma * self._sum(resp, u)

        return self._by_rows(part, x_t, t, cond)

    def denoise(
        self, x_t: Float[Tensor, "b d"], t: Float[Tensor, " b"], cond: Cond | None = None
    ) -> Float[Tensor, "b d"]:
        def part(x: Tensor, alpha: Tensor, sigma: Tensor, cond: Cond | None) -> Tensor:
            resp, u, _ = self._posterior(x, alpha, sigma, cond)
            return resp @ self.means + alpha * self._sum(resp, [v * c for v, c in zip(u, self._spread, strict=True)])

        return self._by_rows(part, x_t, t, cond)

    def log_prob(
        self, x: Float[Tensor, "b d"], t: Float[Tensor, " b"] | None = None, cond: Cond | None = None
    ) -> Float[Tensor, " b"]:
        """log p(x), or log p_t(x_t) of the noised density when t is given. Natural logarithm."""

        def part(x: Tensor, alpha: Tensor, sigma: Tensor, cond: Cond | None) -> Tensor:
            if t is None:
                alpha, sigma = torch.ones_like(alpha), torch.zeros_like(sigma)
            return self._posterior(x, alpha, sigma, cond)[2]

        return self._by_rows(part, x, x.new_zeros(len(x)) if t is None else t, cond)

    def sample(self, n: int, rng: torch.Generator | None = None, label: int | None = None) -> Float[Tensor, "n d"]:
        """Draw n exact samples (of one class, if `label` is given)."""
        weights = self.weights if label is None else self.weights * (self._known_labels() == label)
        k = torch.multinomial(weights, n, replacement=True, generator=rng)
        noise = torch.randn(n, self.means.shape[1], generator=rng, dtype=self.means.dtype, device=self.means.device)
        noise = noise * self.spread[k].sqrt()
        if self.axes is None:
            return self.means[k] + noise
        if len(noise) * noise.shape[1] ** 2 <= GATHER:
            return self.means[k] + torch.einsum("bij,bj->bi", self.axes[k], noise)
        for j in k.unique().tolist():
            noise[k == j] = noise[k == j] @ self.axes[j].T
        return self.means[k] + noise

    def null(self, cond: Cond) -> Cond:
        return {"label": torch.full_like(cond["label"], -1)}

    def _known_labels(self) -> Tensor:
        if self.labels is None:
            raise ValueError("this mixture has no classes: construct it with labels=")
        return self.labels

    def _by_rows(self, part: Callable[..., Tensor], x: Tensor, t: Tensor, cond: Cond | None) -> Tensor:
        """Apply part(x, alpha[b, 1], sigma[b, 1], cond) to as many rows at once as fit into a processor's cache.

        If all rows have the same time, alpha and sigma are [1, 1]; on a CPU alone, where looking costs nothing.
        """
        alpha, sigma = (level.to(x.dtype)[:, None] for level in self.schedule(t))
        shared = len(t) > 0 and t.device.type == "cpu" and bool((t == t[0]).all())
        if cond is not None:
            cond = expand_cond(cond, len(x))
        rows, parts = max(1, CHUNK // len(self.means)), []
        for i in range(0, max(1, len(x)), rows):
            here = slice(0, 1) if shared else slice(i, i + rows)
            some = None if cond is None else {name: value[i : i + rows] for name, value in cond.items()}
            parts.append(part(x[i : i + rows], alpha[here], sigma[here], some))
        return torch.cat(parts)

    def _posterior(
        self, x_t: Tensor, alpha: Tensor, sigma: Tensor, cond: Cond | None
    ) -> tuple[Tensor, list[Tensor], Tensor]:
        """Responsibilities [b, k], S_k^{-1}(x_t - alpha mu_k) along each of the d axes [b, k], log density [b]."""
        joint, u = self._log_weights(cond, len(x_t)), []
        joint = joint - 0.5 * x_t.shape[1] * math.log(2 * math.pi)
        for i, spread in enumerate(self._spread):
            delta = self._along(i, x_t) - alpha * self._projected[i]
            variance = alpha**2 * spread + sigma**2
            u.append(delta / variance)
            joint = joint - 0.5 * (delta * u[i] + variance.log())
        return joint.softmax(-1), u, joint.logsumexp(-1)

    def _log_weights(self, cond: Cond | None, rows: int) -> Tensor:
        log_weights = self.weights.log()[None]
        if cond is None:
            return log_weights
        label = cond["label"][:, None]
        inside = (label < 0) | (self._known_labels() == label)
        return torch.where(inside, log_weights, -torch.inf).log_softmax(-1)

    def _along(self, i: int, x: Tensor) -> Tensor:
        """x along axis i of each component, [b, k]; [b, 1] where all components share their axes."""
        return x[:, i : i + 1] if self.axes is None else x @ self.axes[:, :, i].T

    def _sum(self, resp: Tensor, along: list[Tensor]) -> Tensor:
        """sum_k resp_k U_k v_k for v given along the axes."""
        if self.axes is None:
            return torch.stack([(resp * v).sum(-1) for v in along], -1)
        return sum(((resp * v) @ self.axes[:, :, i] for i, v in enumerate(along)), torch.zeros_like(resp[:, :1]))
