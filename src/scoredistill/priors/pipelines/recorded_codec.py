r"""The autoencoder of a recorded pipeline, with the arrangement and scale of latents that the pipeline gives it.

A pipeline rearranges the scheduler's samples for its decoder, for example from tokens to an image, and scales and
shifts them. Both are read off from probes, z = c + a sample[index], so that samples of the prior are latents in the
layout of the autoencoder, with the scale of the scheduler:

    decode    D(c + a x),        encode    (mode(q(z | image)) - c) / a

where a and c are one number per channel.
"""

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from scoredistill.priors.pipelines.recording import Placement, Recorder, Unsupported, digits_of, placement, probes


class RecordedCodec:
    """The autoencoder of a recorded pipeline.

    Args:
        vae: the autoencoder.
        scale, shift: a and c, one per channel, of shape [1, c, 1, 1] or [1, c, 1, 1, 1].
        options: further arguments of the decoder.

    Attributes:
        factor: pixels along the side of a latent.
        frames: frames per latent frame of videos; 1 for images.
        channels: of the latents.
    """

    def __init__(self, vae: Any, scale: Tensor, shift: Tensor, options: Mapping[str, Any], z: Tensor):
        self.vae, self.scale, self.shift, self.options = vae, scale, shift, dict(options)
        self.channels = z.shape[1]
        with torch.no_grad():
            image = self._decoded(torch.zeros_like(z))
        self.factor = image.shape[-1] // z.shape[-1]
        self.frames = max(1, (image.shape[2] - 1) // (z.shape[2] - 1)) if z.ndim == 5 and z.shape[2] > 1 else 1

    @property
    def window(self) -> int | None:
        """Recorded autoencoders process whole images."""
        return None

    @window.setter
    def window(self, window: int | None) -> None:
        if window is not None:
            raise ValueError("the autoencoder of a recorded pipeline has no windows: leave out window")

    def encode(self, images: Float[Tensor, "b 3 *f h w"]) -> Float[Tensor, "b c *g p q"]:
        """Encode images or videos in [0, 1] as the mode of the posterior, scaled; differentiable."""
        encoded = self.vae.encode(self._place(2 * images - 1))
        if hasattr(encoded, "latent_dist"):
            latents = encoded.latent_dist.mode()
        else:
            latents = encoded.latents if hasattr(encoded, "latents") else encoded.latent
        return (latents.to(images) - self.shift.to(images)) / self.scale.to(images)

    def decode(self, x: Float[Tensor, "b c *g p q"]) -> Float[Tensor, "b 3 *f h w"]:
        """Decode to images or videos in [0, 1]."""
        z = self._place(self.scale.to(x) * x + self.shift.to(x))
        return (self._decoded(z).to(x) / 2 + 0.5).clamp(0, 1)

    def checkpoint(self) -> None:
        """Recompute activations in the backward pass instead of keeping them."""
        self.vae.enable_gradient_checkpointing()

    def _decoded(self, z: Tensor) -> Tensor:
        decoded = self.vae.decode(z, **self.options)
        return decoded[0] if isinstance(decoded, tuple) else decoded.sample

    def _place(self, value: Tensor) -> Tensor:
        hook = getattr(self.vae, "_hf_hook", None)
        return value.to(getattr(hook, "execution_device", None) or self.vae.device, self.vae.dtype)


def arrangement(recorder: Recorder, call: Mapping[str, Any], output: Any, sample: Tensor) -> tuple[Placement, Any, Any]:
    """Learn how a pipeline arranges its samples for its decoder.

    Args:
        recorder: of the pipeline.
        call: arguments of the pipeline.
        output: an output of its network.
        sample: one sample, of the scheduler's shape.

    Returns:
        Where the elements of the latents come from; the latents of a sample of zeros; further arguments of the decoder.

    Raises:
        Unsupported: if it does not only rearrange and scale them.
    """
    sources = probes(sample.numel(), digits_of(sample.numel()))
    seen = [
        recorder.decoded({**call, "output_type": "pt"}, output, source.reshape(sample.shape).to(sample))
        for source in sources
    ]
    found = placement([z for z, _ in seen], sources, "what is decoded")
    if found is None or len(found.index) != sample.numel() or len(found.index.unique()) != sample.numel():
        raise Unsupported("the decoder is not given all elements of the sample")
    return found, *seen[0]


def by_channel(values: Tensor) -> Tensor:
    """One number per channel from values [1, c, *d] that are equal within each channel.

    Raises:
        Unsupported: if they are not.
    """
    flat = values.flatten(2)
    if bool(((flat - flat[..., :1]).abs() > 1e-3 * (1 + flat[..., :1].abs())).any()):
        raise Unsupported("the scale of the latents differs within a channel")
    return flat.mean(2).reshape(1, -1, *[1] * (values.ndim - 2)).float()
