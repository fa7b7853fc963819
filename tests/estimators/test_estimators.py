"""Estimators against closed forms (float64), and the couplings against their limits."""

import pytest
import torch

from oracles import gaussian
from scoredistill.estimators import CSD, MSD, SDS, Batch, CollaborativeMSD, Estimate, Estimator, Stein
from scoredistill.kernels import RBF
from scoredistill.priors import Counted, Empirical, GaussianMixture
from scoredistill.sampling import ddim, product_denoise
from scoredistill.schedule import VE, VP, Flow

F64 = torch.float64
UNUSED = GaussianMixture(torch.zeros(1, 1, dtype=F64), torch.ones(1, dtype=F64))


def at(t, n):
    return torch.full((n,), t, dtype=F64)


@pytest.mark.parametrize("schedule", [VP(), Flow()], ids=repr)
@pytest.mark.parametrize("weight", ["sigma2", "uniform"])
def test_sds_has_the_mean_and_spread_of_the_closed_form(schedule, weight, rng):
    mu, v, n = torch.tensor([0.4, -1.0], dtype=F64), 0.3, 100_000
    prior, t = gaussian(mu, v, schedule), at(0.35, n)
    x = torch.tensor([[1.5, 0.5]], dtype=F64).expand(n, 2)
    grad = SDS(weight)(prior, Batch(x), t, rng).grad
    alpha, sigma = (c[0] for c in schedule(t))
    w, total = {"sigma2": sigma**2, "uniform": 1.0}[weight], alpha**2 * v + sigma**2
    mean, std = w * sigma * alpha * (x[0] - mu) / total, w * alpha**2 * v / total
    assert (grad.mean(0) - mean).abs().max() < 4 * std / n**0.5
    assert (grad.std(0) / std - 1).abs().max() < 0.01


def mean_shift(mixture, x, s):
    """The mean shift from the product of the mixture with N(x; y, s I), component by component."""
    covs = mixture.axes @ torch.diag_embed(mixture.spread) @ mixture.axes.mT
    eye = torch.eye(2, dtype=F64)
    shifts = []
    for point in x:
        logs, means = [], []
        for mu, cov, weight in zip(mixture.means, covs, mixture.weights, strict=True):
            evidence = torch.distributions.MultivariateNormal(mu, cov + s * eye)
            logs.append(weight.log() + evidence.log_prob(point))
            precision = torch.linalg.inv(cov) + eye / s
            means.append(torch.linalg.solve(precision, torch.linalg.solve(cov, mu) + point / s))
        shifts.append(torch.stack(logs).softmax(0) @ torch.stack(means) - point)
    return torch.stack(shifts)


@pytest.mark.parametrize("schedule", [VP(), VE(1e-4, 80.0), Flow()], ids=repr)
@pytest.mark.parametrize("bandwidth", [0.0316, 0.316, 2.0])
def test_msd_mean_is_the_exact_mean_shift(mixture, schedule, bandwidth, rng):
    mixture.schedule = schedule
    x = torch.randn(12, 2, generator=rng, dtype=F64)
    exact = mean_shift(mixture, x, bandwidth**2)
    fixed = MSD(bandwidth)(mixture, Batch(x), at(0.5, 12), rng)
    assert (fixed.grad + exact).abs().max() < 1e-9
    timesed = MSD()(mixture, Batch(x), schedule.time_of(at(bandwidth, 12)), rng)
    assert (timesed.grad + exact).abs().max() < 1e-9
    assert abs(timesed.info["bandwidth"] - bandwidth) < 1e-9


@pytest.mark.parametrize("sampler", ["ancestral", "product"])
@pytest.mark.parametrize("antithetic", [False, True])
def test_msd_by_samples_has_the_mean_shift_as_its_mean(mixture, sampler, antithetic, rng):
    x, n = torch.tensor([[0.3, 0.8]], dtype=F64), 4000
    estimator = MSD(0.316, sampler, steps={"ancestral": 64, "product": 200}[sampler], samples=2, antithetic=antithetic)
    grad = estimator(mixture, Batch(x.expand(n, 2)), at(0.5, n), rng).grad
    error = grad.mean(0) + mean_shift(mixture, x, 0.316**2)[0]
    bias = {"ancestral": 2e-3, "product": 2e-3}[sampler]  # of finitely many steps
    assert (error.abs() < 4 * grad.std(0) / n**0.5 + bias).all()


def test_antithetic_pairs_cut_the_variance(mixture, rng):
    """On a Gaussian y is linear in the noise and pairs cancel; on a mixture they still help."""

    def spread(prior, pairs):
        n, estimator = 4000, MSD(0.316, "ancestral", 8, 2, pairs)
        x = torch.tensor([[0.3, 0.8]], dtype=F64).expand(n, 2)
        return estimator(prior, Batch(x), at(0.5, n), rng).grad.std(0).mean()

    assert spread(mixture, True) < 0.8 * spread(mixture, False)
    single = gaussian(torch.zeros(2, dtype=F64), 0.5)
    assert spread(single, True) < 1e-12 < 0.01 < spread(single, False)


