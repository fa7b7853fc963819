r"""Conversion of HDR and wide-gamut colors to standard dynamic range with the primaries of BT.709.

The transfer function (linear, HLG or PQ of ITU-R BT.2100, otherwise that of sRGB) gives light in units of
the reference white, 203 cd/m^2 (ITU-R BT.2408); HLG is displayed at 1000 cd/m^2 with a system gamma of 1.2. A matrix
converts the primaries; colors outside of BT.709 lose their negative channels. Light up to KNEE is kept; brighter light
is compressed so that 1000 cd/m^2 becomes 1:

.. math:: y = k + (1 - k) \frac{u (1 + u / m^2)}{1 + u}, \quad u = \frac{x - k}{1 - k}, \quad m = \frac{p - k}{1 - k},

with x the largest channel, k the knee and p the peak; all channels are scaled alike, which keeps the hue. The result is
encoded as sRGB.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from jaxtyping import Float, UInt8, UInt16

LINEAR, PQ, HLG = 8, 16, 18  # numbers of the transfer functions in ITU-T H.273, which are FFmpeg's
BT709, BT2020, DCI_P3, DISPLAY_P3 = 1, 9, 11, 12  # and of the primaries
WHITE, PEAK = 203.0, 1000.0  # cd/m^2
KNEE = 0.8
D65, DCI = (0.3127, 0.3290), (0.314, 0.351)
BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])
Corners = tuple[tuple[float, float], ...]  # (x, y) of red, green, blue and white
PRIMARIES: dict[int, Corners] = {
    BT709: ((0.640, 0.330), (0.300, 0.600), (0.150, 0.060), D65),
    BT2020: ((0.708, 0.292), (0.170, 0.797), (0.131, 0.046), D65),
    DCI_P3: ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060), DCI),
    DISPLAY_P3: ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060), D65),
}


def tone_mapped(signal: UInt16[np.ndarray, "h w 3"], transfer: int, primaries: int) -> UInt8[np.ndarray, "h w 3"]:
    """Convert RGB values of 16 bits to sRGB.

    Args:
        signal: nonlinear values, 65535 for the nominal peak.
        transfer: PQ, HLG, LINEAR, or any other number for the transfer function of sRGB.
        primaries: a key of PRIMARIES.
    """
    light = _curve(transfer)[signal]
    if transfer == HLG:  # from light of the scene to that of the display
        luminance = light @ _to_xyz(PRIMARIES[primaries])[1].astype(np.float32)
        light *= (np.maximum(luminance, 1e-9) ** 0.2 * (PEAK / WHITE))[..., None]
    light = np.maximum(light @ _to_bt709(PRIMARIES[primaries]).T, 0)
    if transfer in (PQ, HLG):
        brightest = light.max(-1, keepdims=True)
        light *= compressed(brightest) / np.maximum(brightest, 1e-9)
    return _encoded(light)


def of_gamma(signal: UInt16[np.ndarray, "h w 3"], gamma: float, corners: Corners) -> UInt8[np.ndarray, "h w 3"]:
    """Convert RGB values of 16 bits, which are light to the power `gamma`, to sRGB.

    Args:
        signal: 65535 for white.
        gamma: for example 1 for linear light, 1 / 2.2 for most displays.
        corners: chromaticities of the primaries and of white.
    """
    light = (np.linspace(0, 1, 65536) ** (1 / gamma)).astype(np.float32)[signal]
    return _encoded(np.maximum(light @ _to_bt709(corners).T, 0))


def are_colors(corners: Corners) -> bool:
    """Whether chromaticities span a triangle of colors."""
    if not all(0 <= x <= 1 and 0 < y <= 1 for x, y in corners):
        return False
    (ax, ay), (bx, by), (cx, cy), _ = corners
    return abs((bx - ax) * (cy - ay) - (cx - ax) * (by - ay)) > 1e-3


def _encoded(light: Float[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "h w 3"]:
    """Linear RGB in sRGB; what is above 1 is clipped."""
    return _encoding()[(np.minimum(light, 1) * 65535).round().astype(np.uint16)]


def compressed(light: Float[np.ndarray, "*s"]) -> Float[np.ndarray, "*s"]:
    """Light in units of the reference white, compressed to [0, 1] as in the equation above."""
    u = np.maximum(light - KNEE, 0) / (1 - KNEE)
    m = (PEAK / WHITE - KNEE) / (1 - KNEE)
    return np.minimum(np.where(light <= KNEE, light, KNEE + (1 - KNEE) * u * (1 + u / m**2) / (1 + u)), 1)


@cache
def _curve(transfer: int) -> np.ndarray:
    """Light for each value of 16 bits: of the scene in [0, 1] for HLG, otherwise in units of the reference white."""
    v = np.linspace(0, 1, 65536)
    if transfer == HLG:
        a, b, c = 0.17883277, 0.28466892, 0.55991073
        light = np.where(v <= 0.5, v**2 / 3, (np.exp((v - c) / a) + b) / 12)
    elif transfer == PQ:
        p = v ** (1 / 78.84375)
        light = (np.maximum(p - 0.8359375, 0) / (18.8515625 - 18.6875 * p)) ** (1 / 0.1593017578125) * (10000 / WHITE)
    elif transfer == LINEAR:
        light = v
    else:
        light = np.where(v <= 0.04045, v / 12.92, ((v + 0.055) / 1.055) ** 2.4)
    return light.astype(np.float32)


@cache
def _encoding() -> np.ndarray:
    """The 8-bit value in sRGB for light of 0 to 1 in 16 bits."""
    v = np.linspace(0, 1, 65536)
    return (255 * np.where(v <= 0.0031308, 12.92 * v, 1.055 * v ** (1 / 2.4) - 0.055)).round().astype(np.uint8)


@cache
def _to_bt709(corners: Corners) -> Float[np.ndarray, "3 3"]:
    """The matrix from linear RGB of these primaries to that of BT.709; white becomes white."""
    return (np.linalg.inv(_to_xyz(PRIMARIES[BT709])) @ _to_xyz(corners)).astype(np.float32)


def _to_xyz(corners: Corners) -> Float[np.ndarray, "3 3"]:
    """The matrix from linear RGB to XYZ, with another white than D65 adapted to it by Bradford's cone responses."""
    *primaries, white = (np.array([x / y, 1, (1 - x - y) / y]) for x, y in corners)
    columns = np.stack(primaries, 1)
    columns = columns * np.linalg.solve(columns, white)
    if corners[3] == D65:
        return columns
    x, y = D65
    cones = BRADFORD @ np.stack([white, np.array([x / y, 1, (1 - x - y) / y])], 1)
    return np.linalg.inv(BRADFORD) @ np.diag(cones[:, 1] / cones[:, 0]) @ BRADFORD @ columns
