"""Images: reading files, converting between tensors in [0, 1] and PIL images, resizing, blurring, grids and GIFs."""

from __future__ import annotations

import io
import math
import threading
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor
from torch.nn import functional

from scoredistill.files import atomic
from scoredistill.media import color_tags
from scoredistill.media.limits import READING, check_size, formats
from scoredistill.media.metadata import in_srgb, stripped, upright
from scoredistill.media.provenance import text_chunk

ANIMATED = ("GIF", "WEBP", "PNG", "AVIF")  # Pillow formats that can be animated; those of other formats are pages
FRAMES_PER_SECOND = 50  # the fastest GIF that browsers play at its own speed
BACKGROUND, TEXT = "white", "#333333"  # colors of image grids
_limit = threading.Lock()  # Pillow keeps its own limit in a global variable


def read_image(
    path: str | Path | Image.Image, bytes_per_pixel: int = READING, transparency: bool = False
) -> Image.Image:
    """Read an image as 8-bit RGB, with EXIF rotation applied and transparency composited over white.

    Args:
        path: of an image file, whose first frame or page is read, with a warning if there are more; or a PIL image,
            whose current frame is converted without changing it.
        bytes_per_pixel: memory that the job needs at its peak, which must be free.
        transparency: return RGBA if a pixel is transparent; pixels of which nothing is visible are white.

    Raises:
        ValueError: if the file is missing, a folder, empty, not an image of `limits.FORMATS`, corrupt or truncated, or
            if the image has no pixels, more than fit into memory or than 2^28, or values that are not finite. The
            message says what to do.
    """
    name = "the image" if isinstance(path, Image.Image) else Path(path).name
    if not isinstance(path, Image.Image):
        _check_file(Path(path))
    with large_images():
        if isinstance(path, Image.Image):
            return _decoded(path, name, bytes_per_pixel, transparency)
        try:
            return _opened(path, name, bytes_per_pixel, transparency)
        except ValueError as error:
            for data in () if isinstance(error.__cause__, PermissionError) else stripped(Path(path).read_bytes()):
                with suppress(ValueError):
                    return _opened(io.BytesIO(data), name, bytes_per_pixel, transparency)
            raise


def _opened(file: str | Path | io.BytesIO, name: str, bytes_per_pixel: int, transparency: bool) -> Image.Image:
    try:
        image = Image.open(file, formats=formats())
    except PermissionError as error:
        raise ValueError(f"{name} may not be read: change the permissions of the file") from error
    except Exception as error:  # plugins of Pillow raise errors of every kind on broken headers
        raise ValueError(f"{name} cannot be read as an image: save it again as PNG or JPEG") from error
    with image:
        made = _decoded(image, name, bytes_per_pixel, transparency)
        animated, pages = False, 1
        with suppress(Exception):  # looking for more frames parses them, and those after the first may be corrupt
            if image.format in ANIMATED:
                animated = getattr(image, "is_animated", False)
            elif image.format == "TIFF":
                pages = getattr(image, "n_frames", 1)
        if animated:
            advice = "open it as a video to read all of them"
            warnings.warn(f"{name} is animated: only its first frame is read; {advice}", stacklevel=4)
        elif pages > 1:
            warnings.warn(f"{name} has {pages} pages: only the first is read", stacklevel=4)
        return made


def _check_file(path: Path) -> None:
    if not path.exists():
        raise ValueError(f"there is no file {path}: check its name and folder")
    if path.is_dir():
        raise ValueError(f"{path} is a folder: give one image in it")
    if not path.stat().st_size:
        raise ValueError(f"{path.name} is an empty file: save or download it again")


@contextmanager
def large_images() -> Iterator[None]:
    """Lift the limit of Pillow, which only warns at first; `check_size` replaces it."""
    with _limit:
        before, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = before


