"""Whether a file is edited as a picture or as a film."""

from pathlib import Path

from PIL import Image, UnidentifiedImageError

PICTURES = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".ppm", ".pgm", ".avif", ".heic", ".jp2"}
FILMS = ("GIF", "WEBP", "PNG")  # formats of Pillow that can move; pages of others are no frames


def is_film(path: Path) -> bool:
    """Whether to edit frames: a folder, an animated picture, or a file that Pillow does not know as a picture.

    Raises:
        ValueError: there is no such file.
    """
    if path.is_dir():
        return True
    if not path.is_file():
        raise ValueError(f"there is no file {path}: check the name and the folder")
    try:
        with Image.open(path) as picture:
            return picture.format in FILMS and bool(getattr(picture, "is_animated", False))
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return path.suffix.lower() not in PICTURES
