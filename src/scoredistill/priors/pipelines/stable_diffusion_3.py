r"""Stable Diffusion 3 and 3.5: a transformer over patches of latents and over text, trained by flow matching.

Conditions: {"text": [b, tokens, features], "pooled": [b, features]}. The text is that of two CLIP encoders side by
side, followed by that of T5. A pipeline without T5, which takes most of the memory, has zeros there:

    load_prior(StableDiffusion3Pipeline.from_pretrained(name, text_encoder_3=None, tokenizer_3=None))

Reference: Scaling rectified flow transformers (Esser et al. 2024), https://arxiv.org/abs/2403.03206.
"""

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

from scoredistill.priors.conditions import Cond
from scoredistill.priors.pipelines.base import require, side_of
from scoredistill.priors.pipelines.codec import Codec
from scoredistill.priors.pipelines.flow import FlowPrior, check_patches


class StableDiffusion3Prior(FlowPrior):
    """Prior of a `StableDiffusion3Pipeline`: latents [b, 16, h, w] whose sides are multiples of the patch size (2)."""

    codec: Codec
    encoders, embeddings = ("text_encoder", "text_encoder_2"), ("text", "pooled")

    def __init__(self, pipeline: Any, name: str | None = None):
        self.network, vae = require(pipeline, "transformer", "vae")
        super().__init__(pipeline, name)
        self.codec = Codec(vae, pipeline.vae_scale_factor)
        self.patch = self.network.config.patch_size
        self.latent_shape = (self.codec.channels, *side_of(self.network.config.sample_size, 128))

    def forward(self, network: Callable[..., Any], x_t: Tensor, t: Tensor, cond: Cond) -> Tensor:
        check_patches(x_t, self.patch)
        return network(
            x_t,
            timestep=self.step(t),
            encoder_hidden_states=cond["text"],
            pooled_projections=cond["pooled"],
            return_dict=False,
        )[0]

    def embed(self, prompts: Sequence[str]) -> dict[str, Tensor]:
        text, _, pooled, _ = self.pipeline.encode_prompt(
            list(prompts), None, None, device=self.device, do_classifier_free_guidance=False
        )
        return {"text": text, "pooled": pooled}

    def spacing(self, steps: int) -> None:
        return None
