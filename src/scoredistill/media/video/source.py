"""The `Video` type, independent of its source, and helpers shared by reading and writing."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from scoredistill.media.images import read_image
from scoredistill.optional import require

Frame = UInt8[np.ndarray, "h w 3"]
TIMES = "times.txt"  # in a folder of frames: one time in seconds per line, and the end of the last frame
OLDEST = (17, 1)  # version of PyAV, as in pyproject.toml
RATE = 24.0  # default frames per second


@dataclass(frozen=True)
class Video:
    """A video whose frames can be streamed repeatedly.

    Attributes:
        name: of the file or folder.
        height, width: in pixels as displayed, after rotation and mirroring, with square pixels.
        times: presentation time of each frame in seconds, strictly increasing from 0.
        duration: in seconds, to the end of the last frame.
        read: (start, stop) -> iterator over the frames from start on; use `frames`.
        path: of the video file; None for frames in memory and folders.
        sound: whether the file has sound.
        origin: time in seconds of the first frame on the timeline of the file, which is that of its sound.
        complete: whether the whole file could be decoded.
        aspect: width over height of a pixel, near 1: frames of files whose pixels are not square are resampled.
    """

    name: str
    height: int
    width: int
    times: tuple[float, ...]
    duration: float
    read: Callable[[int, int], Iterator[Frame]] = field(repr=False)
    path: Path | None = None
    sound: bool = False
    origin: float = 0.0
    complete: bool = True
    aspect: float = 1.0

    @property
    def rate(self) -> float:
        """Average number of frames per second."""
        return len(self.times) / self.duration

    def __len__(self) -> int:
        return len(self.times)

    def frames(self, start: int = 0, stop: int | None = None) -> Iterator[Frame]:
        """Iterate over the frames of a slice [start:stop], one at a time.

        Raises:
            ValueError: if a frame cannot be read, or the file has changed since it was opened.
        """
        start, stop, _ = slice(start, stop).indices(len(self))
        count = 0
        for count, frame in enumerate(itertools.islice(self.read(start, stop), max(stop - start, 0)), 1):
            if frame.shape != (self.height, self.width, 3):
                raise ValueError(f"frame {start + count - 1} of {self.name} has another size: has the file changed?")
            yield frame
        if count < stop - start:
            raise ValueError(f"{self.name} has fewer frames than when it was opened: has the file changed?")

    @staticmethod
    def of(frames: Sequence[Image.Image], rate: float | int = RATE, name: str = "frames") -> Video:
        """A video of images in memory, with `rate` frames per second.

        Raises:
            ValueError: if there is no image, sizes differ, or the rate is not positive and finite.
        """
        if not (rate > 0 and math.isfinite(rate)):
            raise ValueError(f"expected a positive and finite rate, got {rate}")
        images = [read_image(frame) for frame in frames]
        width, height = one_size({p.size: i for i, p in reversed(list(enumerate(images)))}, name)
        times = tuple(i / rate for i in range(len(images)))
        read = lambda start, stop: (np.array(p) for p in images[start:stop])
        return Video(name, height, width, times, len(times) / rate, read)


def pyav() -> ModuleType:
    """PyAV, which reads and writes video files.

    Raises:
        MissingExtra: if it is not installed.
        ValueError: if it is older than `OLDEST`: earlier versions read wrong colors, no HDR, or nothing at all.
    """
    av = require("av", "video", "reading and writing videos")
    parts = [int(part) for part in re.findall(r"\d+", av.__version__)[:2]]
    if tuple(parts) < OLDEST:
        oldest = ".".join(map(str, OLDEST))
        raise ValueError(f"videos need PyAV {oldest} or later, not {av.__version__}: pip install 'av>={oldest}'")
    return av


def location(path: Path) -> str:
    """A path for FFmpeg, which takes what stands before a colon in a relative path, as in 10:30.mp4, for a protocol."""
    return str(path.absolute())


def one_size(sizes: dict[tuple[int, int], Any], name: str) -> tuple[int, int]:
    """The only (width, height) in `sizes`, which maps each size to the frame where it first occurs.

    Raises:
        ValueError: if there are none or several.
    """
    if not sizes:
        raise ValueError(f"{name} has no frames: give at least one image")
    if len(sizes) > 1:
        (first, _), (other, where) = sorted(sizes.items(), key=lambda item: str(item[1]))[:2]
        raise ValueError(
            f"frames of a video must have one size, but {name} has {first} and, at {where}, {other}: resize them"
        )
    return next(iter(sizes))


def spans(times: Sequence[float | int], last: float | int | None = None) -> float:
    """Duration in seconds; a last frame of unknown duration lasts for the median of the others."""
    gaps = np.diff(times)
    return float(times[-1]) + (last or (float(np.median(gaps)) if len(gaps) else 1 / RATE))


def increase(times: Sequence[float | int]) -> bool:
    """Whether times are finite and strictly increasing."""
    return all(map(math.isfinite, times)) and all(a < b for a, b in itertools.pairwise(times))
