"""Samplers: exact answers on a Gaussian, and the nominal order of convergence."""

from itertools import pairwise

import pytest
import torch

from oracles import gaussian
from scoredistill.priors import Counted, GaussianMixture, Prior
from scoredistill.rng import draw_noise
from scoredistill.sampling import (
    ddim,
    ddim_invert,
    ddim_step,
    ode_sample,
    paper_sample,
    posterior_sample,
    product_levels,
    product_sample,
)
from scoredistill.schedule import VE, VP, Flow
from scoredistill.times import Bandwidth

F64 = torch.float64
MEAN, VARIANCE = torch.tensor([0.5, -0.2], dtype=F64), 0.25


def orders(errors):
    return [(a / b).log2().item() for a, b in pairwise(errors)]


@pytest.mark.parametrize("schedule", [VP(), VE(0.002, 80.0), Flow()], ids=repr)
def test_ddim_converges_at_first_order_to_the_probability_flow(schedule, rng):
    """On N(mu, v) the flow scales (z - mu) by sqrt(S): x_0 = mu + (z - mu) sqrt((v + r_0^2) / (v + r_T^2))."""
    prior = gaussian(MEAN, VARIANCE, schedule)
    prior.times = lambda steps: torch.linspace(0.95, 0.05, steps + 1, dtype=F64).unfold(0, 2, 1)
    ends = torch.tensor([0.95, 0.05], dtype=F64)
    (alpha, _), r = schedule(ends), schedule.ratio(ends)
    x_T = torch.randn(4, 2, generator=rng, dtype=F64)
    z = x_T / alpha[0]
    exact = alpha[1] * (MEAN + (z - MEAN) * ((VARIANCE + r[1] ** 2) / (VARIANCE + r[0] ** 2)).sqrt())
    errors = [(ddim(prior, x_T, n) - exact).abs().max() for n in (100, 200, 400)]
    assert all(0.9 < order < 1.15 for order in orders(errors)), (errors, orders(errors))


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
def test_ddim_samples_have_the_moments_of_the_prior(eta, rng):
    prior = gaussian(MEAN, VARIANCE)
    x = ddim(prior, torch.randn(20_000, 2, generator=rng, dtype=F64), 150, eta=eta, rng=rng)
    assert (x.mean(0) - MEAN).abs().max() < 5 * 0.5 / 20_000**0.5 + 2e-3
    assert (x.std(0) / VARIANCE**0.5 - 1).abs().max() < 0.05


def test_ddim_covers_a_mixture(mixture, rng):
    x = ddim(mixture, torch.randn(4000, 2, generator=rng, dtype=F64), 100)
    exact = mixture.sample(4000, rng)
    assert abs(mixture.log_prob(x).mean() - mixture.log_prob(exact).mean()) < 0.1
    assert (x.mean(0) - exact.mean(0)).abs().max() < 0.1


def test_ddim_counts_and_refuses(rng):
    prior = Counted(gaussian(MEAN, VARIANCE))
    ddim(prior, torch.randn(3, 2, generator=rng, dtype=F64), 7)
    assert (prior.rows, prior.calls) == (21, 7)
    with pytest.raises(ValueError, match="at least 1"):
        ddim(prior, torch.zeros(3, 2, dtype=F64), 0)


def test_posterior_samples_have_the_exact_mean_and_converge_to_its_variance(rng):
    """y ~ N(mu, v) N(x; y, s): variance v s / (v + s), mean mu + v / (v + s) (x - mu)."""
    prior, s, n = gaussian(MEAN, VARIANCE), 0.2, 20_000
    x = torch.tensor([[1.0, 1.0]], dtype=F64)
    mean, variance = MEAN + VARIANCE / (VARIANCE + s) * (x - MEAN), VARIANCE * s / (VARIANCE + s)
    for steps, low in ((4, 0.2), (64, 0.88)):
        noise = lambda z: torch.randn(z.shape, generator=rng, dtype=F64)
        y = posterior_sample(prior, x.expand(n, 2), torch.full((n,), s**0.5, dtype=F64), steps, draw=noise)
        assert (y.mean(0) - mean).abs().max() < 4 * (variance / n) ** 0.5
        assert low < y.var(0).mean() / variance < 1.03


