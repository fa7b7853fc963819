"""Samplers: exact answers on a Gaussian, and the nominal order of convergence."""

from itertools import pairwise

import pytest
import torch

from conftest import gaussian
from scoredistill.priors import Counted, Prior
from scoredistill.sampling import ddim, draw_noise, posterior_sample
from scoredistill.schedule import VE, VP, Flow

F64 = torch.float64
MEAN, VARIANCE = torch.tensor([0.5, -0.2], dtype=F64), 0.25


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
    errors = [(ddim(prior, x_T, n) - exact).abs().max().item() for n in (200, 400, 800)]
    orders = [torch.tensor(a / b).log2().item() for a, b in pairwise(errors)]
    assert all(0.9 < order < 1.15 for order in orders), (errors, orders)


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
    with pytest.raises(ValueError, match="says nothing"):
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
