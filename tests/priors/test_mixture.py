"""Priors: conversions form a cycle, guidance is what it says, the oracles are exact."""

import pytest
import torch

from oracles import gaussian
from scoredistill.priors import Counted, Empirical, GaussianMixture, Guided, Prior
from scoredistill.priors.conditions import cat_conds, expand_cond
from scoredistill.priors.predictions import PREDICTIONS, from_prediction, to_prediction
from scoredistill.schedule import VE, VP, Flow, perturb

F64 = torch.float64


@pytest.mark.parametrize("schedule", [VP(), VE(), Flow()], ids=repr)
@pytest.mark.parametrize("kind", PREDICTIONS)
def test_predictions_form_a_cycle(kind, schedule, rng):
    x0, noise = torch.randn(2, 6, 3, generator=rng, dtype=F64)
    alpha, sigma = (c[:, None] for c in schedule(torch.linspace(0.1, 0.9, 6, dtype=F64)))
    out = to_prediction(kind, x0, noise, alpha, sigma)
    back = from_prediction(kind, out, alpha * x0 + sigma * noise, alpha, sigma)
    assert (back[0] - x0).abs().max() < 1e-10
    assert (back[1] - noise).abs().max() < 1e-10


@pytest.mark.parametrize("kind", PREDICTIONS)
def test_from_callable_equals_the_prior_it_wraps(kind, mixture, rng):
    def network(x_t, t, cond):
        alpha, sigma = (c[:, None] for c in mixture.schedule(t))
        return to_prediction(kind, mixture.denoise(x_t, t), mixture.eps(x_t, t), alpha, sigma)

    prior = Prior.from_callable(network, mixture.schedule, kind)
    x, t = torch.randn(9, 2, generator=rng, dtype=F64), torch.linspace(0.1, 0.9, 9, dtype=F64)
    assert (prior.eps(x, t) - mixture.eps(x, t)).abs().max() < 1e-10
    assert (prior.denoise(x, t) - mixture.denoise(x, t)).abs().max() < 1e-9


def test_unknown_prediction_is_refused():
    with pytest.raises(ValueError, match="eps, x0, v, flow, score"):
        Prior.from_callable(lambda x, t, c: x, VP(), "velocity")


@pytest.mark.parametrize("schedule", [VP(), VE(sigma_min=0.01, sigma_max=10.0), Flow()], ids=repr)
def test_mixture_score_is_the_gradient_of_its_log_density(mixture, schedule, rng):
    mixture.schedule = schedule
    x = torch.randn(20, 2, generator=rng, dtype=F64).requires_grad_()
    t = torch.linspace(0.05, 0.95, 20, dtype=F64)
    (gradient,) = torch.autograd.grad(mixture.log_prob(x, t).sum(), x)
    x = x.detach()
    assert (mixture.score(x, t) - gradient).abs().max() < 1e-9
    alpha, sigma = (c[:, None] for c in schedule(t))
    assert ((x - sigma * mixture.eps(x, t)) / alpha - mixture.denoise(x, t)).abs().max() < 1e-9


def test_mixture_density_integrates_to_one_and_samples_follow_it(mixture, rng):
    side = torch.linspace(-6, 6, 601, dtype=F64)
    grid = torch.cartesian_prod(side, side)
    assert abs(mixture.log_prob(grid).exp().sum() * (side[1] - side[0]) ** 2 - 1) < 1e-6
    samples = mixture.sample(20_000, rng)
    mean = mixture.weights @ mixture.means
    assert (samples.mean(0) - mean).abs().max() < 4 * samples.std(0).max() / 20_000**0.5
    in_class = mixture.sample(2000, rng, label=0)
    assert (
        mixture.log_prob(in_class, cond={"label": torch.tensor([0])}).mean()
        > mixture.log_prob(in_class, cond={"label": torch.tensor([1])}).mean()
    )


def test_isotropic_variances_equal_full_covariances(rng):
    means, v = torch.randn(4, 3, generator=rng, dtype=F64), torch.tensor([0.1, 0.5, 1.0, 2.0], dtype=F64)
    full = GaussianMixture(means, v[:, None, None] * torch.eye(3, dtype=F64))
    short = GaussianMixture(means, v)
    x, t = torch.randn(8, 3, generator=rng, dtype=F64), torch.linspace(0, 1, 8, dtype=F64)
    assert (full.denoise(x, t) - short.denoise(x, t)).abs().max() < 1e-12
    assert (full.log_prob(x) - short.log_prob(x)).abs().max() < 1e-12