def test_flow_starts_where_alpha_is_zero(rng):
    """A flow prior begins at t = 1; one that only predicts the noise cannot, and says so."""
    exact = gaussian(MEAN, VARIANCE, Flow())
    noise = torch.randn(20_000, 2, generator=rng, dtype=F64)
    x = ddim(exact, noise, 100)
    assert (x.mean(0) - MEAN).abs().max() < 0.02
    with pytest.raises(ValueError, match="does not determine the sample"):
        ddim(Prior.from_callable(lambda x, t, c: exact.eps(x, t), Flow()), noise, 10)


def test_half_precision_samples_see_exact_times():
    seen = []
    prior = Prior.from_callable(lambda x, t, c: seen.append(t) or x, VP(), "x0")
    ddim(prior, torch.zeros(1, 2, dtype=torch.bfloat16), 7)
    assert (torch.cat(seen) - prior.times(7)[:, 0]).abs().max() < 1e-6


def test_noise_of_a_particle_does_not_depend_on_its_batch():
    x = torch.zeros(3, 4)
    generators = lambda: [torch.Generator().manual_seed(i) for i in range(3)]
    together = draw_noise(x, generators())
    assert torch.equal(together[1:], draw_noise(x[1:], generators()[1:]))
    assert not torch.equal(together[0], together[1])
    with pytest.raises(ValueError, match="2 generators for 3 samples"):
        draw_noise(x, generators()[:2])


@pytest.mark.parametrize("schedule", [VP(), VE(0.002, 80.0), Flow()], ids=repr)
def test_inversion_is_retraced_by_ddim_to_first_order(schedule, rng):
    """Up over the prior's own times and down again, in equally many calls; half the step, half the error."""
    prior = Counted(gaussian(MEAN, VARIANCE, schedule))
    x_0 = torch.randn(4, 2, generator=rng, dtype=F64)
    errors = []
    for steps in (100, 200, 400):
        x_T = ddim_invert(prior, x_0, steps)
        errors.append((ddim(prior, x_T, steps) - x_0).abs().max())
    assert all(0.8 < order < 1.2 for order in orders(errors)), (errors, orders(errors))
    assert (prior.rows, prior.calls) == (2 * 700 * 4, 2 * 700)


@pytest.mark.parametrize("schedule", [VP(), VE(0.002, 80.0), Flow()], ids=repr)
def test_inversion_to_a_time_is_the_probability_flow_to_first_order(schedule, rng):
    """z - mu grows by sqrt((v + r^2) / (v + r_0^2)) from time 0 to the time `to`."""
    prior, x_0 = gaussian(MEAN, VARIANCE, schedule), torch.randn(4, 2, generator=rng, dtype=F64)
    ends = torch.tensor([0.0, 0.6], dtype=F64)
    (alpha, _), r = schedule(ends), schedule.ratio(ends)
    grown = ((VARIANCE + r[1] ** 2) / (VARIANCE + r[0] ** 2)).sqrt()
    exact = alpha[1] * (MEAN + grown * (x_0 - MEAN))
    errors = [(ddim_invert(prior, x_0, steps, to=0.6) - exact).abs().max() for steps in (100, 200, 400)]
    assert all(0.8 < order < 1.2 for order in orders(errors)), (errors, orders(errors))


