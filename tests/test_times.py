"""Time schedules: end points, windows, the mass of a weight, ticks of a table, dependence on the step alone."""

import math
from dataclasses import replace

import pytest
import torch
from diffusers import DDIMScheduler

from oracles import gaussian
from scoredistill.estimators import MSD, SDS
from scoredistill.generators import Latents
from scoredistill.loop import distill
from scoredistill.schedule import VE, VP, Flow, Tabulated, noise_to_signal
from scoredistill.times import Bandwidth, Linear, PriorWeighted, Sqrt, Ticks, Uniform, Weighted, Window

F64 = torch.float64
TABLE = DDIMScheduler(beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012).alphas_cumprod.double()
SD = Tabulated(TABLE)
SCHEDULES = [
    Uniform(0.1, 0.7, seed=3),
    Window(seed=3),
    Window(warmup=0.2, move=0.5),
    Linear(),
    Sqrt(),
    PriorWeighted(SD),
    Bandwidth(VP(), 4.0, 0.05),
    Bandwidth(VP(), 4.0, 0.0, shape="linear"),
    Bandwidth(VP(), 4.0, 0.0, shape="time"),
    Ticks(Window(), 500),
]
DESCENDING = [time_schedule for time_schedule in SCHEDULES if not isinstance(time_schedule, (Uniform, Window, Ticks))]


def named(value):
    """Ids that are the same in every process of pytest-xdist, as the repr of a function is not."""
    return type(value).__name__


def particles():
    return Latents(3, (2,), rng=torch.Generator().manual_seed(1)).double()


def times(time_schedule, steps):
    return torch.tensor([time_schedule(i, steps) for i in range(steps)], dtype=F64)


@pytest.mark.parametrize("time_schedule", SCHEDULES, ids=named)
def test_times_are_a_pure_function_of_the_step(time_schedule):
    forwards = [time_schedule(i, 37) for i in range(37)]
    backwards = [time_schedule(i, 37) for i in reversed(range(37))]
    assert forwards == backwards[::-1]
    assert all(0 <= t <= 1 for t in forwards)
    assert 0 <= time_schedule(0, 1) <= 1


@pytest.mark.parametrize("time_schedule", SCHEDULES, ids=named)
def test_a_resumed_run_sees_the_same_times(time_schedule):
    prior = gaussian(torch.zeros(2, dtype=F64), 0.5, VP())
    run = lambda generator, **more: distill(generator, prior, SDS(), steps=9, times=time_schedule, **more)
    whole = list(run(particles()))
    state = next(step.state_dict() for step in run(particles()) if step.index == 3)
    resumed = list(run(particles(), state=state))
    assert [step.index for step in resumed] == [4, 5, 6, 7, 8]
    assert [step.t for step in resumed] == [step.t for step in whole[4:]]


@pytest.mark.parametrize("time_schedule", DESCENDING, ids=named)
@pytest.mark.parametrize("steps", [2, 11, 1500])
def test_descending_times_never_turn_back(time_schedule, steps):
    seen = times(time_schedule, steps)
    assert (seen.diff() <= 0).all()
    assert seen[0] > seen[-1]


def test_sqrt_is_quick_at_first():
    seen = times(Sqrt(0.9, 0.1), 17)
    assert seen[[0, 1, 4, 9, 16]].tolist() == pytest.approx([0.9, 0.7, 0.5, 0.3, 0.1], abs=1e-15)
    assert Sqrt(0.9, 0.1)(0, 1) == 0.9
    assert (seen[1:-1] < times(Linear(0.9, 0.1), 17)[1:-1]).all()


