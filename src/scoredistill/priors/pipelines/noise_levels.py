r"""Noise levels of diffusers' schedulers: what a UNet is told of the noise, and what its output means.

A scheduler is first of all a sampler. Of the model it knows the noise levels, in one of three forms:

    table       x_t = alpha_t x + sigma_t n, with alpha_t^2 = alphas_cumprod[t (T - 1)]; the UNet is told t (T - 1)
    EDM         z = x + r n, r from sigma_min to sigma_max; the UNet is told log(r) / 4 and sees z / sqrt(r^2 + d^2),
                D(z; r) = d^2 z / (r^2 + d^2) +- r d F / sqrt(r^2 + d^2), with d = sigma_data, + for the prediction type
                "epsilon" and - for "v_prediction"
    flow        x_t = (1 - t) x + t n, whose velocity n - x the UNet predicts; it is told t T

Samples of EDM models are scaled to x_t = z / sqrt(r^2 + 1), which preserves variance; their time t is that of
`schedule.LogLinear`. For d = 1 the EDM output is then the prediction v, or -v.

References: tables: Denoising diffusion probabilistic models (Ho et al. 2020), https://arxiv.org/abs/2006.11239; tables
that end in noise alone: Common diffusion noise schedules and sample steps are flawed (Lin et al. 2023),
https://arxiv.org/abs/2305.08891; EDM: Elucidating the design space of diffusion-based generative models (Karras et al.
2022), https://arxiv.org/abs/2206.00364.
"""

import copy
from abc import ABC, abstractmethod
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from scoredistill.priors.predictions import from_prediction
from scoredistill.schedule import Flow, LogLinear, Schedule, Tabulated, per_sample

TABLED = {"epsilon": "eps", "v_prediction": "v", "sample": "x0"}
EDM = {"epsilon": 1.0, "v_prediction": -1.0}  # sign of the output
EDM_SCHEDULERS = ("EDMEulerScheduler", "EDMDPMSolverMultistepScheduler")
SNAP = 1e-3  # time steps this close to an integer are rounded to it
NOISIEST = 2.0**-24  # alphas_cumprod in place of 0, as in diffusers' schedulers that divide by it


class Levels(ABC):
    """Abstract base of the forms of noise levels.

    Attributes:
        schedule: the noise schedule.
    """

    schedule: Schedule

    @abstractmethod
    def step(self, t: Float[Tensor, " b"]) -> Float[Tensor, " b"]:
        """What the UNet is told at times in [0, 1], in float32."""

    @abstractmethod
    def times(self, steps: int) -> Float[Tensor, "{steps} 2"]:
        """The (from, to) times of a first-order sampler; times below 0 are clean data."""

    def given(self, x_t: Float[Tensor, " b *d"], t: Float[Tensor, " b"]) -> Float[Tensor, " b *d"]:
        """What the UNet sees of x_t."""
        return x_t

    @abstractmethod
    def understood(
        self, out: Float[Tensor, " b *d"], x_t: Float[Tensor, " b *d"], t: Float[Tensor, " b"]
    ) -> tuple[Float[Tensor, " b *d"], Float[Tensor, " b *d"]]:
        """Convert the UNet's output to (x0, eps)."""


