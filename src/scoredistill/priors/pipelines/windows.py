r"""Large pictures through an autoencoder, window by window, with the result of the whole picture.

Most of an autoencoder's memory is in its layers at the pictures' resolution; those at the latents' have a sixteenth of
it. So only the first are computed in windows, and the last for the whole picture, with their attention over all of it:

    encode    [convolutions, ..., last halving] in windows  ->  rest of the encoder, whole
    decode    decoder up to its first doubling, whole  ->  [first doubling, ..., convolutions] in windows

A window carries a margin as wide as its convolutions reach, and only what lies within the margin is kept. What remains
are the group norms, whose mean and variance are those of the whole picture. They are found before the windows are
computed, without gradient, by a fixed point: starting from each window's own, all windows are passed, and the moments
of each norm's input are pooled over what the windows keep. The first norm's are then exact, the second's after the
second pass, and so on; passes end once no moment moves by more than `TOLERANCE` standard deviations.

The gradient takes these moments for constants. Windows are recomputed in the backward pass, so that it holds one.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import torch
from diffusers.models.autoencoders.vae import Decoder, DecoderTiny, Encoder, EncoderTiny
from diffusers.models.downsampling import Downsample2D
from diffusers.models.resnet import ResnetBlock2D
from diffusers.models.unets.unet_2d_blocks import DownEncoderBlock2D, UpDecoderBlock2D
from diffusers.models.upsampling import Upsample2D
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

Norm = Callable[[nn.GroupNorm, Tensor], Tensor]
Moments = tuple[Tensor, Tensor]  # mean and variance of each group of channels
TOLERANCE = 1e-3


@dataclass(frozen=True)
class Span:
    """One window along one side, in latents: what is computed, and what of it is kept."""

    start: int
    stop: int
    low: int
    high: int


Window = tuple[Span, Span]


def encode(vae: Any, pictures: Float[Tensor, "b 3 h w"], window: int, factor: int) -> Float[Tensor, "b c p q"]:
    """What `vae.encoder` and the quantising convolution make of pictures in [-1, 1], one after the other.

    Args:
        vae: an `AutoencoderKL` or `AutoencoderTiny`.
        window: side in pixels, see `check`.
        factor: pixels of a latent's side.
    """
    head, tail = _encoder(vae)
    margin = -(-_reach(head, 1) // factor)

    def one(picture: Tensor) -> Tensor:
        sides = [spans(side // factor, window // factor, margin) for side in picture.shape[2:]]
        return _recomputed(lambda x: _run(tail, x), _windowed(head, picture, *sides))

    pictures = (pictures + 1) / 2 if isinstance(vae.encoder, EncoderTiny) else pictures
    return torch.cat([one(picture) for picture in pictures.split(1)])


def decode(vae: Any, latents: Float[Tensor, "b c p q"], window: int, factor: int) -> Float[Tensor, "b 3 h w"]:
    """What the quantising convolution and `vae.decoder` make of unscaled latents; as `encode`."""
    head, tail = _decoder(vae)
    margin = -(-_reach(tail, factor) // factor)

    def one(latent: Tensor) -> Tensor:
        sides = [spans(side, window // factor, margin) for side in latent.shape[2:]]
        return _windowed(tail, _recomputed(lambda x: _run(head, x), latent), *sides)

    tiny = isinstance(vae.decoder, DecoderTiny)
    pictures = torch.cat([one(z) for z in (3 * torch.tanh(latents / 3) if tiny else latents).split(1)])
    return 2 * pictures - 1 if tiny else pictures


def check(vae: Any, window: int, factor: int) -> None:
    """Say early what is wrong.

    Raises:
        ValueError: if the window is no multiple of the factor, has nothing within its margins, or the autoencoder is
            of a kind that cannot be taken apart.
    """
    margin = max(
        -(-_reach(layers, cell) // factor) for layers, cell in ((_encoder(vae)[0], 1), (_decoder(vae)[1], factor))
    )
    if window % factor or window // factor <= 2 * margin:
        least = (2 * margin + 1) * factor
        raise ValueError(f"windows must be multiples of {factor} pixels and at least {least}, not {window}")


def spans(length: int, window: int, margin: int) -> list[Span]:
    """Windows that cover a side, in latents; the last is shifted inwards. What they keep covers the side once."""
    if length <= window:
        return [Span(0, length, 0, length)]
    starts = [*range(0, length - window, window - 2 * margin), length - window]
    highs = [*(start + window - margin for start in starts[:-1]), length]
    return [Span(s, s + window, low, high) for s, low, high in zip(starts, [0, *highs[:-1]], highs, strict=True)]


def _windowed(layers: Sequence[nn.Module], x: Tensor, down: list[Span], across: list[Span]) -> Tensor:
    """`layers` of x, [1, c, h, w], as if they were given all of it at once."""
    size = down[-1].stop, across[-1].stop
    moments = _pooled(layers, x.detach(), list(product(down, across)), size)

    def fixed(part: Tensor) -> Tensor:
        given = iter(moments)
        return _run(layers, part, lambda norm, h: _normalised(norm, h, *next(given)))

    rows = [
        torch.cat([_kept(_recomputed(fixed, _part(x, size, (i, j))), (i, j)) for j in across], 3)  # fmt: skip
        for i in down
    ]
    return torch.cat(rows, 2)


@torch.no_grad()
def _pooled(layers: Sequence[nn.Module], x: Tensor, windows: Sequence[Window], size: tuple[int, int]) -> list[Moments]:
    """Mean and variance of every group norm's input over the whole of x."""
    norms = sum(isinstance(module, nn.GroupNorm) for layer in layers for module in layer.modules())
    now: list[Moments] = []
    for _ in range(norms):
        seen: list[list[tuple[int, Tensor, Tensor]]] = []

        def watch(norm: nn.GroupNorm, h: Tensor) -> Tensor:
            core = _kept(h, window)
            found.append((core[0, 0].numel(), *_moments(norm, core)))
            return norm(h) if not now else _normalised(norm, h, *now[len(found) - 1])

        for window in windows:
            found: list[tuple[int, Tensor, Tensor]] = []
            _run(layers, _part(x, size, window), watch)
            seen.append(found)
        before, now = now, [_merged(parts) for parts in zip(*seen, strict=True)]
        if before and max(_moved(a, b) for a, b in zip(before, now, strict=True)) < TOLERANCE:
            break
    return now


