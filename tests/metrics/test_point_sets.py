"""Metrics of point sets and gradients against closed forms, brute force, and each other."""

import math

import pytest
import torch

from oracles import gaussian
from scoredistill import metrics
from scoredistill.estimators import MSD, SDS, Batch
from scoredistill.metrics import point_sets

F64 = {"dtype": torch.float64}


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), **F64)


def line(*values):
    return torch.tensor(values, **F64)[:, None]


def balanced(mean, spread):
    """Draws with exactly this mean and variance: mean +- spread sqrt(p) along each of the p axes, [2 p, *mean]."""
    axes = spread * math.sqrt(mean.numel()) * torch.eye(mean.numel(), **F64).reshape(-1, *mean.shape)
    return torch.cat([mean + axes, mean - axes])


# ---- density


def test_nll_of_own_samples_is_the_entropy(rng):
    """A Gaussian of variance v in the plane: mean log(2 pi e v), and the median where |x|^2 / 2 v = log 2."""
    v, n = 0.3, 20000
    prior = gaussian(torch.zeros(2, **F64), v)
    found = metrics.nll(prior.sample(n, rng), prior)
    assert found.mean == pytest.approx(math.log(2 * math.pi * math.e * v), abs=4 / math.sqrt(n))
    assert found.median == pytest.approx(math.log(2 * math.pi * v) + math.log(2), abs=4 / math.sqrt(n))


def test_nll_by_hand_in_parts_and_of_a_class(mixture, monkeypatch):
    x, label = normal(7, 2), torch.tensor([0, 1, 0, 1, 1, 0, -1])
    values = sorted((-mixture.log_prob(x, cond={"label": label})).tolist())
    monkeypatch.setattr(point_sets, "ROWS", 2)
    found = metrics.nll(x, mixture, {"label": label})
    assert (found.mean, found.median) == pytest.approx((sum(values) / 7, values[3]), rel=1e-14)
    one_class = metrics.nll(x, mixture, {"label": label[:1]})  # knows less of the plane
    assert one_class.mean > metrics.nll(x, mixture).mean
    assert metrics.nll(x[:2], mixture).median == pytest.approx(metrics.nll(x[:2], mixture).mean)


def test_nll_survives_what_diverged():
    prior = gaussian(torch.zeros(2, **F64), 1.0)
    lost = torch.tensor([[1e200, 0], [torch.inf, -torch.inf], [torch.nan, 0]], **F64)
    near = torch.zeros(4, 2, **F64)
    found = metrics.nll(torch.cat([lost, near]), prior)
    assert (found.mean, found.median) == (math.inf, pytest.approx(math.log(2 * math.pi)))
    assert metrics.nll(lost, prior) == metrics.Nll(math.inf, math.inf)
    with pytest.raises(ValueError, match="at least one"):
        metrics.nll(near[:0], prior)


# ---- precision and recall


def test_precision_and_recall_by_brute_force():
    x, y, k = normal(40, 3), normal(50, 3, seed=1) + 1.0, 3

    def inside(points, support):
        radius = [sorted(math.dist(a, b) for b in support)[k] for a in support]
        balls = list(zip(support, radius, strict=True))
        return sum(any(math.dist(p, a) <= r for a, r in balls) for p in points) / len(points)

    a, b = x.tolist(), y.tolist()
    expected = (inside(a, b), inside(b, a))
    assert min(expected) > 0
    assert max(expected) < 1
    assert metrics.precision_recall(x, y, k) == pytest.approx(expected, abs=1e-15)
    assert metrics.precision_recall(y, x, k) == pytest.approx(expected[::-1], abs=1e-15)


def test_one_distribution_on_a_line_has_three_quarters():
    """k = 1: of a gap of mean length 1, min(gap, r + r') is covered, E = 1/2 + 1/4."""
    n = 4000
    x, y = (torch.rand(n, 1, generator=torch.Generator().manual_seed(s), **F64) for s in (0, 1))
    assert metrics.precision_recall(x, y, k=1) == pytest.approx((0.75, 0.75), abs=4 * 0.8 / math.sqrt(n))


def test_the_border_belongs_to_the_support():
    """Balls of radius 1 around 0, 1, 2, 3 reach from -1 to 4 (k = 1); of radius 2 or 1 for k = 2: from -2 to 5."""
    truth, probe = line(0, 1, 2, 3), line(-2, -1.0001, -1, 1.5, 4, 4.5)
    assert metrics.precision_recall(probe, truth, k=1)[0] == 3 / 6
    assert metrics.precision_recall(probe, truth, k=2)[0] == 1.0


