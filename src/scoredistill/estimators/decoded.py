r"""Gradients on images through the decoder of a latent prior.

An image x has the latent z = E(x), and an estimator finds a descent direction g on z. There are two ways back to x:

    through the encoder    J_E(x)^T g      the chain rule: `generators.Encoded`
    through the decoder    x - D(z - g)    the image minus the decoded target: `Decoded`

The chain rule finds any change of pixels that moves the latent, including patterns that no decoder would produce: with
a small encoder, images fill with dots at its stride and saturate. Through the decoder, the image moves towards decoded
images. This needs no backward pass, but one encoding and one decoding per particle. For mean shift, whose z - g is an
estimate of a clean sample, the gradient is the difference of two images, and its fixed points are decoded modes.
"""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from scoredistill.estimators.base import Batch, Estimate, Estimator, EstimatorWrapper
from scoredistill.priors.base import Prior
from scoredistill.rng import Rng


@dataclass(frozen=True)
class Decoded(EstimatorWrapper):
    """Apply an estimator of latents to images: grad = x - D(z - g), z = E(x), g = base's gradient on z.

    Args:
        base: estimator in the prior's latent space.
    """

    base: Estimator

    @torch.no_grad()
    def __call__(self, prior: Prior, batch: Batch, t: Float[Tensor, " b"], rng: Rng = None) -> Estimate:
        source = None if batch.source is None else prior.encode_image(batch.source)
        z = prior.encode_image(batch.x)
        estimate = self.base(prior, replace(batch, x=z, source=source), t, rng)
        after = prior.decode(z - estimate.grad)
        return replace(estimate, grad=batch.x - after, x_t=None)

    def displace(self, by: Float[Tensor, " b *d"]) -> None:
        """Refuse gradients on images for what is kept of latents.

        Raises:
            ValueError: if the base keeps something of each particle.
        """
        if self.base.state_dict():
            raise ValueError(
                "an estimator that keeps latents cannot follow images: use Decoded(Observed(..., decode=True))"
            )
