r"""Stable Diffusion 1.x and 2.x, all models in their format, and InstructPix2Pix, their instruction editor.

Conditions: {"text": [b, tokens, features]}, and for the editor {"image": [b, 4, h, w]} beside it: the source image's
latents, unscaled, which are further input channels of the UNet; zeros stand for no image.

References: Latent diffusion models (Rombach et al. 2022), https://arxiv.org/abs/2112.10752; InstructPix2Pix (Brooks et
al. 2022), https://arxiv.org/abs/2211.09800.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from scoredistill.priors.base import Editor
from scoredistill.priors.conditions import Cond
from scoredistill.priors.pipelines.base import ScheduledPrior, require, side_of
from scoredistill.priors.pipelines.codec import Codec


class UNetPrior(ScheduledPrior):
    """Abstract base of latent models with a UNet.

    Attributes:
        side: side of the latents, for UNets without a `sample_size`.
        upcast: see `Codec`.
    """

    codec: Codec
    side, upcast = 64, False

    def __init__(self, pipeline: Any, name: str | None = None):
        self.network, vae = require(pipeline, "unet", "vae")
        super().__init__(pipeline, name)
        self.codec = Codec(vae, pipeline.vae_scale_factor, self.upcast)
        self.latent_shape = (self.codec.channels, *side_of(self.network.config.sample_size, self.side))


class StableDiffusionPrior(UNetPrior):
    """Prior of a `StableDiffusionPipeline`: latents, with a text condition {"text": [b, tokens, features]}."""

    def forward(self, network: Callable[..., Any], x_t: Tensor, t: Tensor, cond: Cond) -> Tensor:
        return network(x_t, self.step(t), cond["text"], return_dict=False)[0]

    def embed(self, prompts: Sequence[str]) -> dict[str, Tensor]:
        return {"text": self.pipeline.encode_prompt(list(prompts), self.device, 1, False)[0]}


class InstructPix2PixPrior(UNetPrior, Editor):
    """Prior of a `StableDiffusionInstructPix2PixPipeline`: images that follow an instruction about a source image.

    cond = prior.encode_text("make it night") | prior.encode_source(photograph). Guide it with `ImageGuided`.
    """

    needs_source = True

    def forward(self, network: Callable[..., Any], x_t: Tensor, t: Tensor, cond: Cond) -> Tensor:
        return network(beside(x_t, cond), self.step(t), cond["text"], return_dict=False)[0]

    def embed(self, prompts: Sequence[str]) -> dict[str, Tensor]:
        return {"text": self.pipeline._encode_prompt(list(prompts), self.device, 1, False)}

    @torch.no_grad()
    def encode_source(self, images: Float[Tensor, "b 3 h w"]) -> dict[str, Tensor]:
        """Encode source images in [0, 1] as a condition: {"image": unscaled latents}."""
        return {"image": self.codec.mode(images)}


def beside(x_t: Tensor, cond: Cond) -> Tensor:
    """Concatenate noised latents and the source image's latents along the channels.

    Raises:
        ValueError: if the condition has no image, or one of another size.
    """
    if "image" not in cond:
        raise ValueError(
            "this editor needs a source image: give cond = prior.encode_text(instruction) | "
            "prior.encode_source(image), with zeros for no image"
        )
    if cond["image"].shape[1:] != x_t.shape[1:]:
        sizes = "x".join(map(str, x_t.shape[2:])), "x".join(map(str, cond["image"].shape[2:]))
        raise ValueError(f"the latents have {sizes[0]} pixels and the source image's have {sizes[1]}: make them equal")
    return torch.cat([x_t, cond["image"]], 1)
