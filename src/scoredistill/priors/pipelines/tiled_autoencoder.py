r"""Autoencoding of large images window by window, with the result and the gradient of the whole image.

An autoencoder's memory is dominated by the activations of its layers at the images' resolution. The layers of each
resolution except the latents' are therefore computed window by window, and only the maps between resolutions are kept
for the whole image; the layers at the latents' resolution, with attention over all positions, process the whole map:

    encode    [layers, halving] in windows, ..., [layers, halving] in windows, the rest
    decode    the first layers, [doubling, layers] in windows, ..., [doubling, layers] in windows

A window has a margin as wide as the reach of its convolutions, and only what lies within is kept: this is exact. Group
norms need the mean and variance of the whole image. They are computed in the order of the layers: all windows are
evaluated up to a norm, with the moments of the preceding norms known, and its moments are pooled over the kept parts,

    mean = sum_w n_w mean_w / n,        variance = sum_w n_w (variance_w + (mean_w - mean)^2) / n.

Gradients pass through the moments too. Windows are recomputed in the backward pass, which stores one at a time.

Measured on photographs of 256 x 256 in windows of 128, as the largest difference from the whole image's latents in
units of their standard deviation: 1e-6 for the bundled autoencoder and 1e-5 for a random one with attention. Plain
tiles are off by 0.4 and 3.4, tiles with the moments of a shrunken image by 0.04 and 1.4, and moments held constant
change a smooth gradient by 5 to 26 percent. The cost is time: a layer is recomputed for each norm that follows it at
its resolution. For Stable Diffusion's autoencoder, 1024 x 1024 in windows of 512, this takes 2.2 times the operations
of the whole image in encoding and 5.2 times in decoding.

The classes of diffusers' layers are imported in the functions that look for them, since diffusers takes seconds to
import.
"""

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise, product
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

Layers = list[nn.Module]
Moments = tuple[Tensor, Tensor]  # mean and variance of each group of channels


