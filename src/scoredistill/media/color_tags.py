"""Colors of image files that state them without an ICC profile: HDR and wide-gamut images, and PNGs with a gamma.

A PNG states its colors in a cICP chunk, or in gAMA and cHRM chunks; AVIF and HEIF state them in a box of the kind
nclx. Pillow reads neither cICP nor nclx, and leaves the pixels as they are. In a PNG, cICP comes before a profile,
which comes before gamma (Portable Network Graphics Specification, third edition, https://www.w3.org/TR/png-3/). In
AVIF and HEIF a profile comes first, but none shows HDR rightly. Numbers are those of ITU-T H.273.

Pillow decodes colors of more than 8 bits to 8, so dark tones of linear and HDR images are coarse.
"""

from __future__ import annotations

import io
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import UInt8, UInt16
from PIL import Image, ImageFile

from scoredistill.media.colors import BT709, HLG, LINEAR, PQ, PRIMARIES, Corners, are_colors, of_gamma, tone_mapped

SRGB_GAMMA, NEAR = 1 / 2.2, 0.01  # in a gAMA chunk, for the transfer function of sRGB
CHROMATIC = 0.003  # difference of a coordinate that matters
UNKNOWN = 2  # H.273's "unspecified"
SHOWN = (1, 4, 6, LINEAR, 13, 14, 15, PQ, HLG)  # transfer functions: that of sRGB and others close to it, linear, HDR
CONTAINERS = {b"meta": 12, b"iprp": 8, b"ipco": 8, b"moov": 8, b"trak": 8, b"mdia": 8, b"minf": 8, b"stbl": 8,
              b"stsd": 16, b"av01": 86, b"hvc1": 86, b"hev1": 86}  # fmt: skip
"""Boxes that lead to a color box, and where the boxes inside them begin."""
STRIP = 2**20  # pixels that are converted at a time


@dataclass(frozen=True)
class Stated:
    """Colors that a file states.

    Attributes:
        transfer: number of the transfer function; None if it is a gamma.
        gamma: exponent of the values of light.
        primaries: number of the primaries, or their chromaticities with that of white.
    """

    transfer: int | None
    gamma: float
    primaries: int | Corners


def stated(image: Image.Image) -> Stated | None:
    """The colors that the file of an image states, if they are others than those of sRGB and no profile decides.

    Args:
        image: just opened: the file is read, from its path or where it is open.
    """
    profile = bool(image.info.get("icc_profile"))
    numbers: tuple[int, int] | None = None
    with suppress(OSError, ValueError, struct.error, AttributeError), _file(image) as file:  # damaged headers
        if image.format == "PNG":
            numbers = _cicp(file)
        elif image.format in ("AVIF", "HEIF"):
            numbers = _nclx(file)
    if numbers is not None and (image.format == "PNG" or not profile or numbers[1] in (PQ, HLG)):
        primaries, transfer = numbers
        known = primaries in PRIMARIES and transfer in SHOWN
        if transfer in (PQ, HLG) and primaries == UNKNOWN:
            primaries, known = 9, True
        if known and (primaries != BT709 or transfer in (LINEAR, PQ, HLG)):
            return Stated(transfer, 1.0, primaries)
        if known or image.format != "PNG":
            return None
    return None if profile or image.format != "PNG" else _of_png(image)