@pytest.mark.parametrize("schedule", [VP(), VE(0.002, 80.0), Flow()], ids=repr)
def test_the_flow_down_from_a_time_converges_at_first_order(schedule, rng):
    """Clean is mu + (z - mu) sqrt(v / (v + r^2)); in one step it is E[x | x_t]."""
    prior, x_t, t = gaussian(MEAN, VARIANCE, schedule), torch.randn(4, 2, generator=rng, dtype=F64), 0.6
    times = torch.full((4,), t, dtype=F64)
    alpha, r = schedule(times)[0][0], schedule.ratio(times)[0]
    exact = MEAN + (x_t / alpha - MEAN) * (VARIANCE / (VARIANCE + r**2)).sqrt()
    errors = [(ode_sample(prior, x_t, times, steps) - exact).abs().max() for steps in (100, 200, 400)]
    assert all(0.8 < order < 1.2 for order in orders(errors)), (errors, orders(errors))
    assert (ode_sample(prior, x_t, times, 1) - prior.denoise(x_t, times)).abs().max() == 0
    counted = Counted(prior)
    ode_sample(counted, x_t, times, 7)
    assert counted.calls == 7


@pytest.mark.parametrize("schedule", [VP(), VE(0.002, 80.0), Flow()], ids=repr)
@pytest.mark.parametrize("eta", [0.3, 1.0])
def test_a_step_upwards_mixes_in_the_noise_of_the_step_back(schedule, eta, rng):
    """Where data are one point, x_s = alpha_s m + sigma_s n has variance sigma_s^2, and the new part of n that of x_t
    given x_s and the point: eta^2 sigma_t^2 (1 - alpha_s^2 sigma_t^2 / (alpha_t^2 sigma_s^2)).
    """
    n, times = 100_000, torch.tensor([0.3, 0.5], dtype=F64)
    prior = gaussian(MEAN, 1e-16, schedule)
    (alpha, alpha_s), (sigma, sigma_s) = schedule(times)
    noise = torch.randn(n, 2, generator=rng, dtype=F64)
    x = ddim_step(prior, alpha * MEAN + sigma * noise, *times[:, None].expand(2, n), None, eta, rng)
    fresh = eta**2 * sigma**2 * (1 - (alpha_s / alpha) ** 2 * (sigma / sigma_s) ** 2)
    error = 4 * (2 / x.numel()) ** 0.5  # of a variance, relative
    assert abs((x - alpha_s * MEAN).square().mean() / sigma_s**2 - 1) < error
    new = x - alpha_s * MEAN - (sigma_s**2 - fresh).sqrt() * noise
    assert abs(new.square().mean() / fresh - 1) < error
    assert abs((new * noise).mean()) < 4 * (fresh / x.numel()).sqrt()


@pytest.mark.parametrize("eta", [0.5, 1.0])
def test_inversion_with_fresh_noise_has_the_marginal_of_its_time(eta, rng):
    """Samples of N(mu, v), noised step by step to t: alpha mu and alpha^2 v + sigma^2, whatever eta."""
    n, to, schedule = 20_000, 0.6, Flow()
    prior = gaussian(MEAN, VARIANCE, schedule)
    x = ddim_invert(prior, prior.sample(n, rng), 200, to=to, eta=eta, rng=rng)
    total = (1 - to) ** 2 * VARIANCE + to**2
    assert (x.mean(0) - (1 - to) * MEAN).abs().max() < 4 * (total / n) ** 0.5
    assert abs(x.var(0).mean() / total - 1) < 4 * (2 / x.numel()) ** 0.5 + 0.01  # the steps' own error


def gaussian_product(x, s):
    """Mean and variance of N(y; mu, v) N(x; y, s)."""
    return MEAN + VARIANCE / (VARIANCE + s) * (x - MEAN), VARIANCE * s / (VARIANCE + s)


def start_of_product(x, noise, s):
    """Where the flow starts on a Gaussian: d + r n, r = 8 sqrt(s), d the expectation of y given x + r n."""
    (mean, variance), r = gaussian_product(x, s), 8 * s**0.5
    return mean + variance / (variance + r**2) * (x + r * noise - mean) + r * noise