def test_product_denoiser_is_the_denoiser_of_the_product_mixture(mixture, rng):
    """p(y) N(x; y, s I) of a mixture is a mixture; its own denoiser, component by component."""
    x, s = torch.tensor([0.3, 0.8], dtype=F64), 0.1
    precision = torch.linalg.inv(mixture.axes @ torch.diag_embed(mixture.spread) @ mixture.axes.mT)
    eye = torch.eye(2, dtype=F64)
    covs = torch.linalg.inv(precision + eye / s)
    means = torch.einsum("kij,kj->ki", covs, torch.einsum("kij,kj->ki", precision, mixture.means) + x / s)
    evidence = GaussianMixture(mixture.means, torch.linalg.inv(precision) + s * eye, mixture.weights)
    resp = torch.stack([
        w.log() + torch.distributions.MultivariateNormal(m, c + s * eye).log_prob(x)
        for w, m, c in zip(mixture.weights, evidence.means, torch.linalg.inv(precision), strict=True)
    ]).softmax(0)  # fmt: skip
    product = GaussianMixture(means, (covs + covs.mT) / 2, resp)
    z, r = torch.randn(6, 2, generator=rng, dtype=F64), torch.logspace(-1.5, 1, 6, dtype=F64)
    ours = product_denoise(mixture, z, r, x.expand(6, 2), torch.full((6,), s**0.5, dtype=F64))
    assert (ours - product.denoise_at(z, r)).abs().max() < 1e-10


def test_collaborative_mean_shift_without_company_is_mean_shift(mixture, rng):
    x, t = torch.randn(6, 2, generator=rng, dtype=F64), at(0.3, 6)
    alone = MSD()(mixture, Batch(x), t, rng).grad
    assert torch.equal(CollaborativeMSD(beta=0.0)(mixture, Batch(x), t, rng).grad, alone)
    single = CollaborativeMSD()(mixture, Batch(x[:1]), t[:1], rng).grad
    assert (single - alone[:1]).abs().max() < 1e-12
    own = Empirical(x).denoise_at(x, mixture.schedule.ratio(t))
    assert (CollaborativeMSD(beta=1.0)(mixture, Batch(x), t, rng).grad - (own - x + alone)).abs().max() < 1e-10


def test_collaborative_mean_shift_vanishes_on_samples_and_keeps_their_spread(mixture, rng):
    """beta = 1 is a flow to q = p: exact samples stay, while mean shift alone collapses them."""
    x = mixture.sample(3000, rng)
    t = mixture.schedule.time_of(at(0.3, 3000))
    alone, together = (e(mixture, Batch(x), t, rng).grad for e in (MSD(), CollaborativeMSD(beta=1.0)))
    assert together.square().mean() < 0.03 * alone.square().mean()
    ends = {}
    for name, estimator in (("alone", MSD()), ("together", CollaborativeMSD())):
        y = ddim(mixture, torch.randn(400, 2, generator=rng, dtype=F64), 10)
        for h in torch.logspace(0, -1.5, 20, dtype=F64) * 0.35:
            y = y - estimator(mixture, Batch(y), mixture.schedule.time_of(h.expand(400)), rng).grad
        ends[name] = y.std(0).mean(), mixture.log_prob(y).mean()
    truth = mixture.sample(4000, rng)
    assert ends["alone"][1] > mixture.log_prob(truth).mean() + 0.5
    assert abs(ends["together"][1] - mixture.log_prob(truth).mean()) < 0.5
    assert abs(ends["together"][0] / truth.std(0).mean() - 1) < 0.1
    spacing = torch.cdist(y, y).fill_diagonal_(torch.inf).min(1).values
    assert spacing.median() > 0.01  # no two particles on the same spot


def test_bandwidth_as_the_paper_writes_it():
    assert MSD(lambda_=0.316).bandwidth == pytest.approx(0.2234457, rel=1e-6)
    with pytest.raises(ValueError, match="not both"):
        MSD(0.1, lambda_=0.1)


@pytest.mark.parametrize("sampler", ["mean", "product", "ancestral"])
def test_bandwidths_beyond_the_schedule_are_its_ends(mixture, sampler, rng):
    """At t = 1 of a flow alpha is 0 and the bandwidth infinite: the shift goes to the mean of everything."""
    mixture.schedule = Flow()
    x, t = torch.randn(3, 2, generator=rng, dtype=F64), at(1.0, 3)
    estimate = MSD(sampler=sampler, steps=4)(mixture, Batch(x), t, rng)
    assert estimate.grad.isfinite().all()
    if sampler == "mean":
        assert (x - estimate.grad - mixture.weights @ mixture.means).abs().max() < 1e-3
    mixture.schedule = VE(0.01, 3.0)
    assert MSD(100.0)(mixture, Batch(x), t, rng).info["bandwidth"] == pytest.approx(3.0)


