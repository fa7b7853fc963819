r"""Noise schedules: the amounts of signal and noise at time t.

    x_t = alpha_t x + sigma_t n,    n ~ N(0, I),    t in [0, 1]

t = 0 is (nearly) clean, t = 1 is (nearly) pure noise. The noise-to-signal ratio r_t = sigma_t / alpha_t is increasing,
so time and ratio determine each other; `Schedule.time_of` is the inverse of `Schedule.ratio`. In the coordinates
z = x_t / alpha_t every schedule is the variance-exploding one with noise level r_t.

References: VP and VE: Score-based generative modeling through SDEs (Song et al. 2021),
https://arxiv.org/abs/2011.13456; Flow: Flow straight and fast (Liu et al. 2023), https://arxiv.org/abs/2209.03003;
tables: Denoising diffusion probabilistic models (Ho et al. 2020), https://arxiv.org/abs/2006.11239.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import Any, ClassVar

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

SLACK = 0.02  # by which samplers may leave [0, 1]: one step before the first of a table
Weight = str | Callable[[Tensor, Tensor], Tensor]


class Schedule(ABC):
    """Abstract base of noise schedules, which map a time t in [0, 1] to (alpha_t, sigma_t).

    Times on the CPU that lie outside are refused by all schedules; those on other devices are not waited for.

    Attributes:
        clean_below_zero: whether times in [-1, 0) stand for clean data, (alpha, sigma) = (1, 0).
    """

    clean_below_zero: ClassVar[bool] = False

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if "__call__" in vars(cls):
            setattr(cls, "__call__", _checked(cls.__call__))  # noqa: B010 (a method)

    @abstractmethod
    def __call__(self, t: Float[Tensor, " *b"]) -> tuple[Float[Tensor, " *b"], Float[Tensor, " *b"]]:
        """Return (alpha_t, sigma_t), each in the shape and dtype of t."""

    @abstractmethod
    def time_of(self, ratio: Float[Tensor, " *b"] | float) -> Float[Tensor, " *b"]:
        """Return the time t with sigma_t / alpha_t = ratio, clamped to the schedule's range."""

    def ratio(self, t: Float[Tensor, " *b"]) -> Float[Tensor, " *b"]:
        """Noise-to-signal ratio r_t = sigma_t / alpha_t (infinite where alpha_t = 0)."""
        alpha, sigma = self(t)
        return sigma / alpha


def _checked(call: Callable[..., tuple[Tensor, Tensor]]) -> Callable[..., tuple[Tensor, Tensor]]:
    @wraps(call)
    def checked(self: Schedule, t: Tensor) -> tuple[Tensor, Tensor]:
        found = call(self, t)
        low = -1 - SLACK if self.clean_below_zero else -SLACK
        if t.device.type == "cpu" and not bool(((t > low) & (t < 1 + SLACK)).all()):
            odd = t[~((t > low) & (t < 1 + SLACK))].flatten()[0].item()
            raise ValueError(f"times must be in [0, 1], not {odd:g}: divide time steps by their number")
        return found

    return checked


@dataclass(frozen=True)
class VP(Schedule):
    """Variance preserving, with a linear beta: alpha_t = exp(-(beta_max - beta_min) t^2 / 4 - beta_min t / 2)."""

    beta_min: float = 0.1
    beta_max: float = 20.0

    def __call__(self, t: Float[Tensor, " *b"]) -> tuple[Float[Tensor, " *b"], Float[Tensor, " *b"]]:
        log_alpha = -0.25 * (self.beta_max - self.beta_min) * t**2 - 0.5 * self.beta_min * t
        return log_alpha.exp(), (-torch.expm1(2 * log_alpha)).sqrt()

    def time_of(self, ratio: Float[Tensor, " *b"] | float) -> Float[Tensor, " *b"]:
        # log alpha = -log(1 + r^2) / 2 makes t the positive root of a quadratic; written without cancellation
        b, slope = self.beta_min, self.beta_max - self.beta_min
        minus_2_log_alpha = torch.log1p(_as_tensor(ratio).square()).clamp(max=slope / 2 + b)
        return (2 * minus_2_log_alpha / (b + (b**2 + 2 * slope * minus_2_log_alpha).sqrt())).clamp(0, 1)


