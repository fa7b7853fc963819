r"""What a network of noisy latents is trained to predict, at which noise levels, and with which weights.

    z_t = alpha z + sigma eps,   (alpha, sigma) at t:   v: DDPM, beta linear from 1e-4 to 0.02;   flow: (1 - t, t)
    target    v:  alpha eps - sigma z  (Salimans and Ho 2022)      flow:  eps - z  (Lipman et al. 2022)

alpha_T is close to 0, so that no color leaks into pure noise. The loss is w |F - target|^2, where w is

    "capped"      min(SNR + 1, 5) / (SNR + 1),   SNR = (alpha / sigma)^2,   for v
    "min_snr"     min(SNR, 5) / (SNR + 1)  (Hang et al. 2023)
    "uniform"     1.

"capped" is min(SNR + 1, 5) for the error of the clean sample. On 16x16 latents, min-SNR leaves the noisiest steps,
which determine the shape, almost untrained. Contrastive flow matching (Stoica et al. 2025) subtracts
c w |F - target'|^2 with the target' of another image and other noise, so that predictions for different captions stay
apart.

References: https://arxiv.org/abs/2202.00512 (v), https://arxiv.org/abs/2210.02747 (flow matching),
https://arxiv.org/abs/2303.09556 (min-SNR), https://arxiv.org/abs/2506.05350 (contrastive flow matching); logit-normal
times: scaling rectified flow transformers (Esser et al. 2024), https://arxiv.org/abs/2403.03206.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from diffusers import DDIMScheduler, SchedulerMixin, UniPCMultistepScheduler
from jaxtyping import Float, Num
from torch import Tensor

MAX_WEIGHT = 5.0
TIMES = 1000
"""Number of times of the schedule; times of flow matching are multiplied by it before the network sees them."""


def _ddpm() -> DDIMScheduler:
    """The scheduler of pipelines whose networks predict v."""
    return DDIMScheduler(
        beta_start=1e-4,
        beta_end=0.02,
        beta_schedule="linear",
        prediction_type="v_prediction",
        timestep_spacing="trailing",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,  # required by diffusers, without effect for "trailing"
    )


ALPHA_BAR = _ddpm().alphas_cumprod


@dataclass(frozen=True)
class Objective:
    """Prediction, weights and times of a training.

    Attributes:
        prediction: "v" or "flow".
        weights: "capped", "min_snr" or "uniform"; for flow, "uniform".
        times: distribution of the times, stratified within a batch: "uniform", or "logit_normal", whose logits are
            normal, so that middle times are trained more.
        contrast: c, the weight of the contrastive term, in [0, 1).
    """

    prediction: Literal["v", "flow"] = "v"
    weights: Literal["capped", "min_snr", "uniform"] = "capped"
    times: Literal["uniform", "logit_normal"] = "uniform"
    contrast: float = 0.0

    def scheduler(self) -> SchedulerMixin:
        """The scheduler with the noise levels of training, of exported pipelines."""
        if self.prediction == "v":
            return _ddpm()
        return UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=1.0)

    def draw_times(self, n: int, rng: torch.Generator) -> Num[Tensor, " n"]:
        """n stratified times as the network sees them, in [0, 1000): whole numbers for v."""
        u = (torch.arange(n) + torch.rand(n, generator=rng)) / n
        if self.times == "logit_normal":
            u = torch.special.ndtri(u.clamp(1e-6, 1 - 1e-6)).sigmoid()
        return (TIMES * u).long().clamp(max=TIMES - 1) if self.prediction == "v" else TIMES * u

    def levels(self, time: Num[Tensor, " n"]) -> tuple[Float[Tensor, "n 1 1 1"], Float[Tensor, "n 1 1 1"]]:
        """(alpha, sigma) at times as the network sees them."""
        if self.prediction == "v":
            squared = ALPHA_BAR.to(time.device)[time.long()][:, None, None, None]
            return squared.sqrt(), (1 - squared).sqrt()
        t = (time.float() / TIMES)[:, None, None, None]
        return 1 - t, t

    def target(self, z: Tensor, eps: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        """What the network should predict."""
        return alpha * eps - sigma * z if self.prediction == "v" else eps - z

    def clean(self, output: Tensor, noisy: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        """The clean latents that a prediction implies."""
        return alpha * noisy - sigma * output if self.prediction == "v" else noisy - sigma * output

    def weight(self, alpha: Tensor, sigma: Tensor) -> Tensor:
        """The weights w of the loss."""
        if self.weights == "uniform":
            return torch.ones_like(alpha)
        snr = (alpha / sigma) ** 2
        return (snr + int(self.weights == "capped")).clamp(max=MAX_WEIGHT) / (snr + 1)

    def loss(
        self,
        network: Callable[[Tensor, Tensor], Tensor],
        z: Float[Tensor, "b c h w"],
        rng: torch.Generator,
    ) -> Float[Tensor, ""]:
        """The loss of the module.

        Args:
            network: (noisy latents, times) -> prediction.
            z: clean latents.
            rng: draws times and noise.
        """
        time = self.draw_times(len(z), rng).to(z.device)
        eps = torch.randn(z.shape, generator=rng).to(z.device)
        alpha, sigma = self.levels(time)
        output = network(alpha * z + sigma * eps, time).float()
        error = (output - self.target(z, eps, alpha, sigma)) ** 2
        if self.contrast:
            shift = 1 + int(torch.randint(max(1, len(z) - 1), (), generator=rng))
            other = self.target(z.roll(shift, 0), eps.roll(shift, 0), alpha, sigma)
            error = error - self.contrast * (output - other) ** 2
        return (self.weight(alpha, sigma) * error).mean()

    @torch.no_grad()
    def clean_error(
        self,
        network: Callable[[Tensor, Tensor], Tensor],
        z: Float[Tensor, "b c h w"],
        eps: Float[Tensor, "b c h w"],
        fraction: Float[Tensor, " b"],
    ) -> Float[Tensor, ""]:
        """Mean squared error of the predicted clean latents, comparable between objectives.

        Args:
            network: (noisy latents, times) -> prediction.
            z, eps: clean latents and noise.
            fraction: position in DDPM's schedule, in [0, 1); it sets the ratio of noise to signal for every objective.
        """
        squared = ALPHA_BAR[(TIMES * fraction).long()]
        time = (TIMES * fraction).long()
        if self.prediction == "flow":
            noise = (1 - squared).sqrt()
            time = TIMES * noise / (noise + squared.sqrt())
        time = time.to(z.device)
        alpha, sigma = self.levels(time)
        noisy = alpha * z + sigma * eps
        return (self.clean(network(noisy, time).float(), noisy, alpha, sigma) - z).square().mean()

    @torch.no_grad()
    def sample(
        self, network: Callable[[Tensor, Tensor], Tensor], noise: Float[Tensor, "b c h w"], steps: int
    ) -> Float[Tensor, "b c h w"]:
        """Sample by DDIM, which is Euler's method for flow matching, at evenly spaced times from pure noise.

        Args:
            network: (noisy latents, times) -> prediction, guided if wanted.
            noise: standard normal.
            steps: number of network evaluations.
        """
        z, device = noise, noise.device
        times = (TIMES * (1 - torch.arange(steps) / steps)).round() - int(self.prediction == "v")
        for index, time in enumerate(times):
            alpha, sigma = self.levels(time[None].to(device))
            output = network(z, time.long().to(device) if self.prediction == "v" else time.to(device))
            clean = self.clean(output, z, alpha, sigma)
            eps = (z - alpha * clean) / sigma
            if index + 1 == steps:
                return self.last(clean, eps)
            alpha, sigma = self.levels(times[index + 1][None].to(device))
            z = alpha * clean + sigma * eps
        return z

    def last(self, clean: Tensor, eps: Tensor) -> Tensor:
        """The last sample: at DDPM's first time, as in its scheduler; without noise for flow matching."""
        if self.prediction == "flow":
            return clean
        alpha, sigma = self.levels(torch.zeros(1, device=clean.device))
        return alpha * clean + sigma * eps