def test_collapsed_samples():
    """Balls of radius 0: recall is what of the truth stands at that very point."""
    truth = torch.cat([torch.zeros(2, 2, **F64), normal(6, 2)])
    assert metrics.precision_recall(torch.zeros(9, 2, **F64), truth) == (1.0, 2 / 8)
    assert metrics.precision_recall(torch.full((9, 2), 1e-6, **F64), truth) == (1.0, 0.0)
    assert metrics.precision_recall(torch.full((9, 2), 50.0, **F64), truth) == (0.0, 0.0)
    assert metrics.precision_recall(truth, truth) == (1.0, 1.0)


def test_sets_have_no_order_and_blocks_leave_no_trace(monkeypatch):
    x, y = normal(60, 2), normal(70, 2, seed=1)
    measure = lambda a, b: (
        metrics.precision_recall(a, b),
        metrics.mode_coverage(a, b, 0.2),
        round(metrics.mmd(a, b, 0.5), 13),
    )
    whole = measure(x, y)
    shuffled = [z[torch.randperm(len(z), generator=torch.Generator().manual_seed(3))] for z in (x, y)]
    assert measure(*shuffled) == whole
    assert measure(x.flip(1), y.flip(1)) == whole
    largest, cdist = [], torch.cdist
    monkeypatch.setattr(torch, "cdist", lambda *a, **k: largest.append(cdist(*a, **k).numel()) or cdist(*a, **k))
    monkeypatch.setattr(point_sets, "CHUNK", 200)
    assert measure(x, y) == whole
    assert max(largest) <= 200
    monkeypatch.setattr(point_sets, "CHUNK", 1)
    assert measure(x, y) == whole


def test_distances_far_from_the_origin_lose_nothing():
    """Coordinates on a grid of 1/1024, moved by 2^24: every difference is exact, an expanded square would not be."""
    x, y = (normal(40, 2, seed=s).mul(1024).round().div(1024) for s in (0, 1))
    measure = lambda a, b: (metrics.precision_recall(a, b), metrics.mode_coverage(a, b, 0.25), metrics.mmd(a, b, 0.5))
    assert measure(x + 2**24, y + 2**24) == measure(x, y)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_points_of_any_dtype(dtype):
    x, y = normal(50, 2).to(dtype), normal(60, 2, seed=1).to(dtype)
    assert metrics.precision_recall(x, y) == metrics.precision_recall(x.double(), y.double())
    assert metrics.mmd(x, y, 0.5) == metrics.mmd(x.double(), y.double(), 0.5)
    assert metrics.mode_coverage(x, y, 0.2) == metrics.mode_coverage(x.double(), y.double(), 0.2)


# ---- maximum mean discrepancy


def test_mmd_by_brute_force():
    x, y, h = normal(9, 2), normal(7, 2, seed=1) + 0.5, 0.7
    kernel = lambda a, b: math.exp(-(math.dist(a, b) ** 2) / (2 * h**2))
    a, b = x.tolist(), y.tolist()
    own = [sum(kernel(p, q) for p in s for q in s if p is not q) / len(s) / (len(s) - 1) for s in (a, b)]
    cross = sum(kernel(p, q) for p in a for q in b) / 63
    assert metrics.mmd(x, y, h) == pytest.approx(sum(own) - 2 * cross, abs=1e-14)
    assert metrics.mmd(y, x, h) == pytest.approx(metrics.mmd(x, y, h), abs=1e-14)


@pytest.mark.parametrize(("shift", "spread"), [(0.0, 1.0), (0.8, 0.6)])
def test_mmd_of_gaussians_has_its_closed_form(shift, spread):
    """E k(x, y) = (h^2 / s)^(d/2) exp(-|shift|^2 / 2 s), s = h^2 + both variances; on average, even of ten samples."""
    h, d, n, repeats = 0.5, 2, 10, 2000
    expected = lambda u, v, m: (h**2 / (h**2 + u + v)) ** (d / 2) * math.exp(-d * m**2 / 2 / (h**2 + u + v))
    truth = expected(1, 1, 0) + expected(spread**2, spread**2, 0) - 2 * expected(1, spread**2, shift)
    x, y = normal(repeats, n, d), shift + spread * normal(repeats, n, d, seed=1)
    found = torch.tensor([metrics.mmd(a, b, h) for a, b in zip(x, y, strict=True)], **F64)
    assert found.mean().item() == pytest.approx(truth, abs=4 * found.std().item() / math.sqrt(repeats))
    assert found.std() / math.sqrt(repeats) < 0.1 / n  # so the bias of the usual average, about 2 / n, would show


# ---- modes