class TableLevels(Levels):
    """A table of noise levels, `alphas_cumprod`. Time t in [0, 1] is the scheduler's time step t (T - 1).

    A table with zero terminal SNR ends in noise alone, at which the noise does not determine the sample: for models
    that predict it the last entry is `NOISIEST`.
    """

    schedule: Tabulated

    def __init__(self, scheduler: Any, prediction: str):
        table = scheduler.alphas_cumprod.detach().double().cpu()
        if prediction == "eps" and table[-1] == 0:
            table[-1] = NOISIEST
        self.config, self.prediction = scheduler.config, prediction
        self.schedule = Tabulated(table)

    def step(self, t: Float[Tensor, " b"]) -> Float[Tensor, " b"]:
        step = t.to(torch.float32) * (len(self.schedule) - 1)
        whole = step.round()
        return torch.where((step - whole).abs() < SNAP, whole, step).clamp(min=0)

    def times(self, steps: int) -> Float[Tensor, "{steps} 2"]:
        """Return the times of the pipeline's DDIM scheduler, which steps from `from` to `from` - T // steps.

        They end at the table's first entry, or before it, at clean data (`set_alpha_to_one`, see `Tabulated`).
        """
        from diffusers import DDIMScheduler  # takes seconds to import

        # of the betas only the number counts here, and DDIM does not know every schedule of them
        plain = {"beta_schedule": "linear", "trained_betas": None, "rescale_betas_zero_snr": False}
        scheduler = DDIMScheduler.from_config(self.config, **plain)
        scheduler.set_timesteps(steps)
        start, last = scheduler.timesteps.double(), len(self.schedule) - 1
        to = start - len(self.schedule) // steps
        end = -1.0 if scheduler.config.set_alpha_to_one else 0.0
        return torch.stack([start, torch.where(to < 0, end, to)], 1) / last

    def understood(self, out: Tensor, x_t: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        return _predicted(self, out, x_t, t)


class EDMLevels(Levels):
    """The noise levels and scalings of EDM."""

    schedule: LogLinear

    def __init__(self, scheduler: Any):
        self.config = scheduler.config
        self.sign, self.data = EDM[self.config.prediction_type], float(self.config.sigma_data)
        self.schedule = LogLinear(float(self.config.sigma_min), float(self.config.sigma_max))

    def step(self, t: Float[Tensor, " b"]) -> Float[Tensor, " b"]:
        return self.schedule.log_ratio(t.to(torch.float32)) / 4

    def times(self, steps: int) -> Float[Tensor, "{steps} 2"]:
        """Return the times of the pipeline's Euler scheduler for EDM."""
        from diffusers import EDMEulerScheduler  # takes seconds to import

        scheduler = EDMEulerScheduler.from_config(self.config)
        scheduler.set_timesteps(steps)
        sigmas = scheduler.sigmas.double()
        times = torch.where(sigmas > 0, self.schedule.time_of(sigmas), -1.0)
        return torch.stack([times[:-1], times[1:]], 1)

    def given(self, x_t: Tensor, t: Tensor) -> Tensor:
        if self.data == 1:
            return x_t
        squared = self.schedule.ratio(t).square()
        return per_sample(((1 + squared) / (self.data**2 + squared)).sqrt(), x_t) * x_t

    def understood(self, out: Tensor, x_t: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        r, alpha = self.schedule.ratio(t), self.schedule(t)[0]
        total, z = r**2 + self.data**2, x_t / per_sample(alpha, x_t)
        gain = self.sign * self.data / total.sqrt()
        x0 = per_sample(self.data**2 / total, x_t) * z + per_sample(r * gain, x_t) * out
        return x0, per_sample(r / total, x_t) * z - per_sample(gain, x_t) * out


class FlowLevels(Levels):
    """The noise levels of flow matching."""

    schedule: Flow
    prediction = "flow"

    def __init__(self, scheduler: Any):
        self.scheduler, self.schedule = scheduler, Flow()

    def step(self, t: Float[Tensor, " b"]) -> Float[Tensor, " b"]:
        return t.to(torch.float32) * self.scheduler.config.num_train_timesteps

    def times(self, steps: int) -> Float[Tensor, "{steps} 2"]:
        """Return the scheduler's own times."""
        return flow_times(self.scheduler, steps)

    def understood(self, out: Tensor, x_t: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        return _predicted(self, out, x_t, t)


def levels_of(scheduler: Any) -> Levels:
    """The noise levels of the model whose scheduler this is.

    Raises:
        ValueError: if they cannot be known, saying what to do.
    """
    name, config = type(scheduler).__name__, scheduler.config
    kind = config.get("prediction_type", "epsilon")
    if is_flow(scheduler):
        return FlowLevels(scheduler)
    if name in EDM_SCHEDULERS:
        if kind not in EDM:
            raise ValueError(f"{name} with the prediction type {kind!r} is not supported: use one of {', '.join(EDM)}")
        return EDMLevels(scheduler)
    if config.get("timestep_type") == "continuous" and kind == "v_prediction":
        low, high = _range(scheduler)
        raise ValueError(
            f"{name} with continuous time steps is not supported: give the pipeline the scheduler of the same noise "
            f"levels, EDMEulerScheduler(sigma_min={low:g}, sigma_max={high:g}, sigma_data=1.0, "
            "prediction_type='v_prediction')"
        )
    if getattr(scheduler, "alphas_cumprod", None) is None:
        raise ValueError(
            f"{name} has no alphas_cumprod, and its noise levels are not known here: give the pipeline the scheduler "
            "that the model was trained with, or wrap the network with Prior.from_callable(fn, schedule, prediction)"
        )
    if kind not in TABLED or config.get("use_flow_sigmas"):
        flow = " with use_flow_sigmas" if config.get("use_flow_sigmas") else ""
        raise ValueError(
            f"{name} with the prediction type {kind!r}{flow} is not supported: use one of {', '.join(TABLED)}, or "
            "flow_prediction with use_flow_sigmas, as the model was trained"
        )
    return TableLevels(scheduler, TABLED[kind])


def is_flow(scheduler: Any) -> bool:
    """Whether a scheduler is one of flow matching, x_t = (1 - t) x + t n.

    Raises:
        ValueError: if its times are inverted.
    """
    config = scheduler.config
    if config.get("invert_sigmas"):
        raise ValueError(
            f"{type(scheduler).__name__} with invert_sigmas is not supported: wrap the network with "
            "Prior.from_callable(fn, Flow(), 'flow')"
        )
    if type(scheduler).__name__.startswith("FlowMatch"):
        return True
    solves_both = getattr(scheduler, "alphas_cumprod", None) is not None
    return solves_both and bool(config.get("use_flow_sigmas")) and config.get("prediction_type") == "flow_prediction"


def flow_times(scheduler: Any, steps: int, mu: float | None = None, spacing: Any = None) -> Float[Tensor, "{steps} 2"]:
    """The (from, to) times of a first-order sampler with the shift of a scheduler of flow matching, from about 1 to 0.

    Args:
        scheduler: the scheduler; it is not changed.
        steps: number of steps.
        mu: logarithm of the shift, for schedulers with dynamic shifting.
        spacing: sigmas that a pipeline passes to its FlowMatchEulerDiscreteScheduler; None for its own.

    Raises:
        ValueError: for dynamic shifting without mu.
    """
    from diffusers import FlowMatchEulerDiscreteScheduler  # takes seconds to import

    config = scheduler.config
    if config.get("use_dynamic_shifting") and mu is None:
        raise ValueError(
            f"{type(scheduler).__name__} with use_dynamic_shifting needs the size of the image: use a static shift"
        )
    if type(scheduler).__name__.startswith("FlowMatch"):
        made = FlowMatchEulerDiscreteScheduler.from_config(config)
        made.set_shift(getattr(scheduler, "shift", config.shift))
        made.set_timesteps(steps, sigmas=spacing, mu=mu)
    else:
        made = copy.deepcopy(scheduler)
        made.set_timesteps(steps, **({"mu": mu} if config.get("use_dynamic_shifting") else {}))
    sigmas = made.sigmas.double()
    return torch.stack([sigmas[:-1], sigmas[1:]], 1)


def _predicted(levels: TableLevels | FlowLevels, out: Tensor, x_t: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
    alpha, sigma = (per_sample(c, x_t) for c in levels.schedule(t))
    return from_prediction(levels.prediction, out, x_t, alpha, sigma)


def _range(scheduler: Any) -> tuple[float, float]:
    """Least and greatest noise-to-signal ratio of a scheduler with continuous time steps."""
    table = scheduler.alphas_cumprod.double()
    low, high = ((1 - table) / table).sqrt()[[0, -1]].tolist()
    return scheduler.config.get("sigma_min") or low, scheduler.config.get("sigma_max") or high