class TestWindow:
    def test_a_jump_after_the_warm_up(self):
        """Interval score matching: 1500 of 5000 steps in the wide window."""
        time_schedule = Window(warmup=0.3)
        assert time_schedule.bounds(0, 5000) == time_schedule.bounds(1499, 5000) == (0.02, 0.98)
        assert time_schedule.bounds(1500, 5000) == time_schedule.bounds(4999, 5000) == (0.02, 0.5)
        seen = times(time_schedule, 5000)
        for part, hi in ((seen[:1500], 0.98), (seen[1500:], 0.5)):
            assert 0.02 <= part.min() < 0.023
            assert hi - 0.003 < part.max() <= hi
            assert abs(part.mean() - (0.02 + hi) / 2) < 4 * (hi - 0.02) / 12**0.5 / len(part) ** 0.5

    def test_a_linear_move(self):
        """Both ends move at once: from [.5, .98] to [.02, .5] between a quarter and three quarters of the run."""
        time_schedule = Window((0.5, 0.98), (0.02, 0.5), warmup=0.25, move=0.5)
        for index, expected in ((25, (0.5, 0.98)), (50, (0.26, 0.74)), (60, (0.164, 0.644)), (75, (0.02, 0.5))):
            assert time_schedule.bounds(index, 101) == pytest.approx(expected, abs=1e-12)
        assert time_schedule.bounds(0, 101) == (0.5, 0.98)
        assert time_schedule.bounds(100, 101) == (0.02, 0.5)

    def test_a_move_over_the_whole_run_reaches_its_end(self):
        time_schedule = Window((0.5, 0.98), (0.02, 0.5), warmup=0.0, move=1.0)
        assert time_schedule.bounds(0, 8) == (0.5, 0.98)
        assert time_schedule.bounds(7, 8) == (0.02, 0.5)
        assert all(
            time_schedule.bounds(i, 8)[0] <= time_schedule(i, 8) <= time_schedule.bounds(i, 8)[1] for i in range(8)
        )

    def test_a_window_that_stays_is_uniform(self):
        still = Window((0.1, 0.6), (0.1, 0.6), seed=5)
        uniform = Uniform(0.1, 0.6, seed=5)
        assert (times(still, 40) - times(uniform, 40)).abs().max() < 1e-15


class TestPriorWeighted:
    def test_mass_against_a_sum_by_hand(self):
        """t(i) of the paper's formula, entry by entry of Stable Diffusion's table, with its constants in entries."""
        time_schedule = PriorWeighted(SD, lo=0.0, hi=1.0, m1=800 / 999, m2=500 / 999, s1=300 / 999, s2=100 / 999)
        mass = []
        for entry, squared_alpha in enumerate(TABLE.tolist()):
            w_p = 1.0
            if entry > 800:
                w_p = math.exp(-((entry - 800) ** 2) / (2 * 300**2))
            elif entry < 500:
                w_p = math.exp(-((entry - 500) ** 2) / (2 * 100**2))
            mass.append(math.sqrt((1 - squared_alpha) / squared_alpha) * w_p)
        total = sum(mass)
        for index in range(0, 101, 4):
            misses = [abs(sum(mass[entry:]) / total - index / 100) for entry in range(1000)]
            assert round(time_schedule(index, 101) * 999) == misses.index(min(misses))

    @pytest.mark.parametrize("schedule", [SD, VP(), Flow(), VE()], ids=repr)
    @pytest.mark.parametrize("weight", [noise_to_signal, "uniform", "sigma2"])
    def test_the_mass_passed_is_the_part_of_the_run(self, schedule, weight):
        """The integral of W from t(f) to hi, by Simpson's rule, is f of the whole, up to 1.5 of `count` pieces."""
        time_schedule = PriorWeighted(schedule, weight=weight, count=20_001)

        def density(t):
            alpha, sigma = schedule(t)
            w_d = {"uniform": torch.ones_like(t), "sigma2": sigma**2}.get(weight, sigma / alpha)
            above, below = (-((t - 0.8) ** 2) / (2 * 0.09)).exp(), (-((t - 0.5) ** 2) / (2 * 0.01)).exp()
            return w_d * torch.where(t > 0.8, above, torch.where(t < 0.5, below, 1.0))

        def integral(a, b, pieces=4000):
            w = density(torch.linspace(a, b, 2 * pieces + 1, dtype=F64))
            return (b - a) / (6 * pieces) * (w[0] + 4 * w[1::2].sum() + 2 * w[2:-1:2].sum() + w[-1])

        whole = integral(0.02, 0.98)
        limit = 1.5 * density(torch.linspace(0.02, 0.98, 999, dtype=F64)).max() * 0.96 / 20_000 / whole
        assert limit < 2e-3
        for index in range(1, 20):
            assert abs(integral(time_schedule(index, 21), 0.98) / whole - index / 20) < limit

    def test_it_covers_its_range_and_lingers_at_the_weight(self):
        time_schedule = PriorWeighted(SD)
        assert (time_schedule(0, 100), time_schedule(99, 100)) == (0.98, 0.02)
        assert abs(time_schedule(500, 1001) - 0.83) < 0.005
        assert abs(PriorWeighted(SD, weight="uniform")(500, 1001) - 0.67) < 0.005

    def test_a_flat_weight_is_the_linear_times(self):
        flat = PriorWeighted(VP(), m1=1.0, m2=0.0, weight="uniform", count=5001)
        assert (times(flat, 50) - times(Linear(), 50)).abs().max() < 1.5 * 0.96 / 5000

    def test_steps_beyond_the_times_repeat_them(self):
        seen = times(PriorWeighted(SD, count=50), 400)
        assert (seen.diff() == 0).any()
        assert len(seen.unique()) <= 50


