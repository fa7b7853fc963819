"""Opening videos of every kind; folders of images and animated images, which Pillow reads, are opened here."""

from __future__ import annotations

import itertools
import re
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from scoredistill.files import read_text
from scoredistill.media.images import ANIMATED, read_image
from scoredistill.media.limits import FORMATS, check_size, formats
from scoredistill.media.metadata import orientation
from scoredistill.media.video.decoding import open_container
from scoredistill.media.video.source import RATE, TIMES, Video, increase, one_size, spans

ANIMATIONS = (".gif", ".webp", ".png", ".apng", ".avif", ".avifs")  # read by Pillow, which composites their frames
IMAGES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".ppm", ".pgm", ".avif", ".heic", ".jp2")


def open_video(path: str | Path, rate: float | int = RATE) -> Video:
    """Open a video file (.mp4, .mov, .mkv, .webm, .avi, ...), an animated image (.gif, .webp, .png, .avif) or a folder.

    Images of a folder are in the natural order of their names (frame2 before frame10). Their times are those of
    times.txt in the folder, as `VideoWriter` writes it: one line per image in seconds, and possibly one for the end of
    the last; without that file, `rate` images are shown per second.

    Frames with transparency are shown over white, with a warning.

    Raises:
        ValueError: if the path does not exist, has no frames, is corrupt, or has frames of several sizes.
        MissingExtra: if PyAV is needed and not installed.
    """
    path = Path(path)
    if not path.exists():
        raise ValueError(f"there is no file {path}: check its name and folder")
    if path.is_dir():
        return _open_folder(path, rate)
    return _open_animation(path) if path.suffix.lower() in ANIMATIONS else open_container(path)


def is_video(path: Path) -> bool:
    """Whether a path is to be read as a video: a folder, an animated image, or a file that is no image to Pillow.

    Raises:
        ValueError: if there is no such file.
    """
    if path.is_dir():
        return True
    if not path.is_file():
        raise ValueError(f"there is no file {path}: check its name and folder")
    try:
        with Image.open(path, formats=formats()) as image:
            return image.format in ANIMATED and bool(getattr(image, "is_animated", False))
    except Exception:  # Pillow raises errors of many kinds on corrupt files
        return path.suffix.lower() not in IMAGES


def _open_folder(path: Path, rate: float | int) -> Video:
    known = {suffix for suffix, name in Image.registered_extensions().items() if name in FORMATS}
    files = [p for p in path.iterdir() if p.suffix.lower() in known and p.is_file() and not p.name.startswith(".")]
    parts = lambda name: enumerate(re.split(r"([0-9]+)", name.lower()))
    files.sort(key=lambda file: [int(part) if i % 2 else part for i, part in parts(file.name)])
    sizes: dict[tuple[int, int], str] = {}
    for file in files:
        sizes.setdefault(_size(file), file.name)
    width, height = one_size(sizes, path.name)
    times = _listed_times(path / TIMES, len(files)) or tuple(i / rate for i in range(len(files) + 1))
    times, last = times[: len(files)], times[len(files)] - times[-2] if len(times) > len(files) else None
    read = lambda start, stop: (np.array(read_image(file)) for file in files[start:stop])
    return Video(path.name, height, width, times, spans(times, last or (1 / rate if len(times) == 1 else None)), read)


def _size(file: Path) -> tuple[int, int]:
    """(width, height) after EXIF rotation, from the header alone."""
    try:
        with Image.open(file, formats=formats()) as image:
            tags = getattr(image, "tag_v2", None)  # of TIFF, whose size Pillow may have turned already
            width, height = (int(tags[256]), int(tags[257])) if tags else image.size
            return (height, width) if orientation(image) >= 5 else (width, height)
    except Exception:
        return read_image(file).size  # raises the error that says what is wrong


def _listed_times(file: Path, count: int) -> tuple[float, ...] | None:
    if not file.exists():
        return None
    try:
        times = tuple(float(line) for line in read_text(file).split())
    except ValueError:
        times = ()
    if len(times) not in (count, count + 1) or not increase(times):
        raise ValueError(f"{file} must list {count} increasing times in seconds, one per image: correct or delete it")
    return tuple(t - times[0] for t in times)


def _open_animation(path: Path) -> Video:
    faults: list[str] = []
    ends, clear = [0.0], False
    sizes: dict[tuple[int, int], int] = {}
    for image in _images(path, faults):
        sizes.setdefault(image.size, len(ends) - 1)
        clear = clear or read_image(image, transparency=True).mode == "RGBA"
        stay = float(image.info.get("duration", 0))
        ends.append(ends[-1] + (stay if stay > 10 else 100) / 1000)  # browsers show up to 10 ms as 100 ms
    if len(ends) == 1:
        read_image(path)  # raises the error that says what is wrong
        raise ValueError(f"{path.name} has no frames: save it again")
    width, height = one_size(sizes, path.name)
    if clear:
        warnings.warn(f"{path.name} has transparency, which videos do not keep: it is shown over white", stacklevel=3)
    frames = lambda start, stop: itertools.islice(_images(path), start, stop)
    read = lambda start, stop: (np.array(read_image(image)) for image in frames(start, stop))
    return Video(path.name, height, width, tuple(ends[:-1]), ends[-1], read, complete=not faults)


def _images(path: Path, faults: list[str] | None = None) -> Iterator[Image.Image]:
    """Frames up to the first corrupt one; each is valid until the next is read."""
    try:
        with Image.open(path, formats=formats()) as image:
            # a PNG may begin with an image for other viewers
            for i in itertools.count(1 if getattr(image, "default_image", False) else 0):
                check_size(image.size, path.name)
                image.seek(i)
                image.load()
                yield image
    except EOFError:
        return
    except Exception as error:  # Pillow raises errors of many kinds on corrupt files
        if faults is not None:
            faults.append(str(error))
