"""Measurements: fixed points are modes of posteriors, in closed form for Gaussians; gradients, operators, mistakes."""

import pytest
import torch
from torch.nn import functional

from oracles import gaussian
from scoredistill import distill
from scoredistill.estimators import (
    MSD,
    SDS,
    AveragePool,
    Batch,
    Decoded,
    Estimate,
    Estimator,
    GaussianBlur,
    Mask,
    Observed,
    Stein,
    TrackedMSD,
    known_noise,
)
from scoredistill.generators import Latents
from scoredistill.priors import Counted, Empirical, GaussianMixture, Guided
from scoredistill.schedule import VE
from scoredistill.times import Bandwidth

F64 = torch.float64
MEAN = torch.tensor([1.0, -2.0, 0.5], dtype=F64)
ROOT = torch.tensor([[1.0, 0.0, 0.0], [0.6, 0.5, 0.0], [-0.3, 0.4, 0.8]], dtype=F64)
COV = ROOT @ ROOT.T
A = torch.tensor([[1.0, 0.5, 0.0], [0.0, 1.0, -1.0]], dtype=F64)
Y = torch.tensor([[0.3, 1.2]], dtype=F64)


class Still(Estimator):
    """The gradient 0."""

    def __call__(self, prior, batch, t, rng=None):
        return Estimate(torch.zeros_like(batch.x))


class Doubled(GaussianMixture):
    """A latent prior whose decoder is nonlinear."""

    def decode(self, x):
        return x.square()


def correlated():
    return GaussianMixture(MEAN[None], COV[None], schedule=VE(0.001, 100.0))


def linear(x):
    return x @ A.T


def posterior_mode(s, v):
    """The mode of N(x; m, C + s) N(y; A x, v)."""
    smoothed = torch.linalg.inv(COV + s * torch.eye(3, dtype=F64))
    return torch.linalg.solve(smoothed + A.T @ A / v, smoothed @ MEAN + A.T @ Y[0] / v)


def run(estimator, prior, n=1, steps=400, lr=0.2, times=None):
    points = Latents(n, (len(prior.means[0]),), rng=torch.Generator().manual_seed(0)).double()
    for _ in distill(points, prior, estimator, steps=steps, times=times or [0.5] * steps,
                     optimizer=lambda p: torch.optim.SGD(p, lr=lr), rng=torch.Generator().manual_seed(1)):  # fmt: skip
        pass
    return points.values.detach()


@pytest.mark.parametrize(("bandwidth", "weight"), [(0.5, 1.0), (1.5, 0.3), (0.3, 2.0)])
def test_the_fixed_point_of_mean_shift_is_the_mode_of_the_smoothed_posterior(bandwidth, weight):
    """Of p_s(x) N(y; A x, s / w), s the squared bandwidth."""
    mode, t = posterior_mode(bandwidth**2, bandwidth**2 / weight)[None], torch.full((1,), 0.5, dtype=F64)
    found = Observed(MSD(bandwidth), linear, Y, weight)(correlated(), Batch(mode), t)
    assert found.grad == pytest.approx(torch.zeros(1, 3, dtype=F64), abs=1e-9)


def test_steps_converge_to_the_fixed_point():
    found = run(Observed(MSD(1.5), linear, Y, 0.3), correlated(), steps=100, lr=1.0)[0]
    assert found == pytest.approx(posterior_mode(2.25, 7.5), abs=1e-6)


@pytest.mark.parametrize("h", [0.05, 0.7, 3.0])
def test_known_noise_is_that_noise_at_every_bandwidth(h):
    prior, mode = correlated(), posterior_mode(h**2, 0.25)[None]
    t = prior.schedule.time_of(torch.tensor([h], dtype=F64))
    found = Observed(MSD(), linear, Y, known_noise(0.5))(prior, Batch(mode), t)
    assert found.grad == pytest.approx(torch.zeros(1, 3, dtype=F64), abs=1e-9)


