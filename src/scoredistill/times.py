r"""Time schedules: the diffusion time t of each step of a run.

A time schedule is a callable (index, steps) -> t in [0, 1], a pure function of the step, so that a resumed run or one
split over processes sees the same times. All particles of a step share one time. With f = index / (steps - 1), the
fraction of the run that is over,

    Uniform         t ~ U[lo, hi]
    Window          t ~ U[lo(f), hi(f)], a window that moves or jumps from one range to another
    Linear          t = start - (start - end) f
    Sqrt            t = start - (start - end) sqrt f
    PriorWeighted   t with the mass f of a weight W above it
    Weighted        t ~ w, any density; or descending, with the mass f of w above it
    Bandwidth       t with sigma_t / alpha_t = h(f),  h geometric, linear, or such that t is linear
    Ticks           another time schedule's time, rounded to the entries of a scheduler's table

so f = 0 is the first step and f = 1 the last, and descending schedules reach their end. Papers that write k / K for the
k-th of K steps end one step before it.

References: Uniform: DreamFusion, https://arxiv.org/abs/2209.14988; Window: classifier score distillation,
https://arxiv.org/abs/2310.19415, interval score matching, https://arxiv.org/abs/2311.11284, asynchronous score
distillation, https://arxiv.org/abs/2407.02040; Sqrt: HiFA, https://arxiv.org/abs/2305.18766; PriorWeighted: DreamTime,
https://arxiv.org/abs/2306.12422; Weighted: W-RFSDS of CHORD, https://arxiv.org/abs/2601.04194; Bandwidth: mean-shift
distillation, https://arxiv.org/abs/2502.15989; Ticks: score
Jacobian chaining, https://arxiv.org/abs/2212.00774.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from scoredistill.rng import seed_of
from scoredistill.schedule import Schedule, Weight, noise_to_signal, weight_at

Times = Callable[[int, int], float]
SHAPES = ("geometric", "linear", "time")


@dataclass(frozen=True)
class Uniform:
    """Random times, uniform in [lo, hi]: the time schedule of SDS in DreamFusion.

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
class Window:
    """Random times, uniform in a window that moves from `start` to `end`.

    With the defaults the upper end drops from .98 to .5 half way through, as in classifier score distillation. Interval
    score matching uses `warmup=0.3`; asynchronous distillation uses `start=(0.5, 0.98), end=(0.02, 0.5)`.

    Args:
        start: (lo, hi) of t at the beginning.
        end: (lo, hi) of t at the end.
        warmup: fraction of the run before the window leaves `start`, in [0, 1].
        move: fraction of the run in which it then moves linearly to `end`; 0 is a jump. warmup + move <= 1.
        seed: chooses the sequence of times.
    """

    start: tuple[float, float] = (0.02, 0.98)
    end: tuple[float, float] = (0.02, 0.5)
    warmup: float = 0.5
    move: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        _check_times(*self.start, *self.end)
        if self.start[0] > self.start[1] or self.end[0] > self.end[1]:
            raise ValueError(f"windows must be (lo, hi) with lo <= hi, not {self.start} and {self.end}")
        if not (self.warmup >= 0 and self.move >= 0 and self.warmup + self.move <= 1 + 1e-9):
            raise ValueError(
                f"warmup and move are fractions of the run: at least 0 and together at most 1, not {self.warmup} and "
                f"{self.move}"
            )

    def bounds(self, index: int, steps: int) -> tuple[float, float]:
        """Return (lo, hi) of the window at a step."""
        late = _fraction(index, steps) - self.warmup
        moved = float(late >= 0) if self.move == 0 else min(max(late / self.move, 0.0), 1.0)
        lo, hi = ((1 - moved) * a + moved * b for a, b in zip(self.start, self.end, strict=True))
        return lo, hi

    def __call__(self, index: int, steps: int) -> float:
        return Uniform(*self.bounds(index, steps), self.seed)(index, steps)


@dataclass(frozen=True)
class Linear:
    """Times that move linearly from `start` at the first step to `end` at the last."""

    start: float = 0.98
    end: float = 0.02

    def __post_init__(self) -> None:
        _check_times(self.start, self.end)

    def __call__(self, index: int, steps: int) -> float:
        return self.start + (self.end - self.start) * _fraction(index, steps)


@dataclass(frozen=True)
class Sqrt:
    """Times that fall with the square root of the step, from `start` to `end`: fast at first, then slowly (HiFA)."""

    start: float = 0.98
    end: float = 0.02

    def __post_init__(self) -> None:
        _check_times(self.start, self.end)

    def __call__(self, index: int, steps: int) -> float:
        return self.start + (self.end - self.start) * math.sqrt(_fraction(index, steps))


