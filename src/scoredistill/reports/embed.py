"""Images and videos as HTML elements that hold their file, as a data URI."""

from __future__ import annotations

import base64
import io
from html import escape
from pathlib import Path
from typing import Any

from PIL import Image

ImageLike = Image.Image | str | Path

SMALL, LARGE = (
    192,
    512,
)  # pixels: smaller images are enlarged to the first, an image grid reduces larger ones to the second
VIDEOS = {".mp4": "video/mp4", ".webm": "video/webm", ".gif": "image/gif"}


def image_tag(shown: ImageLike, alt: str, largest: int | None = None) -> str:
    """The <img> of an image: a file as it is, anything else as PNG (or GIF if it moves), enlarged if it is small."""
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
    """The <video> of a video, or the <img> of a GIF."""
    kind = VIDEOS.get(path.suffix.lower())
    if kind is None:
        raise ValueError(f"{path.name} is no video that a page can show: use mp4, webm or gif")
    if not path.is_file():
        raise FileNotFoundError(f"there is no video {path}")
    source, name = _uri(kind, path.read_bytes()), escape(label)
    if kind == "image/gif":
        return f'<img src="{source}" alt="{name}">'
    return f'<video src="{source}" aria-label="{name}" muted loop playsinline controls preload="auto"></video>'


def opened(shown: ImageLike) -> tuple[bytes, Image.Image]:
    """The bytes of a file, or none, and the image."""
    if isinstance(shown, Image.Image):
        return b"", shown
    file = Path(shown).read_bytes()
    return file, Image.open(io.BytesIO(file))


def _uri(kind: str, data: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def _encoded(image: Image.Image, **how: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, **how)
    return buffer.getvalue()
