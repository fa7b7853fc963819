"""Kernels: closed forms, positive definiteness, gradients against derivatives, tails, features and edge cases."""

import math

import pytest
import torch

from scoredistill.estimators import Batch, Estimate, Estimator, Stein
from scoredistill.kernels import RBF, InverseMultiquadric, Kernel
from scoredistill.priors import GaussianMixture

F64 = torch.float64
UNUSED = GaussianMixture(torch.zeros(1, 1, dtype=F64), torch.ones(1, dtype=F64))
FORMULAS = {  # of |x - y|^2 and h
    RBF: lambda squared, h: torch.exp(-squared / (2 * h**2)),
    InverseMultiquadric: lambda squared, h: 1 / (1 + squared / h**2).sqrt(),
}
KERNELS = pytest.mark.parametrize("kind", FORMULAS, ids=lambda kind: kind.__name__)


class Given(Estimator):
    """An estimator that says what it is told."""

    def __init__(self, grad):
        self.grad = grad

    def __call__(self, prior, batch, t, rng=None):
        return Estimate(self.grad)


def bent(x):
    """Features of another shape than the particles'."""
    return torch.stack([x[:, 0] ** 2 + 0.3 * x[:, -1], x.prod(1).sin(), x.sum(1)], 1)[:, None]


def explicit(kind, x, h, features=lambda x: x):
    f = features(x).flatten(1)
    return FORMULAS[kind]((f[:, None] - f[None]).square().sum(-1), h)


@KERNELS
class TestEveryKernel:
    def test_closed_form(self, kind, rng):
        x = torch.randn(6, 2, 3, generator=rng, dtype=F64)
        assert (kind(1.7)(x) - explicit(kind, x, 1.7)).abs().max() < 1e-14
        assert (kind(1.7, scale=0.4)(x) - explicit(kind, x, 0.68)).abs().max() < 1e-14

    def test_median_rule(self, kind):
        """h = m / sqrt(2 log(N + 1)): distances 1, 2, 3 have the median 2 and h^2 = 4 / (2 log 4)."""
        x = torch.tensor([[0.0], [1.0], [3.0]], dtype=F64)
        h = 2 / math.sqrt(2 * math.log(4))
        assert (kind()(x) - explicit(kind, x, h)).abs().max() < 1e-14
        at_median = {RBF: 1 / 4, InverseMultiquadric: (1 + 2 * math.log(4)) ** -0.5}[kind]
        assert abs(kind()(x)[1, 2] - at_median) < 1e-14
        assert (kind(scale=2.0)(x) - explicit(kind, x, 2 * h)).abs().max() < 1e-14

    @pytest.mark.parametrize("n", [2, 9])
    def test_the_value_at_the_median_may_be_set(self, kind, n):
        kernel = kind(middle=0.6)(torch.eye(n, dtype=F64))
        assert (kernel[0, 1:] - 0.6).abs().max() < 1e-14
        assert kind(scale=2.0, middle=0.6)(torch.eye(n, dtype=F64))[0, 1] > 0.6
        for wrong in ({"middle": 1.0}, {"middle": 0.5, "bandwidth": 2.0}):
            with pytest.raises(ValueError, match="middle must lie in"):
                kind(**wrong)

    @pytest.mark.parametrize("bandwidth", ["median", 0.3, 5.0])
    def test_symmetric_and_positive_definite(self, kind, bandwidth, rng):
        x = torch.randn(40, 3, generator=rng, dtype=F64)
        kernel = kind(bandwidth)(x)
        assert torch.equal(kernel, kernel.T)
        assert (kernel.diagonal() == 1).all()
        assert torch.linalg.eigvalsh(kernel).min() > -1e-13

    @pytest.mark.parametrize("u", [0.0, 0.3, 2.0, 40.0])
    def test_slope_is_the_derivative_of_the_profile(self, kind, u):
        at = torch.tensor(u, dtype=F64, requires_grad=True)
        (derivative,) = torch.autograd.grad(kind().profile(at), at)
        assert abs(kind().slope(at) - derivative) < 1e-15
        assert kind().profile(torch.tensor(0.0)) == 1

    @pytest.mark.parametrize("features", [None, lambda x: x, bent], ids=["none", "identity", "bent"])
    def test_repulsion_is_the_derivative(self, kind, features, rng):
        """sum_j grad_{x_j} K_ij row by row by automatic differentiation, and by central differences."""
        x = torch.randn(5, 3, generator=rng, dtype=F64)
        f = features or (lambda x: x)
        kernel, away = kind(1.3, features=features).repulsion(x)
        assert (kernel - explicit(kind, x, 1.3, f)).abs().max() < 1e-13

        def row(i, others):
            g = (f(x)[i] - f(others)).flatten(1)
            return FORMULAS[kind](g.square().sum(-1), 1.3).sum()

        step = 1e-5
        for i in range(5):
            others = x.clone().requires_grad_()
            (expected,) = torch.autograd.grad(row(i, others), others)
            assert (away[i] - expected.sum(0)).abs().max() < 1e-9
            for d in range(3):  # a shift of all the others moves along the sum of their gradients
                shift = torch.zeros(3, dtype=F64)
                shift[d] = step
                difference = (row(i, x + shift) - row(i, x - shift)) / (2 * step)
                assert abs(away[i, d] - difference) < 1e-9

    def test_repulsion_at_the_median_holds_the_width_fixed(self, kind, rng):
        x = torch.randn(6, 4, generator=rng, dtype=F64)
        distances = torch.pdist(x)
        h = float(distances.median()) / math.sqrt(2 * math.log(7))
        for one, other in zip(kind().repulsion(x), kind(h).repulsion(x), strict=True):
            assert (one - other).abs().max() < 1e-12

    def test_features_that_are_the_identity_change_nothing(self, kind, rng):
        x = torch.randn(7, 2, 2, generator=rng, dtype=F64)
        same = kind(features=lambda x: x)
        assert torch.equal(kind()(x), same(x))
        for one, other in zip(kind().repulsion(x), same.repulsion(x), strict=True):
            assert (one - other).abs().max() < 1e-15

    def test_one_particle(self, kind, rng):
        x = torch.randn(1, 5, generator=rng, dtype=F64)
        kernel, away = kind().repulsion(x)
        assert kernel.tolist() == kind()(x).tolist() == [[1.0]]
        assert away.tolist() == [[0.0] * 5]
        assert torch.equal(kind().average(x), x)

    @pytest.mark.parametrize("features", [None, bent], ids=["none", "bent"])
    def test_duplicates_are_finite(self, kind, features, rng):
        x = torch.randn(1, 16, generator=rng).expand(9, 16)
        kernel, away = kind(features=features).repulsion(x)
        assert (kernel == 1).all()
        assert away.abs().max() == 0
        one_apart = torch.cat([x, x[:1] + 1])
        kernel, away = kind(features=features).repulsion(one_apart)
        assert kernel.isfinite().all()
        assert away.isfinite().all()

    def test_permutation_equivariance(self, kind, rng):
        x = torch.randn(6, 3, generator=rng, dtype=F64)
        p = torch.randperm(6, generator=rng)
        (kernel, away), (permuted, moved) = kind().repulsion(x), kind().repulsion(x[p])
        assert (permuted - kernel[p][:, p]).abs().max() < 1e-14
        assert (moved - away[p]).abs().max() < 1e-13
        assert (kind().average(x[p]) - kind().average(x)[p]).abs().max() < 1e-14

    def test_average_by_hand(self, kind, rng):
        x = torch.randn(6, 2, 2, generator=rng, dtype=F64)
        weights = explicit(kind, x, 0.8)
        expected = torch.einsum("ij,j...->i...", weights / weights.sum(1, keepdim=True), x)
        assert (kind(0.8).average(x) - expected).abs().max() < 1e-14

    def test_stein_takes_it(self, kind, rng):
        """grad_i = sum_j (K_ij d_j - gamma grad_{x_j} K_ij) / sum_j K_ij, by hand."""
        x, d = torch.randn(2, 5, 3, generator=rng, dtype=F64)
        h, gamma = 1.1, 0.5
        grad = Stein(Given(d), kind(h), repulsion=gamma)(UNUSED, Batch(x), torch.full((5,), 0.5, dtype=F64)).grad
        others = x.clone().requires_grad_()
        for i in range(5):
            row = FORMULAS[kind]((x[i] - others).square().sum(-1), h)
            (away,) = torch.autograd.grad(row.sum(), others)
            expected = ((row[:, None] * d - gamma * away).sum(0) / row.sum()).detach()
            assert (grad[i] - expected).abs().max() < 1e-13

    @pytest.mark.parametrize("arguments", [{"bandwidth": "mean"}, {"bandwidth": -1.0}, {"scale": 0.0}])
    def test_impossible_kernels_are_refused(self, kind, arguments):
        with pytest.raises(ValueError, match=r"bandwidth|scale"):
            kind(**arguments)


