"""Metadata of image files: orientation and color profiles. An error in them leaves the pixels as they are."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np
from PIL import Image, ImageCms

ORIENTATION = 0x0112  # EXIF tag
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
PROFILED = ("L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "LAB", "I", "I;16", "I;16B")  # to which profiles are applied
TEXT = (b"tEXt", b"zTXt", b"iTXt")
JPEG_KEPT = (0xE0, 0xE1, 0xE2)  # JFIF, EXIF, color profile


def orientation(image: Image.Image) -> int:
    """EXIF orientation, 1 to 8; 1 (upright) if there is none or it cannot be read."""
    try:
        value = image.getexif().get(ORIENTATION, 1)
        return value if value in TURNS else 1
    except Exception:  # Pillow raises errors of many kinds on malformed EXIF data
        return 1


def upright(image: Image.Image) -> Image.Image:
    """The image turned and mirrored as its EXIF orientation says."""
    turn = TURNS.get(orientation(image))
    return image.copy() if turn is None else image.transpose(turn)


def in_srgb(image: Image.Image) -> Image.Image:
    """Convert by the embedded color profile to sRGB; unchanged without one, or with one that does not apply."""
    profile = image.info.get("icc_profile")
    if not profile or image.mode not in PROFILED:
        return image
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        space = str(source.profile.xcolor_space).strip()
        base = _in_space(image, space)
        if base is None or (base.mode == "RGB" and _is_srgb(source)):
            return image
        made = _transformed(base, source)
    except Exception:  # malformed profiles
        return image
    if image.has_transparency_data:
        made.putalpha(image.convert("RGBA").getchannel("A"))
    return made


def to_profile(image: Image.Image, profile: bytes) -> Image.Image:
    """Convert from sRGB to the color space of a profile, the inverse of `in_srgb`; alpha is kept.

    Args:
        image: RGB, or RGBA.
        profile: an RGB profile; the image is unchanged if it is sRGB, or cannot be applied.
    """
    try:
        target = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if _is_srgb(target):
            return image
        made = _between(image.convert("RGB"), ImageCms.createProfile("sRGB"), target)
    except Exception:  # malformed profiles, or those of input devices only
        return image
    if image.mode == "RGBA":
        made.putalpha(image.getchannel("A"))
    return made


def _in_space(image: Image.Image, space: str) -> Image.Image | None:
    """Colors of the image in the color space of its profile, without alpha; None if the profile does not apply."""
    mode = image.mode
    if space == "GRAY":
        if mode == "I":  # 16 bits, as Pillow up to 11 reads them
            return image.convert("I;16")
        return image if mode in ("L", "I;16", "I;16B") else image.getchannel("L") if mode == "LA" else None
    if space == "RGB":
        return image.convert("RGB") if mode in ("L", "LA", "P", "PA", "RGB", "RGBA") else None
    return image if {"CMYK": "CMYK", "LAB": "LAB", "Lab": "LAB"}.get(space) == mode else None


def _transformed(image: Image.Image, source: ImageCms.ImageCmsProfile) -> Image.Image:
    """Convert to sRGB."""
    return _between(image, source, ImageCms.createProfile("sRGB"))


def _between(image: Image.Image, source: Any, target: Any) -> Image.Image:
    """Convert to RGB by perceptual intent or, where the profiles lack it, another."""
    for intent in ImageCms.Intent:
        try:
            transform = ImageCms.buildTransform(source, target, image.mode, "RGB", intent)
        except ImageCms.PyCMSError:
            continue
        made = ImageCms.applyTransform(image, transform)
        assert made is not None
        return made
    raise ValueError("no rendering intent of the profile applies")


def _is_srgb(profile: ImageCms.ImageCmsProfile) -> bool:
    """Whether a profile leaves sRGB values as they are, up to rounding, whatever its name is."""
    levels = np.linspace(0, 255, 9).round().astype(np.uint8)
    colors = np.stack(np.meshgrid(levels, levels, levels), -1).reshape(27, 27, 3)
    made = np.asarray(_transformed(Image.fromarray(colors), profile))
    return int(np.abs(made.astype(int) - colors).max()) <= 3


def stripped(data: bytes) -> Iterator[bytes]:
    """The file without damaged or needless metadata, then without any; nothing for formats other than PNG, JPEG, WebP.

    Args:
        data: of an image file that cannot be read as it is.
    """
    strip = _png if data[:8] == b"\x89PNG\r\n\x1a\n" else _jpeg if data[:2] == b"\xff\xd8" else None
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        strip = _webp
    if strip is not None:
        yield from (strip(data, every) for every in (False, True))


def _png(data: bytes, every: bool) -> bytes:
    kept, at = [data[:8]], 8
    while at + 12 <= len(data):
        end = at + 12 + int.from_bytes(data[at : at + 4], "big")
        kind, whole = data[at + 4 : at + 8], data[at:end]
        needed = not kind[0] & 0x20 or kind == b"tRNS"  # the case of the first letter says whether a chunk is optional
        intact = zlib.crc32(whole[4:-4]) == int.from_bytes(whole[-4:], "big")
        if needed or (intact and not every and kind not in TEXT):
            kept.append(whole)
        at = end
    return b"".join([*kept, data[at:]])


def _jpeg(data: bytes, every: bool) -> bytes:
    kept, at = [data[:2]], 2
    while at + 4 <= len(data) and data[at] == 0xFF and data[at + 1] != 0xDA:  # up to the start of the pixels
        marker, (length,) = data[at + 1], struct.unpack(">H", data[at + 2 : at + 4])
        if marker == 0xFF:  # a fill byte
            at += 1
            continue
        metadata = 0xE0 <= marker <= 0xEF or marker == 0xFE
        adobe = marker == 0xEE and length == 14
        if not metadata or adobe or (marker in JPEG_KEPT and not every):
            kept.append(data[at : at + 2 + length])
        at += 2 + length
    return b"".join([*kept, data[at:]])


def _webp(data: bytes, every: bool) -> bytes:
    kept, at, gone = [], 12, (b"XMP ", b"EXIF", b"ICCP") if every else (b"XMP ",)
    while at + 8 <= len(data):
        length = int.from_bytes(data[at + 4 : at + 8], "little")
        end = at + 8 + length + length % 2
        if data[at : at + 4] == b"VP8X" and at + 8 < len(
            data
        ):  # its flags announce 0x20 a profile, 0x08 EXIF, 0x04 XMP
            flags = data[at + 8] & ~(0x2C if every else 0x04)
            kept.append(data[at : at + 8] + bytes([flags]) + data[at + 9 : end])
        elif data[at : at + 4] not in gone:
            kept.append(data[at:end])
        at = end
    body = b"WEBP" + b"".join(kept)
    return b"RIFF" + len(body).to_bytes(4, "little") + body
