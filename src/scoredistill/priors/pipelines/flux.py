r"""FLUX.1, a transformer over tokens of text and images trained by flow matching, and Kontext, its editor.

A token is a 2x2 patch of latents, with coordinates (image, row, column) for the rotary embedding. Particles are latents
of the autoencoder; they are packed into tokens only for the network.

Conditions: {"text": [b, tokens, features], "pooled": [b, features]}, from T5 and CLIP, and for the editor {"image":
[b, 16, h, w]} beside them: the latents of the source image, whose tokens follow those of the sample, as image 1.

There are two kinds of guidance. FLUX.1-dev and Kontext were distilled from guided predictions and take a scale as an
input, the attribute `guidance`; schnell takes none. Classifier-free guidance by a negative prompt, the pipelines'
`true_cfg_scale`, is `Guided(prior, scale, uncond=prior.encode_text(negative))` and costs a second row.

References: the transformer: Scaling rectified flow transformers (Esser et al. 2024), https://arxiv.org/abs/2403.03206;
distilled guidance: On distillation of guided diffusion models (Meng et al. 2023), https://arxiv.org/abs/2210.03142;
FLUX.1 Kontext (Black Forest Labs 2025), https://arxiv.org/abs/2506.15742.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from scoredistill.priors.base import Editor
from scoredistill.priors.conditions import Cond
from scoredistill.priors.pipelines.base import require
from scoredistill.priors.pipelines.codec import Codec
from scoredistill.priors.pipelines.flow import FlowPrior, check_patches

PATCH = 2
GUIDANCE = 3.5  # the pipelines' default


class PackedPrior(FlowPrior):
    """Abstract base of models that pack latents into tokens of 2x2.

    Attributes:
        guidance: the scale passed to guidance-distilled models; others ignore it.
    """

    codec: Codec
    patch = PATCH
    encoders, embeddings = ("text_encoder", "text_encoder_2"), ("text", "pooled")

    def __init__(self, pipeline: Any, name: str | None = None):
        self.network, vae = require(pipeline, "transformer", "vae")
        super().__init__(pipeline, name)
        self.codec = Codec(vae, pipeline.vae_scale_factor)
        self.latent_shape = (self.codec.channels, pipeline.default_sample_size, pipeline.default_sample_size)
        self.guidance = GUIDANCE

    def embed(self, prompts: Sequence[str]) -> dict[str, Tensor]:
        text, pooled, _ = self.pipeline.encode_prompt(list(prompts), device=self.device)
        return {"text": text, "pooled": pooled}

    def spacing(self, steps: int) -> Sequence[float]:
        return np.linspace(1.0, 1 / steps, steps).tolist()

    def velocity(self, network: Callable[..., Any], images: Sequence[Tensor], t: Tensor, cond: Cond) -> Tensor:
        """Predict the velocity of the first of the images, [b, c, h, w] each, with the others as context."""
        x_t, text = images[0], cond["text"]
        tokens = [pack(image) for image in images]
        step = self.step(t).to(x_t.dtype)  # rounded as in the pipeline
        takes_scale = self.network.config.guidance_embeds
        out = network(
            torch.cat(tokens, 1),
            timestep=step / 1000,  # the network multiplies it by 1000
            guidance=torch.full([len(x_t)], self.guidance, device=x_t.device) if takes_scale else None,
            encoder_hidden_states=text,
            pooled_projections=cond["pooled"],
            txt_ids=torch.zeros(text.shape[1], 3, device=x_t.device),
            img_ids=torch.cat([coordinates(image, i) for i, image in enumerate(images)]),
            return_dict=False,
        )[0]
        return unpack(out[:, : tokens[0].shape[1]], *x_t.shape[2:])


class FluxPrior(PackedPrior):
    """Prior of a `FluxPipeline`: latents [b, 16, h, w] with even sides."""

    def forward(self, network: Callable[..., Any], x_t: Tensor, t: Tensor, cond: Cond) -> Tensor:
        return self.velocity(network, [x_t], t, cond)


class FluxKontextPrior(PackedPrior, Editor):
    """Prior of a `FluxKontextPipeline`: images that follow an instruction about a source image.

    cond = prior.encode_text("make it night") | prior.encode_source(photograph). The source may have another size than
    the samples. A condition without "image" gives text to image, as in the pipeline.

    Use `Guided`, which keeps the image. `ImageGuided` is for editors that were trained with zeros for no image, and
    refuses this model, for which zeros are a gray image. Zeros in a condition are refused too where that can be seen
    without waiting for the device: on a CPU.
    """

    takes_zeros = False

    def forward(self, network: Callable[..., Any], x_t: Tensor, t: Tensor, cond: Cond) -> Tensor:
        source = cond.get("image")
        if source is None:
            return self.velocity(network, [x_t], t, cond)
        if source.device.type == "cpu" and not bool(source.flatten(1).any(1).all()):
            raise ValueError(
                f"{self.name} does not take zeros for 'no image': guide it with Guided, not ImageGuided, or leave "
                "'image' out of the condition"
            )
        return self.velocity(network, [x_t, source], t, cond)

    @torch.no_grad()
    def encode_source(self, images: Float[Tensor, "b 3 h w"]) -> dict[str, Tensor]:
        """Encode source images in [0, 1] as a condition: {"image": scaled latents}.

        Sides must be multiples of 16 pixels. The pipeline resizes its sources to about a megapixel, the size of the
        model's training; here they keep their size.
        """
        latents = self.codec.encode(images)
        check_patches(latents, PATCH)
        return {"image": latents}


def pack(latents: Float[Tensor, "b c h w"]) -> Float[Tensor, " b tokens 4*c"]:
    """Pack latents into tokens of 2x2, row by row; within a token the channel varies slowest.

    Raises:
        ValueError: if a side is odd.
    """
    check_patches(latents, PATCH)
    b, c, h, w = latents.shape
    patches = latents.reshape(b, c, h // 2, 2, w // 2, 2).permute(0, 2, 4, 1, 3, 5)
    return patches.reshape(b, (h // 2) * (w // 2), 4 * c)


def unpack(tokens: Float[Tensor, "b tokens channels"], height: int, width: int) -> Float[Tensor, "b c h w"]:
    """Unpack tokens to latents of the given sides: the inverse of `pack`."""
    patches = tokens.reshape(len(tokens), height // 2, width // 2, -1, 2, 2).permute(0, 3, 1, 4, 2, 5)
    return patches.reshape(len(tokens), -1, height, width)


def coordinates(latents: Float[Tensor, "b c h w"], image: int) -> Float[Tensor, "tokens 3"]:
    """Return (image, row, column) of each token of latents."""
    rows, columns = (torch.arange(side // 2, device=latents.device) for side in latents.shape[2:])
    return torch.cartesian_prod(torch.tensor([image], device=latents.device), rows, columns).float()
