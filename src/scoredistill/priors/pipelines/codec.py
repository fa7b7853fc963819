r"""Codecs between images and samples: the autoencoder of latent models, and the affine map of pixel models.

    z = (mode(q(z | 2 x - 1)) - shift) scale,        x = (decode(z / scale + shift) + 1) / 2

where scale and shift are one number, or one per channel (`latents_mean` and `latents_std`).

Encoding is differentiable in the images. Large images can be processed window by window (`tiled_autoencoder`), with the
same result.
"""

import copy
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from scoredistill.priors.pipelines import tiled_autoencoder


class Codec:
    """A diffusers autoencoder.

    Args:
        vae: an `AutoencoderKL`, or an `AutoencoderTiny`, which has no posterior.
        factor: number of pixels along the side of a latent.
        upcast: use a float32 copy of a float16 autoencoder with `force_upcast`, since that of Stable Diffusion XL
            overflows. The autoencoder itself, which belongs to the pipeline, keeps its dtype; the copy follows it to
            other devices.

    Attributes:
        vae: the autoencoder, or the copy.
        channels: number of channels of the latents.
        window: side in pixels of the windows in which larger images are processed, one image after the other; None for
            whole images. Memory is that of one window and of the maps between resolutions, time a few times that of
            whole images (figures in `tiled_autoencoder`); the result and its gradient are the same. It must be a
            multiple of the factor, and larger than the margins.

    Raises:
        ValueError: if the weights to copy are offloaded one by one.
    """

    def __init__(self, vae: Any, factor: int, upcast: bool = False):
        self._vae, self._copy, self.factor = vae, None, factor
        if upcast and vae.dtype == torch.float16 and vae.config.get("force_upcast"):
            self._copy = _in_float32(vae)
        self.channels: int = vae.config.latent_channels
        self.scale, self.shift = vae.config.scaling_factor, vae.config.get("shift_factor") or 0.0
        if (std := vae.config.get("latents_std")) and (mean := vae.config.get("latents_mean")):
            self.scale, self.shift = self.scale / _by_channel(std), _by_channel(mean)
        self._window: int | None = None
        self._recomputed = False

    @property
    def vae(self) -> Any:
        if self._copy is None:
            return self._vae
        device = _device_of(self._vae)
        return self._copy if self._copy.device == device else self._copy.to(device)

    @property
    def window(self) -> int | None:
        return self._window

    @window.setter
    def window(self, window: int | None) -> None:
        if window is not None:
            tiled_autoencoder.check(self.vae, window, self.factor)
        self._window = window

    def encode(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b c p q"]:
        """Encode images in [0, 1] as scaled latents; sides must be multiples of the factor."""
        latents = self.mode(images)
        scale, shift = self._affine(latents)
        return (latents - shift) * scale

    def mode(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b c p q"]:
        """Encode images in [0, 1] as the unscaled mode of the posterior.

        Raises:
            ValueError: if a side is no multiple of the factor.
        """
        if images.shape[-1] % self.factor or images.shape[-2] % self.factor:
            size = f"{images.shape[-2]}x{images.shape[-1]}"
            raise ValueError(f"image sides must be multiples of {self.factor}, not {size}")
        placed = self._place(2 * images - 1)
        if self._window is not None and max(images.shape[-2:]) > self._window:
            latents = tiled_autoencoder.encode(self.vae, placed, self._window, self.factor)[:, : self.channels]
        elif self._recomputed and torch.is_grad_enabled():
            latents = checkpoint(self.vae.encode, placed, use_reentrant=False).latents
        else:
            encoded = self.vae.encode(placed)
            latents = encoded.latent_dist.mode() if hasattr(encoded, "latent_dist") else encoded.latents
        return latents.to(images)

    def decode(self, x: Float[Tensor, "b c p q"]) -> Float[Tensor, "b 3 h w"]:
        """Decode scaled latents to images in [0, 1]."""
        scale, shift = self._affine(x)
        latents = self._place(x / scale + shift)
        if self._window is not None and max(x.shape[-2:]) * self.factor > self._window:
            images = tiled_autoencoder.decode(self.vae, latents, self._window, self.factor)
        else:
            images = self.vae.decode(latents).sample
        return (images.to(x) / 2 + 0.5).clamp(0, 1)

    def checkpoint(self) -> None:
        """Recompute activations in the backward pass instead of keeping them."""
        self.vae.enable_gradient_checkpointing()
        if not hasattr(self.vae, "quant_conv"):  # AutoencoderTiny, whose own checkpointing forgets to scale images
            self.vae.encoder.gradient_checkpointing = False
            self._recomputed = True

    def _affine(self, latents: Tensor) -> list[Any]:
        return [v.to(latents) if isinstance(v, Tensor) else v for v in (self.scale, self.shift)]

    def _place(self, value: Tensor) -> Tensor:
        """Move to the dtype of the autoencoder and the device that it runs on, also if it is offloaded."""
        vae = self.vae
        return value.to(_device_of(vae), vae.dtype)


class WholeCodec:
    """Base of codecs that process whole images.

    Attributes:
        without: what has no windows, for the message.
    """

    without: str

    @property
    def window(self) -> int | None:
        """None: nothing is processed in windows."""
        return None

    @window.setter
    def window(self, window: int | None) -> None:
        if window is not None:
            raise ValueError(f"{self.without}: leave out window")


class PixelCodec(WholeCodec):
    """Codec of models whose samples are images in [-1, 1]."""

    factor, channels = 1, 3
    without = "the model works on pixels and has no autoencoder that could have windows"

    def encode(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 h w"]:
        """Map [0, 1] to [-1, 1]."""
        return 2 * images - 1

    def decode(self, x: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 h w"]:
        """Map [-1, 1] to [0, 1], clamped."""
        return (x / 2 + 0.5).clamp(0, 1)

    def checkpoint(self) -> None:
        """Nothing to recompute."""


def _device_of(vae: Any) -> torch.device:
    """The device that an autoencoder runs on, also if it is offloaded."""
    hook = getattr(vae, "_hf_hook", None)
    return torch.device(getattr(hook, "execution_device", None) or vae.device)


def _in_float32(vae: Any) -> Any:
    """A frozen float32 copy, without hooks of offloading."""
    if any(parameter.is_meta for parameter in vae.parameters()):
        raise ValueError(
            "the weights of a float16 autoencoder that overflows cannot be copied from a pipeline with sequential "
            "offloading: give load_prior the pipeline before that, and offload='sequential'"
        )
    if hasattr(vae, "_hf_hook"):  # which refers to other networks
        made = type(vae).from_config(vae.config)
        made.load_state_dict(vae.state_dict())
    else:
        made = copy.deepcopy(vae).float()
    return made.requires_grad_(False).eval()


def _by_channel(values: Sequence[float]) -> Tensor:
    return torch.tensor(list(values)).view(1, -1, 1, 1)
