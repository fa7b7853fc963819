r"""Edits whose pixels depend on their neighbors or on their place: drawings, blocks, blurs, textures and frames.

Distances are in units u of 1/64 of the side of an editor's images. With luma L, contrast K(s) = L / blur(L; s) and
smoothstep s(a, b; x):

    pencil sketch     K(3)^1.5, clipped: dark lines where the image is darker than its surroundings
    ink               s(.75, .95; K(2)) s(.22, .34; L): black lines, and black where the image is dark
    charcoal          gray paper, smudged where blur(L; 1.5) is dark, and thick, soft lines blur(K(5); .5)^3
    crosshatching     lines of width growing with 1 - L at an angle and, in darker parts, across it; beside outlines
    stripes           .2 + .6 rgb + .2 w,   w a wave of wavelength 8 with rounded corners, at an angle
    framed            a band of 5 units in one color along the border of the whole image
    pixelated         means of blocks of 4 x 4 units; of the visible part, where a block is cut by a border
    blurry            Gaussian blur with a standard deviation of 1.5

A wave at an angle theta with phase phi is cos(2 pi (q . (cos theta, sin theta) / wavelength + phi)), with q = (x, y)
from the origin of the view, so crops of one image show parts of one wave.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from scoredistill.datasets.procedural_edits.colors import Color, like, luma, mix, smoothstep
from scoredistill.datasets.procedural_edits.edit import Images, Prepare, Values, fixed
from scoredistill.datasets.procedural_edits.view import View
from scoredistill.media.images import blurred

STRIPE, HATCH = 8.0, 4.0
"""Wavelengths of stripes and hatching, in units: whole periods of stripes fit into an editor's image at angle 0."""
FRAME = 5.0
"""Width of a frame, in units."""
FRAMES: dict[str, Color] = {
    "red": (0.82, 0.13, 0.12),
    "orange": (0.95, 0.45, 0.06),
    "yellow": (1.0, 0.88, 0.26),
    "green": (0.13, 0.55, 0.25),
    "blue": (0.12, 0.32, 0.8),
    "purple": (0.5, 0.2, 0.68),
    "pink": (0.96, 0.55, 0.72),
    "black": (0.07, 0.07, 0.08),
}
"""Colors of frames."""


def contrast(light: Float[Tensor, "b 1 h w"], sigma: float) -> Float[Tensor, "b 1 h w"]:
    """Luma relative to its surroundings, in [0, 1]; 1 where it is not darker than they are."""
    return (light / blurred(light, sigma).clamp(min=1e-3)).clamp(0, 1)


def pencil_sketch(images: Images, view: View) -> Images:
    return contrast(luma(images), 3.0 * view.unit).pow(1.5).expand_as(images)


def ink(images: Images, view: View) -> Images:
    light = luma(images)
    lines = smoothstep(0.75, 0.95, contrast(light, 2.0 * view.unit))
    return (lines * smoothstep(0.22, 0.34, light)).expand_as(images)


def charcoal(images: Images, view: View) -> Images:
    light = luma(images)
    smudge = 1 - 0.6 * smoothstep(0.25, 0.95, 1 - blurred(light, 1.5 * view.unit))
    lines = blurred(contrast(light, 5.0 * view.unit), 0.5 * view.unit).pow(3)
    return (0.04 + 0.72 * smudge * lines).expand_as(images)


def crosshatched(images: Images, view: View) -> Callable[[Values], Images]:
    """Hatch images by values (angle, phase, phase across)."""
    light = luma(images)
    dark, outline = 1 - blurred(light, 0.5 * view.unit), contrast(light, 2.0 * view.unit).pow(2)
    first, second = hatching(dark, 0.1, 0.8), hatching(dark, 0.5, 1.0)

    def apply(values: Values) -> Images:
        angle, phase, across = values.unbind(1)
        lines = 1 - first(wave(images, view, angle, phase, HATCH))
        crossing = 1 - second(wave(images, view, angle + math.pi / 2, across, HATCH))
        return (0.06 + 0.92 * outline * lines * crossing).expand_as(images)

    return apply


def hatching(dark: Float[Tensor, "b 1 h w"], low: float, high: float) -> Callable[[Tensor], Tensor]:
    """waves -> opacity of lines on their crests: none where the darkness is below `low`, widest above `high`."""
    tone = smoothstep(low, high, dark)
    width, opacity = 0.75 * tone - 0.65, (0.55 + 0.4 * tone) * smoothstep(low, low + 0.06, dark)
    return lambda waves: opacity * torch.sigmoid(6 * (waves + width))


def striped(images: Images, view: View) -> Callable[[Values], Images]:
    """Print stripes on images by values (angle, phase); visible on every color."""
    pale = 0.2 + 0.6 * images
    return lambda values: pale + 0.2 * rounded(wave(images, view, values[:, 0], values[:, 1], STRIPE))


def rounded(waves: Tensor) -> Tensor:
    """A square wave with rounded corners, in [-1, 1]."""
    return torch.tanh(2.5 * waves) / math.tanh(2.5)


def wave(
    images: Images, view: View, angle: Float[Tensor, " b"], phase: Float[Tensor, " b"], wavelength: float
) -> Float[Tensor, "b 1 h w"]:
    """The wave of each image at an angle in radians, with a phase in periods and a wavelength in units."""
    y, x = view.coordinates(images)
    cos, sin, start = (value[:, None, None] for value in (angle.cos(), angle.sin(), phase))
    return (2 * math.pi * ((cos * x + sin * y) / wavelength + start)).cos()[:, None]


def framed(color: str) -> Prepare:
    """The variant that lays a band of one color along the border of the whole image."""

    def apply(images: Images, view: View) -> Images:
        y, x = view.pixels(images)
        height, width = view.size
        depth = torch.minimum(torch.minimum(y, height - y), torch.minimum(x, width - x))  # to the border, in pixels
        inside = (depth - FRAME * view.unit + 0.5).clamp(0, 1)[:, None]
        return mix(like(images, FRAMES[color]), images, inside)

    return fixed(apply)


def pixelated(images: Images, view: View) -> Images:
    block = max(1, round(4 * view.unit))
    rows, columns = (_members(view.corner[:, axis], images.shape[2 + axis], block, images) for axis in (0, 1))
    visible = rows.sum(-1)[:, None, :, None] * columns.sum(-1)[:, None, None, :]
    sums = torch.einsum("bph,bchw,bqw->bcpq", rows, images, columns)
    return torch.einsum("bph,bcpq,bqw->bchw", rows, sums / visible.clamp(min=1), columns)


def _members(start: Tensor, count: int, block: int, images: Images) -> Float[Tensor, "b blocks n"]:
    """Which of `count` pixels from `start` on belong to which block of the whole image, as 0 and 1."""
    pixels = start[:, None] % block + torch.arange(count)
    members = functional.one_hot(pixels // block, -(-(count + block - 1) // block)).mT
    return members.to(images).expand(len(images), -1, -1)


def blurry(images: Images, view: View) -> Images:
    return blurred(images, 1.5 * view.unit)
