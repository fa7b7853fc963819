"""Collaborative mean shift: its rule against closed forms, its symmetries, and what it is for (float64)."""

import pytest
import torch

from oracles import gaussian
from scoredistill.datasets.toy2d import NAMES, grid_start, toy_set
from scoredistill.estimators import MSD, Batch, CollaborativeMSD
from scoredistill.estimators.collaborative import Subspace, annealing, principal_features, spacing, spread
from scoredistill.kernels import RBF, InverseMultiquadric
from scoredistill.metrics import nll, precision_recall
from scoredistill.priors import Counted, GaussianMixture, Prior
from scoredistill.sampling import ddim
from scoredistill.schedule import VE
from scoredistill.times import Bandwidth

F64 = torch.float64


def grad(estimator, prior, x, h):
    t = prior.schedule.time_of(torch.full((len(x),), h, dtype=F64))
    return estimator(prior, Batch(x), t).grad


def run(prior, estimator, x, times, steps=20):
    for i in range(steps):
        x = x - estimator(prior, Batch(x), torch.full((len(x),), times(i, steps), dtype=F64)).grad
    return x


def quantiles(n, variance):
    """n particles that stand for N(0, variance)."""
    p = (torch.arange(n, dtype=F64) + 0.5) / n
    return variance**0.5 * torch.special.ndtri(p)[:, None]


def push(x, f, w, kernel):
    """-w^2 grad log sum_j k(|f(x_i) - f_j|^2 / (2 w^2)) by autograd, one particle at a time."""
    rows = []
    for i in range(len(x)):
        own = x[i].clone().requires_grad_()
        away = f(own[None]) - f(x).detach()
        log_q = kernel.profile(away.square().sum(1) / (2 * w**2)).sum().log()
        rows.append(-(w**2) * torch.autograd.grad(log_q, own)[0])
    return torch.stack(rows)


@pytest.mark.parametrize("kernel", [RBF(), RBF(scale=2.0), InverseMultiquadric()], ids=str)
@pytest.mark.parametrize("features", [None, lambda x: torch.stack([x[:, 0].exp(), x.square().sum(1)], 1)])
def test_grad_is_that_of_the_densities(mixture, kernel, features, rng):
    """grad = -h^2 grad log p_h + beta h^2 grad log q_w, at a bandwidth far below and one far above the spacing."""
    x, f = torch.randn(7, 2, generator=rng, dtype=F64), features or (lambda x: x)
    kernel = type(kernel)(scale=kernel.scale, features=features)
    apart = kernel.scale * torch.cdist(f(x), f(x)).fill_diagonal_(torch.inf).amin(1).median().item()
    for h in (0.1 * apart, 10 * apart):
        w = max(h, apart)
        expected = grad(MSD(), mixture, x, h) - 0.7 * (h / w) ** 2 * push(x, f, w, kernel)
        assert (grad(CollaborativeMSD(0.7, kernel=kernel), mixture, x, h) - expected).abs().max() < 1e-9


def test_denoised_particles_give_the_weights_and_particles_the_push(mixture, rng):
    x, h = torch.randn(6, 2, generator=rng, dtype=F64), 0.2
    y = mixture.denoise_at(x, torch.full((6,), h, dtype=F64))
    w = max(h, spacing(y))
    weights = (-torch.cdist(y, y).square() / (2 * w**2)).softmax(1)
    expected = x - y - (h / w) ** 2 * (x - weights @ x)
    assert (grad(CollaborativeMSD(denoised=True), mixture, x, h) - expected).abs().max() < 1e-10


@pytest.mark.parametrize(("beta", "w"), [(1.0, 0.3), (1.0, 0.6), (0.8, 0.3)])
def test_spread_of_the_particles_at_rest(beta, w):
    """For p = N(0, v) they rest as a Gaussian with v_q + w^2 = beta (v + h^2)."""
    v, h, prior = 0.5, 0.3, gaussian(torch.zeros(1, dtype=F64), 0.5, VE(0.01, 10.0))
    estimator, x = CollaborativeMSD(beta, kernel=RBF(w)), quantiles(400, 0.4)
    for _ in range(200):
        x = x - grad(estimator, prior, x, h)
    assert x.var().item() == pytest.approx(beta * (v + h**2) - w**2, rel=0.02)


