"""Between tensors in [0, 1] and PIL images, and pictures made of pictures: a wall (`grid`) and a film (`save_gif`)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

FRAMES_PER_SECOND = 50  # the fastest film that browsers play at its own pace
PAPER, INK = "white", "#333333"


def to_pil(images: Float[Tensor, "b 3 h w"]) -> list[Image.Image]:
    """RGB images of 8 bits from a batch of values in [0, 1]; values outside are clipped.

    Raises:
        ValueError: the tensor is not [b, 3, h, w], or holds nan or infinity.
    """
    if images.ndim != 4 or images.shape[1] != 3:
        raise ValueError(f"expected images of shape [b, 3, h, w], got {list(images.shape)}")
    broken = ~torch.isfinite(images.detach()).flatten(1).all(dim=1)
    if broken.any():
        raise ValueError(f"nan or infinite pixels in images {broken.nonzero().flatten().tolist()} of {len(images)}")
    pixels = (images.detach().float().clamp(0, 1) * 255).round().to(torch.uint8)
    return [Image.fromarray(np.ascontiguousarray(p)) for p in pixels.permute(0, 2, 3, 1).cpu().numpy()]


def to_tensor(images: Image.Image | Sequence[Image.Image]) -> Float[Tensor, "b 3 h w"]:
    """Batch of float32 values in [0, 1] from one image or several of one size; transparency is laid over white.

    Raises:
        ValueError: there is no image, or the sizes differ.
    """
    images = [images] if isinstance(images, Image.Image) else list(images)
    sizes = sorted({image.size for image in images})
    if len(sizes) != 1:
        raise ValueError(f"expected images of one size, got {sizes or 'no image'}")
    pixels = np.stack([np.asarray(_over_white(image)) for image in images])
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255


def grid(images: Sequence[Image.Image], columns: int, pad: int = 2, labels: Sequence[str] | None = None) -> Image.Image:
    """A wall of pictures, row by row from the top left, on white.

    Args:
        images: pictures; each cell has the largest width and height among them, smaller pictures are centred.
        columns: pictures per row; the last row may be short.
        pad: pixels around and between the cells.
        labels: one line of text under each picture, shortened to the width of the cell.

    Raises:
        ValueError: no image, columns < 1, or not as many labels as images.
    """
    if not images or columns < 1:
        raise ValueError(f"expected at least one image and one column, got {len(images)} and {columns}")
    if labels is not None and len(labels) != len(images):
        raise ValueError(f"{len(labels)} labels for {len(images)} images")
    font = ImageFont.load_default(11)
    width, height = (max(image.size[axis] for image in images) for axis in (0, 1))
    text_height = 16 if labels else 0
    columns = min(columns, len(images))
    rows = -(-len(images) // columns)
    wall = Image.new("RGB", (columns * (width + pad) + pad, rows * (height + text_height + pad) + pad), PAPER)
    draw = ImageDraw.Draw(wall)
    for i, image in enumerate(images):
        left, top = pad + i % columns * (width + pad), pad + i // columns * (height + text_height + pad)
        wall.paste(_over_white(image), (left + (width - image.width) // 2, top + (height - image.height) // 2))
        if labels:
            text = _shortened(labels[i], font, width)
            draw.text((left + width / 2, top + height + text_height / 2), text, fill=INK, font=font, anchor="mm")
    return wall


def save_gif(frames: Sequence[Image.Image], path: str | Path, seconds: float = 4.0, size: int = 256) -> Path:
    """Write an endless GIF that lasts `seconds` per round, with `size` pixels on its longer side.

    More than 50 frames per second are thinned evenly (the first and the last stay): browsers slow faster films down.

    Raises:
        ValueError: no frame, or `seconds` is not positive.
    """
    if not frames or not seconds > 0:
        raise ValueError(f"expected at least one frame and a positive time, got {len(frames)} and {seconds} s")
    count = min(len(frames), max(1, int(seconds * FRAMES_PER_SECOND)))
    chosen = np.linspace(0, len(frames) - 1, count).round().astype(int) if count > 1 else [len(frames) - 1]
    film = [_resized(_over_white(frames[i]), size) for i in chosen]
    ends = np.linspace(0, 100 * seconds, count + 1).round().astype(int)  # GIF counts in hundredths of a second
    durations = [int(10 * n) for n in np.diff(ends)]
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    film[0].save(path, format="GIF", save_all=True, append_images=film[1:], duration=durations, loop=0)
    return path


def _over_white(image: Image.Image) -> Image.Image:
    if not image.has_transparency_data:
        return image.convert("RGB")
    layer = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", layer.size, PAPER), layer).convert("RGB")


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
