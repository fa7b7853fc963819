"""Clocks: which diffusion time a step of a run looks at.

A clock is a callable (index, steps) -> t in [0, 1], a pure function of the step, so that a resumed run or one split
over processes sees the same times. All particles of a step share one time.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch

from scoredistill.schedule import Schedule

Clock = Callable[[int, int], float]


@dataclass(frozen=True)
class Uniform:
    """A random time per step, uniform in [lo, hi]: the clock of DreamFusion's SDS.

    Args:
        lo, hi: range of t.
        seed: chooses the sequence of times.
    """

    lo: float = 0.02
    hi: float = 0.98
    seed: int = 0

    def __post_init__(self) -> None:
        _check_times(self.lo, self.hi)

    def __call__(self, index: int, steps: int) -> float:
        rng = torch.Generator().manual_seed(seed_of(self.seed, index))
        return self.lo + (self.hi - self.lo) * float(torch.rand((), generator=rng))


@dataclass(frozen=True)
class Linear:
    """A time that moves linearly from `start` at the first step to `end` at the last: the clock of annealed methods."""

    start: float = 0.98
    end: float = 0.02

    def __post_init__(self) -> None:
        _check_times(self.start, self.end)

    def __call__(self, index: int, steps: int) -> float:
        return self.start + (self.end - self.start) * (index / max(steps - 1, 1))


@dataclass(frozen=True)
class Bandwidth:
    """Times at which sigma_t / alpha_t, the bandwidth of mean-shift distillation, shrinks geometrically.

    The run ends when the bandwidth reaches `end`; that is its termination criterion.

    Args:
        schedule: of the prior.
        start, end: bandwidths in the units of x, start >= end > 0. Clamped to what the schedule has.
    """

    schedule: Schedule
    start: float
    end: float

    def __post_init__(self) -> None:
        if not self.start >= self.end > 0:
            raise ValueError(f"bandwidths must satisfy start >= end > 0, not {self.start} and {self.end}")

    def __call__(self, index: int, steps: int) -> float:
        fraction = index / (steps - 1) if steps > 1 else 1.0
        ratio = math.exp((1 - fraction) * math.log(self.start) + fraction * math.log(self.end))
        return float(self.schedule.time_of(ratio))


def seed_of(seed: int, index: int) -> int:
    """Seed of what is drawn at a step: a function of the step alone, so that nothing has to be stored to resume."""
    return (seed * 1_000_003 + index) % 2**63


def _check_times(*times: float) -> None:
    if not all(0 <= t <= 1 for t in times):
        raise ValueError(f"times must lie in [0, 1], not {', '.join(map(str, times))}")