@dataclass(frozen=True)
class VE(Schedule):
    """Variance exploding: alpha_t = 1, sigma_t geometric from sigma_min at t = 0 to sigma_max at t = 1."""

    sigma_min: float = 0.002
    sigma_max: float = 80.0

    def __call__(self, t: Float[Tensor, " *b"]) -> tuple[Float[Tensor, " *b"], Float[Tensor, " *b"]]:
        return torch.ones_like(t), self.sigma_min * (t * math.log(self.sigma_max / self.sigma_min)).exp()

    def time_of(self, ratio: Float[Tensor, " *b"] | float) -> Float[Tensor, " *b"]:
        t = (_as_tensor(ratio) / self.sigma_min).log() / math.log(self.sigma_max / self.sigma_min)
        return t.clamp(0, 1)


@dataclass(frozen=True)
class Flow(Schedule):
    """Flow matching on straight paths: alpha_t = 1 - t, sigma_t = t."""

    def __call__(self, t: Float[Tensor, " *b"]) -> tuple[Float[Tensor, " *b"], Float[Tensor, " *b"]]:
        return 1 - t, t.clone()

    def time_of(self, ratio: Float[Tensor, " *b"] | float) -> Float[Tensor, " *b"]:
        r = _as_tensor(ratio)
        return torch.where(r.isinf(), torch.ones_like(r), r / (1 + r)).clamp(0, 1)


@dataclass(frozen=True)
class LogLinear(Schedule):
    """Variance preserving, with log(sigma / alpha) linear in t, from log(ratio_min) to log(ratio_max).

    Times below 0 stand for clean data: (alpha, sigma) = (1, 0).

    Raises:
        ValueError: unless 0 < ratio_min < ratio_max.
    """

    clean_below_zero: ClassVar[bool] = True
    ratio_min: float = 0.002
    ratio_max: float = 80.0

    def __post_init__(self) -> None:
        if not 0 < self.ratio_min < self.ratio_max:
            raise ValueError(f"ratio_min must be above 0 and below ratio_max, not {self.ratio_min} {self.ratio_max}")

    def log_ratio(self, t: Float[Tensor, " *b"]) -> Float[Tensor, " *b"]:
        """log(sigma_t / alpha_t), with t clamped to [0, 1]."""
        low, high = math.log(self.ratio_min), math.log(self.ratio_max)
        return low + t.clamp(0, 1) * (high - low)

    def __call__(self, t: Float[Tensor, " *b"]) -> tuple[Float[Tensor, " *b"], Float[Tensor, " *b"]]:
        ratio = self.log_ratio(t.to(torch.promote_types(t.dtype, torch.float32))).exp()
        alpha, clean = (1 + ratio.square()).rsqrt(), t < 0
        return torch.where(clean, 1.0, alpha).to(t.dtype), torch.where(clean, 0.0, ratio * alpha).to(t.dtype)

    def time_of(self, ratio: Float[Tensor, " *b"] | float) -> Float[Tensor, " *b"]:
        low, high = math.log(self.ratio_min), math.log(self.ratio_max)
        return ((_as_tensor(ratio).log() - low) / (high - low)).clamp(0, 1)