class TestBandwidth:
    def test_shapes(self):
        linear = Bandwidth(VP(), 4.0, 2.0, shape="linear")
        assert [linear.bandwidth_at(i, 5) for i in range(5)] == [4.0, 3.5, 3.0, 2.5, 2.0]
        geometric = Bandwidth(VP(), 4.0, 0.25)
        assert [geometric.bandwidth_at(i, 5) for i in range(5)] == pytest.approx([4, 2, 1, 0.5, 0.25], rel=1e-15)
        for time_schedule in (linear, geometric):
            wanted = [time_schedule.bandwidth_at(i, 5) for i in range(5)]
            assert VP().ratio(times(time_schedule, 5)).tolist() == pytest.approx(wanted, rel=1e-12)

    @pytest.mark.parametrize("schedule", [VP(), Flow()])
    def test_bandwidths_at_even_times(self, schedule):
        even = Bandwidth(schedule, 30.0, 0.05, shape="time")
        times = torch.tensor([even(i, 9) for i in range(9)], dtype=torch.float64)
        assert times.diff().std() < 1e-9
        assert float(schedule.ratio(times[4])) == pytest.approx(even.bandwidth_at(4, 9))
        assert float(schedule.ratio(times[0])) == pytest.approx(30.0)
        assert not even.done(7, 9)
        assert even.done(8, 9)

    @pytest.mark.parametrize("shape", ["geometric", "linear", "time"])
    def test_the_last_is_the_end(self, shape):
        time_schedule = Bandwidth(VP(), 0.35, 0.01, shape=shape)
        assert [time_schedule.bandwidth_at(steps - 1, steps) for steps in (1, 2, 20)] == [0.01] * 3
        assert [time_schedule.done(i, 20) for i in range(20)] == [False] * 19 + [True]

    @pytest.mark.parametrize("schedule", [VP(), VE(), Flow(), SD], ids=repr)
    def test_a_linear_one_may_end_at_zero(self, schedule):
        time_schedule = Bandwidth(schedule, 0.316 / 2**0.5, 0.0, shape="linear")
        assert time_schedule.bandwidth_at(20, 21) == 0
        assert time_schedule(20, 21) == 0
        assert abs(time_schedule.bandwidth_at(10, 21) * 2**0.5 - 0.158) < 1e-15

    def test_a_run_ends_where_the_bandwidth_passes_its_least(self):
        """From 2 by factors 1 / 2: the first bandwidth at most .3 is .25, in step 3."""
        time_schedule = Bandwidth(VP(), 2.0, 2.0**-9, bandwidth_min=0.3)
        prior, seen = gaussian(torch.zeros(2, dtype=F64), 0.5, VP()), []
        for step in distill(particles(), prior, MSD(), steps=11, times=time_schedule):
            seen.append(float(step.estimate.info["bandwidth"]))
            if time_schedule.done(step.index, step.steps):
                break
        assert seen == pytest.approx([2, 1, 0.5, 0.25], rel=1e-9)
        assert Bandwidth(VP(), 2.0, 1.0, bandwidth_min=0.3).done(10, 11)


