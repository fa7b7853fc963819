"""What can be opened as a video, and those that Pillow reads: folders of images and animated images."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from scoredistill.media.images import read_image
from scoredistill.media.video.decoding import open_container
from scoredistill.media.video.source import RATE, TIMES, Video, increase, one_size, spans

ANIMATIONS = (".gif", ".webp", ".png", ".apng")  # read by Pillow, which knows how their frames are laid over each other


def open_video(path: str | Path, rate: float | int = RATE) -> Video:
    """A video (.mp4, .mov, .mkv, .webm, .avi, ...), an animated image (.gif, .webp, .png) or a folder of images.

    Images of a folder come in the natural order of their names (frame2 before frame10). Their times are in its
    times.txt if there is one, as VideoWriter leaves it; otherwise `rate` images are shown per second.

    Raises:
        ValueError: nothing there, nothing to see in it, a broken file, or images of several sizes; PyAV is missing.
    """
    path = Path(path)
    if not path.exists():
        raise ValueError(f"there is no file {path}: check the name and the folder")
    if path.is_dir():
        return _open_folder(path, rate)
    return _open_animation(path) if path.suffix.lower() in ANIMATIONS else open_container(path)


def _open_folder(path: Path, rate: float | int) -> Video:
    known = Image.registered_extensions()
    files = [p for p in path.iterdir() if p.suffix.lower() in known and p.is_file() and not p.name.startswith(".")]
    files.sort(key=lambda p: [int(part) if part.isdigit() else part for part in re.split(r"([0-9]+)", p.name.lower())])
    sizes: dict[tuple[int, int], str] = {}
    for file in files:
        sizes.setdefault(_size(file), file.name)
    width, height = one_size(sizes, path.name)
    times = _listed_times(path / TIMES, len(files)) or tuple(i / rate for i in range(len(files)))
    read = lambda start, stop: (np.array(read_image(file)) for file in files[start:stop])
    return Video(path.name, height, width, times, spans(times, 1 / rate if len(times) == 1 else None), read)


def _size(file: Path) -> tuple[int, int]:
    """(width, height) after EXIF rotation, from the header alone."""
    try:
        with Image.open(file) as image:
            turned = image.getexif().get(0x0112, 1) >= 5
            return (image.height, image.width) if turned else image.size
    except Exception:
        return read_image(file).size  # says what is wrong


def _listed_times(file: Path, count: int) -> tuple[float, ...] | None:
    if not file.exists():
        return None
    try:
        times = tuple(float(line) for line in file.read_text().split())
    except ValueError:
        times = ()
    if len(times) != count or not increase(times):
        raise ValueError(f"{file} should list {count} increasing times in seconds, one per image: mend or delete it")
    return tuple(t - times[0] for t in times)


def _open_animation(path: Path) -> Video:
    faults: list[str] = []
    ends = [0.0]
    sizes: dict[tuple[int, int], int] = {}
    for image in _images(path, faults):
        sizes.setdefault(image.size, len(ends) - 1)
        stay = float(image.info.get("duration", 0))
        ends.append(ends[-1] + (stay if stay > 10 else 100) / 1000)  # browsers show up to 10 ms as 100 ms
    if len(ends) == 1:
        read_image(path)  # says what is wrong
        raise ValueError(f"{path.name} has no frames: save it again")
    width, height = one_size(sizes, path.name)
    frames = lambda start, stop: itertools.islice(_images(path), start, stop)
    read = lambda start, stop: (np.array(read_image(image)) for image in frames(start, stop))
    return Video(path.name, height, width, tuple(ends[:-1]), ends[-1], read, complete=not faults)


def _images(path: Path, faults: list[str] | None = None) -> Iterator[Image.Image]:
    """Frames up to the first that is broken, each gone when the next is asked for."""
    try:
        with Image.open(path) as image:
            for i in itertools.count():
                image.seek(i)
                image.load()
                yield image
    except EOFError:
        return
    except Exception as error:  # Pillow raises errors of many kinds on broken files
        if faults is not None:
            faults.append(str(error))


IMAGES = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".ppm", ".pgm", ".avif", ".heic", ".jp2"}
VIDEOS = ("GIF", "WEBP", "PNG")  # formats of Pillow that can move; pages of others are no frames


def is_video(path: Path) -> bool:
    """Whether to edit frames: a folder, an animated image, or a file that Pillow does not know as an image.

    Raises:
        ValueError: there is no such file.
    """
    if path.is_dir():
        return True
    if not path.is_file():
        raise ValueError(f"there is no file {path}: check the name and the folder")
    try:
        with Image.open(path) as image:
            return image.format in VIDEOS and bool(getattr(image, "is_animated", False))
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return path.suffix.lower() not in IMAGES
