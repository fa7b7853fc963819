r"""Exact Gaussian mixtures: the oracle. Every quantity of a diffusion model has a closed form.

For p(x) = sum_k w_k N(x; mu_k, C_k) the noised density is p_t(x_t) = sum_k w_k N(x_t; alpha mu_k, S_k) with
S_k = alpha^2 C_k + sigma^2 I. With responsibilities rho_k(x_t) and u_k = S_k^{-1} (x_t - alpha mu_k),

    eps(x_t, t) = sigma sum_k rho_k u_k,        E[x | x_t] = sum_k rho_k (mu_k + alpha C_k u_k).

Both are computed directly, so neither loses digits at either end of the schedule.
"""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from scoredistill.priors.base import Cond, Prior, expand_cond
from scoredistill.schedule import VP, Schedule


class GaussianMixture(Prior):
    """A Gaussian mixture in d dimensions with exact eps, denoiser and log density.

    Args:
        means: [k, d].
        covs: covariance matrices [k, d, d], or variances [k] of isotropic components.
        weights: positive, [k], normalised here; equal by default.
        schedule: the noise schedule.
        labels: integer class of each component, [k]; then cond = {"label": Long[b]} selects a class, -1 means all.
    """

    def __init__(
        self,
        means: Float[Tensor, "k d"],
        covs: Float[Tensor, "k d d"] | Float[Tensor, "k"],
        weights: Float[Tensor, "k"] | None = None,
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

    def eps(self, x_t: Float[Tensor, "b d"], t: Float[Tensor, "b"], cond: Cond | None = None) -> Float[Tensor, "b d"]:
        alpha, sigma = self._levels(t, x_t)
        resp, u, _ = self._posterior(x_t, alpha, sigma, cond)
        return sigma[:, 0] * self._from_axes(resp, u)

    def denoise(
        self, x_t: Float[Tensor, "b d"], t: Float[Tensor, "b"], cond: Cond | None = None
    ) -> Float[Tensor, "b d"]:
        alpha, sigma = self._levels(t, x_t)
        resp, u, _ = self._posterior(x_t, alpha, sigma, cond)
        return resp @ self.means + alpha[:, 0] * self._from_axes(resp, self.spread * u)

    def log_prob(
        self, x: Float[Tensor, "b d"], t: Float[Tensor, "b"] | None = None, cond: Cond | None = None
    ) -> Float[Tensor, "b"]:
        """log p(x), or log p_t(x_t) of the noised density when t is given. Natural logarithm."""
        one = torch.ones(len(x), 1, 1, dtype=x.dtype, device=x.device)
        alpha, sigma = (one, 0 * one) if t is None else self._levels(t, x)
        return self._posterior(x, alpha, sigma, cond)[2]

    def sample(self, n: int, rng: torch.Generator | None = None, label: int | None = None) -> Float[Tensor, "n d"]:
        """n exact samples (of one class, if `label` is given)."""
        weights = self.weights if label is None else self.weights * (self._known_labels() == label)
        k = torch.multinomial(weights, n, replacement=True, generator=rng)
        noise = torch.randn(n, self.means.shape[1], generator=rng, dtype=self.means.dtype, device=self.means.device)
        noise = noise * self.spread[k].sqrt()
        if self.axes is not None:
            noise = torch.einsum("bij,bj->bi", self.axes[k], noise)
        return self.means[k] + noise

    def null(self, cond: Cond) -> Cond:
        return {"label": torch.full_like(cond["label"], -1)}

    def _known_labels(self) -> Tensor:
        if self.labels is None:
            raise ValueError("this mixture has no classes: make it with labels=")
        return self.labels

    def _levels(self, t: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        alpha, sigma = self.schedule(t)
        return alpha.to(x.dtype)[:, None, None], sigma.to(x.dtype)[:, None, None]

    def _posterior(self, x_t: Tensor, alpha: Tensor, sigma: Tensor, cond: Cond | None) -> tuple[Tensor, Tensor, Tensor]:
        """Responsibilities [b, k], S_k^{-1}(x_t - alpha mu_k) in each component's axes [b, k, d], log density [b]."""
        delta = x_t[:, None] - alpha * self.means
        if self.axes is not None:
            delta = torch.einsum("kij,bki->bkj", self.axes, delta)
        variance = alpha**2 * self.spread + sigma**2
        u = delta / variance
        log_norm = -0.5 * ((delta * u).sum(-1) + variance.log().sum(-1) + x_t.shape[1] * math.log(2 * math.pi))
        log_weights = self.weights.log().expand(len(x_t), -1)
        if cond is not None:
            label = expand_cond(cond, len(x_t))["label"][:, None]
            inside = (label < 0) | (self._known_labels() == label)
            log_weights = torch.where(inside, log_weights, -torch.inf).log_softmax(-1)
        joint = log_weights + log_norm
        return joint.softmax(-1), u, joint.logsumexp(-1)

    def _from_axes(self, resp: Tensor, v: Tensor) -> Tensor:
        """sum_k resp_k U_k v_k."""
        if self.axes is None:
            return torch.einsum("bk,bkd->bd", resp, v)
        return torch.einsum("bk,kij,bkj->bi", resp, self.axes, v)
