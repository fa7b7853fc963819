"""HTML elements of images and videos, with the file embedded as a data URI."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

from PIL import Image

ImageLike = Image.Image | str | Path

SMALL = 192  # pixels to which the longer side of smaller images is enlarged
LARGE = 512  # pixels to which the longer side of larger images is reduced in image grids
FORMATS = ("PNG", "JPEG", "GIF", "WEBP")  # those that browsers show, by content
VIDEOS = {".mp4": "video/mp4", ".webm": "video/webm", ".gif": "image/gif"}


def image_tag(shown: ImageLike, alt: str, largest: int | None = None) -> str:
    """The <img> of an image: a file unchanged, other images as PNG, or GIF if animated; small images are enlarged.

    Args:
        shown: image or path.
        alt: text alternative.
        largest: longer side in pixels to which larger images are reduced; None for no limit.
    """
    file, image = opened(shown)
    moves = getattr(image, "is_animated", False)
    longer = max(image.size)
    target = max(SMALL, min(longer, largest or longer))
    if file and (moves or longer == target):
        kind, data = Image.MIME[image.format or "PNG"], file
    elif moves:
        kind, data = "image/gif", _encoded(image, format="GIF", save_all=True)
    else:
        kept = ("L", "RGB", "RGBA") if longer != target else ("L", "P", "RGB", "RGBA")
        still = image if image.mode in kept else image.convert("RGBA")
        if longer != target:
            width, height = (max(1, round(n * target / longer)) for n in image.size)
            still = still.resize((width, height), Image.Resampling.LANCZOS)
        kind, data = "image/png", _encoded(still, format="PNG", optimize=True)
    return f'<img src="{_uri(kind, data)}" alt="{escape(alt.strip())}">'


def video_tag(path: Path, label: str) -> str:
    """The <video> of a video file, or the <img> of a GIF.

    Raises:
        ValueError: if the file is not .mp4, .webm or .gif.
        FileNotFoundError: if there is no such file.
    """
    kind = VIDEOS.get(path.suffix.lower())
    if kind is None:
        raise ValueError(f"{path.name} is not a video that browsers play: use .mp4, .webm or .gif")
    if not path.is_file():
        raise FileNotFoundError(f"there is no video {path}: check its name and folder")
    source, name = _uri(kind, path.read_bytes()), escape(label)
    if kind == "image/gif":
        return f'<img src="{source}" alt="{name}">'
    return f'<video src="{source}" aria-label="{name}" muted loop playsinline controls preload="auto"></video>'


def strip_uri(frames: Sequence[ImageLike]) -> tuple[str, float]:
    """Images side by side as one JPEG, and the ratio of the width to the height of one of them.

    Args:
        frames: of one size; they are reduced to `SMALL` pixels.
    """
    images = [opened(frame)[1].convert("RGB") for frame in frames]
    width, height = images[0].size
    factor = min(1.0, SMALL / max(width, height))
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    strip = Image.new("RGB", (size[0] * len(images), size[1]))
    for i, image in enumerate(images):
        strip.paste(image.resize(size, Image.Resampling.LANCZOS), (i * size[0], 0))
    return _uri("image/jpeg", _encoded(strip, format="JPEG", quality=88)), width / height


def opened(shown: ImageLike) -> tuple[bytes, Image.Image]:
    """The bytes of the file, which are empty for an image in memory, and the image."""
    if isinstance(shown, Image.Image):
        return b"", shown
    file = Path(shown).read_bytes()
    return file, Image.open(io.BytesIO(file), formats=FORMATS)


def _uri(kind: str, data: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def _encoded(image: Image.Image, **how: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, **how)
    return buffer.getvalue()
