r"""Pictures to samples and back: the autoencoder of latent models, and the affine map of pixel models.

    z = (mode(q(z | 2 x - 1)) - shift) scale,        x = (decode(z / scale + shift) + 1) / 2

Encoding is differentiable in the pictures.
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor


class Codec:
    """A diffusers autoencoder.

    One that overflows in float16 (`force_upcast`, as Stable Diffusion XL's) is put in float32.

    Args:
        vae: `AutoencoderKL`, or `AutoencoderTiny`, whose code has no posterior.
        factor: pixels of a latent's side.

    Attributes:
        channels: of the latents.
        window: side in pixels of the windows in which larger pictures pass; None for whole pictures.
    """

    window: int | None = None

    def __init__(self, vae: Any, factor: int):
        if vae.dtype == torch.float16 and vae.config.get("force_upcast"):
            vae = vae.float()
        self.vae, self.factor = vae, factor
        self.channels: int = vae.config.latent_channels
        self.scale, self.shift = vae.config.scaling_factor, vae.config.get("shift_factor") or 0.0

    def encode(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b c p q"]:
        """Scaled latents of pictures in [0, 1]; sides divide by the factor."""
        return (self.mode(images) - self.shift) * self.scale

    def mode(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b c p q"]:
        """The posterior's mode, unscaled."""
        if images.shape[-1] % self.factor or images.shape[-2] % self.factor:
            size = f"{images.shape[-2]}x{images.shape[-1]}"
            raise ValueError(f"picture sides must be multiples of {self.factor}, not {size}")
        encoded = self.vae.encode((2 * images - 1).to(self.vae.device, self.vae.dtype))
        latents = encoded.latent_dist.mode() if hasattr(encoded, "latent_dist") else encoded.latents
        return latents.to(images)

    def decode(self, x: Float[Tensor, "b c p q"]) -> Float[Tensor, "b 3 h w"]:
        """Pictures in [0, 1] of scaled latents."""
        latents = (x / self.scale + self.shift).to(self.vae.device, self.vae.dtype)
        return (self.vae.decode(latents).sample.to(x) / 2 + 0.5).clamp(0, 1)

    def checkpoint(self) -> None:
        """Recompute activations in the backward pass instead of keeping them."""
        self.vae.enable_gradient_checkpointing()


class PixelCodec:
    """Samples are the pictures themselves, in [-1, 1]."""

    factor, channels, window = 1, 3, None

    def encode(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 h w"]:
        """2 x - 1."""
        return 2 * images - 1

    def decode(self, x: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 h w"]:
        """(x + 1) / 2 in [0, 1]."""
        return (x / 2 + 0.5).clamp(0, 1)

    def checkpoint(self) -> None:
        """Nothing to recompute."""
