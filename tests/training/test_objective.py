"""Objectives against the ideal denoiser of Gaussian latents, for which everything is known."""

import pytest
import torch

from scoredistill.training.objective import ALPHA_BAR, TIMES, Objective

STD = 0.7
OBJECTIVES = [Objective(), Objective("flow", "uniform"), Objective("flow", "uniform", "logit_normal")]


def ideal(objective):
    """The prediction with the least squared error, for latents of variance STD^2 per pixel."""

    def predict(noisy, time):
        alpha, sigma = objective.levels(torch.as_tensor(time).reshape(-1))
        gain = noisy / (alpha**2 * STD**2 + sigma**2)
        return objective.target(alpha * STD**2 * gain, sigma * gain, alpha, sigma)

    return predict


def latents(n=256):
    rng = torch.Generator().manual_seed(0)
    return STD * torch.randn(n, 2, 4, 4, generator=rng), torch.randn(n, 2, 4, 4, generator=rng)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_the_clean_latents_follow_from_the_target(objective):
    z, eps = latents()
    alpha, sigma = objective.levels(objective.draw_times(len(z), torch.Generator().manual_seed(1)))
    noisy = alpha * z + sigma * eps
    target = objective.target(z, eps, alpha, sigma)
    assert torch.allclose(objective.clean(target, noisy, alpha, sigma), z, atol=1e-5)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_the_clean_error_of_the_ideal_denoiser_is_its_variance_whatever_it_predicts(objective):
    z, eps = latents(4096)
    fraction = (torch.arange(len(z)) + 0.5) / len(z)
    squared = ALPHA_BAR[(TIMES * fraction).long()]
    expected = (STD**2 * (1 - squared) / (squared * STD**2 + 1 - squared)).mean()
    found = objective.clean_error(ideal(objective), z, eps, fraction)
    assert found == pytest.approx(float(expected), rel=0.03)


@pytest.mark.parametrize("objective", [*OBJECTIVES, Objective(weights="min_snr"), Objective(weights="uniform")])
def test_the_ideal_prediction_has_the_least_loss(objective):
    z, _ = latents(1024)

    def loss(scale):
        return objective.loss(lambda x, t: scale * ideal(objective)(x, t), z, torch.Generator().manual_seed(2))

    assert loss(1.0) < min(loss(0.9), loss(1.1))


def test_weights_are_their_formulas():
    alpha, sigma = Objective().levels(torch.tensor([0, 300, 999]))
    snr = (alpha / sigma) ** 2
    capped, plain = Objective().weight(alpha, sigma), Objective(weights="min_snr").weight(alpha, sigma)
    assert torch.allclose(capped, torch.minimum(snr + 1, torch.tensor(5.0)) / (snr + 1))
    assert torch.allclose(plain, torch.minimum(snr, torch.tensor(5.0)) / (snr + 1))
    assert (Objective(weights="uniform").weight(alpha, sigma) == 1).all()
    assert plain[-1] < 1e-3 < 0.99 < capped[-1]


def test_times_are_stratified_and_logit_normal_times_prefer_the_middle():
    rng = torch.Generator().manual_seed(0)
    even = Objective().draw_times(500, rng)
    assert torch.equal(even.sort().values // 2, torch.arange(500))
    middle = Objective(times="logit_normal").draw_times(5000, rng).float() / TIMES
    logits = middle.clamp(1e-3, 1 - 1e-3).logit()
    assert (float(logits.mean()), float(logits.std())) == pytest.approx((0, 1), abs=0.05)


def test_the_contrastive_term_is_the_error_to_another_target():
    """With F = 0 and targets of equal size, the loss falls by the factor 1 - c."""
    z, _ = latents(2048)
    zero = lambda x, t: torch.zeros_like(x)
    plain, less = (Objective("flow", "uniform", contrast=c).loss(zero, z, torch.Generator()) for c in (0.0, 0.25))
    assert less == pytest.approx(0.75 * float(plain), rel=1e-4)
    perfect = Objective("flow", "uniform", contrast=0.25)
    found = perfect.loss(ideal(perfect), z, torch.Generator().manual_seed(0))
    assert found < Objective("flow", "uniform").loss(ideal(perfect), z, torch.Generator().manual_seed(0))


@pytest.mark.parametrize("objective", [Objective(), Objective("flow", "uniform")])
def test_samples_of_the_ideal_denoiser_have_the_variance_of_the_latents(objective):
    _, noise = latents(1024)
    found = objective.sample(ideal(objective), noise, 250)
    assert float(found.std()) == pytest.approx(STD, rel=0.02)


def test_sampling_of_v_is_that_of_the_exported_scheduler():
    objective, scheduler = Objective(), Objective().scheduler()
    _, noise = latents(4)
    scheduler.set_timesteps(20)
    z = noise
    for time in scheduler.timesteps:
        z = scheduler.step(ideal(objective)(z, time), time, z).prev_sample
    assert torch.allclose(objective.sample(ideal(objective), noise, 20), z, atol=1e-4)


def test_the_exported_scheduler_of_flows_samples_the_same_distribution():
    """The ideal denoiser maps noise of variance 1 linearly to latents of variance STD^2."""
    objective = Objective("flow", "uniform")
    scheduler = objective.scheduler()
    _, noise = latents(4)
    scheduler.set_timesteps(40)
    z = noise
    for time in scheduler.timesteps:
        z = scheduler.step(ideal(objective)(z, time), time, z).prev_sample
    assert torch.allclose(z, STD * noise, atol=0.03)
    assert torch.allclose(objective.sample(ideal(objective), noise, 40), STD * noise, atol=0.05)


def test_the_first_noise_level_hides_everything():
    assert Objective().scheduler().alphas_cumprod[-1] < 1e-4
