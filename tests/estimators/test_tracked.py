"""Mean shift towards a kept draw: its mean is the mean shift, and its two limits are DDIM and `MSD`."""

import math

import pytest
import torch

from oracles import gaussian
from scoredistill import distill
from scoredistill.estimators import MSD, Batch, TrackedMSD
from scoredistill.generators import Latents
from scoredistill.priors import Counted, GaussianMixture
from scoredistill.sampling import ddim_step
from scoredistill.schedule import VE
from scoredistill.times import Bandwidth

F64 = torch.float64
MEANS = torch.tensor([[-1.0, 0.0], [1.0, 0.5]], dtype=F64)


def two():
    return GaussianMixture(MEANS, torch.tensor([0.1, 0.2], dtype=F64), schedule=VE(0.001, 100.0))


def at(prior, bandwidth, n):
    return prior.schedule.time_of(torch.full((n,), bandwidth, dtype=F64))


def plain(parameters):
    return torch.optim.SGD(parameters, lr=1.0)


@pytest.mark.parametrize("steps", [4, 32])
def test_the_mean_over_draws_is_the_mean_shift_at_every_noise_level(steps):
    """With x and h held and r falling from 8 h to .05 h, as `product_sample` does; the error falls with the steps."""
    prior, x, n, h = two(), torch.tensor([[0.2, 0.4]], dtype=F64), 20_000, 0.5
    estimator = TrackedMSD()
    wanted = MSD(h)(prior, Batch(x), at(prior, h, 1)).grad[0]
    rng, errors = torch.Generator().manual_seed(0), []
    for k in range(steps):
        estimator.spread = (8**0.2 + k / steps * (0.05**0.2 - 8**0.2)) ** 5
        tau = h / math.hypot(1, 1 / estimator.spread)
        found = estimator(prior, Batch(x.expand(n, 2)), at(prior, tau, n), rng).grad
        errors.append(float((found.mean(0) - wanted).norm() / wanted.norm()))
    assert max(errors) < {4: 0.15, 32: 0.05}[steps]
    assert found.std(0).min() > 0.2  # draws, not the mean


def test_a_small_spread_follows_ddim():
    """From the second gradient on, the predictions are those of DDIM at the same times, wherever x is."""
    small, levels = 1e-3, torch.tensor([4.0, 2.0, 1.0, 0.5], dtype=F64)
    prior = GaussianMixture(MEANS, torch.tensor([0.1, 0.2], dtype=F64), schedule=VE(0.01, 100.0))
    x = torch.randn(5, 2, generator=torch.Generator().manual_seed(0), dtype=F64)
    estimator, noise = TrackedMSD(small), torch.randn(5, 2, generator=torch.Generator().manual_seed(1), dtype=F64)
    rng = torch.Generator().manual_seed(1)
    found = [x - estimator(prior, Batch(x), at(prior, float(r), 5), rng).grad for r in levels]
    z, times = found[0] + levels[1] * noise, [at(prior, float(r), 5) for r in levels]
    for k in (1, 2, 3):
        assert (found[k] - prior.denoise(z, times[k])).abs().max() < 1e-5
        if k < 3:
            z = ddim_step(prior, z, times[k], times[k + 1])


def ends(spread, n=500):
    """Particles after a run of 24 gradients on a Gaussian of variance 1, from variance 9."""
    prior = gaussian(torch.zeros(2, dtype=F64), 1.0, VE(0.001, 100.0))
    points = Latents(n, (2,), rng=torch.Generator().manual_seed(0)).double()
    with torch.no_grad():
        points.values.mul_(3)
    times = Bandwidth(prior.schedule, 30.0, 0.01)
    for _ in distill(points, prior, TrackedMSD(spread), steps=24, times=times, optimizer=plain,
                     rng=torch.Generator().manual_seed(1)):  # fmt: skip
        pass
    return points.values.detach()


def test_the_spread_leads_from_samples_to_modes():
    """The particles' standard deviation: that of the prior for a small spread, 0, the mode, for a large one."""
    stds = [float(ends(spread).std()) for spread in (0.05, 1.0, 3.0, 100.0)]
    assert stds[0] == pytest.approx(1.0, abs=0.1)
    assert stds == sorted(stds, reverse=True)
    assert stds[-1] < 0.05


def test_a_gradient_takes_one_call_and_particles_do_not_depend_on_each_other():
    prior, x = Counted(two()), torch.randn(4, 2, generator=torch.Generator().manual_seed(0), dtype=F64)
    seeds = lambda order: [torch.Generator().manual_seed(i) for i in order]
    straight, turned = TrackedMSD(), TrackedMSD()
    order = [2, 0, 3, 1]
    for h in (2.0, 1.0):
        first = straight(prior, Batch(x), at(prior, h, 4), seeds(range(4))).grad
        second = turned(prior, Batch(x[order]), at(prior, h, 4), seeds(order)).grad
    assert (prior.calls, prior.rows) == (4, 16)
    assert torch.equal(first[order], second)


def test_a_run_continues_with_its_draws():
    prior, whole, parts = two(), TrackedMSD(), TrackedMSD()
    x = torch.randn(4, 2, generator=torch.Generator().manual_seed(0), dtype=F64)
    seeds = torch.Generator().manual_seed(1), torch.Generator().manual_seed(1)
    for h in (3.0, 1.0):
        for estimator, rng in zip((whole, parts), seeds, strict=True):
            estimator(prior, Batch(x), at(prior, h, 4), rng)
    resumed = TrackedMSD()
    resumed.load_state_dict(parts.state_dict())
    last = (prior, Batch(x), at(prior, 0.3, 4))
    assert torch.equal(whole(*last).grad, resumed(*last).grad)
    assert TrackedMSD().state_dict() == {}


def test_other_particles_are_refused():
    prior, estimator = two(), TrackedMSD()
    x = torch.zeros(4, 2, dtype=F64)
    estimator(prior, Batch(x), at(prior, 1.0, 4))
    with pytest.raises(ValueError, match="show the same particles in every step, or use MSD"):
        estimator(prior, Batch(x[:3]), at(prior, 1.0, 3))


@pytest.mark.parametrize("spread", [0.0, -1.0, float("inf"), float("nan")])
def test_impossible_spreads_are_refused(spread):
    with pytest.raises(ValueError, match="spread must be positive and finite"):
        TrackedMSD(spread)