@pytest.mark.parametrize("levels", ["kernel", "prior"])
@pytest.mark.parametrize("variance", [1.0, 0.1, 0.01])
def test_products_of_a_gaussian_have_the_right_mean(variance, levels, rng):
    """Opposite noises cancel, as y is linear in them; from x + r n the mean shift would be up to 12 % too small."""
    prior, s = gaussian(MEAN, variance, VE(1e-4, 100.0)), 0.01
    x, noise, h = MEAN + 0.3, torch.randn(1, 2, generator=rng, dtype=F64), torch.full((2,), s**0.5, dtype=F64)
    shift = -0.3 * s / (variance + s)
    for steps in (2, 4, 16, 64):
        pair = product_sample(prior, x.expand(2, 2), h, steps, draw=lambda z: torch.cat([noise, -noise]), levels=levels)
        bias = ((pair.mean(0) - x) / shift - 1).abs().max()
        assert bias < (0.007 if levels == "kernel" else 0.016), (steps, bias)


@pytest.mark.parametrize("bandwidth", [0.3, 3.0])
def test_products_of_a_mixture_have_the_right_mean(bandwidth, rng):
    """A relative bias of at most .02 remains, of finitely many steps; from x + r n it would be .04 to .09."""
    means, n = torch.tensor([[-1.0, 0.0], [1.0, 0.5]], dtype=F64), 1000
    prior = GaussianMixture(means, torch.tensor([0.1, 0.2], dtype=F64), schedule=VE(1e-3, 50.0))
    points = torch.randn(8, 2, generator=rng, dtype=F64)
    shift = prior.denoise_at(points, torch.full((8,), bandwidth, dtype=F64)) - points
    x, h = points.repeat(2 * n, 1), torch.full((16 * n,), bandwidth, dtype=F64)
    noise = torch.randn(8 * n, 2, generator=rng, dtype=F64)
    y = product_sample(prior, x, h, 8, draw=lambda z: torch.cat([noise, -noise])).reshape(2, n, 8, 2).mean(0)
    chance = (y.var(0).sum() / n).sqrt()
    assert (y.mean(0) - points - shift).norm() < 0.02 * shift.norm() + 2 * chance
    assert chance < 0.01 * shift.norm()


def test_product_samples_follow_their_flow_at_first_order(rng):
    """On a Gaussian the product has variance V: z - m shrinks by sqrt((V + r_1^2) / (V + r_0^2)), r from 8 to .05 h."""
    prior, s = gaussian(MEAN, VARIANCE), 0.2
    x, noise = torch.randn(2, 4, 2, generator=rng, dtype=F64)
    mean, variance = gaussian_product(x, s)
    shrunk = ((variance + 0.05**2 * s) / (variance + 8**2 * s)) ** 0.5
    exact = mean + shrunk * (start_of_product(x, noise, s) - mean)
    h = torch.full((4,), s**0.5, dtype=F64)
    found = [product_sample(prior, x, h, steps, draw=lambda z: noise) for steps in (100, 200, 400)]
    errors = [(y - exact).abs().max() for y in found]
    assert all(0.8 < order < 1.2 for order in orders(errors)), (errors, orders(errors))


@pytest.mark.parametrize("schedule", [VP(), VE(0.02, 50.0), Flow()], ids=repr)
@pytest.mark.parametrize("s", [0.2, 400.0])
def test_product_samples_at_the_priors_own_levels_end_without_noise(rng, schedule, s):
    """As above, down to r = 0: z - m shrinks by sqrt(V / (V + r_0^2)), also where sqrt(s) is far above the data."""
    prior = gaussian(MEAN, VARIANCE, schedule)
    x, noise = torch.randn(2, 4, 2, generator=rng, dtype=F64)
    mean, variance = gaussian_product(x, s)
    h = torch.full((4,), s**0.5, dtype=F64)
    first = product_levels(prior, h, 10, "prior")[0]
    assert torch.allclose(first, 8 * h, rtol=1e-6)
    exact = mean + (variance / (variance + first[:, None] ** 2)) ** 0.5 * (start_of_product(x, noise, s) - mean)
    found = [product_sample(prior, x, h, k, draw=lambda z: noise, levels="prior") for k in (100, 200, 400)]
    errors = [(y - exact).abs().max() for y in found]
    assert all(0.7 < order < 1.3 for order in orders(errors)), (errors, orders(errors))
    left = product_sample(prior, x, h, 400, draw=lambda z: noise) - exact
    assert (left.abs().max() > 0.3) == (s > 1)  # the kernel's own levels end at .05 sqrt(s)


