r"""DeepFloyd IF, first stage: a pixel-space model.

Samples are images in [-1, 1], the condition is {"text": [b, 77, features]} from a T5 encoder. The UNet predicts the
noise and a variance of its sampler, 6 channels; the score needs the noise alone.

The scheduler of IF also clips the predicted clean sample in every step (dynamic thresholding) and samples with the
learned variance. Both belong to its sampler, not to the score: `sampling.ddim` equals the pipeline with a scheduler
without thresholding and with `variance_type="fixed_small"` (DDIM, or DDPM for eta = 1).

References: Imagen, of which IF is an open version (Saharia et al. 2022), https://arxiv.org/abs/2205.11487; the
variance: Improved DDPM (Nichol & Dhariwal 2021), https://arxiv.org/abs/2102.09672.
"""

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

from scoredistill.priors.conditions import Cond
from scoredistill.priors.pipelines.base import ScheduledPrior, require, side_of
from scoredistill.priors.pipelines.codec import PixelCodec


class DeepFloydPrior(ScheduledPrior):
    """Prior of an `IFPipeline`: images in [-1, 1], with a text condition {"text": [b, 77, features]}.

    Prompts are encoded in lower case and otherwise unchanged (the pipeline's `clean_caption=False`).
    """

    codec: PixelCodec

    def __init__(self, pipeline: Any, name: str | None = None):
        (self.network,) = require(pipeline, "unet")
        super().__init__(pipeline, name)
        self.codec = PixelCodec()
        self.latent_shape = (self.codec.channels, *side_of(self.network.config.sample_size, 64))

    def forward(self, network: Callable[..., Any], x_t: Tensor, t: Tensor, cond: Cond) -> Tensor:
        return network(x_t, self.step(t), cond["text"], return_dict=False)[0][:, : x_t.shape[1]]

    def embed(self, prompts: Sequence[str]) -> dict[str, Tensor]:
        text, _ = self.pipeline.encode_prompt(list(prompts), do_classifier_free_guidance=False, device=self.device)
        return {"text": text}
