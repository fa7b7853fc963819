"""Recoloring drawings: a red car becomes a blue car.

In the HSV model a drawing has a dominant hue, that with the most chroma within `REACH` of it. Pixels of about that hue
are turned to the wanted one,

    H' = H + (H_wanted - H_dominant),   S' = min(s S, 1),   V' = 1 - v (1 - V)  or  v V,

and keep their shading; windows, wheels and outlines keep their color. s and v adjust colors that are pale or bright by
nature, such as pink and yellow, and fade out for pixels of little chroma, so that dark lines stay dark. Drawings of
many colors, and gray ones, have no dominant hue and are not recolored.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, UInt8
from numpy.typing import NDArray

REACH = 45.0
"""Largest difference from the dominant hue of a pixel that is turned, in degrees."""
SHARE, CHROMA = 0.6, 0.2
"""Smallest fraction of the chroma near the dominant hue, and smallest mean chroma in [0, 1], of a drawing that can be
recolored."""


@dataclass(frozen=True)
class Paint:
    """A color to give to a drawing.

    Attributes:
        hue: in degrees.
        saturation: factor of the saturation.
        lift: factor of 1 - V, to brighten.
        value: factor of V, to darken.
    """

    hue: float
    saturation: float = 1.0
    lift: float = 1.0
    value: float = 1.0


PAINTS = {
    "red": Paint(358.0),
    "orange": Paint(27.0, saturation=1.2, lift=0.6),
    "yellow": Paint(50.0, saturation=1.3, lift=0.4),
    "green": Paint(125.0, value=0.85),
    "turquoise": Paint(175.0, value=0.95),
    "blue": Paint(216.0),
    "purple": Paint(275.0),
    "pink": Paint(332.0, saturation=0.65, lift=0.5),
}
"""Name of a color in captions -> how it is made."""


def hsv(rgb: Float[NDArray, "*n 3"]) -> tuple[Float[NDArray, "*n"], Float[NDArray, "*n"], Float[NDArray, "*n"]]:
    """Hue in degrees, saturation and value of colors in [0, 1]; gray has the hue 0."""
    red, green, blue = np.moveaxis(rgb, -1, 0)
    value = np.maximum(np.maximum(red, green), blue)
    chroma = value - np.minimum(np.minimum(red, green), blue)
    safe = np.where(chroma > 0, chroma, 1)
    sextant = np.select(
        [chroma == 0, value == red, value == green],
        [np.zeros_like(value), (green - blue) / safe % 6, (blue - red) / safe + 2],
        (red - green) / safe + 4,
    )
    return 60 * sextant, np.where(value > 0, chroma / np.where(value > 0, value, 1), 0), value


def from_hsv(
    hue: Float[NDArray, "*n"], saturation: Float[NDArray, "*n"], value: Float[NDArray, "*n"]
) -> Float[NDArray, "*n 3"]:
    """Colors in [0, 1] of hue in degrees, saturation and value."""
    offset = (np.array([5, 3, 1]) + hue[..., None] / 60) % 6
    return value[..., None] * (1 - saturation[..., None] * np.clip(np.minimum(offset, 4 - offset), 0, 1))


def apart(hue: Float[NDArray, "*n"], other: float) -> Float[NDArray, "*n"]:
    """Difference of hues on the circle, in [0, 180] degrees."""
    return np.abs((hue - other + 180) % 360 - 180)


def dominant_hue(rgba: UInt8[NDArray, "h w 4"]) -> float | None:
    """The dominant hue of a drawing in degrees, or None if it has many colors or none."""
    step = max(1, len(rgba) // 32)  # a sample of the pixels is enough
    hue, saturation, value = hsv(rgba[::step, ::step, :3] / np.float32(255))
    alpha = rgba[::step, ::step, 3] / np.float32(255)
    weight = alpha * saturation * value  # chroma
    if weight.sum() < CHROMA * alpha.sum() or not alpha.any():
        return None
    bins = np.bincount((hue / 10).astype(int).ravel() % 36, weight.ravel(), minlength=36)
    around = sum(np.roll(bins, shift) for shift in range(-4, 5))
    best = int(np.argmax(around))
    near = apart(hue, 10.0 * best + 5) <= REACH
    if (weight * near).sum() < SHARE * weight.sum():
        return None
    angle = np.deg2rad(hue[near])
    return float(
        np.rad2deg(np.arctan2((weight[near] * np.sin(angle)).sum(), (weight[near] * np.cos(angle)).sum())) % 360
    )


def recolored(rgba: UInt8[NDArray, "h w 4"], color: str) -> UInt8[NDArray, "h w 4"]:
    """A drawing in another color; itself if it has no dominant hue.

    Args:
        rgba: the drawing, with straight alpha.
        color: a name of `PAINTS`.
    """
    dominant = dominant_hue(rgba)
    if dominant is None:
        return rgba
    paint, result = PAINTS[color], rgba.copy()
    visible = np.flatnonzero(rgba[..., 3])
    hue, saturation, value = hsv(rgba.reshape(-1, 4)[visible, :3] / np.float32(255))
    near = apart(hue, dominant) <= REACH
    hue, saturation, value = hue[near], saturation[near], value[near]
    strength = np.clip(4 * saturation * value, 0, 1)
    wanted = paint.value * (1 - paint.lift * (1 - value))
    turned = from_hsv(
        (hue + (paint.hue - dominant)) % 360,
        np.clip(saturation * (1 + strength * (paint.saturation - 1)), 0, 1),
        value + strength * (wanted - value),
    )
    result.reshape(-1, 4)[visible[near], :3] = np.rint(255 * turned)
    return result