@pytest.mark.parametrize("schedule", [VP(), VE(0.02, 50.0)], ids=repr)
def test_the_priors_own_levels_are_evenly_spaced_times(schedule):
    """The last level is 0, also where the schedule's own least noise (VE: 0.02) is not."""
    prior, h = gaussian(MEAN, VARIANCE, schedule), torch.tensor([0.5, 2.0], dtype=F64)
    r = product_levels(prior, h, 5, "prior")
    tau = (h**2 * r**2 / (h**2 + r**2)).sqrt()
    times = prior.schedule.time_of(tau)
    assert torch.allclose(times, torch.linspace(1, 0, 6, dtype=F64)[:, None] * times[0], atol=1e-9)
    assert (r[-1] == 0).all()
    with pytest.raises(ValueError, match="unknown levels 'even': use one of kernel, prior"):
        product_levels(prior, h, 5, "even")


def test_posterior_mean_is_exact_and_its_variance_of_first_order(rng):
    """y is linear in the noise of each step, so noise in one step at a time gives mean and variance without chance."""
    prior, s = gaussian(MEAN, VARIANCE), 0.2
    x = torch.randn(1, 2, generator=rng, dtype=F64)
    mean, variance = gaussian_product(x, s)
    errors = []
    for steps in (20, 40, 80):
        calls = iter(torch.eye(steps, dtype=F64)[:, :, None])  # row k gets its noise at call k, the last row none
        rows, h = x.expand(steps, 2), torch.full((steps,), s**0.5, dtype=F64)
        y = posterior_sample(prior, rows, h, steps, draw=lambda z, calls=calls: next(calls).expand_as(z))
        assert (y[-1] - mean).abs().max() < 1e-12
        errors.append((y - mean).square().sum(0).sub(variance).abs().max())
    assert all(0.8 < order < 1.2 for order in orders(errors)), (errors, orders(errors))
    rows, h = x.expand(2, 2), torch.full((2,), s**0.5, dtype=F64)
    y = posterior_sample(prior, rows, h, 2, draw=lambda z: torch.tensor([[1.0], [0.0]], dtype=F64).expand_as(z))
    within = s / 64  # two steps: to r / 8, where N(z', v' (v - v') / v) is drawn, and to the denoised sample of that
    drawn = (VARIANCE / (VARIANCE + within)) ** 2 * within * (s - within) / s
    assert ((y[0] - y[1]).square() - drawn).abs().max() < 1e-12


# The published recipe of the mean shift


LEVELS = {"sigma2": lambda r: r**2, "sigma": lambda r: r, "index": lambda r: torch.linspace(1, 0, len(r), dtype=F64)}


