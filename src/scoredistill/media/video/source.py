"""What a video is, whatever it was read from, and what reading and writing have in common."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from scoredistill.media.images import read_image

Frame = UInt8[np.ndarray, "h w 3"]
TIMES = "times.txt"  # in a folder of frames: one time per line, seconds
RATE = 24.0  # frames per second where nothing else is known


@dataclass(frozen=True)
class Video:
    """Frames in order, which can be iterated again and again.

    Attributes:
        name: of the file or folder.
        height, width: pixels as seen, that is after the rotation that phones note in a video.
        times: seconds at which each frame appears, strictly increasing from 0.
        duration: seconds, up to the end of the last frame.
        path: of a video with its sound; None for frames in memory.
        sound: whether the file has sound.
        origin: the first frame's time on the timeline of the file, which is that of its sound; seconds.
        complete: whether everything in the file could be decoded.
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

    @property
    def rate(self) -> float:
        """Frames per second on average."""
        return len(self.times) / self.duration

    def __len__(self) -> int:
        return len(self.times)

    def frames(self, start: int = 0, stop: int | None = None) -> Iterator[Frame]:
        """Frames start, start + 1, ..., stop - 1 in order, one at a time; start and stop count as in a slice.

        Raises:
            ValueError: a frame cannot be read, or the file has changed since it was opened.
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
        """Images in memory, `rate` of them per second.

        Raises:
            ValueError: no image, images of several sizes, or a rate that is not positive and finite.
        """
        if not (rate > 0 and math.isfinite(rate)):
            raise ValueError(f"expected a positive rate, got {rate}")
        images = [read_image(frame) for frame in frames]
        width, height = one_size({p.size: i for i, p in reversed(list(enumerate(images)))}, name)
        times = tuple(i / rate for i in range(len(images)))
        read = lambda start, stop: (np.array(p) for p in images[start:stop])
        return Video(name, height, width, times, len(times) / rate, read)


def pyav() -> ModuleType:
    try:
        import av
    except ImportError as error:
        raise ValueError("reading videos needs PyAV: pip install 'scoredistill[video]'") from error
    return av


def one_size(sizes: dict[tuple[int, int], Any], name: str) -> tuple[int, int]:
    """The only (width, height) among them; `sizes` tells where each was met first."""
    if not sizes:
        raise ValueError(f"{name} has no frames: give at least one image")
    if len(sizes) > 1:
        (first, _), (other, where) = sorted(sizes.items(), key=lambda item: str(item[1]))[:2]
        raise ValueError(
            f"frames of one video have one size, but {name} has {first} and, at {where}, {other}: resize them"
        )
    return next(iter(sizes))


def spans(times: Sequence[float | int], last: float | int | None = None) -> float:
    """Duration; a last frame of unknown length stays for the median of the others."""
    gaps = np.diff(times)
    return float(times[-1]) + (last or (float(np.median(gaps)) if len(gaps) else 1 / RATE))


def increase(times: Sequence[float | int]) -> bool:
    return all(map(math.isfinite, times)) and all(a < b for a, b in itertools.pairwise(times))
