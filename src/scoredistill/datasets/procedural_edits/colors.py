r"""Edits of colors: a pixel of the result depends on the same pixel of the image in [0, 1] alone.

With luma L = .299 R + .587 G + .114 B, saturation S = max(rgb) - min(rgb) and mix(a, b; s) = a + s (b - a):

    black and white   L
    sepia             M rgb, the usual sepia matrix
    night             mix(rgb, L; .5) * (.22, .28, .5)
    sunset            rgb^(.8, 1.1, 1.5) * (1, .86, .62) + (.08, 0, 0)
    dawn              mix of (.26, .20, .42) and (1, .80, .84) by mix(rgb, L; .3)
    dusk              mix of (.10, .05, .25) and (.62, .42, .74) by mix(rgb, L; .4)
    snowy             mix(mix(rgb, L; .6), white; smoothstep(.25, .85; L)) * (.94, .97, 1)
    autumn            mix(leaf(rgb), tones(L; brown, orange, straw); .65), leaf: green becomes orange
    spring            mix(rgb, tones(L; green, light green, pink); .6)
    summer            saturation * 1.5, * (1, 1.06, .6) + (.06, .08, 0)
    inverted          1 - rgb
    posterized        four levels per channel
    tinted c          tones(L; black, c, white)
    hue rotation      all hues rotated by one angle about the gray axis
    poster p          tones of a palette of four colors, in steps of L

tones(L; c_0, ..., c_n) goes from c_0 at L = 0 through equally spaced colors to c_n at L = 1.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor

from scoredistill.datasets.procedural_edits.edit import Images, Prepare, Values, fixed
from scoredistill.datasets.procedural_edits.view import View

Color = tuple[float, float, float]

SEPIA = ((0.393, 0.769, 0.189), (0.349, 0.686, 0.168), (0.272, 0.534, 0.131))
TINTS: dict[str, Color] = {
    "red": (0.9, 0.16, 0.14),
    "orange": (0.98, 0.55, 0.1),
    "yellow": (0.98, 0.84, 0.15),
    "green": (0.15, 0.68, 0.25),
    "blue": (0.15, 0.38, 0.9),
    "purple": (0.55, 0.25, 0.8),
}
AUTUMN: tuple[Color, ...] = ((0.16, 0.06, 0.02), (0.78, 0.36, 0.08), (0.97, 0.76, 0.44))
SPRING: tuple[Color, ...] = ((0.12, 0.34, 0.16), (0.62, 0.84, 0.5), (1.0, 0.84, 0.92))
PALETTES: dict[str, tuple[Color, Color, Color, Color]] = {
    "red and cream": ((0.05, 0.16, 0.27), (0.80, 0.16, 0.16), (0.42, 0.62, 0.68), (0.98, 0.92, 0.75)),
    "violet and yellow": ((0.20, 0.05, 0.36), (0.62, 0.16, 0.55), (0.96, 0.45, 0.30), (1.0, 0.89, 0.30)),
    "green and mint": ((0.03, 0.18, 0.14), (0.05, 0.44, 0.34), (0.35, 0.75, 0.50), (0.86, 0.97, 0.82)),
    "blue and white": ((0.03, 0.08, 0.30), (0.10, 0.33, 0.75), (0.45, 0.72, 0.95), (0.97, 0.98, 1.0)),
    "pink and cyan": ((0.16, 0.10, 0.32), (0.92, 0.15, 0.52), (0.20, 0.78, 0.85), (1.0, 0.86, 0.90)),
    "brown and sand": ((0.17, 0.09, 0.05), (0.50, 0.27, 0.12), (0.82, 0.58, 0.30), (0.97, 0.90, 0.76)),
}
"""Colors of posters, from dark to light."""
STEEPNESS = 24.0
"""Of the steps between the colors of a poster, which are smooth so that edges are not jagged."""


def smoothstep(low: float, high: float, x: Tensor) -> Tensor:
    """0 below `low`, 1 above `high`, smooth between."""
    s = ((x - low) / (high - low)).clamp(0, 1)
    return s * s * (3 - 2 * s)


def luma(images: Images) -> Float[Tensor, "b 1 h w"]:
    """Luma L of each pixel."""
    weights = images.new_tensor([0.299, 0.587, 0.114])
    return (images * weights[:, None, None]).sum(1, keepdim=True)


def mix(a: Tensor, b: Tensor, s: Tensor | float) -> Tensor:
    """Linear interpolation a + s (b - a)."""
    return a + s * (b - a)


def like(images: Images, color: Sequence[float]) -> Float[Tensor, "3 1 1"]:
    """A color with the type and device of images."""
    return images.new_tensor(color)[:, None, None]


def tones(images: Images, colors: Sequence[Color]) -> Images:
    """The piecewise linear gradient of colors along the luma."""
    position = luma(images).clamp(0, 1) * (len(colors) - 1)
    result = like(images, colors[0]).expand_as(images)
    for index, (below, above) in enumerate(pairwise(colors)):
        result = result + (position - index).clamp(0, 1) * (like(images, above) - like(images, below))
    return result


def of_pixels(function: Callable[[Images], Images]) -> Prepare:
    """A variant without parameters, by a function of colors."""
    return fixed(lambda images, view: function(images))


def black_and_white(images: Images) -> Images:
    return luma(images).expand_as(images)


def sepia(images: Images) -> Images:
    return torch.einsum("oc,bchw->bohw", images.new_tensor(SEPIA), images)


def night(images: Images) -> Images:
    return mix(images, luma(images), 0.5) * like(images, (0.22, 0.28, 0.5))


def sunset(images: Images) -> Images:
    powers = like(images, (0.8, 1.1, 1.5))
    return images.clamp(0, 1) ** powers * like(images, (1.0, 0.86, 0.62)) + like(images, (0.08, 0.0, 0.0))


def dawn(images: Images) -> Images:
    return mix(like(images, (0.26, 0.2, 0.42)), like(images, (1.0, 0.8, 0.84)), mix(images, luma(images), 0.3))


def dusk(images: Images) -> Images:
    return mix(like(images, (0.1, 0.05, 0.25)), like(images, (0.62, 0.42, 0.74)), mix(images, luma(images), 0.4))


def snowy(images: Images) -> Images:
    light = luma(images)
    pale = mix(images, light, 0.6)
    return mix(pale, torch.ones_like(images), smoothstep(0.25, 0.85, light)) * like(images, (0.94, 0.97, 1.0))


def autumn(images: Images) -> Images:
    red, green, blue = images.unbind(1)
    leafy = (2 * (green - torch.maximum(0.8 * red, blue))).clamp(0, 1)[:, None]
    orange = torch.stack([0.95 * green, 0.5 * green, 0.2 * blue], 1)
    return mix(mix(images, orange, leafy), tones(images, AUTUMN), 0.65)


def spring(images: Images) -> Images:
    return mix(images, tones(images, SPRING), 0.6)


def summer(images: Images) -> Images:
    vivid = mix(luma(images), images, 1.5).clamp(0, 1)
    return vivid * like(images, (1.0, 1.06, 0.6)) + like(images, (0.06, 0.08, 0.0))


def inverted(images: Images) -> Images:
    return 1 - images


def posterized(images: Images) -> Images:
    return (images * 3.999).floor() / 3


def tinted(color: str) -> Callable[[Images], Images]:
    """The function that renders an image in shades of one color."""
    return lambda images: tones(images, ((0.0, 0.0, 0.0), TINTS[color], (1.0, 1.0, 1.0)))


def poster(palette: str) -> Callable[[Images], Images]:
    """The function that renders an image in the four colors of a palette."""

    def apply(images: Images) -> Images:
        light, colors = luma(images), PALETTES[palette]
        result = like(images, colors[0]).expand_as(images)
        for index, (below, above) in enumerate(pairwise(colors)):
            step = torch.sigmoid(STEEPNESS * (light - (index + 1) / len(colors)))
            result = result + step * (like(images, above) - like(images, below))
        return result

    return apply


def hue_turned(images: Images, angle: Float[Tensor, " b"]) -> Images:
    """Rotate the colors of each image about the gray axis by an angle in radians."""
    cos, sin = angle.cos()[:, None, None, None], angle.sin()[:, None, None, None]
    gray = images.mean(1, keepdim=True)
    red, green, blue = images.unbind(1)
    across = torch.stack([blue - green, red - blue, green - red], 1) / math.sqrt(3)
    return gray + cos * (images - gray) + sin * across


def recolored(images: Images, view: View) -> Callable[[Values], Images]:
    """Rotate the hues of each image by values (angle,)."""
    return lambda values: hue_turned(images, values[:, 0])
