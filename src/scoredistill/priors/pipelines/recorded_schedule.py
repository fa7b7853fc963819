r"""The noise levels of a recorded pipeline, and the time steps by which its scheduler tells them to the network.

Besides those of `noise_levels`, these are understood:

    inverted flow    x_s = s x + (1 - s) n with s from 0 to 1, so t = 1 - s, and the network predicts x - n
    EDM by angles    the network is told 2 atan(r) / pi instead of log(r) / 4
    shifted steps    the network is told T u for the noise level t = k u / (1 + (k - 1) u), a shift by k, as where a
                     pipeline gives its scheduler time steps and noise levels apart
    whole steps      the network is told T t rounded down
"""

import copy
import math
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from scoredistill.priors.pipelines.noise_levels import EDMLevels, FlowLevels, Levels, TableLevels, levels_of
from scoredistill.priors.pipelines.placements import Unsupported
from scoredistill.priors.pipelines.recorder import Step
from scoredistill.schedule import per_sample

ROUNDING = 1e-3  # of whole time steps
SHIFT = 1e-4  # tolerance of noise levels in the fit of a shift


class InvertedFlowLevels(FlowLevels):
    """The noise levels of a flow whose sigma is the share of the data, as Mochi's."""

    def step(self, t: Float[Tensor, " b"]) -> Float[Tensor, " b"]:
        return super().step(1 - t)

    def understood(self, out: Tensor, x_t: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        return super().understood(-out, x_t, t)


class AngleLevels(EDMLevels):
    """The noise levels of EDM, told as angles, as Stable Audio's."""

    def step(self, t: Float[Tensor, " b"]) -> Float[Tensor, " b"]:
        return 2 / math.pi * self.schedule.ratio(t.to(torch.float32)).atan()


class Clock:
    """The noise levels of a scheduler for recorded runs.

    Attributes:
        levels, schedule: the noise levels.
        scheduler: a scheduler of them whose first step is of first order.
        whole: whether time steps are rounded down.
    """

    def __init__(self, scheduler: Any):
        self.levels, self.scheduler = understood(scheduler)
        self.schedule = self.levels.schedule
        self.whole = False

    def told(self, t: Float[Tensor, " b"], shift: float = 1.0) -> Float[Tensor, " b"]:
        """The scheduler's time steps for times in [0, 1]."""
        step = self.levels.step(t / (shift - (shift - 1) * t) if shift != 1 else t)
        return (step + ROUNDING).floor() if self.whole else step

    def level(self, step: Step, index: int) -> Float[Tensor, " 1"]:
        """The time in [0, 1] of the step of a run that was the last one, by its number."""
        if isinstance(self.levels, TableLevels):
            return torch.as_tensor(step.timestep).flatten()[:1].double().cpu() / (len(self.levels.schedule) - 1)
        return self.time_of(self.scheduler.sigmas[index].double().cpu().reshape(1))

    def time_of(self, sigma: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
        """Times of the scheduler's noise levels."""
        if isinstance(self.levels, EDMLevels):
            return self.levels.schedule.time_of(sigma)
        return 1 - sigma if isinstance(self.levels, InvertedFlowLevels) else sigma

    def standard(self, z: Tensor, t: Tensor) -> Tensor:
        """Samples of the scheduler as samples of the schedule."""
        return per_sample(self.levels.schedule(t)[0], z) * z if isinstance(self.levels, EDMLevels) else z

    def shift(self, steps: list[Step]) -> float:
        """The shift k of the time steps of the last run, given all of them; sets `whole`.

        Raises:
            Unsupported: if the time steps are not understood.
        """
        if not isinstance(self.levels, FlowLevels):
            return 1.0
        t = torch.cat([self.level(step, index) for index, step in enumerate(steps)])
        given = torch.tensor([float(torch.as_tensor(step.timestep).flatten()[0]) for step in steps]).double()
        plain = self.levels.step(t).double()
        if bool((plain - given).abs().max() <= SHIFT * plain.abs().max()):
            return 1.0
        if bool(((plain + ROUNDING).floor() == given).all()):
            self.whole = True
            return 1.0
        u = given / self.scheduler.config.num_train_timesteps
        inside = (u > 0) & (u < 1) & (t > 0) & (t < 1)
        if bool(inside.any()):
            shifts = (t * (1 - u) / (u * (1 - t)))[inside]
            k = float(shifts.median())
            if bool(((k * u / (1 + (k - 1) * u)) - t).abs().max() <= SHIFT):
                return k
        raise Unsupported("the time steps of its scheduler do not follow from its noise levels")


def understood(scheduler: Any) -> tuple[Levels, Any]:
    """The noise levels that a scheduler stands for, and a scheduler of them for recorded runs.

    Raises:
        ValueError: if they are not known.
    """
    name, config = type(scheduler).__name__, scheduler.config
    if name.startswith("FlowMatch") and config.get("invert_sigmas"):
        return InvertedFlowLevels(scheduler), copy.deepcopy(scheduler)
    if name == "CosineDPMSolverMultistepScheduler":
        made = _edm(config)
        made.precondition_noise = lambda sigma: 2 / math.pi * torch.as_tensor(sigma).atan()
        return AngleLevels(made), made
    if config.get("timestep_type") == "continuous" and config.get("prediction_type") == "v_prediction":
        table = scheduler.alphas_cumprod.double()
        low, high = ((1 - table) / table).sqrt()[[0, -1]].tolist()
        made = _edm({
            "sigma_min": config.get("sigma_min") or low, "sigma_max": config.get("sigma_max") or high,
            "sigma_data": 1.0, "prediction_type": "v_prediction",
        })  # fmt: skip
        return EDMLevels(made), made
    levels = levels_of(scheduler)
    if isinstance(levels, EDMLevels):
        return levels, _edm(config)
    if isinstance(levels, FlowLevels):
        return levels, copy.deepcopy(scheduler)
    return levels, _table(scheduler)


def _edm(config: Any) -> Any:
    """A first-order scheduler of the noise levels of EDM."""
    from diffusers import EDMEulerScheduler  # takes seconds to import

    return EDMEulerScheduler.from_config(config)


def _table(scheduler: Any) -> Any:
    """A first-order scheduler of a table of noise levels, without clipping."""
    from diffusers import DDIMScheduler  # takes seconds to import

    plain = {
        "beta_schedule": "linear", "trained_betas": None, "rescale_betas_zero_snr": False, "clip_sample": False,
        "thresholding": False,
    }  # fmt: skip
    made = DDIMScheduler.from_config(scheduler.config, **plain)
    made.alphas_cumprod = scheduler.alphas_cumprod.clone()
    if not made.config.set_alpha_to_one:
        made.final_alpha_cumprod = made.alphas_cumprod[0]
    return made
