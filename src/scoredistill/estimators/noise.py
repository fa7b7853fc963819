r"""Sources of an estimator's noise.

A residual compares a prediction with the noise n in x_t = alpha_t x + sigma_t n. The noise may be random, kept between
steps, or inferred from x with the prior; this choice is most of what distinguishes published methods.

    Random      fresh noise: SDS (https://arxiv.org/abs/2209.14988)
    Fixed       one noise for the whole run, partly refreshed per step: CFD (https://arxiv.org/abs/2501.05445)
    Recycled    the prediction of the previous step: StochSync (Yeo et al. 2025)
    Inverted    DDIM inversion of x: SDI (https://arxiv.org/abs/2405.15891), ISM (https://arxiv.org/abs/2311.11284)
    Predicted   the prior's prediction for x under random noise: RFDS-Rev (https://arxiv.org/abs/2406.03293)

With fixed noise, a descending time schedule and steps of length lr w = r_k - r_{k+1}, r = sigma / alpha, score
distillation *is* DDIM sampling; so it is with recycled noise and x <- E[x | x_t] (tests/estimators/test_methods.py).
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from scoredistill.estimators.base import Batch
from scoredistill.priors.base import Prior
from scoredistill.priors.conditions import Cond
from scoredistill.priors.guidance import Guided, plain
from scoredistill.rng import Rng, draw_noise
from scoredistill.sampling import ddim_step
from scoredistill.schedule import perturb


class Noise(ABC):
    """Source of a batch's noise at one or more times of one noising path."""

    @abstractmethod
    def __call__(self, prior: Prior, batch: Batch, times: Sequence[Float[Tensor, " b"]], rng: Rng) -> list[Tensor]:
        """Return the noise n of x_t = alpha_t x + sigma_t n at each of the times, each [b, *d]."""

    def observe(self, prediction: Tensor) -> None:
        """Receive the prediction, [b, *d], that was made with the noise returned last."""

    def state_dict(self) -> dict[str, Any]:
        """State that a resumed run needs; empty for stateless noise."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the state that `state_dict` returned."""


@dataclass(frozen=True)
class Random(Noise):
    """Fresh standard normal noise.

    Args:
        antithetic: give particles 2i and 2i + 1 opposite noise; the number of particles must be even.
        shared: fraction s of the variance that all particles have in common, sqrt(s) common + sqrt(1 - s) own, in
            [0, 1]; True is 1. With a list of generators, the common noise is drawn from the first one.
    """

    antithetic: bool = False
    shared: bool | float = False

    def __post_init__(self) -> None:
        if not 0 <= self.shared <= 1:
            raise ValueError(f"shared must be a fraction in [0, 1], not {self.shared}")
        if self.antithetic and self.shared:
            raise ValueError("noise cannot be antithetic and shared: choose one")

    def __call__(self, prior: Prior, batch: Batch, times: Sequence[Float[Tensor, " b"]], rng: Rng) -> list[Tensor]:
        return [self._draw(batch.x, rng)] * len(times)

    def _draw(self, x: Tensor, rng: Rng) -> Tensor:
        one = rng if rng is None or isinstance(rng, torch.Generator) else list(rng)
        if self.shared:
            common = draw_noise(x[:1], one[:1] if isinstance(one, list) else one).expand_as(x)
            if self.shared == 1:
                return common
            return self.shared**0.5 * common + (1 - self.shared) ** 0.5 * draw_noise(x, rng)
        if not self.antithetic:
            return draw_noise(x, rng)
        if len(x) % 2:
            raise ValueError(f"antithetic noise needs an even number of particles, not {len(x)}")
        half = draw_noise(x[::2], one[::2] if isinstance(one, list) else one)
        return torch.stack([half, -half], 1).flatten(0, 1)


