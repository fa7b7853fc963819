"""A changed image in the format of its source, JPEG for JPEG, with its EXIF data, color profile and resolution.

A PNG source comes back as PNG in any case; what is not written (GIF, AVIF, HEIF) as PNG only.
"""

from __future__ import annotations

import io
import struct
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image, ImageCms, JpegImagePlugin

from scoredistill.files import atomic
from scoredistill.media.limits import formats
from scoredistill.media.metadata import ORIENTATION, to_profile

SUFFIXES = {"JPEG": ".jpg", "MPO": ".jpg", "WEBP": ".webp", "TIFF": ".tif", "BMP": ".bmp"}
QUALITY = 95  # of WebP, and of JPEG without tables
SIZES = (0xA002, 0xA003)  # EXIF tags of width and height
LAYOUT = (254, 256, 257, 258, 259, 262, 266, 273, 277, 278, 279, 284, 317, 320, 322, 323, 324, 325, 338, 339, 34675)
"""TIFF tags of how pixels are stored, which are among the EXIF data of a TIFF file, and of its color profile."""
EXIF_IFD = 0x8769
THUMBNAIL_IFD = 1  # Pillow's number of the directory with the thumbnail, which would show the source


@dataclass(frozen=True)
class Origin:
    """What is kept of the file of a source.

    Attributes:
        suffix: of the files that are written; empty for formats in which nothing is written beside a PNG file.
        profile: color profile of an RGB image; empty without one.
        exif: EXIF data, upright; empty without any.
        how: arguments of `Image.save`, such as the quantization tables of a JPEG file.
    """

    suffix: str = ""
    profile: bytes = b""
    exif: bytes = b""
    how: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, path: str | Path) -> Origin:
        """What is kept of a file; of files that cannot be read, nothing."""
        with suppress(Exception), Image.open(path, formats=formats()) as image:  # headers may be broken in any way
            kind = image.format or ""
            how: dict[str, Any] = {"dpi": image.info["dpi"]} if "dpi" in image.info else {}
            if isinstance(image, JpegImagePlugin.JpegImageFile) and image.mode in ("RGB", "YCbCr"):
                sampling = JpegImagePlugin.get_sampling(image)
                how |= {"qtables": image.quantization, "subsampling": sampling if sampling >= 0 else 0}
            elif kind in ("JPEG", "MPO", "WEBP"):
                how["quality"] = QUALITY
            profile = image.info.get("icc_profile") or b""
            return cls(SUFFIXES.get(kind, ""), profile if _of_colors(profile) else b"", _exif(image), how)
        return cls()

    def save(self, image: Image.Image, path: Path) -> Path | None:
        """Write an image in the format of the source.

        Args:
            image: upright, in sRGB, of the size of the source.
            path: of a file without its suffix.

        Returns:
            The file; None if the format of the source is PNG, or one that is not written.
        """
        if not self.suffix:
            return None
        made = path.with_suffix(self.suffix)
        opaque = image if self.suffix in (".webp", ".tif") else image.convert("RGB")
        kept: dict[str, Any] = {"exif": self.exif} if self.exif and self.suffix != ".bmp" else {}
        if self.profile and self.suffix != ".bmp":
            opaque, kept["icc_profile"] = to_profile(opaque, self.profile), self.profile
        with atomic(made) as draft:
            try:
                opaque.save(draft, **self.how, **kept)
            except (RuntimeError, ValueError, TypeError, struct.error):  # EXIF data that Pillow reads but cannot write
                kept.pop("exif", None)
                opaque.save(draft, **self.how, **kept)
        return made


def _of_colors(profile: bytes) -> bool:
    """Whether a color profile is one of RGB images."""
    with suppress(Exception):  # malformed profiles
        space = ImageCms.ImageCmsProfile(io.BytesIO(profile)).profile.xcolor_space
        return bool(profile) and str(space).strip() == "RGB"
    return False


def _exif(image: Image.Image) -> bytes:
    """The EXIF data of an image for a copy that stands upright; empty if there are none, or they are broken."""
    with suppress(Exception):  # Pillow raises errors of many kinds on malformed EXIF data
        exif = image.getexif()
        if not exif:
            return b""
        turned = exif.get(ORIENTATION, 1) in (5, 6, 7, 8)
        for tag in (ORIENTATION, *LAYOUT):
            exif.pop(tag, None)
        inner = exif.get_ifd(EXIF_IFD)
        if turned and all(tag in inner for tag in SIZES):
            inner[SIZES[0]], inner[SIZES[1]] = inner[SIZES[1]], inner[SIZES[0]]
        exif.get_ifd(THUMBNAIL_IFD).clear()
        return exif.tobytes() if len(exif) or inner else b""
    return b""