def conditioned(spread):
    """Particles of a run whose first coordinate is measured as 2, of a Gaussian with the correlation 0.8."""
    cov = torch.tensor([[[1.0, 0.8], [0.8, 1.0]]], dtype=F64)
    prior = GaussianMixture(torch.zeros(1, 2, dtype=F64), cov, schedule=VE(0.001, 100.0))
    estimator = Observed(TrackedMSD(spread), Mask(torch.tensor([[1.0, 0.0]])), torch.tensor([[2.0, 0.0]]))
    return run(estimator, prior, n=500, steps=60, lr=1.0, times=Bandwidth(prior.schedule, 30.0, 0.01))


@pytest.mark.parametrize("spread", [0.05, 0.5, 1.0])
def test_a_tracked_draw_meets_the_measurement_and_draws_the_rest_given_it(spread):
    """Given 2, the other coordinate is N(1.6, 0.6^2), against N(0, 1) alone; few steps leave a part of the way."""
    found = conditioned(spread)
    assert found[:, 0] == pytest.approx(torch.full((500,), 2.0), abs=1e-3)
    assert 1.1 < found[:, 1].mean() < 1.7
    assert found[:, 1].std() == pytest.approx(0.6, abs=0.1)


def test_what_does_not_depend_on_the_measurement_is_as_without_it():
    prior, mask = gaussian(torch.zeros(2, dtype=F64), 1.0, VE(0.001, 100.0)), torch.tensor([[1.0, 0.0]], dtype=F64)
    given = {"n": 5, "times": Bandwidth(prior.schedule, 30.0, 0.01), "steps": 10, "lr": 0.5}
    found = run(Observed(TrackedMSD(0.5), Mask(mask), 2 * mask), prior, **given)
    assert torch.equal(found[:, 1], run(TrackedMSD(0.5), prior, **given)[:, 1])


def test_draws_of_latents_are_measured_inside_decoded():
    prior, x = gaussian(torch.zeros(2, dtype=F64), 1.0), torch.zeros(1, 2, dtype=F64)
    batch, t = Batch(x), torch.full((1,), 0.5, dtype=F64)
    mask, y = Mask(torch.tensor([[1.0, 0.0]])), torch.tensor([[2.0, 0.0]])
    Decoded(Observed(TrackedMSD(), mask, y, decode=True))(prior, batch, t)
    with pytest.raises(ValueError, match="use Decoded\\(Observed"):
        Observed(Decoded(TrackedMSD()), mask, y)(prior, batch, t)


@pytest.mark.parametrize(
    "operator",
    [
        Mask(torch.arange(16.0, dtype=F64).reshape(1, 1, 4, 4) / 16),
        AveragePool(2),
        GaussianBlur(0.7),
        lambda x: x.square().flatten(1)[:, ::3],
    ],
    ids=["mask", "pooling", "blur", "a function"],
)
def test_the_gradient_is_that_of_the_least_squares_term(operator):
    """By central differences of w / 2 |A(x) - y|^2."""
    rng = torch.Generator().manual_seed(0)
    x = torch.randn(2, 1, 4, 4, generator=rng, dtype=F64)
    y = torch.randn(*operator(x).shape, generator=rng, dtype=F64)
    prior, t = gaussian(torch.zeros(1, dtype=F64), 1.0), torch.full((2,), 0.5, dtype=F64)
    with torch.no_grad():
        found = Observed(Still(), operator, y, 3.0)(prior, Batch(x), t)
    term = lambda z: 1.5 * (operator(z) - y).square().sum()
    for i in range(0, x.numel(), 5):
        step = functional.one_hot(torch.tensor(i), x.numel()).to(x).reshape(x.shape) * 1e-5
        assert float(found.grad.flatten()[i]) == pytest.approx(float(term(x + step) - term(x - step)) / 2e-5, rel=1e-6)
    assert found.info["misfit"] == pytest.approx(float((operator(x) - y).square().mean().sqrt()))


def test_latents_are_measured_through_the_decoder():
    """The decoder is z^2, so that w / 2 |z^2 - y|^2 has the gradient 2 w z (z^2 - y); one decoding is counted."""
    prior = Guided(Counted(Doubled(torch.zeros(1, 2), torch.ones(1))), 1.0)
    z, y = torch.tensor([[0.5, 2.0]]), torch.tensor([[1.0, 1.0]])
    found = Observed(Still(), lambda x: x, y, 0.5, decode=True)(prior, Batch(z), torch.tensor([0.5])).grad
    assert found == pytest.approx(z * (z**2 - y))
    assert prior.prior.counts()["decoded"] == 1


