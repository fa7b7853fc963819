"""The ideal denoiser of a pipeline's own samples: text and images of the pipeline, with exact scores.

Its distribution is uniform over the given latents, so it is known where a method should converge: at one of them.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from scoredistill.priors import Cond, Empirical
from scoredistill.priors.base import TextPrior


class Ideal(TextPrior):
    """A prior for `text_to_image` whose samples of a prompt are known.

    Args:
        prior: the model whose autoencoder and noise schedule are used.
        latents: all samples of all prompts.
        prompts: the prompt of each sample; only these can be requested.
    """

    name = "ideal"

    def __init__(self, prior: TextPrior, latents: Float[Tensor, " n *d"], prompts: Sequence[str]):
        self.prior, self.schedule, self.latent_shape = prior, prior.schedule, prior.latent_shape
        self.data = Empirical(latents, list(prompts), prior.schedule)

    @property
    def image_size(self) -> tuple[int, int]:
        return self.prior.image_size

    @property
    def device(self) -> torch.device:
        return self.prior.device

    def eps(
        self, x_t: Float[Tensor, " b *d"], t: Float[Tensor, " b"], cond: Cond | None = None
    ) -> Float[Tensor, " b *d"]:
        return self.data.eps(x_t, t, cond)

    def denoise(
        self, x_t: Float[Tensor, " b *d"], t: Float[Tensor, " b"], cond: Cond | None = None
    ) -> Float[Tensor, " b *d"]:
        return self.data.denoise(x_t, t, cond)

    def null(self, cond: Cond) -> Cond:
        return self.data.null(cond)

    def times(self, steps: int) -> Float[Tensor, "{steps} 2"]:
        return self.prior.times(steps)

    def encode_text(self, prompts: str | Sequence[str]) -> Cond:
        """The condition that selects the samples of a prompt; the empty one selects all."""
        return self.data.encode_text(prompts)

    def encode_image(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, " b *d"]:
        return self.prior.encode_image(images)

    def decode(self, x: Float[Tensor, " b *d"]) -> Tensor:
        return self.prior.decode(x)

    def distance(self, x: Float[Tensor, " n *d"], prompt: str) -> Float[Tensor, " n"]:
        """Root mean square difference of each latent from the nearest sample of the prompt."""
        nearest, _ = self.data.nearest(x, self.encode_text([prompt]))
        return nearest / x[0].numel() ** 0.5