def test_mode_coverage_by_hand():
    modes = torch.tensor([[0, 0], [1, 0], [0, 1], [5, 5]], **F64)
    x = torch.tensor([[0, 0.25], [0.25, 0], [1, -0.25], [3, 3], [0.5, 0.5]], **F64)
    assert metrics.mode_coverage(x, modes, 0.25) == metrics.ModeCoverage(modes=2 / 4, near=3 / 5)
    assert metrics.mode_coverage(x, modes, 0.2) == metrics.ModeCoverage(0.0, 0.0)
    assert metrics.mode_coverage(x, modes, 3.0) == metrics.ModeCoverage(1.0, 1.0)
    assert metrics.mode_coverage(modes, modes, 1e-9) == metrics.ModeCoverage(1.0, 1.0)


# ---- gradients: target m, estimator of mean a (m + e) with e across m, variance s^2 p, 2 p balanced draws


@pytest.fixture
def case():
    m, e = normal(3, 2), normal(3, 2, seed=1)
    e -= (e * m).sum() / m.square().sum() * m
    a, s, p = 1.7, 0.4, 6
    size = lambda v: v.square().sum().item()
    return balanced(a * (m + e), s), m, e, a, s**2 * p, 2 * p, size


def test_efficiency_about_the_own_mean(case):
    grads, m, e, a, variance, n, size = case
    unbiased = variance * n / (n - 1)
    own = (size(a * (m + e)) - unbiased / n) / unbiased
    assert metrics.efficiency(grads, 8) == pytest.approx(math.log(own / 8), abs=1e-12)
    assert metrics.efficiency(5 * grads, 8) == pytest.approx(math.log(own / 8), abs=1e-12)


def test_efficiency_against_the_true_gradient(case):
    grads, m, e, a, variance, _, size = case
    plain = size(m) / (size(a * (m + e) - m) + variance)
    calibrated = size(m) / (size(e) + variance / a**2)
    cosine2 = size(m) / (size(m + e) + variance / a**2)
    assert metrics.efficiency(grads, 2.0, m, scale=False) == pytest.approx(math.log(plain / 2), abs=1e-12)
    assert metrics.efficiency(grads, 2.0, m) == pytest.approx(math.log(calibrated / 2), abs=1e-12)
    assert metrics.efficiency(grads, 2.0, m) == pytest.approx(math.log(cosine2 / (1 - cosine2) / 2), abs=1e-12)
    assert metrics.efficiency(grads, 2.0, m, scale="shrink") == pytest.approx(-math.log((1 - cosine2) * 2), abs=1e-12)
    for scale in (True, "shrink"):  # the estimator's units do not matter
        assert metrics.efficiency(9 * grads, 1, m, scale) == pytest.approx(
            metrics.efficiency(grads, 1, m, scale), abs=1e-12
        )