def test_costs_are_counts(mixture, rng):
    x, t = torch.zeros(3, 2, dtype=F64), at(0.5, 3)
    for estimator, rows, calls in (
        (SDS(), 3, 1),
        (CSD(), 3, 1),
        (MSD(), 3, 1),
        (MSD(sampler="ancestral", steps=4), 12, 4),
        (MSD(sampler="product", steps=4, samples=2), 24, 4),
        (CollaborativeMSD(), 3, 1),
        (MSD(sampler="ancestral", steps=4, samples=6), 72, 4),
    ):
        prior = Counted(mixture)
        estimator(prior, Batch(x), t, rng)
        assert (prior.rows, prior.calls) == (rows, calls)


@pytest.mark.parametrize(
    "arguments", [{"sampler": "exact"}, {"bandwidth": 0.0}, {"steps": 0}, {"samples": 3, "antithetic": True}]
)
def test_impossible_msd_is_refused(arguments):
    with pytest.raises(ValueError, match=r"sampler|bandwidth|steps|antithetic"):
        MSD(**arguments)


class Given(Estimator):
    """An estimator that says what it is told."""

    def __init__(self, grad):
        self.grad = grad

    def __call__(self, prior, batch, t, rng=None):
        return Estimate(self.grad)


class TestStein:
    def grads(self, n, rng, d=3):
        return torch.randn(n, d, generator=rng, dtype=F64), torch.randn(n, d, generator=rng, dtype=F64)

    def couple(self, x, d, **options):
        return Stein(Given(d), **options)(UNUSED, Batch(x), at(0.5, len(x)), None).grad

    @pytest.mark.parametrize("normalize", ["row", "paper"])
    def test_one_particle_is_the_base(self, normalize, rng):
        x, d = self.grads(1, rng)
        assert torch.equal(self.couple(x, d, normalize=normalize), d)

    def test_two_and_equal_particles_are_finite(self, rng):
        for n in (2, 5):
            x = torch.ones(n, 3, dtype=F64)
            d = torch.randn(n, 3, generator=rng, dtype=F64)
            for normalize in ("row", "paper"):
                out = self.couple(x, d, normalize=normalize)
                assert (out - d.mean(0)).abs().max() < 1e-12

    def test_narrow_is_the_base_and_wide_is_the_mean(self, rng):
        x, d = self.grads(7, rng)
        assert (self.couple(x, d, kernel=RBF(1e-3)) - d).abs().max() < 1e-12
        wide = self.couple(x, d, kernel=RBF(1e6))
        assert (wide - d.mean(0)).abs().max() < 1e-7

    def test_same_particles_same_noise_same_update(self, mixture, rng):
        x = torch.full((4, 2), 0.3, dtype=F64)
        noise = [torch.Generator().manual_seed(3) for _ in range(4)]
        grad = CSD()(mixture, Batch(x), at(0.4, 4), noise).grad
        assert grad.isfinite().all()
        assert (grad - grad[0]).abs().max() < 1e-15

    @pytest.mark.parametrize("normalize", ["row", "paper"])
    def test_permutation_equivariance(self, normalize, rng):
        x, d = self.grads(6, rng)
        p = torch.randperm(6, generator=rng)
        permuted = self.couple(x[p], d[p], normalize=normalize)
        assert (permuted - self.couple(x, d, normalize=normalize)[p]).abs().max() < 1e-12

    def test_permutation_equivariance_of_a_kernel_that_is_not_symmetric(self, rng):
        x, d = self.grads(6, rng)
        kernel = lambda y: torch.exp(-(y[:, None] - 2 * y[None]).square().sum(-1))
        p = torch.randperm(6, generator=rng)
        assert (kernel(x) - kernel(x).T).abs().max() > 0.01
        out = self.couple(x, d, kernel=kernel)
        assert (self.couple(x[p], d[p], kernel=kernel) - out[p]).abs().max() < 1e-12
        expected = (kernel(x) @ d) / kernel(x).sum(1, keepdim=True)  # row i weighs what the others say for i
        assert (out - expected).abs().max() < 1e-12

    def test_repulsion_spreads(self):
        """Zero score, three particles: the kernel gradient alone pushes them apart."""
        x = torch.tensor([[-1.0], [0.2], [1.6]], dtype=F64)
        start = x.var()
        stein = Stein(Given(torch.zeros_like(x)), RBF("median"), repulsion=0.5)
        for _ in range(400):
            before, x = x.var(), x - 0.02 * stein(UNUSED, Batch(x), at(0.5, 3), None).grad
            assert x.var() > before
        assert x.var() > 2 * start

    @pytest.mark.parametrize("features", [None, lambda y: y, lambda y: y**2 + 0.3 * y], ids=["none", "same", "bent"])
    def test_kernel_gradient_is_the_derivative(self, features, rng):
        """sum_j grad_{x_j} k(x_j, x_i), pair by pair."""
        x = torch.randn(5, 4, generator=rng, dtype=F64)
        f = features or (lambda y: y)
        kernel, away = RBF(1.3, features=features).repulsion(x)
        assert (kernel - RBF(1.3, features=features)(x)).abs().max() < 1e-12
        for i in range(5):
            others = x.clone().requires_grad_()
            row = torch.exp(-(f(x)[i] - f(others)).square().sum(-1) / (2 * 1.3**2))
            expected = torch.autograd.grad(row.sum(), others)[0].sum(0)
            assert (away[i] - expected).abs().max() < 1e-12

    def test_coinciding_particles_do_not_repel(self):
        x = torch.randn(1, 64, generator=torch.Generator().manual_seed(0)).expand(32, 64)
        assert RBF().repulsion(x)[1].abs().max() == 0
        one_apart = torch.cat([x, x[:1] + 1])
        assert RBF().repulsion(one_apart)[1].isfinite().all()

    def test_median_rule(self, rng):
        """At the median distance K is 1 / (N + 1); the zero diagonal is not in the median."""
        x = torch.tensor([[0.0], [1.0], [3.0]], dtype=F64)  # distances 1, 2, 3
        kernel = RBF()(x)
        assert abs(kernel[1, 2] - 1 / 4) < 1e-12
        assert abs(RBF(scale=2.0)(x)[1, 2] - (1 / 4) ** 0.25) < 1e-12
        assert abs(RBF()(x[:2])[0, 1] - 1 / 3) < 1e-12

    def test_features_decide_who_is_near(self, rng):
        x, d = self.grads(4, rng)
        x[:2, 0], x[2:, 0] = 0.0, 100.0
        out = self.couple(x, d, kernel=RBF(1.0, features=lambda y: y[:, :1]))
        assert torch.allclose(out[0], d[:2].mean(0))
        assert torch.allclose(out[3], d[2:].mean(0))

    def test_scale_makes_updates_more_alike(self, rng):
        x, d = self.grads(8, rng)
        spread = [self.couple(x, d, kernel=RBF(scale=s)).std(0).mean() for s in (0.3, 1.0, 3.0)]
        assert spread[0] > spread[1] > spread[2]

    @pytest.mark.parametrize("arguments", [{"bandwidth": "mean"}, {"bandwidth": -1.0}, {"scale": 0.0}])
    def test_impossible_kernels_are_refused(self, arguments):
        with pytest.raises(ValueError, match=r"bandwidth|scale"):
            RBF(**arguments)

    def test_unknown_normalization_is_refused(self):
        with pytest.raises(ValueError, match="row, paper"):
            Stein(SDS(), normalize="column")
        with pytest.raises(ValueError, match="repulsion needs a kernel"):
            Stein(SDS(), kernel=lambda x: x @ x.T, normalize="paper")


