r"""Stable Diffusion XL, its refiner, all models in their format, and their instruction editor.

Conditions: {"text": [b, tokens, features], "pooled": [b, features]} from both text encoders, and for the editor
{"image": [b, 4, h, w]} beside them. The UNet also takes sizes in pixels:

    time_ids = (height, width, top, left, height, width)    of the original image, its crop, and the result

These are the sizes of the samples, uncropped, unless the condition has its own "time_ids", [1 or b, 6]. Models with
`requires_aesthetics_score`, such as the refiner, take a score in place of the last two; it is in the condition as
"aesthetics", [b, 1]: 6 for a prompt, 2.5 for none.

References: SDXL (Podell et al. 2023), https://arxiv.org/abs/2307.01952; InstructPix2Pix (Brooks et al. 2022),
https://arxiv.org/abs/2211.09800.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from scoredistill.priors.base import Editor
from scoredistill.priors.conditions import Cond, replaced
from scoredistill.priors.pipelines.stable_diffusion import UNetPrior, beside

AESTHETICS = 6.0  # diffusers' default for the conditional prediction
UNAESTHETIC = 2.5  # and for the unconditional or negative one


class XLPrior(UNetPrior):
    """Abstract base of latent models with a UNet that also takes a pooled text embedding and sizes."""

    encoders, embeddings, side, upcast = ("text_encoder_2",), ("text", "pooled"), 128, True

    @property
    def scored(self) -> bool:
        """Whether the UNet takes an aesthetic score."""
        return bool(self.pipeline.config.get("requires_aesthetics_score", False))

    def embed(self, prompts: Sequence[str]) -> dict[str, Tensor]:
        text, _, pooled, _ = self.pipeline.encode_prompt(
            list(prompts), device=self.device, num_images_per_prompt=1, do_classifier_free_guidance=False
        )
        score = {"aesthetics": pooled.new_full((len(pooled), 1), AESTHETICS)} if self.scored else {}
        return {"text": text, "pooled": pooled, **score}

    def null(self, cond: Cond) -> Cond:
        """Return the condition of no prompt: zeros if `force_zeros_for_empty_prompt`, else the encoding of ""."""
        if self.pipeline.config.get("force_zeros_for_empty_prompt", True):
            nothing = {**cond, **{name: torch.zeros_like(cond[name]) for name in ("text", "pooled")}}
        else:
            nothing = replaced(cond, self.encode_text([""]))
        if self.scored:
            nothing["aesthetics"] = cond["pooled"].new_full((len(cond["pooled"]), 1), UNAESTHETIC)
        return nothing

    def added(self, x_t: Tensor, cond: Cond) -> dict[str, Tensor]:
        """The `added_cond_kwargs` of the UNet: pooled text and sizes."""
        height, width = (side * self.codec.factor for side in x_t.shape[2:])
        size = x_t.new_tensor([height, width]).expand(len(x_t), 2)
        score = cond.get("aesthetics", x_t.new_tensor([[AESTHETICS]]))
        last = score.expand(len(x_t), 1) if self.scored else size
        ids = torch.cat([size, torch.zeros_like(size), last], 1)
        given = cond.get("time_ids", ids)
        if given.shape != ids.shape:
            raise ValueError(
                f"time_ids of this model have {ids.shape[1]} numbers, not {list(given.shape[1:])}: give (height, "
                f"width, top, left, {'score' if self.scored else 'height, width'}) for 1 or all samples"
            )
        return {"text_embeds": cond["pooled"], "time_ids": given}


class StableDiffusionXLPrior(XLPrior):
    """Prior of a `StableDiffusionXLPipeline`: latents, any image size.

    Negative prompts: `Guided(prior, scale, uncond=prior.encode_text("blurry"))`. With
    the refiner, add {"aesthetics": torch.tensor([[2.5]])} to that condition for a low score, as its pipeline does.
    """

    def forward(self, network: Callable[..., Any], x_t: Tensor, t: Tensor, cond: Cond) -> Tensor:
        added = self.added(x_t, cond)
        return network(x_t, self.step(t), cond["text"], added_cond_kwargs=added, return_dict=False)[0]


class StableDiffusionXLInstructPix2PixPrior(XLPrior, Editor):
    """Prior of a `StableDiffusionXLInstructPix2PixPipeline`: images that follow an instruction about a source image.

    cond = prior.encode_text("make it night") | prior.encode_source(photograph). Guide it with `ImageGuided`.
    """

    needs_source = True

    def forward(self, network: Callable[..., Any], x_t: Tensor, t: Tensor, cond: Cond) -> Tensor:
        added, rows = self.added(x_t, cond), beside(x_t, cond)
        return network(rows, self.step(t), cond["text"], added_cond_kwargs=added, return_dict=False)[0]

    @torch.no_grad()
    def encode_source(self, images: Float[Tensor, "b 3 h w"]) -> dict[str, Tensor]:
        """Encode source images in [0, 1] as a condition: {"image": latents}, unscaled except for CosXL Edit."""
        scaled = getattr(self.pipeline, "is_cosxl_edit", False)
        return {"image": self.codec.encode(images) if scaled else self.codec.mode(images)}