@pytest.mark.parametrize(("beta", "h"), [(1.0, 0.5), (1.0, 2.0), (0.8, 0.3), (0.5, 0.5)])
@pytest.mark.parametrize("n", [2, 5])
def test_particles_of_a_gaussian_law_rest_at_the_variance_of_the_prior(beta, h, n, rng):
    """v = beta s^2 - (1 - beta) h^2 from the mean m of the prior, with as few particles as two in forty dimensions."""
    mean, variance = torch.linspace(-1, 1, 40, dtype=F64), 0.7
    prior = gaussian(mean, variance)
    x = torch.randn(n, 40, generator=rng, dtype=F64) + 3
    for _ in range(300):  # the distance to rest shrinks by .89 or faster at each step
        x = x - grad(CollaborativeMSD(beta, density="gaussian"), prior, x, h)
    rest = beta * variance - (1 - beta) * h**2
    assert abs(x.var(0).mean() - rest) < 1e-6
    assert (x.mean(0) - mean).abs().max() < 1e-6


def test_a_gaussian_law_keeps_what_the_prior_keeps(rng):
    """Of two directions of the particles the prior's wide one survives; a particle alone is not pushed."""
    prior = GaussianMixture(torch.zeros(1, 2, dtype=F64), torch.tensor([[[1.0, 0.0], [0.0, 0.01]]], dtype=F64))
    x = torch.randn(6, 2, generator=rng, dtype=F64)
    for _ in range(300):
        x = x - grad(CollaborativeMSD(0.9, density="gaussian"), prior, x, 0.3)
    wide, narrow = x.std(0)
    assert wide > 0.5
    assert narrow < 1e-3
    assert torch.equal(grad(CollaborativeMSD(density="gaussian"), prior, x[:1], 0.3), grad(MSD(), prior, x[:1], 0.3))


def test_spacing_is_the_median_nearest_neighbor():
    x = torch.tensor([[0.0], [1.0], [3.0], [3.5], [10.0]], dtype=F64)
    assert spacing(x) == 1.0  # of 1, 1, .5, .5, 6.5
    assert spacing(x[:1]) == 0.0
    assert spacing(x[:2, :, None].expand(2, 1, 4)) == pytest.approx(2.0)


def test_particles_on_one_spot_and_alone(mixture):
    x = torch.full((4, 2), 0.3, dtype=F64)
    for h in (1e-2, 1.0):
        alone = grad(MSD(), mixture, x, h)
        assert (grad(CollaborativeMSD(), mixture, x, h) - alone).abs().max() < 1e-12
        assert (grad(CollaborativeMSD(), mixture, x[:1], h) - alone[:1]).abs().max() < 1e-12


@pytest.mark.parametrize("estimator", [CollaborativeMSD(), CollaborativeMSD(denoised=True)])
@pytest.mark.parametrize("scale", [10.0, 0.1])
def test_data_ten_times_larger_end_ten_times_farther(mixture, estimator, scale, rng):
    covs = mixture.axes @ torch.diag_embed(mixture.spread) @ mixture.axes.mT

    def end(scale, order):
        prior = GaussianMixture(scale * mixture.means, scale**2 * covs, mixture.weights, VE(2e-3 * scale, 20 * scale))
        x = scale * torch.randn(40, 2, generator=torch.Generator().manual_seed(3), dtype=F64)[order]
        times = annealing(prior, x, rng=torch.Generator().manual_seed(4))
        return run(prior, estimator, x, times, 10)

    order = torch.randperm(40, generator=rng)
    plain = end(1.0, torch.arange(40))
    assert plain.std() > 0.3
    assert (end(scale, torch.arange(40)) / scale - plain).abs().max() < 1e-6
    assert (end(1.0, order) - plain[order]).abs().max() < 1e-6  # the particles have no order