def test_without_bias_both_definitions_agree_and_averaging_pays_for_itself():
    """A signal well below the noise: |m|^2 = .08 against a variance of 8."""
    n, m = 40000, 0.1 * torch.ones(4, 2, **F64)
    grads = m + normal(n, 4, 2)
    mean_of_five = grads.reshape(n // 5, 5, 4, 2).mean(1)
    ratio, four_errors = 0.08 / 8, 4 * 2 / math.sqrt(0.08 * n)  # of <mean g, m>^2, relative
    for found in (
        metrics.efficiency(grads, 1),
        metrics.efficiency(grads, 1, m),
        metrics.efficiency(mean_of_five, 5, m),
    ):
        assert found == pytest.approx(math.log(ratio), abs=four_errors)
    assert metrics.efficiency(mean_of_five, 5, m) == pytest.approx(metrics.efficiency(grads, 1, m), abs=0.01)
    # the shrunken step hides the noise, and averaging looks like a waste
    assert metrics.efficiency(grads, 1, m, scale="shrink") == pytest.approx(math.log1p(ratio), abs=0.003)
    assert metrics.efficiency(mean_of_five, 5, m, scale="shrink") == pytest.approx(
        math.log1p(5 * ratio) - math.log(5), abs=0.015
    )


def test_exact_useless_and_wrong_gradients():
    m = normal(5, 2)
    exact = m.expand(3, 5, 2)
    assert (
        metrics.efficiency(exact, 4)
        == metrics.efficiency(exact, 4, m)
        == metrics.efficiency(3.3 * exact, 4, m)
        == math.inf
    )
    assert metrics.efficiency(exact.float(), 4, m) == math.inf  # rounding is not an error
    assert metrics.efficiency(exact * (1 + 1e-6), 4, m, scale=False) == pytest.approx(
        12 * math.log(10) - math.log(4), abs=1e-6
    )
    assert metrics.efficiency(-exact, 4, m) == -math.inf
    assert metrics.efficiency(-exact, 4, m, scale="shrink") == pytest.approx(-math.log(4))  # standing still
    assert metrics.efficiency(-exact, 4, m, scale=False) == pytest.approx(-math.log(16))
    assert metrics.efficiency(0 * exact, 4) == metrics.efficiency(0 * exact, 4, m) == -math.inf
    assert metrics.efficiency(torch.cat([exact, -exact]), 1) == -math.inf


def test_bias_of_balanced_draws(case):
    grads, m, e, a, variance, n, size = case
    wrong = size(a * (m + e) - m) - variance / (n - 1)
    assert metrics.squared_bias(grads, m)[0] == pytest.approx(wrong / size(m), abs=1e-12)
    assert metrics.bias(grads, m) == pytest.approx(math.sqrt(wrong / size(m)), abs=1e-12)
    assert metrics.bias(grads[:2] * 0 + 3 * m, m) == pytest.approx(2.0, abs=1e-12)
    assert metrics.bias(m.expand(2, 3, 2), m) == metrics.bias(m.expand(2, 3, 2).float(), m.float()) == 0.0
    across = size(e) - variance / a**2 * 5 / 6 / (n - 1)  # five of the six axes are across m
    assert metrics.bias(grads, m, scale=True) == pytest.approx(math.sqrt(across / size(m)), abs=1e-12)
    assert metrics.bias(-grads, m, scale=True) == math.inf


@pytest.mark.parametrize("off", [0.0, 0.3])
def test_noise_is_no_bias_and_the_error_is_known(off):
    """200 experiments of 30 noisy draws: right on average, though |mean - m|^2 itself has 16 / 30 of noise."""
    m = torch.ones(8, 2, **F64)
    found = torch.tensor([metrics.squared_bias(m + off + normal(30, 8, 2, seed=s), m) for s in range(200)], **F64)
    values, errors = found.T
    assert values.mean().item() == pytest.approx(off**2, abs=4 * values.std().item() / math.sqrt(200))
    assert values.std() / math.sqrt(200) < 0.2 / 30
    jackknife = math.sqrt(2) if off == 0 else 1.0
    assert (errors.mean() / values.std()).item() == pytest.approx(jackknife, abs=0.25)


def test_estimators_of_a_mean_shift(mixture, rng):
    """Without noise or bias `mean` is infinite; a draw of SDS is a worse direction than its small steps let it seem."""
    x, h = mixture.sample(20, rng), torch.full((20,), 0.2, **F64)
    truth = x - mixture.denoise_at(x, h)

    def draw(estimator, n):
        return torch.stack([estimator(mixture, Batch(x), mixture.schedule.time_of(h), rng).grad for _ in range(n)])

    assert metrics.efficiency(draw(MSD(), 2), 1, truth, scale=False) == math.inf
    sds, ancestral = draw(SDS(), 200), draw(MSD(sampler="ancestral", steps=4), 200)
    assert metrics.efficiency(sds, 1, truth) < -0.5
    assert metrics.efficiency(sds, 1, truth, scale="shrink") > 0
    assert metrics.bias(sds, truth) > 0.5  # its weight sigma^2 alone is off by that much
    assert metrics.bias(sds, truth, scale=True) < 0.4
    assert metrics.bias(ancestral, truth) < 0.15


# ---- errors


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda x: metrics.precision_recall(x[:3], x), "samples has 3 points: give at least 4"),
        (lambda x: metrics.precision_recall(x, x[:3]), "truth has 3 points"),
        (lambda x: metrics.precision_recall(x, x, k=0), "k must"),
        (lambda x: metrics.precision_recall(x, x.log()), "truth has . points that are not finite"),
        (lambda x: metrics.mmd(x[:1], x, 1.0), "samples has 1 points"),
        (lambda x: metrics.mmd(x, x, 0.0), "bandwidth"),
        (lambda x: metrics.mode_coverage(x, x[:0], 1.0), "modes has 0 points"),
        (lambda x: metrics.mode_coverage(x, x, -1.0), "radius"),
        (lambda x: metrics.efficiency(x[:1, None], 1), "1 draws"),
        (lambda x: metrics.efficiency(x[:, None], 0), "cost"),
        (lambda x: metrics.efficiency(x[:, None], 1, x[:1], scale="most"), "scale"),
        (lambda x: metrics.efficiency(x[:, None].log(), 1), "grads have values that are not finite"),
        (lambda x: metrics.efficiency(x[:, None], 1, 0 * x[:1]), "target is zero"),
        (lambda x: metrics.bias(x[:1, None], x[:1]), "1 draws"),
        (lambda x: metrics.bias(x[:, None], x[:1] / 0), "target has values that are not finite"),
    ],
)
def test_wrong_input_is_refused(call, says):
    with pytest.raises(ValueError, match=says):
        call(normal(9, 2))
