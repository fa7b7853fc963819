"""Coupled priors: closed forms on mixtures and Gaussians, as a sampler and as a gradient."""

from itertools import pairwise

import pytest
import torch

from oracles import gaussian
from scoredistill.estimators import SDS, Batch
from scoredistill.priors import Counted, Coupled, GaussianMixture, Guided, Prior
from scoredistill.sampling import ddim
from scoredistill.schedule import VE, VP, Flow

F64 = torch.float64


def mixture(seed=0, schedule=None):
    rng = torch.Generator().manual_seed(seed)
    means = torch.randn(4, 2, generator=rng, dtype=F64)
    return GaussianMixture(means, torch.rand(4, generator=rng, dtype=F64) * 0.1 + 0.05, schedule=schedule or VP(),
                           labels=[0, 0, 1, 1])  # fmt: skip


def noise(n=6, seed=5):
    return torch.randn(2, n, 2, generator=torch.Generator().manual_seed(seed), dtype=F64)


def at(t, n=6):
    return torch.full((n,), t, dtype=F64)


def test_without_coupling_samples_are_independent():
    a, b = mixture(0), mixture(1)
    pair, (x, y) = Coupled(a, b, 0.0), noise()
    both = ddim(pair, pair.pair(x, y), 8)
    assert (both[:, 0] - ddim(a, x, 8)).abs().max() < 1e-12
    assert (both[:, 1] - ddim(b, y, 8)).abs().max() < 1e-12


@pytest.mark.parametrize("strength", [0.1, 0.5])
def test_equal_priors_with_equal_noise_are_one(strength):
    a, (x, _) = mixture(), noise()
    both = ddim(Coupled(a, mixture(), strength), Coupled.pair(x, x), 8)
    assert (both[:, 0] - both[:, 1]).abs().max() == 0
    assert (both[:, 0] - ddim(a, x, 8)).abs().max() < 1e-12


def test_the_strongest_coupling_agrees_and_more_coupling_agrees_more():
    a, b = mixture(0), mixture(1)
    apart = []
    for strength in (0.0, 0.1, 0.25, 0.5):
        made = ddim(Coupled(a, b, strength), Coupled.pair(*noise()), 20)
        apart.append(float((made[:, 0] - made[:, 1]).norm()))
    assert apart == sorted(apart, reverse=True)
    assert apart[-1] < 1e-12
    assert apart[1] > 0.1 * apart[0]


def test_the_strongest_coupling_is_sampling_with_the_mean_prediction():
    """From one noise, both go through the mean of the two denoisers."""
    a, b, (x, _) = mixture(0), mixture(1), noise()
    mean = Prior.from_callable(lambda z, t, cond: (a.denoise(z, t) + b.denoise(z, t)) / 2, VP(), "x0")
    both = ddim(Coupled(a, b, 0.5), Coupled.pair(x, x), 8)
    assert (both[:, 0] - ddim(mean, x, 8)).abs().max() < 1e-9


@pytest.mark.parametrize("schedule", [VP(), VE(0.02, 5.0), Flow()])
@pytest.mark.parametrize("other", [None, VE(0.01, 50.0)])
def test_both_predictions_are_those_of_the_formula(schedule, other):
    """Also where the second prior has another schedule; noise and clean samples belong together."""
    a, b = mixture(0, schedule), mixture(1, other or schedule)
    seen = mixture(1, schedule)  # the same distribution
    pair, x = Coupled(a, b, 0.2), Coupled.pair(*noise())
    t = at(0.4)
    d_a, d_b = a.denoise(x[:, 0], t), seen.denoise(x[:, 1], t)
    clean = torch.stack([0.8 * d_a + 0.2 * d_b, 0.8 * d_b + 0.2 * d_a], 1)
    assert (pair.denoise(x, t) - clean).abs().max() < 1e-9
    alpha, sigma = schedule(torch.tensor(0.4, dtype=F64))
    assert (pair.eps(x, t) - (x - alpha * clean) / sigma).abs().max() < 1e-9


def test_each_gaussian_is_drawn_toward_the_other():
    """Two Gaussians of one variance: in the limit of many steps, means are drawn together by a known amount.

    In clean coordinates d z = (z - D') dr / r. The difference of the pair, with D = m + k (z - m), k = v / (v + r^2),
    obeys d e = [e - (1 - 2 c)(k e + (1 - k) m)] dr / r with m the difference of the means: checked by a fine solution.
    """
    v, m, c, steps = 0.3, 2.0, 0.2, 400
    schedule = VE(0.01, 20.0)
    a, b = (gaussian(torch.tensor([s * m / 2], dtype=F64), v, schedule) for s in (1, -1))
    start = torch.zeros(1, 2, 1, dtype=F64)
    made = ddim(Coupled(a, b, c), start, steps)
    e, levels = 0.0, schedule(torch.linspace(1, 0, steps + 1, dtype=F64))[1].tolist()
    for r, to in pairwise(levels):
        k = v / (v + r**2)
        clean = (1 - 2 * c) * (m + k * (e - m))
        e = clean + to / r * (e - clean)
    assert float(made[0, 0, 0] - made[0, 1, 0]) == pytest.approx(e, rel=1e-9)
    assert 0 < e < m
    assert float(made.sum()) == pytest.approx(0, abs=1e-12)


