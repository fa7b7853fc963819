"""Pixels of the images of a capture: photographs in strips of floats, grayscale images, and reduction by area.

Photographs may have any color mode that Pillow reads, 16-bit and floating-point grayscale included. Color profiles are
converted to sRGB, as for all images.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
from jaxtyping import Float
from PIL import Image

from scoredistill.media.images import from_numbers, large_images
from scoredistill.media.limits import check_size, formats
from scoredistill.media.metadata import in_srgb, orientation, stripped, upright

STRIP = 128  # rows of an image that are floats at one time
SIDEWAYS = 5  # EXIF orientations from here on exchange width and height
Size = tuple[int, int]
"""(width, height) in pixels, as in Pillow."""


def fits(size: Size, other: Size) -> bool:
    """Whether two sizes have one aspect ratio, up to a pixel of rounding."""
    return abs(size[0] * other[1] - size[1] * other[0]) <= max(*size, *other)


def oriented(image: Image.Image, camera: Size) -> Size:
    """(width, height) in which an image is used: turned as its EXIF orientation says only if the camera is.

    Files of scenes describe the pixels as they are stored (COLMAP, nerfstudio) or as they are shown; the aspect ratio
    of the camera tells which.
    """
    width, height = image.size
    turned = not fits(image.size, camera) and fits((height, width), camera) and orientation(image) >= SIDEWAYS
    return (height, width) if turned else (width, height)


@contextmanager
def opened(path: Path, decode: bool = False) -> Iterator[Image.Image]:
    """The image of a file, of which only the header is read unless it is decoded.

    Malformed metadata are skipped, as for all images.

    Raises:
        ValueError: if it cannot be read, or has more pixels than fit into memory.
    """
    with large_images(), _whole(path, decode) as image:
        check_size(image.size, path.name)
        yield image


def _whole(path: Path, decode: bool) -> Image.Image:
    try:
        return _open(path, decode)
    except Exception as error:  # plugins of Pillow raise errors of every kind on broken files
        with suppress(OSError):
            for data in stripped(path.read_bytes()):
                with suppress(Exception):
                    return _open(io.BytesIO(data), decode)
        raise ValueError(f"{path.name} cannot be read as an image: save it again as PNG or JPEG") from error


def _open(file: Path | io.BytesIO, decode: bool) -> Image.Image:
    image = Image.open(file, formats=formats())
    if decode and not _too_large(image):
        try:
            image.load()
        except Exception:
            image.close()
            raise
    return image


def _too_large(image: Image.Image) -> bool:
    """Whether an image must not be decoded; `opened` says why."""
    try:
        check_size(image.size, "")
    except ValueError:
        return True
    return False


@contextmanager
def decoded(path: Path, camera: Size) -> Iterator[Image.Image]:
    """The image of a file in sRGB, `oriented` as its camera; 8 bits per channel.

    Raises:
        ValueError: if it cannot be read.
    """
    with opened(path, decode=True) as image:
        turned = upright(image) if oriented(image, camera) != image.size else image
        colored = in_srgb(turned)
        if colored.mode == "F" or colored.mode.startswith("I"):
            colored = from_numbers(np.asarray(colored), path.name)
        yield colored


def gray(path: Path, camera: Size) -> tuple[Float[np.ndarray, "h w 1"], float]:
    """Unscaled values of a grayscale image or of an array (.npy), `oriented` as its camera, and that of white.

    Raises:
        ValueError: if the file is missing or cannot be read, or has another aspect ratio.
    """
    if not os.path.isfile(path):
        raise ValueError(f"there is no image {path}: check its name in the file of the scene")
    if path.suffix.lower() == ".npy":
        values, white = _array(path), 65535.0
    else:
        with opened(path, decode=True) as image:
            turned = upright(image) if oriented(image, camera) != image.size else image
            deep = turned.mode == "F" or turned.mode.startswith("I")
            values = np.asarray(turned if deep else turned.convert("L"), np.float32)
            white = 1.0 if turned.mode == "F" else 65535.0 if deep else 255.0
    if not fits((values.shape[1], values.shape[0]), camera):
        raise ValueError(
            f"{path.name} is {values.shape[1]}x{values.shape[0]}, but must have the aspect ratio of its color image, "
            f"{camera[0]}x{camera[1]}"
        )
    return values[..., None], white


def _array(path: Path) -> Float[np.ndarray, "h w"]:
    try:
        values = np.squeeze(np.load(path, allow_pickle=False).astype(np.float32))
    except (OSError, ValueError, EOFError) as error:
        raise ValueError(f"{path.name} cannot be read as an array of numbers: save it again with numpy.save") from error
    if values.ndim != 2:
        raise ValueError(f"{path.name} must be an array [height, width], not {list(values.shape)}")
    return values


def strips(
    image: Image.Image, mode: str, new: tuple[int, int], change: Callable[[np.ndarray], np.ndarray] = lambda v: v
) -> Float[np.ndarray, "a b c"]:
    """`shrunk` of an image in [0, 1], changed before, which holds only a strip of it as floats at any time.

    Args:
        image: to reduce.
        mode: to which it is converted, "RGB" or "RGBA".
        new: (height, width) of the result.
        change: of the values of a strip, [rows, w, c], before they are averaged.
    """
    width, height = image.size
    rows, columns = _overlaps(height, new[0]), _overlaps(width, new[1])
    total: np.ndarray | float = 0.0
    for top in range(0, height, STRIP):
        strip = image.crop((0, top, width, min(top + STRIP, height))).convert(mode)
        values = change(np.asarray(strip, np.float32) / 255)
        some = rows[:, top : top + STRIP]
        covered = np.flatnonzero(some.any(1))  # few rows of the result
        if isinstance(total, float):
            total = np.zeros((*new, values.shape[2]), np.float32)
        if width != new[1]:
            values = np.einsum("bw,hwc->hbc", columns, values, optimize=True)
        total[covered] += np.einsum("ah,hbc->abc", some[covered], values, optimize=True)
    return np.asarray(total)


def shrunk(values: Float[np.ndarray, "h w c"], size: tuple[int, int]) -> Float[np.ndarray, "a b c"]:
    """Reduce an image to [a, b, c] by area averaging: pixels are exact means over the area that they cover."""
    if values.shape[:2] == size:
        return values
    rows, columns = _overlaps(values.shape[0], size[0]), _overlaps(values.shape[1], size[1])
    return np.einsum("ah,hbc->abc", rows, np.einsum("bw,hwc->hbc", columns, values, optimize=True), optimize=True)


def _overlaps(old: int, new: int) -> Float[np.ndarray, "new old"]:
    """Fraction of each new pixel that each old pixel covers; rows sum to 1."""
    edges = np.arange(new + 1) * (old / new)
    left, right = np.maximum(edges[:-1, None], np.arange(old)), np.minimum(edges[1:, None], np.arange(1, old + 1))
    return (np.maximum(right - left, 0) * (new / old)).astype(np.float32)