def _decoded(image: Image.Image, name: str, bytes_per_pixel: int, transparency: bool) -> Image.Image:
    check_size(image.size, name, bytes_per_pixel)
    colors = color_tags.stated(image)
    try:
        image.load()
    except Exception as error:  # as in _opened
        raise ValueError(f"{name} is corrupt or truncated: save or download it again") from error
    colored = in_srgb(upright(image)) if colors is None else color_tags.in_srgb(upright(image), colors)
    if colored.mode == "F" or colored.mode.startswith("I"):
        return from_numbers(np.asarray(colored), name)
    try:
        return (transparency and _with_alpha(colored)) or _over_white(colored)
    except ValueError as error:
        raise ValueError(
            f"{name} has the unsupported color mode {colored.mode}: save it as an RGB PNG or JPEG"
        ) from error


def from_numbers(values: np.ndarray, name: str) -> Image.Image:
    """RGB from a grayscale array [h, w] of 16-bit integers, or of floats in [0, 1] or [0, 255]."""
    if values.dtype.kind == "f":
        if not np.isfinite(values).all():
            raise ValueError(f"{name} has nan or infinite values: replace them before saving it")
        scale = 255.0 if values.max() <= 1 else 1.0
    else:
        scale = 255 / 65535
    gray = (values.astype(np.float32) * scale).round().clip(0, 255).astype(np.uint8)
    return Image.fromarray(gray).convert("RGB")


def to_pil(images: Float[Tensor, "b 3 h w"]) -> list[Image.Image]:
    """Convert a batch of images with values in [0, 1] to 8-bit RGB images; values outside are clipped.

    Raises:
        ValueError: if the tensor is not [b, 3, h, w], or has values that are not finite.
    """
    if images.ndim != 4 or images.shape[1] != 3:
        raise ValueError(f"expected images of shape [b, 3, h, w], got {list(images.shape)}")
    broken = ~torch.isfinite(images.detach()).flatten(1).all(dim=1)
    if broken.any():
        raise ValueError(f"nan or infinite values in images {broken.nonzero().flatten().tolist()} of {len(images)}")
    pixels = (images.detach().float().clamp(0, 1) * 255).round().to(torch.uint8)
    return [Image.fromarray(np.ascontiguousarray(p)) for p in pixels.permute(0, 2, 3, 1).cpu().numpy()]


def to_tensor(images: Image.Image | Sequence[Image.Image]) -> Float[Tensor, "b 3 h w"]:
    """Convert one image, or several of one size, to a float32 batch in [0, 1], with transparency over white.

    Raises:
        ValueError: if there is no image, or the sizes differ.
    """
    images = [images] if isinstance(images, Image.Image) else list(images)
    sizes = sorted({image.size for image in images})
    if len(sizes) != 1:
        raise ValueError(f"expected images of one size, got {sizes or 'no image'}")
    pixels = np.stack([np.asarray(_over_white(image)) for image in images])
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255


def resized(images: Float[Tensor, "f c h w"], size: tuple[int, int]) -> Float[Tensor, "f c p q"]:
    """Resize images to (height, width) by antialiased bicubic interpolation, clipped to [0, 1]."""
    if (images.shape[-2], images.shape[-1]) == size:
        return images
    return functional.interpolate(images, size, mode="bicubic", antialias=True, align_corners=False).clamp(0, 1)


def blurred(images: Float[Tensor, "b c h w"], sigma: float) -> Float[Tensor, "b c h w"]:
    """Gaussian blur with a standard deviation of `sigma` pixels; the border is replicated."""
    reach = max(1, math.ceil(3 * sigma))
    weights = torch.exp(-(torch.arange(-reach, reach + 1).to(images) ** 2) / (2 * sigma**2))
    weights = weights / weights.sum()
    channels = images.shape[1]
    rows, columns = weights.view(1, 1, -1, 1), weights.view(1, 1, 1, -1)
    padded = functional.pad(images, (reach,) * 4, mode="replicate" if reach < min(images.shape[-2:]) else "constant")
    soft = functional.conv2d(padded, rows.expand(channels, -1, -1, -1), groups=channels)
    return functional.conv2d(soft, columns.expand(channels, -1, -1, -1), groups=channels)