class TestTicks:
    @pytest.mark.parametrize("count", [500, 1000])
    def test_times_are_entries(self, count):
        time_schedule = Ticks(Uniform(seed=2), count)
        for index in range(200):
            entry = time_schedule(index, 200) * (count - 1)
            assert abs(entry - round(entry)) < 1e-9
            assert abs(time_schedule(index, 200) - Uniform(seed=2)(index, 200)) <= 0.5 / (count - 1) + 1e-15

    def test_all_entries_of_the_table_are_exact(self):
        seen = times(Ticks(Linear(1.0, 0.0), 1000), 1000)
        alpha = SD(seen)[0]
        assert (alpha - TABLE.sqrt().flip(0)).abs().max() < 1e-12

    def test_a_strided_grid_is_the_schedulers(self):
        scheduler = DDIMScheduler(steps_offset=1)
        scheduler.set_timesteps(500)
        seen = times(Ticks(Linear(1.0, 0.0), 1000, stride=2, offset=1), 20_000)
        assert (seen * 999).round().long().unique().tolist() == sorted(scheduler.timesteps.tolist())
        assert Ticks(lambda i, n: 0.0, 1000, stride=2, offset=1)(0, 1) == 1 / 999
        assert Ticks(lambda i, n: 1.0, 1000, stride=3, offset=1)(0, 1) == 997 / 999
        assert Ticks(lambda i, n: 1.0, 1000, stride=2, offset=0)(0, 1) == 998 / 999


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Window((0.5, 0.2)), "windows must be"),
        (lambda: Window(end=(0.0, 1.2)), "times must lie"),
        (lambda: Window(warmup=0.7, move=0.4), "warmup and move"),
        (lambda: Window(warmup=-0.1), "warmup and move"),
        (lambda: Sqrt(1.2, 0.0), "times must lie"),
        (lambda: PriorWeighted(VP(), lo=0.5, hi=0.5), "lo < hi"),
        (lambda: PriorWeighted(VP(), m1=0.4), "m2 <= m1"),
        (lambda: PriorWeighted(VP(), s2=0.0), "s1 and s2"),
        (lambda: PriorWeighted(VP(), count=1), "at least 2"),
        (lambda: PriorWeighted(Flow(), hi=1.0), "lower hi"),
        (lambda: PriorWeighted(VP(), weight=lambda a, s: -s), "positive"),
        (lambda: Bandwidth(VP(), 1.0, 0.0), "bandwidths must"),
        (lambda: Bandwidth(VP(), 0.0, 0.0, shape="linear"), "bandwidths must"),
        (lambda: Bandwidth(VP(), 1.0, 0.1, shape="cosine"), "geometric, linear"),
        (lambda: Bandwidth(VP(), 1.0, 0.1, bandwidth_min=0.0), "bandwidth_min must"),
        (lambda: Ticks(Uniform(), 1), "count >= 2"),
        (lambda: Ticks(Uniform(), stride=0), "stride >= 1"),
        (lambda: Ticks(Uniform(), 10, offset=10), "offset < count"),
    ],
)
def test_impossible_times_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_weighted_times_have_the_density_of_the_weight():
    """w = t^2 on [0, 1] has the quantiles u^(1/3); one on an interval has its bounds."""
    square = Weighted(lambda t: t**2, 0.0, 1.0)
    for u in (0.001, 0.2, 0.5, 0.9, 1.0):
        assert square.quantile(u) == pytest.approx(u ** (1 / 3), abs=1e-3)
    drawn = torch.tensor([square(k, 10) for k in range(2000)])
    assert float(drawn.mean()) == pytest.approx(0.75, abs=4 * 0.194 / 2000**0.5)
    assert square(3, 10) == square(3, 99)
    assert square(3, 10) != replace(square, seed=1)(3, 10)
    falling = Weighted(lambda t: t**2, 0.0, 1.0, annealed=True)
    assert [falling(k, 3) for k in range(3)] == pytest.approx([1.0, 0.5 ** (1 / 3), 0.0], abs=2e-3)
    inner = Weighted(lambda t: ((t > 0.4) & (t < 0.6)).to(t), 0.1, 0.9, annealed=True, count=80)
    assert (inner(0, 2), inner.quantile(1e-9)) == pytest.approx((0.6, 0.4), abs=1e-6)
    assert Weighted(lambda t: 3.0 + 0 * t, 0.2, 0.8).quantile(0.25) == pytest.approx(0.35)


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"lo": 0.5, "hi": 0.5}, "times must satisfy lo < hi"),
        ({"hi": 1.5}, r"times must lie in \[0, 1\]"),
        ({"count": 0}, "count must be at least 1"),
        ({"weight": lambda t: 0 * t}, "the weight must be finite, at least 0 and positive somewhere"),
        ({"weight": lambda t: t - 0.5}, "the weight must be finite, at least 0"),
    ],
)
def test_impossible_weighted_times_are_refused(wrong, sentence):
    with pytest.raises(ValueError, match=sentence):
        Weighted(**{"weight": lambda t: t, **wrong})


@pytest.mark.parametrize("annealed", [True, False])
def test_weighted_times_have_weight(annealed):
    inside = lambda t: ((t > 0.3) & (t < 0.4)) | ((t > 0.6) & (t < 0.8))
    times = Weighted(lambda t: inside(t).double(), annealed=annealed, count=960)
    found = torch.tensor([times(k, 50) for k in range(50)] + [times.quantile(0.0), times.quantile(1.0)])
    assert (inside(found) | (found - 0.3).abs().lt(2e-3) | (found - 0.8).abs().lt(2e-3)).all()
    assert times.quantile(0.0) == pytest.approx(0.3, abs=2e-3)