def test_classes_of_a_mixture_add_up(mixture, rng):
    x, t = torch.randn(5, 2, generator=rng, dtype=F64), torch.full((5,), 0.4, dtype=F64)
    every = mixture.eps(x, t, {"label": torch.tensor([-1])})
    assert torch.equal(every, mixture.eps(x, t))
    alone = GaussianMixture(mixture.means[:2], _covs(mixture)[:2], mixture.weights[:2])
    assert (mixture.eps(x, t, {"label": torch.tensor([0])}) - alone.eps(x, t)).abs().max() < 1e-10


def _covs(mixture):
    return mixture.axes @ torch.diag_embed(mixture.spread) @ mixture.axes.mT


def test_empirical_is_the_mixture_of_vanishing_variance(rng):
    data = torch.randn(30, 2, generator=rng, dtype=F64)
    ideal, mixture = Empirical(data), GaussianMixture(data, torch.full((30,), 1e-12, dtype=F64))
    x, t = torch.randn(50, 2, generator=rng, dtype=F64), torch.linspace(0.05, 1, 50, dtype=F64)
    assert (ideal.denoise(x, t) - mixture.denoise(x, t)).abs().max() < 1e-8
    assert (ideal.eps(x, t) - mixture.eps(x, t)).abs().max() < 1e-6


def test_empirical_works_in_chunks_on_any_shape_and_by_class(rng, monkeypatch):
    data, labels = torch.randn(12, 3, 4, 4, generator=rng, dtype=F64), [0, 1] * 6
    prior = Empirical(data, labels)
    x, t = torch.randn(7, 3, 4, 4, generator=rng, dtype=F64), torch.linspace(0.2, 0.9, 7, dtype=F64)
    whole = prior.denoise(x, t)
    monkeypatch.setattr("scoredistill.priors.empirical.CHUNK", 24)
    assert (prior.denoise(x, t) - whole).abs().max() < 1e-14
    only = prior.denoise(x, t, {"label": torch.tensor([1])})
    assert (only - Empirical(data[1::2]).denoise(x, t)).abs().max() < 1e-12
    assert (prior.denoise(data, torch.zeros(12, dtype=F64)) - data).abs().max() < 1e-12
    with pytest.raises(ValueError, match="no classes"):
        Empirical(data).eps(x, t, {"label": torch.tensor([1])})


