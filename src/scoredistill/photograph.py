"""Any picture file, or PIL image, as upright RGB of 8 bits.

Depths are mapped linearly: 16 bits (modes `I;16` and `I`) by v -> 255 v / 65535; floats (mode `F`) by v -> 255 v if no
value exceeds 1, otherwise they are taken as [0, 255]. Both are rounded and clipped. An embedded colour profile is
followed to sRGB.
"""

from __future__ import annotations

import io
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image, ImageCms, ImageOps

from scoredistill.pictures import _over_white

MAX_PIXELS = 2**28  # 16384 x 16384; 768 MiB as RGB
_limit = threading.Lock()  # Pillow keeps its limit in a global


def read_picture(path: str | Path | Image.Image) -> Image.Image:
    """One picture as it is meant to be seen: EXIF rotation applied, transparency over white, RGB of 8 bits.

    Of an animated file this is the first frame; of a PIL image, which is not changed, its current one.

    Raises:
        ValueError: the file is missing, a folder, empty, no picture, broken or cut off; or the picture has no pixels,
            more than 2^28 of them, or nan or infinite values. One sentence says which, and what to do.
    """
    name = "the picture" if isinstance(path, Image.Image) else Path(path).name
    if not isinstance(path, Image.Image):
        _check_file(Path(path))
    with _large_pictures():
        if isinstance(path, Image.Image):
            return _decoded(path, name)
        try:
            image = Image.open(path)
        except PermissionError as error:
            raise ValueError(f"{name} may not be read: change the rights of the file") from error
        except Exception as error:  # plugins of Pillow raise errors of every kind on broken headers
            raise ValueError(f"{name} is not a picture that can be read: save it again as PNG or JPEG") from error
        with image:
            return _decoded(image, name)


def _check_file(path: Path) -> None:
    if not path.exists():
        raise ValueError(f"there is no file {path}: check the name and the folder")
    if path.is_dir():
        raise ValueError(f"{path} is a folder: name one picture in it")
    if not path.stat().st_size:
        raise ValueError(f"{path.name} is an empty file: save or download it again")


@contextmanager
def _large_pictures() -> Iterator[None]:
    """Pillow's own limit, which warns first, is lifted; MAX_PIXELS stands in for it."""
    with _limit:
        before, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = before


def _decoded(image: Image.Image, name: str) -> Image.Image:
    width, height = image.size
    if not width or not height:
        raise ValueError(f"{name} has no pixels ({width} x {height}): give one with at least one pixel each way")
    if width * height > MAX_PIXELS:
        raise ValueError(f"{name} has {width} x {height} pixels, more than 2^28: make it smaller first")
    try:
        image.load()
        upright = ImageOps.exif_transpose(image)
    except Exception as error:  # as in read_picture
        raise ValueError(f"{name} is broken or cut off: save or download it again") from error
    if upright.mode == "F" or upright.mode.startswith("I"):
        return _of_numbers(np.asarray(upright), name)
    try:
        return _over_white(_in_srgb(upright))
    except ValueError as error:
        raise ValueError(f"{name} has colours of kind {upright.mode}: save it as RGB, PNG or JPEG") from error


def _of_numbers(values: np.ndarray, name: str) -> Image.Image:
    """Gray of 16 bits, or floats in [0, 1] or [0, 255]; [h, w]."""
    if values.dtype.kind == "f":
        if not np.isfinite(values).all():
            raise ValueError(f"{name} holds nan or infinite values: replace them before saving it")
        scale = 255.0 if values.max() <= 1 else 1.0
    else:
        scale = 255 / 65535
    gray = (values.astype(np.float32) * scale).round().clip(0, 255).astype(np.uint8)
    return Image.fromarray(gray).convert("RGB")


def _in_srgb(image: Image.Image) -> Image.Image:
    """CMYK and RGB by their embedded profile; unchanged without one, or with one that does not fit the picture."""
    profile = image.info.get("icc_profile")
    if image.mode not in ("CMYK", "RGB", "RGBA") or not profile:
        return image
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if "sRGB" in ImageCms.getProfileDescription(source):
            return image
        mode = "RGBA" if image.mode == "RGBA" else "RGB"
        return ImageCms.profileToProfile(image, source, ImageCms.createProfile("sRGB"), outputMode=mode) or image
    except (ImageCms.PyCMSError, OSError):
        return image
