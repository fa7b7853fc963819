"""Composing images from RGBA emoji: placement, backgrounds, scenes and color jitter, vectorized over the batch.

Compositing uses premultiplied colors: an image over a background is  c a + (1 - a) b,  with c the color, a the opacity
and b the background, so resampling c a and a together leaves no dark fringe. Images are float [b, 3, h, w] in [0, 1].
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, UInt8
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from scoredistill.media import images as media_images
from scoredistill.media.images import blurred

BACKGROUNDS: dict[str, tuple[float, float, float]] = {
    "black": (0.06, 0.06, 0.07),
    "gray": (0.62, 0.62, 0.64),
    "red": (0.88, 0.25, 0.22),
    "orange": (0.98, 0.64, 0.26),
    "yellow": (0.99, 0.88, 0.38),
    "green": (0.38, 0.74, 0.40),
    "blue": (0.26, 0.47, 0.88),
    "light blue": (0.64, 0.83, 0.97),
    "purple": (0.58, 0.38, 0.80),
    "pink": (0.98, 0.70, 0.80),
    "brown": (0.55, 0.37, 0.24),
    "beige": (0.93, 0.87, 0.74),
    "light green": (0.71, 0.90, 0.62),
    "dark green": (0.10, 0.37, 0.21),
    "turquoise": (0.25, 0.79, 0.77),
    "dark blue": (0.11, 0.17, 0.42),
}
"""Background colors that captions name, sRGB in [0, 1]. White is the default and has no name."""


def uniform(n: int, low: float, high: float, rng: torch.Generator) -> Float[Tensor, " n"]:
    """Draw n numbers uniformly from [low, high)."""
    return low + (high - low) * torch.rand(n, generator=rng)


def premultiplied(rgba: UInt8[NDArray, "b h w 4"]) -> Float[Tensor, "b 4 h w"]:
    """Premultiplied floats in [0, 1] from bytes with straight alpha; in memory the channels follow the rows."""
    rows = torch.from_numpy(np.ascontiguousarray(rgba)).transpose(2, 3).contiguous().float().div_(255)
    rows[:, :, :3] *= rows[:, :, 3:]
    return rows.transpose(1, 2)


def place(
    image: Float[Tensor, "b c h w"],
    scale: Float[Tensor, " b"],
    shift: Float[Tensor, "b 2"],
    flip: Float[Tensor, " b"],
) -> Float[Tensor, "b c h w"]:
    """Scale images about the center, then shift them, by area averaging.

    Args:
        image: the images.
        scale: factor per image.
        shift: (x right, y down) in half image sizes.
        flip: -1 to mirror an image, 1 otherwise.
    """
    height, width = image.shape[2:]
    middle = torch.full_like(scale, 0.5)
    across = resampling_weights(0.5 + shift[:, 0] / 2, middle, flip * scale, (width, width))
    down = resampling_weights(0.5 + shift[:, 1] / 2, middle, scale, (height, height))
    return resampled(image, across, down)


def place_at_random(
    image: Float[Tensor, "b 4 h w"],
    scales: tuple[float, float],
    reach: float,
    rng: torch.Generator,
    mirror: float = 0.5,
) -> Float[Tensor, "b 4 h w"]:
    """Place images with a random scale in `scales` and a random shift of up to `reach` half image sizes per axis.

    Images are mirrored with probability `mirror`.
    """
    n = len(image)
    shift = torch.stack([uniform(n, -reach, reach, rng), uniform(n, -reach, reach, rng)], dim=1)
    flip = torch.where(torch.rand(n, generator=rng) < mirror, -1.0, 1.0)
    return place(image, uniform(n, *scales, rng), shift, flip)


def resampling_weights(
    center: Float[Tensor, " k"],
    source_center: Float[Tensor, " k"],
    scale: Float[Tensor, " k"],
    sides: tuple[int, int],
) -> Float[Tensor, "k target source"]:
    """Weights that resample one axis by area averaging.

    Pixel i of the target averages the source over the interval that it covers there,

        w_ij = |I_i intersected with pixel j| / |I_i|,   I_i of length max(1, pixels of the source per target pixel),

    so that nothing aliases when a drawing shrinks, and interpolates linearly when it grows. Outside of the source is
    nothing (weights 0).

    Args:
        center: where the point `source_center` of the source lies in the target; both in sides of their squares.
        source_center: that point.
        scale: side of the source relative to that of the target; negative to mirror.
        sides: (target, source), in pixels.
    """
    target, source = sides
    position = (torch.arange(target, device=scale.device) + 0.5) / target
    at = source * (source_center[:, None] + (position - center[:, None]) / scale[:, None])
    half = (source / (target * scale.abs())).clamp(min=1)[:, None, None] / 2
    edge = torch.arange(source, dtype=at.dtype, device=at.device)
    overlap = torch.minimum(at[..., None] + half, edge + 1) - torch.maximum(at[..., None] - half, edge)
    return overlap.clamp_(min=0) / (2 * half)


def resampled(
    image: Float[Tensor, "k c h w"], x_weights: Float[Tensor, "k v w"], y_weights: Float[Tensor, "k u h"]
) -> Float[Tensor, "k c u v"]:
    """Resample images along both axes with the weights of `resampling_weights`.

    Fastest for images that lie in memory in the order k, h, c, w, as those of `premultiplied` do.
    """
    k, c, h, _ = image.shape
    along_x = torch.bmm(image.transpose(1, 2).flatten(1, 2), x_weights.mT)
    return torch.bmm(y_weights, along_x.view(k, h, -1)).unflatten(2, (c, -1)).transpose(1, 2)


def over(image: Float[Tensor, "b 4 h w"], background: Float[Tensor, "#b 3 #h #w"]) -> Float[Tensor, "b 3 h w"]:
    """Composite premultiplied images over an opaque background."""
    return (image[:, :3] + (1 - image[:, 3:]) * background).clamp(0, 1)


def named_backgrounds(colors: list[str | None]) -> Float[Tensor, "b 3 1 1"]:
    """Backgrounds of the named colors; None is white."""
    return torch.tensor([BACKGROUNDS.get(color or "", (1.0, 1.0, 1.0)) for color in colors])[..., None, None]


def random_backgrounds(n: int, white: float, rng: torch.Generator) -> Float[Tensor, "n 3 1 1"]:
    """Backgrounds that are white with probability `white`, and of a random color otherwise."""
    plain = torch.rand(n, 1, generator=rng) < white
    return torch.where(plain, 1.0, torch.rand(n, 3, generator=rng))[..., None, None]


def scenes(
    rgba: UInt8[NDArray, "n h w 4"], background: Float[Tensor, "b 3 h w"], layers: int, rng: torch.Generator
) -> Float[Tensor, "b 3 h w"]:
    """Scenes of `layers` random emoji, small and at random positions, over each background."""
    image = background
    for _ in range(layers):
        chosen = torch.randint(len(rgba), (len(image),), generator=rng).numpy()
        image = over(place_at_random(premultiplied(rgba[chosen]), (0.35, 0.8), 0.7, rng), image)
    return image


def color_jittered(image: Float[Tensor, "b 3 h w"], strength: float, rng: torch.Generator) -> Float[Tensor, "b 3 h w"]:
    """Jitter brightness, contrast, saturation and the gain of each channel, each by up to `strength`."""
    n = len(image)
    gain = 1 + strength * (2 * torch.rand(n, 3, 1, 1, generator=rng) - 1) / 2
    contrast, saturation = (uniform(n, 1 - strength, 1 + strength, rng)[:, None, None, None] for _ in range(2))
    image = image * gain + uniform(n, -strength, strength, rng)[:, None, None, None] / 3
    gray = image.mean(dim=1, keepdim=True)
    image = gray + saturation * (image - gray)
    return (0.5 + contrast * (image - 0.5)).clamp(0, 1)


def degraded(image: Float[Tensor, "b 3 h w"], rng: torch.Generator) -> Float[Tensor, "b 3 h w"]:
    """Blur half of the images (Gaussian, up to 1.5 pixels) and add noise of standard deviation up to 0.08 to all."""
    sigma = 0.3 + 1.2 * float(torch.rand((), generator=rng))
    chosen = torch.rand(len(image), generator=rng) < 0.5
    image = image.index_put((chosen,), blurred(image[chosen], sigma).to(image.dtype))
    noise = torch.randn(image.shape, generator=rng) * uniform(len(image), 0.0, 0.08, rng)[:, None, None, None]
    return (image + noise).clamp(0, 1)


def image_grid(
    images: Float[Tensor, "n 3 h w"], columns: int, labels: Sequence[str] | None = None, zoom: int = 2
) -> Image.Image:
    """An image grid, row by row, of images enlarged `zoom` times."""
    enlarged = images.detach().float().cpu().repeat_interleave(zoom, 2).repeat_interleave(zoom, 3)
    return media_images.grid(media_images.to_pil(enlarged), columns, labels=labels)