def test_conditions_and_guidance_reach_both():
    a, b, label = mixture(0), mixture(1), torch.tensor([1])
    x, t = Coupled.pair(*noise()), at(0.5)
    cond = Coupled.cond({"label": label}, {"label": 0 * label})
    outside = Guided(Coupled(a, b, 0.2), 3.0).denoise(x, t, cond)
    inside = Coupled(Guided(a, 3.0), Guided(b, 3.0), 0.2).denoise(x, t, cond)
    assert (outside - inside).abs().max() < 1e-10
    plain = Coupled(a, b, 0.0).denoise(x, t, cond)
    assert (plain[:, 0] - a.denoise(x[:, 0], t, {"label": label})).abs().max() < 1e-12
    assert (plain[:, 1] - b.denoise(x[:, 1], t, {"label": 0 * label})).abs().max() < 1e-12
    assert Coupled.cond(None, None) is None
    alone = Coupled.cond({"label": label}, None)
    assert (Coupled(a, b, 0.0).denoise(x, t, alone)[:, 1] - b.denoise(x[:, 1], t)).abs().max() < 1e-12


def test_an_estimator_has_a_gradient_on_the_pair():
    """Without coupling that of each; with coupling it also pulls the two together, by c alpha (x_a - x_b) / sigma."""
    a, b = gaussian(torch.zeros(2, dtype=F64), 0.5), gaussian(torch.ones(2, dtype=F64), 0.5)
    x, t = Coupled.pair(*noise()), at(0.4)
    rng = lambda: torch.Generator().manual_seed(0)
    free = SDS("uniform")(Coupled(a, b, 0.0), Batch(x), t, rng()).grad
    bound = SDS("uniform")(Coupled(a, b, 0.1), Batch(x), t, rng()).grad
    n = torch.randn(x.shape, generator=rng(), dtype=F64)
    alpha, sigma = VP()(torch.tensor(0.4, dtype=F64))
    x_t = alpha * x + sigma * n
    assert (free[:, 1] - (b.eps(x_t[:, 1], t) - n[:, 1])).abs().max() < 1e-12
    pull = 0.1 * alpha / sigma * (a.denoise(x_t[:, 0], t) - b.denoise(x_t[:, 1], t))
    assert (bound - free - torch.stack([pull, -pull], 1)).abs().max() < 1e-12


def test_one_evaluation_of_each_prior_and_images_of_the_first():
    a, b = Counted(mixture(0)), Counted(mixture(1))
    pair, x = Coupled(a, b), Coupled.pair(*noise())
    pair.eps(x, at(0.3))
    pair.denoise(x, at(0.3))
    assert (a.rows, b.rows) == (12, 12)
    images = torch.rand(2, 3, 4, 4, requires_grad=True)
    pair.encode_image(images).sum().backward()
    assert bool((images.grad == 2).all())  # the gradients of both, added
    assert pair.encode_image(images).shape == (2, 2, 3, 4, 4)
    assert torch.equal(pair.decode(pair.encode_image(images)), images)
    assert repr(pair).startswith("Coupled(prior_a=Counted(prior=GaussianMixture(components=4")


@pytest.mark.parametrize("strength", [-0.1, 0.6, float("nan")])
def test_other_strengths_are_refused(strength):
    with pytest.raises(ValueError, match=r"strength must be from 0 \(independent samples\) to 0\.5"):
        Coupled(mixture(), mixture(), strength)


@pytest.mark.parametrize(("one", "other"), [(Flow(), VP()), (VP(), Flow()), (Flow(), VE())])
def test_all_schedules_are_sampled_from_their_first_time(one, other):
    """Also where alpha is 0: equal Gaussians keep their mean."""
    means, variances = torch.full((1, 2), 0.5, dtype=torch.float64), torch.full((1,), 0.01, dtype=torch.float64)
    pair = Coupled(*[GaussianMixture(means, variances, schedule=schedule) for schedule in (one, other)], strength=0.3)
    start = torch.randn(64, 2, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    made = ddim(pair, start * one(torch.ones(1, dtype=torch.float64))[1], 40)
    assert (made.mean((0, 1)) - 0.5).abs().max() < 0.05


def test_a_condition_of_neither_prior_is_refused():
    pair = Coupled(*[GaussianMixture(torch.zeros(1, 2), torch.ones(1))] * 2)
    with pytest.raises(ValueError, match="'label' belongs to neither prior"):
        pair.eps(torch.zeros(1, 2, 2), torch.full((1,), 0.5), {"label": torch.zeros(1)})