def test_spread_of_a_gaussian_is_its_largest_deviation(rng):
    covs = torch.diag(torch.tensor([0.01, 0.09, 4.0, 0.04], dtype=F64))
    turn = torch.linalg.qr(torch.randn(4, 4, generator=rng, dtype=F64))[0]
    mean = torch.tensor([3.0, -1.0, 0.0, 8.0], dtype=F64)
    prior = Counted(GaussianMixture(mean[None], (turn @ covs @ turn.T)[None], schedule=VE(0.002, 80.0)))
    start = torch.zeros(5, 4, dtype=F64)
    assert spread(prior, start, rng=rng) == pytest.approx(2.0, rel=1e-6)
    assert (prior.calls, prior.rows) == (8, 16)
    times = annealing(prior, start, rng=rng)
    assert (times.start, times.end) == pytest.approx((2.0, 0.008), rel=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_spread_of_other_priors_is_near_their_deviation(name, rng):
    prior = toy_set(name, schedule=VE(0.002, 5.0))
    covariance = prior.sample(20_000, rng).T.cov()
    exact = torch.linalg.eigvalsh(covariance)[-1].sqrt().item()
    assert spread(prior, grid_start(64), rng=rng) == pytest.approx(exact, rel=0.06)
    two = GaussianMixture(torch.tensor([[-1.0], [1.0]], dtype=F64), torch.tensor([1e-4, 1e-4], dtype=F64))
    for start in (0.0, 30.0):  # from afar one mode hides the other: the center must be the prior's own
        assert spread(two, torch.full((3, 1), start, dtype=F64), rng=rng) == pytest.approx(1.0, rel=0.06)


def test_spread_of_a_prior_that_is_rough_at_large_levels(rng):
    """A denoiser with an error of 1e-3 says nothing of data of deviation .1 at r = 80; where r follows it does."""
    exact = gaussian(torch.zeros(3, dtype=F64), 0.01, VE(0.002, 80.0))
    rough = Prior.from_callable(lambda x, t, cond: (exact.denoise(x, t) * 1e3).round() / 1e3, exact.schedule, "x0")
    assert spread(rough, torch.zeros(1, 3, dtype=F64), rng=rng) == pytest.approx(0.1, rel=0.1)


@pytest.mark.parametrize("name", NAMES)
def test_the_rule_beats_ddim_with_recall(name):
    """20 calls from a grid against 32: likelier, as precise, recall of .95; mean shift alone has less than .6."""
    rng, n = torch.Generator().manual_seed(0), 256
    prior = toy_set(name, schedule=VE(0.002, 5.0))
    truth, x = prior.sample(2000, rng), grid_start(n)
    times = annealing(prior, x, rng=rng)
    ours, alone = run(prior, CollaborativeMSD(), x, times), run(prior, MSD(), x, times)
    theirs = ddim(prior, 5 * torch.randn(n, 2, generator=rng, dtype=F64), 32)
    precision, recall = precision_recall(ours, truth)
    assert nll(ours, prior).mean < nll(theirs, prior).mean - 0.3
    assert precision >= precision_recall(theirs, truth)[0]
    assert recall >= 0.95 > 0.6 > precision_recall(alone, truth)[1]


def test_features_push_only_in_what_they_see(mixture, rng):
    """Two coordinates of a product prior move as on their own, the other three as by mean shift."""
    turn = torch.linalg.qr(torch.randn(5, 5, generator=rng, dtype=F64))[0]
    covs = 0.04 * torch.eye(5, dtype=F64).repeat(5, 1, 1)
    covs[:, :2, :2] = mixture.axes @ torch.diag_embed(mixture.spread) @ mixture.axes.mT
    means = torch.nn.functional.pad(mixture.means, (0, 3))
    whole = GaussianMixture(means @ turn.T, turn @ covs @ turn.T, mixture.weights, mixture.schedule)
    z = torch.randn(8, 5, generator=rng, dtype=F64)
    seen = grad(CollaborativeMSD(kernel=RBF(features=Subspace(turn[:, :2].T))), whole, z @ turn.T, 0.3) @ turn
    assert (seen[:, :2] - grad(CollaborativeMSD(), mixture, z[:, :2].contiguous(), 0.3)).abs().max() < 1e-9
    assert (seen[:, 2:] - (grad(MSD(), whole, z @ turn.T, 0.3) @ turn)[:, 2:]).abs().max() < 1e-9


def test_principal_features_are_the_plane_of_the_data(rng):
    axes = torch.linalg.qr(torch.randn(20, 2, generator=rng, dtype=F64))[0]
    covs = axes @ axes.T + 1e-4 * torch.eye(20, dtype=F64)
    prior = GaussianMixture(torch.zeros(1, 20, dtype=F64), covs[None], schedule=VE(0.002, 80.0))
    x = torch.randn(64, 20, generator=rng, dtype=F64)
    found = principal_features(prior, x, 1.0, 2)
    overlap = torch.linalg.svdvals(found.axes @ axes)
    assert found(x).shape == (64, 2)
    assert overlap.min() > 0.999
    with pytest.raises(ValueError, match="dims must lie"):
        principal_features(prior, x, 1.0, 21)


def test_impossible_arguments_are_refused(mixture):
    for arguments in ({"beta": 1.1}, {"beta": -0.1}):
        with pytest.raises(ValueError, match="beta must lie"):
            CollaborativeMSD(**arguments)
    with pytest.raises(ValueError, match="does not work with a kernel on features"):
        CollaborativeMSD(kernel=RBF(features=lambda x: x), denoised=True)
    with pytest.raises(ValueError, match="unknown density 'normal': use one of kernel, gaussian"):
        CollaborativeMSD(density="normal")
    for arguments in ({"kernel": RBF()}, {"denoised": True}):
        with pytest.raises(ValueError, match="apply to density='kernel'"):
            CollaborativeMSD(density="gaussian", **arguments)
    with pytest.raises(ValueError, match="rounds"):
        spread(mixture, torch.zeros(1, 2, dtype=F64), rounds=0)
    assert isinstance(annealing(mixture, torch.zeros(1, 2, dtype=F64)), Bandwidth)