def grid(images: Sequence[Image.Image], columns: int, pad: int = 2, labels: Sequence[str] | None = None) -> Image.Image:
    """Arrange images in a grid on white, row by row from the top left.

    Args:
        images: cells have the largest width and height among them; smaller images are centered.
        columns: images per row; the last row may be shorter.
        pad: pixels around and between the cells.
        labels: one line of text below each image, shortened to the width of the cell.

    Raises:
        ValueError: if there is no image, columns is below 1, or there are not as many labels as images.
    """
    if not images or columns < 1:
        raise ValueError(f"expected at least one image and one column, got {len(images)} and {columns}")
    if labels is not None and len(labels) != len(images):
        raise ValueError(f"{len(labels)} labels for {len(images)} images: give one per image")
    font = ImageFont.load_default(11)
    width, height = (max(image.size[axis] for image in images) for axis in (0, 1))
    text_height = 16 if labels else 0
    columns = min(columns, len(images))
    rows = -(-len(images) // columns)
    image_grid = Image.new(
        "RGB", (columns * (width + pad) + pad, rows * (height + text_height + pad) + pad), BACKGROUND
    )
    draw = ImageDraw.Draw(image_grid)
    for i, image in enumerate(images):
        left, top = pad + i % columns * (width + pad), pad + i // columns * (height + text_height + pad)
        image_grid.paste(_over_white(image), (left + (width - image.width) // 2, top + (height - image.height) // 2))
        if labels:
            text = _shortened(labels[i], font, width)
            draw.text((left + width / 2, top + height + text_height / 2), text, fill=TEXT, font=font, anchor="mm")
    return image_grid


def save_gif(frames: Sequence[Image.Image], path: str | Path, seconds: float = 4.0, size: int = 256) -> Path:
    """Write a looping GIF.

    More than 50 frames per second are thinned evenly, keeping the first and the last, because browsers slow faster GIFs
    down.

    Args:
        frames: at least one image.
        path: of the file; missing directories are created.
        seconds: duration of one loop.
        size: longer side of the GIF in pixels.

    Returns:
        The path.

    Raises:
        ValueError: if there is no frame, or `seconds` is not positive.
    """
    if not frames or not seconds > 0:
        raise ValueError(f"expected at least one frame and a positive duration, got {len(frames)} and {seconds} s")
    count = min(len(frames), max(1, int(seconds * FRAMES_PER_SECOND)))
    chosen = np.linspace(0, len(frames) - 1, count).round().astype(int) if count > 1 else [len(frames) - 1]
    resized_frames = [_resized(_over_white(frames[i]), size) for i in chosen]
    ends = np.linspace(0, 100 * seconds, count + 1).round().astype(int)  # GIF counts in hundredths of a second
    durations = [int(10 * n) for n in np.diff(ends)]
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic(path) as draft:
        first, *others = resized_frames
        first.save(draft, format="GIF", save_all=True, append_images=others, duration=durations, loop=0)
    return path


def _over_white(image: Image.Image) -> Image.Image:
    if not image.has_transparency_data:
        return image.convert("RGB")
    layer = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", layer.size, BACKGROUND), layer).convert("RGB")


def _with_alpha(image: Image.Image) -> Image.Image | None:
    """The image as RGBA, white where nothing of it is visible; None if it is opaque."""
    if not image.has_transparency_data:
        return None
    layer = image.convert("RGBA")
    alpha = layer.getchannel("A")
    if alpha.getextrema() == (255, 255):
        return None
    colors = Image.composite(
        layer.convert("RGB"), Image.new("RGB", layer.size, BACKGROUND), alpha.point(lambda a: 255 * (a > 0))
    )
    colors.putalpha(alpha)
    return colors


def _resized(image: Image.Image, longer: int) -> Image.Image:
    factor = longer / max(image.size)
    width, height = (max(1, round(n * factor)) for n in image.size)
    return image.resize((width, height), Image.Resampling.LANCZOS)


def _shortened(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> str:
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + "…") > width:
        text = text[:-1]
    return text.rstrip() + "…"


def save_image(image: Image.Image, path: Path, made: Mapping[str, Any] | None = None) -> None:
    """Write an image file atomically.

    Args:
        image: the image.
        path: of the file.
        made: how it was made, for a PNG file that says so (`provenance`).
    """
    with atomic(path) as draft:
        image.save(draft, pnginfo=None if made is None else text_chunk(made))