@dataclass(frozen=True)
class PriorWeighted:
    r"""Times that descend from `hi` to `lo`, with more steps where a weight is large (DreamTime).

        t(f) = argmin_t' | sum_{t >= t'} W(t) - f |,    W(t) = W_d(t) W_p(t) / Z,    sum_t W(t) = 1

        W_p(t) = exp(-(t - m1)^2 / (2 s1^2)) above m1,  1 in between,  exp(-(t - m2)^2 / (2 s2^2)) below m2

    over `count` times evenly spread in [lo, hi]. The constants are the published ones, 800, 500, 300 and 100 of 1000.
    Public reimplementations leave W_d out: `weight="uniform"`. With the table of Stable Diffusion half of the steps
    then lie at t > .67; with W_d, at t > .83. The first step is at `hi` and the last at `lo`; as little mass is below
    m2, short runs reach it in one jump.

    Args:
        schedule: noise schedule of the prior.
        lo, hi: range of t.
        m1, m2: bounds of the interval where W_p is 1; 0 <= m2 <= m1 <= 1.
        s1, s2: standard deviations of W_p above m1 and below m2, in units of t; positive.
        weight: W_d, a callable of (alpha, sigma), or "sigma2" or "uniform"; sigma / alpha by default.
        count: number of times to choose from, at least 2.
    """

    schedule: Schedule
    lo: float = 0.02
    hi: float = 0.98
    m1: float = 0.8
    m2: float = 0.5
    s1: float = 0.3
    s2: float = 0.1
    weight: Weight = noise_to_signal
    count: int = 1000

    def __post_init__(self) -> None:
        _check_times(self.lo, self.hi, self.m1, self.m2)
        if not (self.lo < self.hi and self.m2 <= self.m1):
            raise ValueError(f"times must satisfy lo < hi and m2 <= m1, not {self.lo}, {self.hi}, {self.m2}, {self.m1}")
        if not (self.s1 > 0 and self.s2 > 0):
            raise ValueError(f"s1 and s2 must be positive, not {self.s1} and {self.s2}")
        if self.count < 2:
            raise ValueError(f"count must be at least 2 times, not {self.count}")
        mass = self._mass(self._times())
        if not (bool(mass.isfinite().all()) and bool((mass >= 0).all()) and float(mass.sum()) > 0):
            raise ValueError(f"the weight must be finite and positive up to t = {self.hi}: lower hi, or mend weight")

    def __call__(self, index: int, steps: int) -> float:
        times = self._times()
        above = self._mass(times).flip(0).cumsum(0).flip(0)  # sum over t >= t'
        return float(times[(above / above[0] - _fraction(index, steps)).abs().argmin()])

    def _times(self) -> Tensor:
        return torch.linspace(self.lo, self.hi, self.count, dtype=torch.float64)

    def _mass(self, t: Tensor) -> Tensor:
        """Z W(t)."""
        over, under = (t - self.m1).clamp(min=0) / self.s1, (self.m2 - t).clamp(min=0) / self.s2
        return weight_at(self.weight, self.schedule, t) * (-(over**2 + under**2) / 2).exp()


@dataclass(frozen=True)
class Weighted:
    r"""Times with the density of a weight: random, or descending through its quantiles.

        F(t) = int_lo^t w / int_lo^hi w;    random: t = F^-1(u), u ~ U[0, 1];    annealed: t = F^-1(1 - f)

    A gradient at times of density w has the mean of the same gradient with the weight w(t) at uniform times, divided by
    the mean of w, without large and small steps. With `RFDS()` it is W-RFSDS. Annealed times take the same values over
    a whole run, the large ones first: coarse before fine.

    Args:
        weight: w, a function of times [n] in [0, 1]; at least 0, and positive somewhere in [lo, hi].
        lo, hi: range of t.
        annealed: whether t descends from `hi` to `lo`.
        seed: chooses the sequence of random times.
        count: number of equal intervals in which w is taken as constant, at least 1.
    """

    weight: Callable[[Tensor], Tensor]
    lo: float = 0.02
    hi: float = 0.98
    annealed: bool = False
    seed: int = 0
    count: int = 1000

    def __post_init__(self) -> None:
        _check_times(self.lo, self.hi)
        if not self.lo < self.hi:
            raise ValueError(f"times must satisfy lo < hi, not {self.lo} and {self.hi}")
        if self.count < 1:
            raise ValueError(f"count must be at least 1, not {self.count}")
        mass = self._mass()
        if not (bool(mass.isfinite().all()) and bool((mass >= 0).all()) and float(mass.sum()) > 0):
            raise ValueError("the weight must be finite, at least 0 and positive somewhere between lo and hi: mend it")

    def __call__(self, index: int, steps: int) -> float:
        if self.annealed:
            return self.quantile(1 - _fraction(index, steps))
        rng = torch.Generator().manual_seed(seed_of(self.seed, index))
        return self.quantile(float(torch.rand((), generator=rng)))

    def quantile(self, u: float) -> float:
        """The time below which the fraction u of the weight lies; where the weight is 0, the lowest such time, but at
        u = 0 the highest, so that all times have weight."""
        mass = self._mass()
        below = torch.cat([mass.new_zeros(1), mass.cumsum(0)])
        wanted = u * below[-1]
        first = int((below[1:] <= 0).sum())
        k = max(first, int((below[1:] < wanted).sum().clamp(max=self.count - 1)))
        inside = float((wanted - below[k]) / mass[k]) if mass[k] > 0 else 1.0
        return self.lo + (self.hi - self.lo) * (k + inside) / self.count

    def _mass(self) -> Tensor:
        """The weight in the middle of each interval."""
        middle = (torch.arange(self.count, dtype=torch.float64) + 0.5) / self.count
        weight = self.weight(self.lo + (self.hi - self.lo) * middle)
        return torch.as_tensor(weight, dtype=torch.float64).expand(self.count)