class Fixed(Noise):
    """The same noise at every step, partly refreshed: n <- sqrt(1 - r) n + sqrt(r) fresh.

    Args:
        refresh: the fraction r of fresh noise per step, in [0, 1]; 0 keeps the first noise, 1 is `Random`.
    """

    def __init__(self, refresh: float = 0.0):
        if not 0 <= refresh <= 1:
            raise ValueError(f"refresh must lie in [0, 1], not {refresh}")
        self.refresh = refresh
        self.noise: Tensor | None = None

    def __call__(self, prior: Prior, batch: Batch, times: Sequence[Float[Tensor, " b"]], rng: Rng) -> list[Tensor]:
        if self.noise is None:
            self.noise = draw_noise(batch.x, rng)
        elif self.noise.shape != batch.x.shape:
            raise ValueError(
                f"the kept noise has shape {tuple(self.noise.shape)}, the particles {tuple(batch.x.shape)}: use a new "
                "estimator for other particles"
            )
        elif self.refresh:
            self.noise = (1 - self.refresh) ** 0.5 * self.noise + self.refresh**0.5 * draw_noise(batch.x, rng)
        return [self.noise] * len(times)

    def state_dict(self) -> dict[str, Any]:
        return {} if self.noise is None else {"noise": self.noise}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.noise = state.get("noise")


class Recycled(Fixed):
    """The prediction of the previous step; random noise at the first.

    Args:
        refresh: fraction of fresh noise that is mixed in, as for `Fixed`.
    """

    def observe(self, prediction: Tensor) -> None:
        self.noise = prediction


@dataclass(frozen=True)
class Inverted(Noise):
    """The noise found by DDIM inversion: x follows the probability flow up to the first time in `steps` evaluations.

    Each further (later) time takes one more step. On a Gaussian N(mu, S) the noise found is
    (x - mu) / (r sqrt(S)) (sqrt(S + r^2) - sqrt(S)), r = sigma / alpha, to first order in the step.

    Args:
        steps: network evaluations up to the first time, at least 1.
        scale: classifier-free guidance scale of the inversion; None inverts with the prior as it is given, 0
            without condition. It has no effect on batches without a condition.
        eta: amount of fresh noise per step, in [0, 1], as in DDIM sampling; 0 is deterministic.
        to: invert to this time instead of the batch's times, and use that noise at all of them.
    """

    steps: int = 10
    scale: float | None = None
    eta: float = 0.0
    to: float | None = None

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError(f"steps must be at least 1, not {self.steps}")
        if not 0 <= self.eta <= 1:
            raise ValueError(f"eta must lie in [0, 1], not {self.eta}")

    def __call__(self, prior: Prior, batch: Batch, times: Sequence[Float[Tensor, " b"]], rng: Rng) -> list[Tensor]:
        guided, cond = with_scale(prior, self.scale, batch.cond)
        first = times[0] if self.to is None else torch.full_like(times[0], self.to)
        x, now = batch.x, torch.zeros_like(first)  # x is taken to be at time 0
        for k in range(self.steps):
            then = first * ((k + 1) / self.steps)
            x, now = ddim_step(guided, x, now, then, cond, self.eta, rng), then
        found = [self._noise(prior, batch.x, x, now)]
        for then in times[1:]:
            if self.to is None:
                x, now = ddim_step(guided, x, now, then, cond, self.eta, rng), then
                found.append(self._noise(prior, batch.x, x, now))
            else:
                found.append(found[0])
        return found

    @staticmethod
    def _noise(prior: Prior, x: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        """n with x_t = alpha_t x + sigma_t n."""
        signal = perturb(prior.schedule, x, t, torch.zeros_like(x))
        return (x_t - signal) / perturb(prior.schedule, torch.zeros_like(x), t, torch.ones_like(x))


@dataclass(frozen=True)
class Predicted(Noise):
    """Random noise, replaced by the prior's prediction of it.

    Args:
        rounds: number of replacements; each is one network evaluation.
        scale: guidance scale of those evaluations, as for `Inverted`.
    """

    rounds: int = 1
    scale: float | None = 1.0

    def __call__(self, prior: Prior, batch: Batch, times: Sequence[Float[Tensor, " b"]], rng: Rng) -> list[Tensor]:
        guided, cond = with_scale(prior, self.scale, batch.cond)
        noise = draw_noise(batch.x, rng)
        for _ in range(self.rounds):
            noise = guided.eps(perturb(prior.schedule, batch.x, times[0], noise), times[0], cond)
        return [noise] * len(times)


def with_scale(prior: Prior, scale: float | None, cond: Cond | None) -> tuple[Prior, Cond | None]:
    """The prior guided by `scale`, with its condition; the prior as it is for no scale or no condition."""
    if scale is None or cond is None:
        return prior, cond
    return Guided(plain(prior), scale), cond