class TestGuidance:
    COND = {"label": torch.tensor([1])}

    def run(self, prior, rng, t=0.4):
        return prior.eps(torch.randn(6, 2, generator=rng, dtype=F64), torch.full((6,), t, dtype=F64), self.COND)

    def both(self, mixture, rng, t=0.4):
        x, t = torch.randn(6, 2, generator=rng, dtype=F64), torch.full((6,), t, dtype=F64)
        return mixture.eps(x, t), mixture.eps(x, t, self.COND)

    @pytest.mark.parametrize("scale", [0.0, 0.5, 1.0, 7.5])
    def test_formula(self, mixture, rng, scale):
        without, with_cond = self.both(mixture, rng.manual_seed(1))
        expected = without + scale * (with_cond - without)
        assert (self.run(Guided(mixture, scale), rng.manual_seed(1)) - expected).abs().max() < 1e-12

    def test_rows_and_calls(self, mixture, rng):
        for scale, rows in ((7.5, 12), (1.0, 6), (0.0, 6)):
            counted = Counted(mixture)
            self.run(Guided(counted, scale), rng)
            assert (counted.rows, counted.calls) == (rows, 1)

    def test_interval(self, mixture, rng):
        guided = Guided(mixture, 3.0, interval=(0.2, 0.6))
        inside, outside = (self.both(mixture, rng.manual_seed(1), t) for t in (0.4, 0.8))
        assert torch.equal(self.run(guided, rng.manual_seed(1), 0.8), outside[1])
        expected = inside[0] + 3 * (inside[1] - inside[0])
        assert (self.run(guided, rng.manual_seed(1), 0.4) - expected).abs().max() < 1e-12
        x, t = torch.randn(2, 2, generator=rng, dtype=F64), torch.tensor([0.4, 0.8], dtype=F64)
        mixed = guided.eps(x, t, self.COND)
        assert torch.allclose(mixed[1], mixture.eps(x, t, self.COND)[1])
        assert torch.allclose(mixed[0], Guided(mixture, 3.0).eps(x, t, self.COND)[0])

    def test_denoise_agrees_with_eps(self, mixture, rng):
        x, t = torch.randn(6, 2, generator=rng, dtype=F64), torch.full((6,), 0.4, dtype=F64)
        guided = Guided(mixture, 4.0)
        alpha, sigma = (c[:, None] for c in mixture.schedule(t))
        by_eps = (x - sigma * guided.eps(x, t, self.COND)) / alpha
        assert (guided.denoise(x, t, self.COND) - by_eps).abs().max() < 1e-10

    def test_negative_condition(self, mixture, rng):
        x, t = torch.randn(6, 2, generator=rng, dtype=F64), torch.full((6,), 0.4, dtype=F64)
        same = Guided(mixture, 9.0, uncond=self.COND).eps(x, t, self.COND)
        assert (same - mixture.eps(x, t, self.COND)).abs().max() < 1e-10

    def test_errors_are_clear(self, mixture):
        x, t = torch.zeros(2, 2, dtype=F64), torch.zeros(2, dtype=F64)
        with pytest.raises(ValueError, match="needs a condition"):
            Guided(mixture, 2.0).eps(x, t)
        with pytest.raises(ValueError, match="interval"):
            Guided(mixture, 2.0, interval=(0.7, 0.2))
        with pytest.raises(ValueError, match="give 1 or 2"):
            Guided(mixture, 2.0).eps(x, t, {"label": torch.zeros(3, dtype=torch.long)})
        with pytest.raises(NotImplementedError, match="uncond="):
            Guided(Prior.from_callable(lambda x, t, c: x, VP()), 2.0).eps(x, t, {"label": torch.zeros(2)})


def test_conditions_stack_and_expand():
    a, b = {"text": torch.zeros(1, 3)}, {"text": torch.ones(2, 3)}
    assert cat_conds(expand_cond(a, 2), b)["text"].sum(1).tolist() == [0, 0, 3, 3]
    with pytest.raises(ValueError, match="different entries"):
        cat_conds(a, {"image": torch.zeros(1)})


def test_denoise_at_is_the_denoiser_in_clean_coordinates(rng):
    mean, v, r = torch.tensor([0.3, -1.0], dtype=F64), 0.5, torch.tensor([0.1, 1.0, 5.0], dtype=F64)
    z = torch.randn(3, 2, generator=rng, dtype=F64)
    expected = mean + v / (v + r[:, None] ** 2) * (z - mean)
    for schedule in (VP(), VE(), Flow()):
        assert (gaussian(mean, v, schedule).denoise_at(z, r) - expected).abs().max() < 1e-10


def test_perturbed_samples_are_denoised_on_average(mixture, rng):
    """Tweedie: x minus its denoised value is uncorrelated with every function of x_t."""
    x = mixture.sample(40_000, rng)
    t = torch.full((40_000,), 0.3, dtype=F64)
    x_t = perturb(mixture.schedule, x, t, torch.randn(x.shape, generator=rng, dtype=F64))
    error = x - mixture.denoise(x_t, t)
    for test_function in (torch.ones_like(x_t), x_t, x_t.sin()):  # the error is uncorrelated with any function of x_t
        product = error * test_function
        assert (product.mean(0).abs() < 4.5 * product.std(0) / 200).all()


def test_mixture_samples_alike_by_gathering_and_by_component(rng, monkeypatch):
    """Many dimensions take another path through memory, not other samples."""
    roots = torch.randn(3, 6, 6, generator=rng, dtype=F64)
    wide = GaussianMixture(torch.randn(3, 6, generator=rng, dtype=F64), roots @ roots.mT)
    gathered = wide.sample(50, torch.Generator().manual_seed(1))
    monkeypatch.setattr("scoredistill.priors.mixture.GATHER", 0)
    assert (wide.sample(50, torch.Generator().manual_seed(1)) - gathered).abs().max() < 1e-12
