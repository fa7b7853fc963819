"""The noise levels of schedulers, and the time steps that tell them, are those of diffusers' own steps."""

import types

import numpy as np
import pytest
import torch
from diffusers import (
    DDIMScheduler,
    EDMEulerScheduler,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    UniPCMultistepScheduler,
)
from torch import nn

from scoredistill.priors.pipelines.experts import Experts, boundary
from scoredistill.priors.pipelines.placements import Unsupported
from scoredistill.priors.pipelines.recorded_schedule import AngleLevels, Clock
from scoredistill.priors.pipelines.recorder import Step
from scoredistill.schedule import per_sample

SCHEDULERS = {
    "table": DDIMScheduler(),
    "v": DDIMScheduler(prediction_type="v_prediction", rescale_betas_zero_snr=True, timestep_spacing="trailing"),
    "flow": FlowMatchEulerDiscreteScheduler(shift=3.0),
    "inverted flow": FlowMatchEulerDiscreteScheduler(invert_sigmas=True),
    "EDM": EDMEulerScheduler(),
    "EDM, v": EDMEulerScheduler(sigma_data=1.0, prediction_type="v_prediction"),
    "continuous": EulerDiscreteScheduler(
        timestep_type="continuous", prediction_type="v_prediction", sigma_min=0.002, sigma_max=700.0
    ),
}


def steps_of(scheduler):
    return [Step(timestep=t) for t in scheduler.timesteps]


@pytest.mark.parametrize("kind", SCHEDULERS)
def test_a_step_of_the_scheduler_goes_to_the_next_noise_level(kind):
    """x0 and eps of an output, at the next noise level, are the scheduler's next sample."""
    clock = Clock(SCHEDULERS[kind])
    scheduler, rng = clock.scheduler, torch.Generator().manual_seed(0)
    scheduler.set_timesteps(10)
    steps = steps_of(scheduler)
    z = torch.randn(1, 3, 4, 4, generator=rng).double() * getattr(scheduler, "init_noise_sigma", 1.0)
    for index, now in enumerate(scheduler.timesteps[:-1]):
        t, later = (clock.level(steps[i], i) for i in (index, index + 1))
        given = scheduler.scale_model_input(z, now) if hasattr(scheduler, "scale_model_input") else z
        torch.testing.assert_close(clock.levels.given(clock.standard(z, t), t), given.double(), rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(clock.told(t).double(), now.double().reshape(1), rtol=1e-5, atol=1e-4)
        out = torch.randn(1, 3, 4, 4, generator=rng).double()
        after = scheduler.step(out, now, z).prev_sample
        x0, eps = clock.levels.understood(out, clock.standard(z, t), t)
        alpha, noise = (per_sample(each, z) for each in clock.schedule(later))
        torch.testing.assert_close(alpha * x0 + noise * eps, clock.standard(after, later), rtol=1e-4, atol=1e-4)
        z = after.double()


def test_edm_told_angles():
    levels = AngleLevels(EDMEulerScheduler(sigma_min=0.3, sigma_max=500.0, sigma_data=1.0))
    r = torch.tensor([0.5, 1.0, 20.0], dtype=torch.float64)
    told = levels.step(levels.schedule.time_of(r))
    torch.testing.assert_close(told.double(), 2 / torch.pi * r.atan(), rtol=1e-5, atol=1e-6)
    assert float(told[1]) == pytest.approx(0.5, abs=1e-5)


@pytest.mark.parametrize("k", [0.4, 1.0, 3.0])
def test_a_shift_between_time_steps_and_noise_levels_is_found(k):
    scheduler = FlowMatchEulerDiscreteScheduler(shift=k)
    clock = Clock(scheduler)
    given = np.linspace(1000, 1, 12).round()
    clock.scheduler.set_timesteps(sigmas=given / 1000, timesteps=given)
    shift = clock.shift(steps_of(clock.scheduler))
    assert shift == pytest.approx(k, rel=1e-3)
    levels = clock.scheduler.sigmas[:-1].double()
    torch.testing.assert_close(clock.told(levels, shift), torch.tensor(given).float(), rtol=1e-4, atol=0.05)
    assert not clock.whole


def test_whole_steps_are_rounded_down():
    solver = UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0)
    clock = Clock(solver)
    clock.scheduler.set_timesteps(7)
    assert clock.shift(steps_of(clock.scheduler)) == 1.0
    assert clock.whole
    torch.testing.assert_close(clock.told(clock.scheduler.sigmas[:-1]), clock.scheduler.timesteps.float())


def test_other_time_steps_are_refused():
    clock = Clock(FlowMatchEulerDiscreteScheduler())
    clock.scheduler.set_timesteps(8)
    clock.scheduler.timesteps = clock.scheduler.timesteps**2 / 1000
    with pytest.raises(Unsupported, match="do not follow from its noise levels"):
        clock.shift(steps_of(clock.scheduler))


class Named(nn.Module):
    def __init__(self, name):
        super().__init__()
        self.name = name

    def forward(self, timestep):
        return self.name


def test_the_boundary_belongs_to_the_first_network():
    experts = Experts([Named("first"), Named("second")], 875.0, ("timestep",))
    assert [experts(timestep=torch.tensor([t])) for t in (999.0, 875.0, 874.9)] == ["first", "first", "second"]


def test_a_boundary_is_read_off_and_checked():
    steps = [Step(timestep=t, networks=[n]) for t, n in ((900.0, 0), (600.0, 0), (400.0, 1), (100.0, 1))]
    pipeline = types.SimpleNamespace(config={})
    assert 400 < boundary(pipeline, steps, 1000.0) < 600
    pipeline.config["boundary_ratio"] = 0.5
    assert boundary(pipeline, steps, 1000.0) == 500.0
    pipeline.config["boundary_ratio"] = 0.3
    with pytest.raises(Unsupported, match="one boundary of times does not divide"):
        boundary(pipeline, steps, 1000.0)