class Tabulated(Schedule):
    """Schedule of a discrete variance-preserving scheduler: alpha_t^2 = alphas_cumprod[t (T - 1)].

    Entry i of the table is the time t = i / (T - 1). Between entries log(sigma / alpha) is interpolated linearly, so
    the schedule is continuous and invertible, and exact at the entries. A table may end in noise alone (zero terminal
    SNR), where the ratio is infinite: before it, alpha / sigma is interpolated linearly. Times below 0 stand for clean
    data, the state before the table's first entry: (alpha, sigma) = (1, 0). Schedulers that end there
    (`set_alpha_to_one`) need it.

    Args:
        alphas_cumprod: decreasing products of (1 - beta), each in (0, 1), the last also 0; shape [T], T >= 2.

    Raises:
        ValueError: if the table does not decrease, has fewer than two entries, or an entry outside [0, 1).
    """

    clean_below_zero: ClassVar[bool] = True

    def __init__(self, alphas_cumprod: Float[Tensor, " T"]):
        table = alphas_cumprod.detach().double().cpu()
        if table.ndim != 1 or len(table) < 2 or not bool((table.diff() < 0).all()):
            raise ValueError("alphas_cumprod must be a decreasing table of at least two entries")
        if not (table[0] < 1 and table[-1] >= 0):
            raise ValueError(
                f"alphas_cumprod must lie below 1 and not below 0, but goes from {table[0]:g} to {table[-1]:g}: give "
                "the products of (1 - beta)"
            )
        self.ends_in_noise = bool(table[-1] == 0)
        self.log_ratio = 0.5 * (torch.log1p(-table) - table.log())
        self._on: dict[torch.device, Tensor] = {self.log_ratio.device: self.log_ratio}

    def __len__(self) -> int:
        return len(self.log_ratio)

    def __repr__(self) -> str:
        low, high = self.log_ratio[[0, -1]].exp().tolist()
        return f"Tabulated({len(self)} entries, sigma/alpha {low:.3g} to {high:.3g})"

    def __call__(self, t: Float[Tensor, " *b"]) -> tuple[Float[Tensor, " *b"], Float[Tensor, " *b"]]:
        table = self._table(t.device)
        position = (t.to(table.dtype) * (len(self) - 1)).clamp(0, len(self) - 1)
        below = position.floor().long().clamp(max=len(self) - 2)
        # take, because table[below] reads `below` on the host if it has no axis
        log_ratio = torch.lerp(table.take(below), table.take(below + 1), position - below)
        if self.ends_in_noise:
            last = table.take(below) - torch.log1p(below - position)
            log_ratio = torch.where(below == len(self) - 2, last, log_ratio)
        squared = (2 * log_ratio).exp()
        alpha = (1 + squared).rsqrt()
        sigma = (
            torch.where(squared.isinf(), 1.0, squared.sqrt() * alpha) if self.ends_in_noise else squared.sqrt() * alpha
        )
        clean = t < 0
        return torch.where(clean, 1.0, alpha).to(t.dtype), torch.where(clean, 0.0, sigma).to(t.dtype)

    def time_of(self, ratio: Float[Tensor, " *b"] | float) -> Float[Tensor, " *b"]:
        r = _as_tensor(ratio)
        table = self._table(r.device)
        wanted = r.to(table.dtype).log().clamp(table[0], table[-1])
        above = torch.searchsorted(table, wanted.contiguous()).clamp(1, len(self) - 1)
        low, high = table.take(above - 1), table.take(above)
        share = (wanted - low) / (high - low)
        if self.ends_in_noise:
            share = torch.where(above == len(self) - 1, -torch.expm1(low - wanted), share)
        return ((above - 1 + share) / (len(self) - 1)).to(r.dtype)

    def _table(self, device: torch.device) -> Tensor:
        if device not in self._on:
            dtype = torch.float32 if device.type == "mps" else torch.float64
            self._on[device] = self.log_ratio.to(device, dtype)
        return self._on[device]


def per_sample(value: Shaped[Tensor, " b"], x: Shaped[Tensor, " b *d"]) -> Tensor:
    """Reshape one value per sample to multiply x: [b] -> [b, 1, ..., 1], in the dtype of x."""
    return value.to(x.dtype).reshape(-1, *[1] * (x.ndim - 1))


def perturb(
    schedule: Schedule, x: Float[Tensor, " b *d"], t: Float[Tensor, " b"], noise: Float[Tensor, " b *d"]
) -> Float[Tensor, " b *d"]:
    """Noise samples to time t: x_t = alpha_t x + sigma_t noise."""
    alpha, sigma = schedule(t)
    return per_sample(alpha, x) * x + per_sample(sigma, x) * noise


def weight_at(weight: Weight, schedule: Schedule, t: Float[Tensor, " b"]) -> Float[Tensor, " b"]:
    """Evaluate the weight w(t) of a residual.

    Args:
        weight: "sigma2" (sigma_t^2 = 1 - alphas_cumprod, the choice of DreamFusion), "uniform" (1), or a callable of
            (alpha, sigma).

    Raises:
        ValueError: for an unknown weight.
    """
    alpha, sigma = schedule(t)
    if callable(weight):
        return weight(alpha, sigma)
    if weight == "sigma2":
        return sigma**2
    if weight == "uniform":
        return torch.ones_like(sigma)
    raise ValueError(f'unknown weight {weight!r}: use "sigma2", "uniform" or a callable of (alpha, sigma)')


def noise_to_signal(alpha: Float[Tensor, " *b"], sigma: Float[Tensor, " *b"]) -> Float[Tensor, " *b"]:
    """The weight sigma / alpha, with which x - grad of a residual is a clean sample; W_d of DreamTime."""
    return sigma / alpha


def inverse_alpha(alpha: Float[Tensor, " *b"], sigma: Float[Tensor, " *b"]) -> Float[Tensor, " *b"]:
    """The weight 1 / alpha, with which a residual is a difference of velocities on straight paths."""
    return 1 / alpha


def _as_tensor(ratio: Tensor | float) -> Tensor:
    return ratio if isinstance(ratio, Tensor) else torch.tensor(float(ratio), dtype=torch.float64)