def _run(layers: Sequence[nn.Module], x: Tensor, norm: Norm = lambda norm, x: norm(x)) -> Tensor:
    """The layers in turn, group norms evaluated by `norm`."""
    for layer in layers:
        if isinstance(layer, nn.GroupNorm):
            x = norm(layer, x)
        elif isinstance(layer, ResnetBlock2D):
            h = layer.conv1(layer.nonlinearity(norm(layer.norm1, x)))
            h = layer.conv2(layer.nonlinearity(norm(layer.norm2, h)))
            x = (x if layer.conv_shortcut is None else layer.conv_shortcut(x)) + h
            x = x / layer.output_scale_factor
        else:
            x = layer(x)
    return x


def _recomputed(fn: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    return checkpoint(fn, x, use_reentrant=False, preserve_rng_state=False) if torch.is_grad_enabled() else fn(x)


def _part(x: Tensor, size: tuple[int, int], window: Window) -> Tensor:
    """What a window sees of a map of a picture of `size` latents, at whatever resolution."""
    cells = x.shape[2] // size[0]
    rows, columns = (slice(span.start * cells, span.stop * cells) for span in window)
    return x[:, :, rows, columns]


def _kept(h: Tensor, window: Window) -> Tensor:
    """What is kept of a map of the window."""
    down, across = window
    cells = h.shape[2] // (down.stop - down.start)
    rows, columns = (slice((s.low - s.start) * cells, (s.high - s.start) * cells) for s in (down, across))
    return h[:, :, rows, columns]


def _moments(norm: nn.GroupNorm, h: Tensor) -> Moments:
    var, mean = torch.var_mean(h.reshape(norm.num_groups, -1).float(), 1, correction=0)
    return mean, var


def _merged(parts: Sequence[tuple[int, Tensor, Tensor]]) -> Moments:
    counts = torch.tensor([count for count, _, _ in parts], dtype=torch.float32, device=parts[0][1].device)
    share = (counts / counts.sum())[:, None]
    means, variances = (torch.stack(values) for values in zip(*((m, v) for _, m, v in parts), strict=True))
    mean = (share * means).sum(0)
    return mean, (share * (variances + (means - mean).square())).sum(0)


def _moved(before: Moments, after: Moments) -> float:
    scale = after[1].clamp(min=1e-12).sqrt()
    shift = (after[0] - before[0]).abs() / scale
    return float(torch.maximum(shift, (before[1].sqrt() / scale - 1).abs()).max())


def _normalised(norm: nn.GroupNorm, h: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
    """The group norm with given moments, in float32 as torch computes it."""
    each = norm.num_channels // norm.num_groups
    gain = norm.weight / (variance + norm.eps).sqrt().repeat_interleave(each)
    shift = norm.bias - mean.repeat_interleave(each) * gain
    return torch.addcmul(shift[:, None, None], h.float(), gain[:, None, None]).to(h.dtype)


def _reach(layers: Sequence[nn.Module], cell: int) -> int:
    """Pixels beyond its own that a cell of the output depends on; `cell` is the side of one of the input, in pixels."""
    reach = 0
    for module in (module for layer in layers for module in layer.modules()):
        if isinstance(module, (Upsample2D, nn.Upsample)):
            cell //= 2
        elif isinstance(module, nn.Conv2d):
            reach += module.kernel_size[0] // 2 * cell
            cell *= module.stride[0]
    return reach


def _encoder(vae: Any) -> tuple[list[nn.Module], list[nn.Module]]:
    """The encoder's layers up to the last that halves the resolution, and the others."""
    encoder = vae.encoder
    if isinstance(encoder, EncoderTiny):
        layers = list(encoder.layers)
    else:
        _require(isinstance(encoder, Encoder), encoder.down_blocks, DownEncoderBlock2D)
        blocks = [layer for block in encoder.down_blocks for layer in (*block.resnets, *(block.downsamplers or []))]
        layers = [
            encoder.conv_in,
            *blocks,
            encoder.mid_block,
            encoder.conv_norm_out,
            encoder.conv_act,
            encoder.conv_out,
        ]
        layers += [vae.quant_conv] if vae.quant_conv is not None else []
    halving = [isinstance(layer, Downsample2D) or getattr(layer, "stride", None) == (2, 2) for layer in layers]
    cut = len(layers) - halving[::-1].index(True)
    return layers[:cut], layers[cut:]


def _decoder(vae: Any) -> tuple[list[nn.Module], list[nn.Module]]:
    """The decoder's layers up to the first that doubles the resolution, and the others."""
    decoder = vae.decoder
    if isinstance(decoder, DecoderTiny):
        layers = list(decoder.layers)
    else:
        _require(isinstance(decoder, Decoder), decoder.up_blocks, UpDecoderBlock2D)
        blocks = [layer for block in decoder.up_blocks for layer in (*block.resnets, *(block.upsamplers or []))]
        layers = [
            decoder.conv_in,
            decoder.mid_block,
            *blocks,
            decoder.conv_norm_out,
            decoder.conv_act,
            decoder.conv_out,
        ]
        layers = [vae.post_quant_conv, *layers] if vae.post_quant_conv is not None else layers
    cut = [isinstance(layer, (Upsample2D, nn.Upsample)) for layer in layers].index(True)
    return layers[:cut], layers[cut:]


def _require(known: bool, blocks: Sequence[nn.Module], kind: type[nn.Module]) -> None:
    if not (known and all(isinstance(block, kind) for block in blocks)):
        raise ValueError("windows need a plain AutoencoderKL or an AutoencoderTiny: leave window=None for this one")
