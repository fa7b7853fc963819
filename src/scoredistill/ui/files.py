"""Files that come from the browser, and images that go there.

What is uploaded is kept under the directory of the runs by its content, so that the command of a run finds it again.
The browser's names of files are used for letters only.
"""

import hashlib
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from scoredistill.files import atomic, slug
from scoredistill.media.images import read_image, save_image

UPLOADS = "uploads"  # directory for uploads, beside the runs
SUFFIXES = {
    ".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".avif", ".heic", ".gif", ".mp4", ".mov", ".mkv",
    ".webm", ".avi", ".m4v", ".glb", ".obj", ".ply", ".svg",
}  # fmt: skip
LARGE, SMALL = 1600, 384  # pixels of the longer side of an image on the page: at most, and about at least
DRAWN = 1024  # pixels of the longer side of an image to draw on
KEPT = 500  # copies of images for the page
COLORS: Mapping[str, str] = {"red": "#e6194b", "green": "#2e9e4f", "blue": "#3b5bdb"}  # of the brush


def keep(uploaded: Path, root: Path, name: str = "") -> Path:
    """Keep an uploaded file beside the runs.

    Args:
        uploaded: where the server put it.
        root: directory of the runs.
        name: the user's name of the file; its letters are kept.

    Returns:
        The path of the kept file.

    Raises:
        ValueError: if the name has no suffix of an image, a video or a model.
    """
    given = Path(name or uploaded.name)
    suffix = given.suffix.lower()
    if suffix not in SUFFIXES:
        raise ValueError(f"cannot use a file of the kind {suffix[:10] or 'without a suffix'}: give an image or a video")
    kept = root / UPLOADS / f"{slug(given.stem, 40) or 'file'}-{_digest(uploaded)}{suffix}"
    if not kept.is_file():
        kept.parent.mkdir(parents=True, exist_ok=True)
        with atomic(kept) as draft:
            shutil.copyfile(uploaded, draft)
    return kept


def _digest(path: Path) -> str:
    """Eight letters that stand for the content of a file."""
    made = hashlib.sha256()
    with path.open("rb") as file:
        while part := file.read(2**20):
            made.update(part)
    return made.hexdigest()[:8]


def masks(drawing: Mapping[str, Any] | None, root: Path) -> dict[str, Path]:
    """The masks that were painted on an image, as files beside the runs.

    Args:
        drawing: what the image editor gives: "layers" [h, w, 4] of bytes, in the colors of `COLORS`.
        root: directory of the runs.

    Returns:
        Name of each color that was used -> a mask, white where it was painted.
    """
    layers = [np.asarray(layer) for layer in (drawing or {}).get("layers") or () if layer is not None]
    found: dict[str, np.ndarray] = {}
    for layer in (each for each in layers if each.ndim == 3 and each.shape[2] == 4):
        nearest = _nearest(layer[..., :3])
        for index, color in enumerate(COLORS):
            painted = (layer[..., 3] >= 128) & (nearest == index)
            if painted.any():
                found[color] = painted | found.get(color, np.zeros_like(painted))
    return {color: _kept_mask(mask, color, root) for color, mask in found.items()}


def _nearest(colors: np.ndarray) -> np.ndarray:
    """Index of the brush color that is nearest to each pixel, [h, w]."""
    brushes = [[int(code[k : k + 2], 16) for k in (1, 3, 5)] for code in COLORS.values()]
    far = [((colors.astype(np.int32) - np.array(brush)) ** 2).sum(-1) for brush in brushes]
    return np.argmin(np.stack(far), 0)


def _kept_mask(mask: np.ndarray, color: str, root: Path) -> Path:
    image = Image.fromarray(mask.astype(np.uint8) * 255)
    name = f"mask-{color}-{hashlib.sha256(image.tobytes() + repr(image.size).encode()).hexdigest()[:8]}.png"
    path = root / UPLOADS / name
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        save_image(image, path)
    return path


class Display:
    """Copies of images as the page shows them: large ones smaller, and tiny ones enlarged.

    Args:
        folder: directory of the copies, which the server may send.
    """

    def __init__(self, folder: Path):
        self.folder = folder

    def __call__(self, path: Path, side: int = LARGE) -> str | None:
        """The copy of an image; None if it cannot be read now.

        Args:
            path: the image.
            side: pixels of the longer side at most.
        """
        try:
            stat = path.stat()
            key = hashlib.sha256(f"{path.absolute()}\0{stat.st_mtime_ns}\0{stat.st_size}\0{side}".encode()).hexdigest()
            copy = self.folder / f"{path.stem[:40]}-{key[:12]}.png"
            if not copy.is_file():
                save_image(sized(read_image(path, transparency=True), side), copy)
                self.trim(KEPT)
            os.utime(copy)
        except (OSError, ValueError):
            return None
        return str(copy)

    def trim(self, most: int) -> None:
        """Remove the copies that were not shown for longest, all but some."""
        copies = sorted(self.folder.glob("*.png"), key=lambda path: path.stat().st_mtime, reverse=True)
        for copy in copies[most:]:
            copy.unlink(missing_ok=True)


def sized(image: Image.Image, most: int = LARGE, least: int = SMALL) -> Image.Image:
    """An image for the page.

    Args:
        image: the image.
        most: pixels of its longer side at most.
        least: smaller images are enlarged by a whole number to about so many pixels.
    """
    longer = max(image.size)
    if longer > most:
        size = [max(1, round(side * most / longer)) for side in image.size]
        return image.resize((size[0], size[1]), Image.Resampling.LANCZOS)
    factor = max(1, round(min(least, most) / longer))
    return image.resize((image.width * factor, image.height * factor), Image.Resampling.LANCZOS)