@dataclass(frozen=True)
class Bandwidth:
    """Times at which sigma_t / alpha_t, the bandwidth of mean-shift distillation, shrinks from `start` to `end`.

    Reaching `end` is the termination criterion of mean-shift distillation. To end a run earlier, set `bandwidth_min`
    and check `done` in the loop:

        for step in distill(..., times=bandwidth):
            if bandwidth.done(step.index, step.steps):
                break

    Args:
        schedule: noise schedule of the prior.
        start, end: bandwidths in the units of x, start >= end > 0; a linear one may end at 0. Times are clamped to the
            range of the schedule. The paper's lambda is sqrt 2 times a bandwidth; its toys anneal lambda linearly from
            .316 to 0, `Bandwidth(schedule, 0.316 / 2**0.5, 0.0, shape="linear")`.
        shape: "geometric", the same factor per step; "linear", the same difference; or "time", the same difference of
            t, as samplers have.
        bandwidth_min: bandwidth at which the run is done, in the units of x, positive; `end` by default.
    """

    schedule: Schedule
    start: float
    end: float
    shape: str = "geometric"
    bandwidth_min: float | None = None

    def __post_init__(self) -> None:
        if self.shape not in SHAPES:
            raise ValueError(f"unknown shape {self.shape!r}: use one of {', '.join(SHAPES)}")
        if not (self.start >= self.end >= 0 and self.start > 0) or (self.end == 0 and self.shape == "geometric"):
            raise ValueError(
                f"bandwidths must satisfy start >= end > 0, not {self.start} and {self.end} (one that shrinks linearly "
                "may end at 0)"
            )
        if self.bandwidth_min is not None and not self.bandwidth_min > 0:
            raise ValueError(f"bandwidth_min must be positive, not {self.bandwidth_min}")

    def __call__(self, index: int, steps: int) -> float:
        if self.shape == "time":
            first, last = (float(self.schedule.time_of(h)) for h in (self.start, self.end))
            return Linear(first, last)(index, steps)
        return float(self.schedule.time_of(self.bandwidth_at(index, steps)))

    def bandwidth_at(self, index: int, steps: int) -> float:
        """Return the bandwidth of a step in the units of x, before the schedule clamps it: `end` at the last."""
        if index >= steps - 1:
            return self.end
        if self.shape == "time":
            return float(self.schedule.ratio(torch.tensor(self(index, steps), dtype=torch.float64)))
        fraction = index / (steps - 1)
        if self.shape == "linear":
            return (1 - fraction) * self.start + fraction * self.end
        return math.exp((1 - fraction) * math.log(self.start) + fraction * math.log(self.end))

    def done(self, index: int, steps: int) -> bool:
        """Whether the run is over after this step: its bandwidth is `bandwidth_min` or less, or it is the last."""
        return index >= steps - 1 or self.bandwidth_at(index, steps) <= (self.bandwidth_min or self.end)


@dataclass(frozen=True)
class Ticks:
    """The times of another time schedule, each rounded to the nearest time of a discrete scheduler.

    Entry i of a table of `count` entries is the time i / (count - 1), as in `schedule.Tabulated`; the entries offset,
    offset + stride, ... are used. The scheduler of posterior distillation, which has 1000 entries and is set to 500
    steps with an offset of one, is `Ticks(times, 1000, stride=2, offset=1)`. Rounding moves a time by at most half a
    stride (more only before the first and after the last tick), so it may leave the range of the base by as much.

    Args:
        base: the time schedule to round.
        count: entries of the table, at least 2.
        stride, offset: the entries used; stride >= 1 and 0 <= offset < count.
    """

    base: Times
    count: int = 1000
    stride: int = 1
    offset: int = 0

    def __post_init__(self) -> None:
        if self.count < 2 or self.stride < 1 or not 0 <= self.offset < self.count:
            raise ValueError(
                "ticks need count >= 2, stride >= 1 and 0 <= offset < count, not "
                f"{self.count}, {self.stride} and {self.offset}"
            )

    def __call__(self, index: int, steps: int) -> float:
        entry = self.base(index, steps) * (self.count - 1)
        last = (self.count - 1 - self.offset) // self.stride
        nearest = math.floor((entry - self.offset) / self.stride + 0.5)
        return (self.offset + self.stride * min(max(nearest, 0), last)) / (self.count - 1)


def _check_times(*times: float) -> None:
    if not all(0 <= t <= 1 for t in times):
        raise ValueError(f"times must lie in [0, 1], not {', '.join(map(str, times))}")


def _fraction(index: int, steps: int) -> float:
    """The completed fraction of the run: 0 at the first step, 1 at the last."""
    return index / max(steps - 1, 1)