def test_a_weight_of_nothing_is_the_base_and_wrapped_measurements_add_up():
    prior, t = correlated(), torch.full((3,), 0.4)
    x = torch.randn(3, 3, dtype=F64, generator=torch.Generator().manual_seed(0))
    same = lambda: torch.Generator().manual_seed(5)
    base = SDS()(prior, Batch(x), t, same()).grad
    assert torch.equal(Observed(SDS(), linear, Y, 0.0)(prior, Batch(x), t, same()).grad, base)
    twice = Observed(Observed(SDS(), linear, Y, 0.25), linear, Y, 0.5)(prior, Batch(x), t, same()).grad
    once = Observed(SDS(), linear, Y, 0.75)(prior, Batch(x), t, same()).grad
    assert twice == pytest.approx(once)
    assert torch.isfinite(Stein(Observed(SDS(), linear, Y))(prior, Batch(x), t, same()).grad).all()
    kept = Observed(TrackedMSD(), linear, Y)
    kept(prior, Batch(x), t)
    assert set(kept.state_dict()) == {"clean", "noise"}


def test_a_blank_of_an_image_is_filled_as_its_neighbors_say():
    """The prior knows two images; the measured half decides between them. Images go through `Decoded`."""
    known = torch.stack([torch.zeros(1, 4, 4), torch.ones(1, 4, 4)]).double()
    prior, mask = Empirical(known, schedule=VE(0.001, 100.0)), torch.zeros(1, 1, 4, 4, dtype=F64)
    mask[..., :2] = 1
    images = Latents.of(torch.full((2, 1, 4, 4), 0.5, dtype=F64))
    halves = torch.stack([torch.zeros(1, 4, 4), torch.ones(1, 4, 4)]).double() * mask
    estimator = Observed(Decoded(MSD()), Mask(mask), halves)
    for _ in distill(images, prior, estimator, steps=20, times=Bandwidth(prior.schedule, 2.0, 0.05),
                     optimizer=lambda p: torch.optim.SGD(p, lr=0.5)):  # fmt: skip
        pass
    assert images.values.detach() == pytest.approx(known, abs=0.01)


def test_half_precision_stays_half_precision():
    x = torch.zeros(1, 1, 4, 4, dtype=torch.bfloat16)
    found = Observed(Still(), AveragePool(2), torch.ones(1, 1, 2, 2))(correlated(), Batch(x), torch.tensor([0.5])).grad
    assert found.dtype == torch.bfloat16
    assert (found == -0.25).all()


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Observed(MSD(), linear, Y, -1.0), "weight must be at least 0"),
        (lambda: Observed(MSD(), linear, Y, float("nan")), "weight must be at least 0"),
        (lambda: AveragePool(0), "factor must be at least 1"),
        (lambda: GaussianBlur(0.0), "must be positive"),
        (lambda: known_noise(-1.0), "must be positive"),
        (lambda: AveragePool(3)(torch.zeros(1, 1, 4, 6)), "whose sides it divides, not \\[1, 1, 4, 6\\]"),
        (lambda: seen(linear, Y[:, :1]), "the measurement is \\[1, 1\\], but that of the particles is \\[3, 2\\]"),
        (lambda: seen(linear, Y.expand(2, 2)), "give 1 row or one per particle"),
        (lambda: seen(lambda x: x.detach(), torch.zeros(1, 3)), "passes no gradient"),
        (lambda: seen(lambda x: x[:, 0] * 0 + 1, torch.zeros(1, 3)), "give 1 row or one per particle"),
    ],
)
def test_mistakes_are_said(make, said):
    with pytest.raises(ValueError, match=said):
        make()


def seen(operator, y):
    t = torch.full((3,), 0.5)
    return Observed(MSD(), operator, y)(correlated(), Batch(torch.zeros(3, 3, dtype=F64)), t)
