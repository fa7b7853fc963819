"""Schedules: tables equal diffusers', time and ratio are inverse, weights mean what they say."""

import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler

from scoredistill.schedule import VE, VP, Flow, LogLinear, Tabulated, perturb, weight_at

SCHEDULERS = {
    "sd1": DDIMScheduler(beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012, set_alpha_to_one=False),
    "linear": DDPMScheduler(),
    "cosine": DDPMScheduler(beta_schedule="squaredcos_cap_v2"),
    "zero terminal SNR": DDIMScheduler(rescale_betas_zero_snr=True),
}
SCHEDULES = [VP(), VE(), Flow(), *(Tabulated(s.alphas_cumprod) for s in SCHEDULERS.values()), LogLinear()]


@pytest.mark.parametrize("scheduler", SCHEDULERS.values(), ids=SCHEDULERS.keys())
def test_tables_equal_diffusers(scheduler):
    table = scheduler.alphas_cumprod.double()
    alpha, sigma = Tabulated(scheduler.alphas_cumprod)(torch.linspace(0, 1, 1000, dtype=torch.float64))
    assert (alpha - table.sqrt()).abs().max() < 1e-12
    assert (sigma - (1 - table).sqrt()).abs().max() < 1e-12


@pytest.mark.parametrize("schedule", SCHEDULES, ids=repr)
def test_time_of_inverts_ratio(schedule):
    t = torch.linspace(0.001, 0.999, 777, dtype=torch.float64)
    assert (schedule.time_of(schedule.ratio(t)) - t).abs().max() < 1e-9
    assert (schedule.ratio(t).diff() > 0).all()
    ends = schedule.time_of(torch.tensor([0.0, torch.inf], dtype=torch.float64))
    assert ends.tolist() == pytest.approx([0.0, 1.0], abs=1e-15)


@pytest.mark.parametrize("schedule", [VP(), *SCHEDULES[3:]], ids=repr)
def test_variance_is_preserved(schedule):
    alpha, sigma = schedule(torch.linspace(0, 1, 333, dtype=torch.float64))
    assert (alpha**2 + sigma**2 - 1).abs().max() < 1e-14


def test_vp_is_the_limit_of_the_ddpm_table():
    t = torch.linspace(0.05, 0.95, 19, dtype=torch.float64)
    continuous, table = VP().ratio(t), Tabulated(SCHEDULERS["linear"].alphas_cumprod).ratio(t)
    assert ((continuous / table) - 1).abs().max() < 0.03


def test_before_the_table_is_clean():
    alpha, sigma = Tabulated(SCHEDULERS["sd1"].alphas_cumprod)(torch.tensor([-1 / 999]))
    assert (alpha.item(), sigma.item()) == (1.0, 0.0)


@pytest.mark.parametrize("table", [torch.tensor([0.5, 0.6]), torch.tensor([0.5]), torch.tensor([1.0, 0.5])])
def test_impossible_tables_are_refused(table):
    with pytest.raises(ValueError, match="alphas_cumprod"):
        Tabulated(table)


def test_zero_terminal_snr_is_noise_alone_and_reached_continuously():
    """Between 1 / r = 1 and 1 / r = 0, alpha / sigma is linear: 1 / 4 at three quarters."""
    schedule = Tabulated(torch.tensor([0.8, 0.5, 0.0]))
    t = torch.tensor([0.0, 0.5, 0.875, 1.0], dtype=torch.float64)
    alpha, sigma = schedule(t)
    assert alpha.tolist() == pytest.approx([0.8**0.5, 0.5**0.5, (1 / 17) ** 0.5, 0.0], abs=1e-7)
    assert sigma.tolist() == pytest.approx([0.2**0.5, 0.5**0.5, (16 / 17) ** 0.5, 1.0], abs=1e-7)
    assert schedule.time_of(torch.tensor([0.5, 1.0, 4.0, torch.inf], dtype=torch.float64)).tolist() == pytest.approx(
        [0.0, 0.5, 0.875, 1.0], abs=1e-6
    )
    with pytest.raises(ValueError, match=r"not below 0, but goes from 0\.5 to -0\.1"):
        Tabulated(torch.tensor([0.5, -0.1]))


def test_ratios_of_log_linear_are_spaced_evenly_in_their_logarithm():
    schedule = LogLinear(0.01, 100.0)
    t = torch.tensor([-1.0, 0.0, 0.25, 0.5, 1.0], dtype=torch.float64)
    assert schedule.ratio(t).tolist() == pytest.approx([0.0, 0.01, 0.1, 1.0, 100.0])
    with pytest.raises(ValueError, match="ratio_min must be above 0 and below ratio_max"):
        LogLinear(2.0, 1.0)


def test_perturb_and_weights():
    t = torch.tensor([0.2, 0.7], dtype=torch.float64)
    x, n = torch.ones(2, 3, dtype=torch.float64), torch.full((2, 3), 2.0, dtype=torch.float64)
    assert torch.allclose(perturb(Flow(), x, t, n), (x * (1 - t[:, None]) + 2 * t[:, None]))
    assert torch.allclose(weight_at("sigma2", VP(), t), VP()(t)[1] ** 2)
    assert torch.equal(weight_at("uniform", VP(), t), torch.ones_like(t))
    assert torch.allclose(weight_at(lambda a, s: s / a, VP(), t), VP().ratio(t))
    with pytest.raises(ValueError, match="sigma2"):
        weight_at("cubic", VP(), t)
