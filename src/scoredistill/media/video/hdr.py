"""HDR and wide-gamut frames of videos, shown in standard dynamic range (see `media.colors`)."""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import UInt8

from scoredistill.media.colors import BT709, BT2020, DCI_P3, DISPLAY_P3, HLG, LINEAR, PQ, PRIMARIES, tone_mapped

BT709_MATRIX, BT2020_MATRIX = 1, 9  # FFmpeg's numbers of the color space, BT.2020 with non-constant luminance
UNKNOWN_MATRICES = {
    8: "YCgCo", 10: "BT.2020 with constant luminance", 11: "SMPTE 2085", 13: "chromaticity with constant luminance",
    14: "ICtCp", 15: "IPT of Dolby Vision",
}  # fmt: skip
DOLBY = ("dvh1", "dvhe", "dva1", "dvav", "dav1")  # codec tags of Dolby Vision; without a transfer function it is IPT
UNSPECIFIED = 2


def check(frame: Any, tag: str, name: str) -> None:
    """Refuse colors that FFmpeg's scaler would convert wrongly.

    Args:
        frame: decoded.
        tag: of the codec, for example "hvc1".
        name: of the file.

    Raises:
        ValueError: if the colors are coded by another matrix than those of BT.601, BT.709 and BT.2020.
    """
    matrix = UNKNOWN_MATRICES.get(_number(frame, "colorspace"))
    if tag in DOLBY and _transfer(frame) == UNSPECIFIED:
        matrix = UNKNOWN_MATRICES[15]
    if matrix and not frame.format.is_rgb:
        raise ValueError(
            f"{name} codes its colors by {matrix}, which cannot be converted: save it with that of BT.709 or BT.2020"
        )


def is_wide(frame: Any) -> bool:
    """Whether a decoded frame is HDR, linear, or has primaries wider than those of BT.709."""
    return _transfer(frame) in (LINEAR, PQ, HLG) or _number(frame, "color_primaries") in (BT2020, DCI_P3, DISPLAY_P3)


def standard(frame: Any) -> UInt8[np.ndarray, "h w 3"]:
    """The pixels of a frame for which `is_wide` holds, in sRGB."""
    transfer, primaries = _transfer(frame), _number(frame, "color_primaries")
    if primaries not in PRIMARIES:
        primaries = BT2020 if transfer in (PQ, HLG) else BT709
    if _number(frame, "colorspace") == UNSPECIFIED:
        frame.colorspace = BT2020_MATRIX if primaries == BT2020 else BT709_MATRIX
    signal = frame.reformat(format="rgb48le").to_ndarray()
    return tone_mapped(signal, transfer, primaries)


def _transfer(frame: Any) -> int:
    return _number(frame, "color_trc")


def _number(frame: Any, name: str) -> int:
    """A color property of a frame as FFmpeg's number."""
    return int(getattr(frame, name))