@pytest.mark.parametrize("n", [2, 8, 64])
def test_the_median_rule_gives_equidistant_others_nearly_half_of_the_weight(n):
    """K = 1 / (n + 1) off the diagonal, so the others' part of a row is (n - 1) / 2n: .44 for eight particles."""
    rows = RBF()(torch.eye(n, dtype=F64))
    others = 1 - rows.diagonal() / rows.sum(1)
    assert torch.allclose(others, torch.full((n,), (n - 1) / (2 * n), dtype=F64))


def test_repulsion_of_two_by_hand():
    """x = 0 and 3, h = 2. RBF: 3 / 4 exp(-9 / 8); inverse multiquadric: 3 / 4 (1 + 9 / 4)^(-3/2), pointing apart."""
    x = torch.tensor([[0.0], [3.0]], dtype=F64)
    for kind, size in ((RBF, 0.75 * math.exp(-9 / 8)), (InverseMultiquadric, 0.75 * 3.25**-1.5)):
        away = kind(2.0).repulsion(x)[1]
        assert away.flatten().tolist() == pytest.approx([-size, size], abs=1e-15)


def test_the_tail_is_heavy():
    x = torch.tensor([[0.0], [10.0]], dtype=F64)
    near, far = (InverseMultiquadric(h)(x)[0, 1].item() for h in (1.0, 0.1))
    assert near == pytest.approx(101**-0.5, abs=1e-15)
    assert near > 1e20 * RBF(1.0)(x)[0, 1]
    assert near / far == pytest.approx(10, rel=0.01)  # h / distance: a power, not an exponential


def test_rbf_average_is_the_score_of_the_particles_own_density(rng):
    """Tweedie: average(x) - x = h^2 grad log q_h at the particles, with q_h a Gaussian of width h at each of them."""
    x, h = torch.randn(8, 3, generator=rng, dtype=F64), 0.7
    y = x.clone().requires_grad_()
    log_q = torch.logsumexp(-(y[:, None] - x[None]).square().sum(-1) / (2 * h**2), 1)
    (score,) = torch.autograd.grad(log_q.sum(), y)
    assert (RBF(h).average(x) - x - h**2 * score).abs().max() < 1e-13


def test_rbf_on_scaled_particles_is_rbf_of_that_width(rng):
    x = torch.randn(8, 3, generator=rng, dtype=F64)
    assert (RBF(1.0)(x / 0.3) - RBF(0.3)(x)).abs().max() < 1e-14


def test_the_base_is_abstract():
    with pytest.raises(TypeError, match="abstract"):
        Kernel()
