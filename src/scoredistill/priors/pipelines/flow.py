r"""Flow matching: the base of pipelines whose transformers predict a velocity.

    x_t = (1 - t) x + t n,        v(x_t, t) = E[n - x | x_t],        x_s = x_t + (s - t) v

so t is the scheduler's sigma, and the Euler step from t to s is the DDIM step of the schedule `Flow`: with
x0 = x_t - t v and eps = x_t + (1 - t) v it goes to (1 - s) x0 + s eps. `sampling.ddim` therefore equals the pipeline.
For larger images samplers take more steps at large t; this shift concerns the sampler alone, not the model,

    t  ->  k t / (1 + (k - 1) t),        k = `shift`, or exp(mu) with mu linear in the number of the image's tokens.

References: Flow straight and fast (Liu et al. 2023), https://arxiv.org/abs/2209.03003; the shift: Scaling rectified
flow transformers (Esser et al. 2024), https://arxiv.org/abs/2403.03206.
"""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from scoredistill.priors.pipelines.base import PipelinePrior
from scoredistill.priors.pipelines.noise_levels import flow_times, is_flow
from scoredistill.priors.predictions import from_prediction
from scoredistill.schedule import Flow, per_sample

LEAST = {"base_image_seq_len": 256, "base_shift": 0.5}  # the pipelines' defaults of dynamic shifting
MOST = {"max_image_seq_len": 4096, "max_shift": 1.15}


class FlowPrior(PipelinePrior):
    """Abstract base of flow-matching pipelines.

    Time t in [0, 1] is the scheduler's sigma, and t = 1 is noise without signal. Where the scheduler shifts its steps
    by the image's size, `times` are those for `latent_shape`: set that before sampling at another size.

    Attributes:
        patch: number of latents along the side of a token.
    """

    schedule: Flow
    patch: int
    parameterization = "flow"

    def __init__(self, pipeline: Any, name: str | None = None):
        scheduler = pipeline.scheduler
        if not is_flow(scheduler):
            raise ValueError(
                f"{type(scheduler).__name__} is no flow-matching scheduler: load the pipeline with a "
                "FlowMatchEulerDiscreteScheduler"
            )
        super().__init__(pipeline, name)
        self.schedule = Flow()

    @abstractmethod
    def spacing(self, steps: int) -> Sequence[float] | None:
        """Return the decreasing sigmas that the pipeline passes to its scheduler; None for the scheduler's own."""

    def step(self, t: Float[Tensor, " b"]) -> Float[Tensor, " b"]:
        """Convert times in [0, 1] to the scheduler's time steps."""
        return t.to(torch.float32) * self.pipeline.scheduler.config.num_train_timesteps

    def times(self, steps: int) -> Float[Tensor, "{steps} 2"]:
        """Return the sigmas of the pipeline's Euler scheduler, with its shift, from 1 to 0."""
        scheduler = self.pipeline.scheduler
        return flow_times(scheduler, steps, self._mu(scheduler.config), self.spacing(steps))

    def understood(self, out: Tensor, x_t: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        alpha, sigma = (per_sample(c, x_t) for c in self.schedule(t))
        return from_prediction("flow", out, x_t, alpha, sigma)

    def _mu(self, config: Any) -> float:
        """The logarithm of the shift for images of `latent_shape`, for schedulers with dynamic shifting."""
        _, height, width = self.latent_shape
        tokens = (height // self.patch) * (width // self.patch)
        (few, low), (many, high) = (
            [config.get(name) or default for name, default in pair.items()] for pair in (LEAST, MOST)
        )
        return low + (high - low) / (many - few) * (tokens - few)


def check_patches(latents: Float[Tensor, "b c h w"], patch: int) -> None:
    """Raise ValueError unless the sides of latents are multiples of the patch size."""
    height, width = latents.shape[2:]
    if height % patch or width % patch:
        raise ValueError(f"sides of latents must be multiples of {patch}, not {height}x{width}")