def in_srgb(image: Image.Image, colors: Stated) -> Image.Image:
    """The image with 8 bits in sRGB; alpha is kept.

    Args:
        image: of any mode but LAB, in the stated colors.
        colors: what its file states.
    """
    deep = image.mode.startswith("I")
    signal = np.asarray(image) if deep else np.asarray(image.convert("RGB"))
    made = np.empty((*signal.shape[:2], 3), np.uint8)
    rows = max(1, STRIP // max(1, signal.shape[1]))
    for top in range(0, len(signal), rows):
        part = signal[top : top + rows]
        made[top : top + rows] = _shown(_gray(part) if deep else part.astype(np.uint16) * 257, colors)
    shown = Image.fromarray(made)
    if image.has_transparency_data:
        shown.putalpha(image.convert("RGBA").getchannel("A"))
    return shown


def _gray(values: np.ndarray) -> UInt16[np.ndarray, "h w 3"]:
    """RGB from gray values of 16 bits, which may be stored as larger integers."""
    return values.clip(0, 65535).astype(np.uint16)[..., None].repeat(3, -1)


def _shown(signal: UInt16[np.ndarray, "h w 3"], colors: Stated) -> UInt8[np.ndarray, "h w 3"]:
    if isinstance(colors.primaries, int) and colors.transfer is not None:
        return tone_mapped(signal, colors.transfer, colors.primaries)
    corners = PRIMARIES[colors.primaries] if isinstance(colors.primaries, int) else colors.primaries
    return of_gamma(signal, colors.gamma, corners)


@contextmanager
def _file(image: Image.Image) -> Iterator[io.BufferedIOBase]:
    """The file of an image, from its beginning.

    Raises:
        ValueError: if it is not known.
    """
    path = getattr(image, "filename", "")
    if isinstance(image, ImageFile.ImageFile) and path and os.path.isfile(path):
        with open(path, "rb") as file:
            yield file
        return
    opened: Any = getattr(image, "fp", None)
    if opened is None:
        raise ValueError("the image has no file")
    before = opened.tell()
    try:
        opened.seek(0)
        yield opened
    finally:
        opened.seek(before)


def _cicp(file: io.BufferedIOBase) -> tuple[int, int] | None:
    """(primaries, transfer) of the cICP chunk of a PNG, for RGB of full range."""
    file.seek(8)
    while len(head := file.read(8)) == 8:
        length, kind = struct.unpack(">I4s", head)
        if kind in (b"IDAT", b"IEND"):
            return None
        if kind == b"cICP" and length == 4:
            primaries, transfer, matrix, full = file.read(4)
            return (primaries, transfer) if (matrix, full) == (0, 1) else None
        file.seek(length + 4, os.SEEK_CUR)
    return None


def _nclx(file: io.BufferedIOBase) -> tuple[int, int] | None:
    """(primaries, transfer) of the color box of an AVIF or HEIF file; HDR where a file has several."""
    size = file.seek(0, os.SEEK_END)
    found = list(_boxes(file, 0, size, 0))
    return next((each for each in found if each[1] in (PQ, HLG)), found[0] if found else None)


def _boxes(file: io.BufferedIOBase, start: int, end: int, depth: int) -> Iterator[tuple[int, int]]:
    """(primaries, transfer) of every color box between two places of a file."""
    while start + 8 <= end and depth < len(CONTAINERS):
        file.seek(start)
        length, kind = struct.unpack(">I4s", file.read(8))
        if length == 1:
            (length,) = struct.unpack(">Q", file.read(8))
        length = length or end - start
        if length < 8:
            return
        if kind == b"colr" and file.read(4) == b"nclx":
            yield struct.unpack(">2H", file.read(4))
        elif kind in CONTAINERS:
            yield from _boxes(file, start + CONTAINERS[kind], min(end, start + length), depth + 1)
        start += length


def _of_png(image: Image.Image) -> Stated | None:
    """What gAMA and cHRM chunks state, if it is not sRGB."""
    if "srgb" in image.info:
        return None
    gamma = image.info.get("gamma", SRGB_GAMMA)
    usual = not 0.05 <= gamma <= 5 or abs(gamma - SRGB_GAMMA) < NEAR
    corners = PRIMARIES[BT709]
    values = image.info.get("chromaticity", ())
    if len(values) == 8:
        white, *others = zip(values[::2], values[1::2], strict=True)
        given = (*others, white)
        apart = max(abs(a - b) for one, two in zip(given, corners, strict=True) for a, b in zip(one, two, strict=True))
        if apart > CHROMATIC and are_colors(given):
            corners = given
    if corners == PRIMARIES[BT709]:
        return None if usual else Stated(None, gamma, BT709)
    return Stated(None, SRGB_GAMMA if usual and not 0.05 <= gamma <= 5 else gamma, corners)
