"""Small trained denoisers: they learn closed forms, keep the particles' precision, and are trained once."""

import dataclasses

import pytest
import torch

from oracles import gaussian
from scoredistill.estimators import VSD, Batch
from scoredistill.priors import NetworkPrior
from scoredistill.priors.network import Denoiser, NetworkConfig, untrained
from scoredistill.schedule import VE, VP, Flow
from scoredistill.training import denoiser
from scoredistill.training.denoiser import cached_denoiser, train_denoiser

F64 = torch.float64
SMALL = NetworkConfig(dim=2, width=48, depth=2, features=4, frequency=2.0, steps=600, batch=512, log_mean=-1.0)
MEAN, STD = torch.tensor([0.4, -0.3]), 0.5


def cloud(n, rng):
    return MEAN + STD * torch.randn(n, 2, generator=rng), None


@pytest.fixture(scope="module")
def trained():
    return train_denoiser(SMALL, cloud)


@pytest.mark.parametrize("schedule", [VE(0.002, 20.0), VP(), Flow()], ids=repr)
def test_it_learns_the_closed_form_on_every_schedule(trained, schedule, rng):
    """D(z; r) = (z v + r^2 mu) / (v + r^2) for one Gaussian, at noised points."""
    prior, exact = NetworkPrior(trained, schedule), gaussian(MEAN.to(F64), STD**2, schedule)
    n = 500
    for ratio in (0.1, 0.5, 2.0):
        t = schedule.time_of(torch.full((n,), ratio, dtype=F64))
        alpha, sigma = (c[:, None] for c in schedule(t))
        x = cloud(n, rng)[0].to(F64)
        x_t = alpha * x + sigma * torch.randn(n, 2, generator=rng, dtype=F64)
        found, wanted = prior.denoise(x_t, t), exact.denoise(x_t, t)
        assert found.dtype == F64
        assert (found - wanted).square().mean().sqrt() < 0.1 * min(ratio, STD)
        assert ((x_t - sigma * prior.eps(x_t, t)) / alpha - found).abs().max() < 1e-5


def test_training_is_deterministic_and_seeded():
    few = dataclasses.replace(SMALL, steps=20)
    one, two, other = (train_denoiser(c, cloud) for c in (few, few, dataclasses.replace(few, seed=1)))
    z, r = torch.randn(5, 2), torch.full((5,), 0.3)
    assert torch.equal(one(z, r), two(z, r))
    assert not torch.equal(one(z, r), other(z, r))


def test_classes_are_learned_and_none_is_their_mixture(rng):
    """Two classes at +-1: each label denoises pure noise to its own mean, no label to the middle."""
    config = dataclasses.replace(SMALL, dim=1, classes=2, sigma_data=1.0, steps=800, log_mean=1.0)

    def two(n, rng):
        label = torch.randint(2, (n,), generator=rng)
        return (2.0 * label[:, None] - 1) + 0.05 * torch.randn(n, 1, generator=rng), label

    prior = NetworkPrior(train_denoiser(config, two), VE(0.002, 20.0))
    z, r = 20 * torch.randn(200, 1, generator=rng), torch.full((200,), 20.0)
    label = lambda k: {"label": torch.full((1,), k)}
    means = [float(prior.denoise_at(z, r, label(k)).mean()) for k in (0, 1, -1)]
    assert means == pytest.approx([-1, 1, 0], abs=0.2)
    assert torch.equal(prior.denoise_at(z, r, prior.null(label(0))), prior.denoise_at(z, r))


def test_it_is_trained_once_per_configuration(tmp_path, monkeypatch):
    few, calls = dataclasses.replace(SMALL, steps=3), []
    real = denoiser.train_denoiser
    monkeypatch.setattr(denoiser, "train_denoiser", lambda *a: calls.append(1) or real(*a))
    first = cached_denoiser("cloud", few, cloud, tmp_path)
    again = cached_denoiser("cloud", few, cloud, tmp_path)
    z, r = torch.randn(5, 2), torch.full((5,), 0.3)
    assert (len(calls), len(list(tmp_path.iterdir()))) == (1, 1)
    assert torch.equal(first(z, r), again(z, r))
    cached_denoiser("cloud", dataclasses.replace(few, lr=1e-3), cloud, tmp_path)
    cached_denoiser("other", few, cloud, tmp_path)
    cached_denoiser("cloud", few, lambda n, rng: (cloud(n, rng)[0] + 0.1, None), tmp_path)  # other data, same name
    assert (len(calls), len(list(tmp_path.iterdir()))) == (4, 4)


def test_a_damaged_file_is_made_anew_and_a_missing_folder_only_warns(tmp_path):
    few = dataclasses.replace(SMALL, steps=3)
    cached_denoiser("cloud", few, cloud, tmp_path)
    (path,) = tmp_path.iterdir()
    path.write_bytes(b"nonsense")
    with pytest.warns(UserWarning, match="damaged"):
        cached_denoiser("cloud", few, cloud, tmp_path)
    assert cached_denoiser("cloud", few, cloud, tmp_path) is not None
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.warns(UserWarning, match="cannot keep"):
        cached_denoiser("cloud", few, cloud, blocked)


def test_wrong_settings_are_refused():
    with pytest.raises(ValueError, match="at least 1"):
        NetworkConfig(steps=0)
    with pytest.raises(ValueError, match="positive"):
        NetworkConfig(lr=0.0)


def test_divergence_is_said():
    with pytest.raises(FloatingPointError, match="diverged"):
        train_denoiser(dataclasses.replace(SMALL, steps=5), lambda n, rng: (torch.full((n, 2), torch.inf), None))


def test_a_prior_makes_a_student_that_learns_its_particles(rng):
    """VSD's own student: its loss falls below that of knowing nothing, and the gradient turns towards the prior."""
    prior = gaussian(torch.zeros(2, dtype=F64), 0.25)
    x = torch.tensor([1.0, 0.0], dtype=F64) + 0.1 * torch.randn(256, 2, generator=rng, dtype=F64)
    estimator, t = VSD(lr=5e-3), torch.full((256,), 0.3, dtype=F64)
    losses = [float(estimator(prior, Batch(x), t, rng).loss) for _ in range(150)]
    assert sum(losses[-20:]) / 20 < 0.5 * sum(losses[:5]) / 5
    grad = estimator(prior, Batch(x), t, rng).grad
    assert grad[:, 0].mean() > 0  # a step against it leads back to 0
    assert (grad * (x / x.norm(dim=1, keepdim=True))).sum(1).mean() > 0


def test_a_student_has_the_spread_of_what_it_will_learn():
    x = 3 * torch.randn(1000, 4, generator=torch.Generator().manual_seed(0))
    student = untrained(x, VP())
    assert isinstance(student.network, Denoiser)
    assert abs(student.network.config.sigma_data - 3) < 0.2
