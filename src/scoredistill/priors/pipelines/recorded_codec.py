r"""The autoencoder of a recorded pipeline, with the arrangement and scale of latents that the pipeline gives it.

A pipeline rearranges the scheduler's samples for its decoder, for example from tokens to an image, and scales and
shifts them. Both are read off from probes, z = c + a sample[index], so that samples of the prior are latents in the
layout of the autoencoder, with the scale of the scheduler:

    decode    D(c + a x),        encode    (mode(q(z | image)) - c) / a

where a and c are one number per channel, or one per channel and place in a patch of 2 or 4 latents a side. Latents of
images are [b, c, h, w], of videos [b, c, f, h, w], also where an autoencoder of images decodes each frame, and of sound
[b, c, n].
"""

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from scoredistill.priors.pipelines.codec import WholeCodec
from scoredistill.priors.pipelines.placements import Unsupported, digits_of, placement, probes
from scoredistill.priors.pipelines.recorder import Recorder


class RecordedCodec(WholeCodec):
    """The autoencoder of a recorded pipeline.

    Args:
        vae: the autoencoder.
        scale, shift: a and c of one sample's latents, [1, c, *d].
        options: further arguments of the decoder.
        framewise: whether videos are encoded and decoded frame by frame, as images.

    Attributes:
        factor: pixels along the side of a latent; for sound, values per latent frame.
        frames: frames per latent frame of videos; 1 for images.
        sound: whether the latents are of sound, [b, c, n], whose values are those of the autoencoder, in [-1, 1].
    """

    without = "the autoencoder of a recorded pipeline has no windows"

    def __init__(self, vae: Any, scale: Tensor, shift: Tensor, options: Mapping[str, Any], framewise: bool):
        self.vae, self.scale, self.shift, self.options = vae, tile_of(scale), tile_of(shift), dict(options)
        self.sound = scale.ndim == 3
        self.framewise = framewise
        with torch.no_grad():
            image = self.decode(torch.zeros(scale.shape, device=shift.device))
        self.factor = round(image.shape[-1] / scale.shape[-1])
        self.frames = (
            max(1, (image.shape[2] - 1) // (scale.shape[2] - 1)) if scale.ndim == 5 and scale.shape[2] > 1 else 1
        )

    def encode(self, images: Float[Tensor, "b k *p"]) -> Float[Tensor, "b c *d"]:
        """Encode images or videos in [0, 1], or sound in [-1, 1], as the mode of the posterior; differentiable."""
        rows = len(images)
        encoded = self.vae.encode(self._place(self._apart(images if self.sound else 2 * images - 1)))
        if hasattr(encoded, "latent_dist"):
            latents = encoded.latent_dist.mode()
        else:
            latents = encoded.latents if hasattr(encoded, "latents") else encoded.latent
        latents = self._together(latents.to(images), rows)
        return (latents - repeat(self.shift, latents)) / repeat(self.scale, latents)

    def decode(self, x: Float[Tensor, "b c *d"]) -> Float[Tensor, "b k *p"]:
        """Decode to images or videos in [0, 1], or to sound in [-1, 1]."""
        z = self._place(self._apart(repeat(self.scale, x) * x + repeat(self.shift, x)))
        decoded = self.vae.decode(z, **self.options)
        decoded = self._together((decoded[0] if isinstance(decoded, tuple) else decoded.sample).to(x), len(x))
        return decoded if self.sound else (decoded / 2 + 0.5).clamp(0, 1)

    def _apart(self, videos: Tensor) -> Tensor:
        """Frames as rows, for autoencoders of images."""
        return videos.movedim(2, 1).flatten(0, 1) if self.framewise else videos

    def _together(self, frames: Tensor, rows: int) -> Tensor:
        """The inverse of `_apart`."""
        return frames.unflatten(0, (rows, -1)).movedim(1, 2) if self.framewise else frames

    def checkpoint(self) -> None:
        """Recompute activations in the backward pass instead of keeping them."""
        self.vae.enable_gradient_checkpointing()

    def _place(self, value: Tensor) -> Tensor:
        hook = getattr(self.vae, "_hf_hook", None)
        return value.to(getattr(hook, "execution_device", None) or self.vae.device, self.vae.dtype)


def arrangement(
    recorder: Recorder, call: Mapping[str, Any], output: Any, sample: Tensor
) -> tuple[Tensor, Tensor, Tensor, Mapping[str, Any], bool]:
    """Learn how a pipeline arranges its samples for its decoder.

    Args:
        recorder: of the pipeline.
        call: arguments of the pipeline.
        output: an output of its network.
        sample: one sample, of the scheduler's shape.

    Returns:
        The position in the sample of each element of the latents; their scale and shift, both in the shape of a batch
        of latents of one sample; further arguments of the decoder; whether it is given the frames of a video as rows,
        [f, c, h, w], for which the latents are [1, c, f, h, w].

    Raises:
        Unsupported: if it does not only rearrange and scale them.
    """
    sources = probes(sample.numel(), digits_of(sample.numel()))
    seen = [recorder.decoded({**call, "output_type": "pt"}, output, source.to(sample)) for source in sources]
    found = placement([z for z, _ in seen], sources, "what is decoded")
    if found is not None and len(found.index) > sample.numel():
        raise Unsupported("the decoder is given more than the sample, such as a first frame that is not sampled")
    if found is None or len(found.index) != sample.numel() or len(found.index.unique()) != sample.numel():
        raise Unsupported("the decoder is not given all elements of the sample")
    z, options = seen[0]
    parts = [part.reshape(z.shape) for part in (found.index, found.scale, z)]
    if len(z) > 1:
        parts = [part.movedim(0, 1)[None] for part in parts]
    index, scale, shift = parts
    return index.flatten(), scale, shift, options, len(z) > 1


def tile_of(values: Tensor) -> Tensor:
    """The smallest tile [1, c, *p] that repeats to values [1, c, *d]: one number per channel, or per place in a patch.

    Raises:
        Unsupported: if there is none.
    """
    values, dims = values.float(), values.ndim - 2
    for size in (1, 2, 4):
        side = [size if dim >= dims - 2 else 1 for dim in range(dims)]
        places = slice(None), slice(None), *(slice(each) for each in side)
        tile = values[places]
        if any(whole % part for whole, part in zip(values.shape[2:], side, strict=True)):
            continue
        repeated = repeat(tile, values)
        if bool(((values - repeated).abs() <= 1e-3 * (1 + repeated.abs())).all()):
            return tile
    raise Unsupported("the scale of the latents differs within a channel")


def repeat(tile: Tensor, x: Tensor) -> Tensor:
    """A tile, repeated to the shape of latents."""
    counts = [-(-whole // part) for whole, part in zip(x.shape[2:], tile.shape[2:], strict=True)]
    repeated = tile.to(x).repeat(1, 1, *counts)
    places = slice(None), slice(None), *(slice(side) for side in x.shape[2:])
    return repeated[places]