def modes_covered(estimator, times, lr, seed=0, particles=32):
    """Start all particles in one mode of four, descend, and count: (modes reached, share of particles near a mode)."""
    means = torch.tensor([[2.0, 2.0], [2.0, -2.0], [-2.0, 2.0], [-2.0, -2.0]], dtype=F64)
    prior, rng = GaussianMixture(means, torch.full((4,), 0.05, dtype=F64)), torch.Generator().manual_seed(seed)
    x = means[0] + 0.2 * torch.randn(particles, 2, generator=rng, dtype=F64)
    for t in times:
        x = x - lr * estimator(prior, Batch(x), at(float(t), particles), rng).grad
    distance, nearest = torch.cdist(x, means).min(1)
    near = distance < 0.8
    return len(set(nearest[near].tolist())), near.double().mean().item()


@pytest.mark.parametrize("seed", [0, 1])
def test_repelled_particles_find_all_modes_and_single_ones_do_not(seed):
    random_times = 0.02 + 0.96 * torch.rand(300, generator=torch.Generator().manual_seed(seed))
    assert modes_covered(SDS("uniform"), random_times, 0.05, seed)[0] == 1
    annealed = torch.linspace(0.5, 0.02, 400)
    assert modes_covered(MSD(), annealed, 0.2, seed) == (1, 1.0)
    modes, near = modes_covered(Stein(MSD(), repulsion=0.1), annealed, 0.2, seed)
    assert modes == 4
    assert near > 0.8