def encode(vae: Any, images: Float[Tensor, "b 3 h w"], window: int, factor: int) -> Float[Tensor, "b c p q"]:
    """Apply `vae.encoder` and the quantization convolution to images in [-1, 1], one image after the other.

    Args:
        vae: an `AutoencoderKL` or `AutoencoderTiny`.
        images: images in [-1, 1].
        window: side of a window in pixels, see `check`.
        factor: number of pixels along the side of a latent.
    """
    _fetch(vae)
    levels, tail = _encoder(vae)
    size = images.shape[2] // factor, images.shape[3] // factor

    def one(h: Tensor) -> Tensor:
        for level in levels:
            h = _windowed(level, h, size, window // factor, factor)
        return _recomputed(lambda h: _run(tail, h), h)

    images = (images + 1) / 2 if _is_tiny(vae.encoder) else images
    return torch.cat([one(image) for image in images.split(1)])


def decode(vae: Any, latents: Float[Tensor, "b c p q"], window: int, factor: int) -> Float[Tensor, "b 3 h w"]:
    """Apply the quantization convolution and `vae.decoder` to unscaled latents; arguments as for `encode`."""
    _fetch(vae)
    head, levels = _decoder(vae)
    size = latents.shape[2], latents.shape[3]

    def one(h: Tensor) -> Tensor:
        h = _recomputed(lambda h: _run(head, h), h)
        for level in levels:
            h = _windowed(level, h, size, window // factor, factor)
        return h

    tiny = _is_tiny(vae.decoder)
    images = torch.cat([one(z) for z in (3 * torch.tanh(latents / 3) if tiny else latents).split(1)])
    return 2 * images - 1 if tiny else images


def check(vae: Any, window: int, factor: int) -> None:
    """Check that an autoencoder can be evaluated in windows of this size.

    Raises:
        ValueError: if the window is no multiple of the factor, has nothing within its margins, or the autoencoder is
            of an unsupported kind.
    """
    down, up = _encoder(vae)[0], _decoder(vae)[1]
    margins = [_margin(level, 2**i, factor) for i, level in enumerate(down)]
    margins += [_margin(level, factor // 2**i, factor) for i, level in enumerate(up)]
    least = (2 * max(margins) + 1) * factor
    if window % factor or window < least:
        raise ValueError(f"windows must be multiples of {factor} pixels and at least {least}, not {window}")


@dataclass(frozen=True)
class Span:
    """One window along one side, in latents: the computed range [start, stop), of which [low, high) is kept."""

    start: int
    stop: int
    low: int
    high: int


Window = tuple[Span, Span]


def spans(length: int, window: int, margin: int) -> list[Span]:
    """Cover a side, in latents, with windows of equal size, as few and as small as possible.

    The last one is shifted inwards. The kept ranges cover the side exactly once.
    """
    if length <= window:
        return [Span(0, length, 0, length)]
    count = -(-(length - 2 * margin) // (window - 2 * margin))
    window = -(-(length - 2 * margin) // count) + 2 * margin
    starts = [*range(0, length - window, window - 2 * margin), length - window]
    highs = [*(start + window - margin for start in starts[:-1]), length]
    return [Span(s, s + window, low, high) for s, low, high in zip(starts, [0, *highs[:-1]], highs, strict=True)]


def _windowed(layers: Layers, x: Tensor, size: tuple[int, int], window: int, factor: int) -> Tensor:
    """Apply layers to a map x, [1, c, h, w], of an image of `size` latents, with the result of the whole map."""
    cells = x.shape[2] // size[0]
    margin = _margin(layers, factor // cells, factor)
    down, across = (spans(side, window, margin) for side in size)
    parts = {
        (i, j): x[:, :, i.start * cells : i.stop * cells, j.start * cells : j.stop * cells]
        for i, j in product(down, across)
    }
    moments: list[Moments] = []
    for _ in range(sum(isinstance(module, nn.GroupNorm) for layer in layers for module in layer.modules())):
        known = partial(_share, layers, moments)
        moments = [*moments, _pooled([_recomputed(partial(known, at), part) for at, part in parts.items()])]
    run = partial(_run, layers, moments=moments)
    kept = {at: _kept(_recomputed(run, part), at) for at, part in parts.items()}
    return torch.cat([torch.cat([kept[i, j] for j in across], 3) for i in down], 2)


def _run(layers: Layers, x: Tensor, moments: list[Moments] | None = None) -> Tensor:
    """Apply the layers in turn, with the given moments of their group norms or with those of x."""
    steps, given = _steps(layers, x), iter(moments or ())
    try:
        norm, h = next(steps)
        while True:
            norm, h = steps.send(norm(h) if moments is None else _normalized(norm, h, next(given)))
    except StopIteration as end:
        return end.value


def _share(layers: Layers, moments: list[Moments], window: Window, x: Tensor) -> tuple[int, Tensor, Tensor]:
    """(count, mean, variance) of the kept part of the input of the first group norm with unknown moments."""
    steps = _steps(layers, x)
    norm, h = next(steps)
    for known in moments:
        norm, h = steps.send(_normalized(norm, h, known))
    h = _kept(h, window)
    var, mean = torch.var_mean(h.reshape(norm.num_groups, -1).float(), 1, correction=0)
    return h[0, 0].numel(), mean, var


def _steps(layers: Layers, x: Tensor) -> Generator[tuple[nn.GroupNorm, Tensor], Tensor, Tensor]:
    """Apply the layers in turn; at each group norm, yield it with its input, and receive its output."""
    from diffusers.models.resnet import ResnetBlock2D

    for layer in layers:
        if isinstance(layer, nn.GroupNorm):
            x = yield layer, x
        elif isinstance(layer, ResnetBlock2D):
            h = yield layer.norm1, x
            h = yield layer.norm2, layer.conv1(layer.nonlinearity(h))
            h = layer.conv2(layer.nonlinearity(h))
            x = ((x if layer.conv_shortcut is None else layer.conv_shortcut(x)) + h) / layer.output_scale_factor
        else:
            x = layer(x)
    return x


def _recomputed(fn: Callable[[Tensor], Any], x: Tensor) -> Any:
    return checkpoint(fn, x, use_reentrant=False, preserve_rng_state=False) if torch.is_grad_enabled() else fn(x)


def _kept(h: Tensor, window: Window) -> Tensor:
    """The kept part of a window's map, at any resolution."""
    cells = h.shape[2] // (window[0].stop - window[0].start)
    rows, columns = (slice((side.low - side.start) * cells, (side.high - side.start) * cells) for side in window)
    return h[:, :, rows, columns]


def _pooled(shares: Sequence[tuple[int, Tensor, Tensor]]) -> Moments:
    """Mean and variance over all windows, from those of each."""
    total = sum(count for count, _, _ in shares)
    mean = sum((count / total * part for count, part, _ in shares), torch.zeros_like(shares[0][1]))
    spread = ((count / total, var + (part - mean).square()) for count, part, var in shares)
    return mean, sum((share * var for share, var in spread), torch.zeros_like(mean))


def _normalized(norm: nn.GroupNorm, h: Tensor, moments: Moments) -> Tensor:
    """Apply a group norm with given moments, in float32 as torch does."""
    (mean, variance), each = moments, norm.num_channels // norm.num_groups
    gain = norm.weight / (variance + norm.eps).sqrt().repeat_interleave(each)
    shift = norm.bias - mean.repeat_interleave(each) * gain
    return torch.addcmul(shift[:, None, None], h.float(), gain[:, None, None]).to(h.dtype)


def _margin(layers: Layers, cell: int, factor: int) -> int:
    """Reach of the layers in latents; `cell` is the side in pixels of an element of their input."""
    from diffusers.models.upsampling import Upsample2D

    reach = 0
    for module in (module for layer in layers for module in layer.modules()):
        if isinstance(module, (Upsample2D, nn.Upsample)):
            cell //= 2
        elif isinstance(module, nn.Conv2d):
            reach += module.kernel_size[0] // 2 * cell
            cell *= module.stride[0]
    return -(-reach // factor)


def _encoder(vae: Any) -> tuple[list[Layers], Layers]:
    """The encoder's layers in groups that end with a halving of the resolution, and the others."""
    from diffusers.models.autoencoders.vae import Encoder
    from diffusers.models.downsampling import Downsample2D
    from diffusers.models.unets.unet_2d_blocks import DownEncoderBlock2D

    encoder = vae.encoder
    if _is_tiny(encoder):
        layers = list(encoder.layers)
    else:
        _require(encoder, Encoder, "down_blocks", DownEncoderBlock2D)
        blocks = [layer for block in encoder.down_blocks for layer in (*block.resnets, *(block.downsamplers or []))]
        layers = [encoder.conv_in, *blocks, encoder.mid_block, encoder.conv_norm_out, encoder.conv_act]
        layers += [encoder.conv_out, *([] if vae.quant_conv is None else [vae.quant_conv])]
    halving = [isinstance(layer, Downsample2D) or getattr(layer, "stride", None) == (2, 2) for layer in layers]
    cuts = [0, *(i + 1 for i, halves in enumerate(halving) if halves)]
    return [layers[i:j] for i, j in pairwise(cuts)], layers[cuts[-1] :]


def _decoder(vae: Any) -> tuple[Layers, list[Layers]]:
    """The decoder's layers before the first doubling of the resolution, and groups that begin with one."""
    from diffusers.models.autoencoders.vae import Decoder
    from diffusers.models.unets.unet_2d_blocks import UpDecoderBlock2D
    from diffusers.models.upsampling import Upsample2D

    decoder = vae.decoder
    if _is_tiny(decoder):
        layers = list(decoder.layers)
    else:
        _require(decoder, Decoder, "up_blocks", UpDecoderBlock2D)
        blocks = [layer for block in decoder.up_blocks for layer in (*block.resnets, *(block.upsamplers or []))]
        layers = [*([] if vae.post_quant_conv is None else [vae.post_quant_conv]), decoder.conv_in, decoder.mid_block]
        layers += [*blocks, decoder.conv_norm_out, decoder.conv_act, decoder.conv_out]
    cuts = [i for i, layer in enumerate(layers) if isinstance(layer, (Upsample2D, nn.Upsample))]
    return layers[: cuts[0]], [layers[i:j] for i, j in pairwise([*cuts, len(layers)])]


def _fetch(vae: Any) -> None:
    """Move an offloaded autoencoder to its device, as `vae.encode` would.

    Raises:
        ValueError: if its layers are offloaded one by one.
    """
    if any(parameter.is_meta for parameter in vae.parameters()):
        raise ValueError("windows do not work with offload='sequential': use offload='model', or window=None")
    if hasattr(vae, "_hf_hook"):
        vae._hf_hook.pre_forward(vae)


def _is_tiny(part: nn.Module) -> bool:
    """Whether a part belongs to an `AutoencoderTiny`."""
    from diffusers.models.autoencoders.vae import DecoderTiny, EncoderTiny

    return isinstance(part, (EncoderTiny, DecoderTiny))


def _require(part: nn.Module, kind: type[nn.Module], blocks: str, block: type[nn.Module]) -> None:
    if not (isinstance(part, kind) and all(isinstance(each, block) for each in getattr(part, blocks))):
        raise ValueError("windows need a plain AutoencoderKL or an AutoencoderTiny: use window=None with this one")