@pytest.mark.parametrize("schedule", [VP(0.1, 3.0), VE(0.05, 1.5)], ids=repr)
@pytest.mark.parametrize("anchor", ["x", "inverted"])
@pytest.mark.parametrize("dt", LEVELS)
@pytest.mark.parametrize("interval", [None, (0.3, 0.75)])
def test_the_kernel_of_the_paper_s_sampler_alone_is_its_closed_form(schedule, anchor, dt, interval, rng):
    """Where D(z) = z nothing moves but by the kernel: z = a + (z - a) exp((v' - v) / lambda^2) from v down to v'.

    The start is pulled as much as the first step. Only times in the interval count.
    """
    x, noise = torch.randn(2, 3, 2, generator=rng, dtype=F64)
    still = Prior.from_callable(lambda x_t, t, cond: x_t / schedule(t)[0][:, None], schedule, "x0")
    h, steps = torch.tensor([0.6, 0.9, 1.3], dtype=F64), 8
    grid = torch.linspace(1, 0, steps + 1, dtype=F64)
    v = LEVELS[dt](schedule.ratio(grid))
    dv = torch.cat([v[1:2] - v[:1], v.diff()])  # at each time of the grid
    lo, hi = interval or (0.0, 1.0)
    total = dv[(grid >= lo) & (grid <= hi)].sum()
    exact = x + (schedule.ratio(grid)[0] * noise - x) * (total / (2 * h**2)).exp()[:, None]
    found = paper_sample(still, x, h, steps, None, lambda z: noise, dt, anchor, interval)
    assert (found - exact).abs().max() < 1e-12


@pytest.mark.parametrize("schedule", [VP(), VE(0.05, 20.0)], ids=repr)
@pytest.mark.parametrize("anchor", ["x", "inverted"])
def test_the_paper_s_sampler_continues_from_its_anchor(schedule, anchor, rng):
    """A narrow kernel at one time alone puts z on the anchor; DDIM continues from there.

    On a Gaussian a step from r to r' in either direction multiplies z - mu by (v + r r') / (v + r^2). At time 0 the
    prediction is that of time 1e-4.
    """
    prior, steps, kept = gaussian(MEAN, VARIANCE, schedule), 10, 4  # of 10, counted from clean
    x, noise = torch.randn(2, 3, 2, generator=rng, dtype=F64)
    grid = torch.linspace(0, 1, steps + 1, dtype=F64)
    r, (alpha, sigma) = schedule.ratio(grid), schedule(torch.tensor(1e-4, dtype=F64))
    step = lambda a, b: (VARIANCE + a * b) / (VARIANCE + a**2)
    z = x
    if anchor == "inverted":
        x_t = schedule(grid)[0][0] * x
        first = sigma * (x_t - alpha * MEAN) / (alpha**2 * VARIANCE + sigma**2)
        z = x + (r[1] - r[0]) * first
        for k in range(1, kept):
            z = MEAN + step(r[k], r[k + 1]) * (z - MEAN)
    for k in range(kept, 0, -1):
        z = MEAN + step(r[k], r[k - 1]) * (z - MEAN)
    at = (float(grid[kept]) - 1e-6, float(grid[kept]) + 1e-6)
    h = torch.full((3,), 1e-4, dtype=F64)
    found = paper_sample(prior, x, h, steps, None, lambda _: noise, "sigma2", anchor, at)
    assert (found - z).abs().max() < 1e-10
    everywhere = paper_sample(prior, x, h, steps, None, lambda _: noise, "sigma2", anchor)
    assert (everywhere - x).abs().max() < 1e-10


def test_the_paper_s_sampler_counts_its_calls_and_refuses_other_steps():
    prior = Counted(gaussian(MEAN, VARIANCE))
    x, h = torch.zeros(3, 2, dtype=F64), torch.ones(3, dtype=F64)
    for anchor, calls in (("x", 5), ("inverted", 10)):
        prior.calls = 0
        paper_sample(prior, x, h, 5, anchor=anchor)
        assert prior.calls == calls
    with pytest.raises(ValueError, match="unknown dt 'time'"):
        paper_sample(prior, x, h, 5, dt="time")


def test_a_run_is_done_at_its_least_bandwidth_itself():
    """1, .75, .5, .25, 0: the bandwidth of .5 is the last that is used."""
    times = Bandwidth(VE(), 1.0, 0.0, "linear", bandwidth_min=0.5)
    assert [times.done(k, 5) for k in range(5)] == [False, False, True, True, True]
