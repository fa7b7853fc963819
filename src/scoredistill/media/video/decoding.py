"""Video decoding with PyAV: one pass to find the frame times, then streaming from the nearest earlier key frame."""

from __future__ import annotations

import itertools
import re
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from scoredistill.media.video.hdr import check, is_wide, standard
from scoredistill.media.video.source import RATE, Frame, Video, increase, location, one_size, pyav, spans


@dataclass(frozen=True)
class Shape:
    """How the frames of a video are shown.

    Attributes:
        aspect: width over height of a pixel.
        transposed, mirrored, upside_down: see `_orientation`.
    """

    aspect: float
    transposed: bool = False
    mirrored: bool = False
    upside_down: bool = False


def open_container(path: Path) -> Video:
    """Open a video file, decoding it once to find its frames.

    Raises:
        ValueError: if no frame can be decoded, or the frames have several sizes.
        MissingExtra: if PyAV is not installed.
    """
    marks: list[int | None] = []
    keys: list[int] = []
    faults: list[str] = []
    sizes: dict[tuple[int, int], int] = {}
    left = 1.0  # of the pixel aspect ratio, after resampling to a whole number of pixels
    shape = Shape(1.0)
    with _video(path) as (container, stream):
        base, rate, sound = stream.time_base, stream.average_rate, bool(container.streams.audio)
        aspect = float(stream.sample_aspect_ratio or 1)
        tag, end = stream.codec_context.codec_tag, _stated_end(stream)
        if any(entry.pos + entry.size > path.stat().st_size for entry in stream.index_entries):
            faults.append("the index lists frames after the end of the file")
    last = 0
    for frame in _decoded(path, faults=faults):
        size = _square(frame.width, frame.height, aspect)
        if not marks:
            check(frame, tag, path.name)
            shape = Shape(aspect, *_orientation(frame))
            left = aspect * frame.width / frame.height * size[1] / size[0]
            left = 1 / left if shape.transposed else left
        sizes.setdefault(size[::-1] if shape.transposed else size, len(marks))
        if frame.key_frame:
            keys.append(len(marks))
        marks.append(frame.pts)
        last = frame.duration or 0
    if not marks:
        raise ValueError(
            f"no frame of {path.name} can be decoded, because it is empty or corrupt: save or download it again"
        )
    width, height = one_size(sizes, path.name)
    pts = [m for m in marks if m is not None]
    sane = len(pts) == len(marks) and increase(pts)
    if not sane:  # missing or decreasing times are replaced by a constant frame rate
        times = tuple(i / float(rate or RATE) for i in range(len(marks)))
        read = lambda start, stop: _images(_decoded(path), start, shape)
        video = Video(path.name, height, width, times, spans(times), read, path, sound, complete=not faults)
        return replace(video, aspect=left)
    times = tuple(float((p - pts[0]) * base) for p in pts)
    keys = keys if not faults else []
    read = lambda start, stop: _images(*_from_key(path, pts, keys, start), shape)
    origin, shown = float(pts[0] * base), float(last * base)
    if end is not None and not faults and end - origin > times[-1]:
        shown = end - origin - times[-1]
    return Video(path.name, height, width, times, spans(times, shown), read, path, sound, origin, not faults, left)


@contextmanager
def _video(path: Path) -> Iterator[tuple[Any, Any]]:
    """The open container and its first video stream that is not a cover image."""
    av = pyav()
    try:
        container = av.open(location(path), metadata_errors="replace")
    except (av.error.FFmpegError, OSError) as error:
        raise ValueError(f"{path.name} is not a video or is corrupt: save or download it again") from error
    with container:
        streams = [s for s in container.streams.video if not _is_cover(s)]
        if not streams:
            raise ValueError(f"{path.name} has no video stream, only sound or data: give a file with video")
        if streams[0].codec_context is None:
            raise ValueError(f"{path.name} has a codec that FFmpeg cannot decode: save it as H.264 .mp4")
        streams[0].thread_type = "AUTO"
        yield container, streams[0]


def _is_cover(stream: Any) -> bool:
    flags = stream.disposition
    return bool(getattr(flags, "value", flags) & 0x400)  # AV_DISPOSITION_ATTACHED_PIC


def _decoded(path: Path, begin: int | None = None, faults: list[str] | None = None) -> Iterator[Any]:
    """Intact frames in presentation order, from the key frame at or before `begin` (in units of the stream)."""
    error_type = pyav().error.FFmpegError
    faults = [] if faults is None else faults
    with _video(path) as (container, stream):
        if begin is not None:
            container.seek(begin, stream=stream)
        packets = container.demux(stream)
        running = True
        while running:
            try:
                packet = next(packets, None)
            except error_type as error:  # the container ends here, but the decoder may still hold frames
                faults.append(str(error))
                packet = None
            running = packet is not None and packet.size > 0
            if packet is not None and packet.is_corrupt:
                faults.append("a packet is truncated")
            try:
                frames = stream.codec_context.decode(packet if running else None)
            except (error_type, EOFError) as error:
                faults.append(str(error))
                continue
            for frame in frames:
                if frame.is_corrupt:
                    faults.append(f"the frame at {frame.pts} is corrupt")
                else:
                    yield frame


def _from_key(path: Path, pts: Sequence[int], keys: Sequence[int], start: int) -> tuple[Iterator[Any], int]:
    """Decoded frames, and how many of them to skip so that frame `start` is next."""
    before = bisect_right(keys, start)
    if before and keys[before - 1] > 0:
        key = keys[before - 1]
        frames = itertools.dropwhile(lambda frame: frame.pts < pts[key], _decoded(path, pts[key]))
        first = next(frames, None)
        if first is not None and first.pts == pts[key]:
            return itertools.chain([first], frames), start - key
    return _decoded(path), start  # no key frame, or the container cannot seek to it


def _images(frames: Iterator[Any], skip: int, shape: Shape) -> Iterator[Frame]:
    """Frames as displayed: with square pixels, turned and mirrored."""
    for frame in itertools.islice(frames, skip, None):
        pixels = standard(frame) if is_wide(frame) else frame.to_ndarray(format="rgb24")
        size = _square(frame.width, frame.height, shape.aspect)
        if size != (frame.width, frame.height):
            pixels = np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC))
        pixels = pixels.transpose(1, 0, 2) if shape.transposed else pixels
        yield np.ascontiguousarray(pixels[:: -1 if shape.upside_down else 1, :: -1 if shape.mirrored else 1])


def _square(width: int, height: int, aspect: float) -> tuple[int, int]:
    """(width, height) with nearly square pixels: the side along which pixels are longer grows to an even number.

    Args:
        aspect: width over height of a pixel; within 2 % of 1, or outside [1/8, 8], the size stays.
    """
    if not 1 / 8 <= aspect <= 8 or abs(aspect - 1) < 0.02:
        return width, height
    return (2 * round(width * aspect / 2), height) if aspect > 1 else (width, 2 * round(height / aspect / 2))


def _orientation(frame: Any) -> tuple[bool, bool, bool]:
    """Whether to transpose a frame, then to mirror it left to right, then top to bottom, for display.

    The display matrix takes the pixel (x, y) to (a x + c y, b x + d y); angles between quarter turns are rounded. Only
    call it for one frame of a video: PyAV makes a reference cycle of a frame whose side data are read, so that it and
    the threads of its conversion live until garbage is collected.
    """
    try:
        matrix = frame.side_data.get("DISPLAYMATRIX")
    except ValueError:  # PyAV does not know all kinds of side data, as EXIF data in frames of cameras
        matrix = None
    if matrix is None:
        return False, False, False
    a, b, _, c, d, *_ = np.frombuffer(bytes(matrix), np.int32, 9).tolist()
    if abs(a) + abs(d) >= abs(b) + abs(c):
        return False, a < 0, d < 0
    return True, c < 0, b < 0


def _stated_end(stream: Any) -> float | None:
    """End of the last frame on the timeline of the file, in seconds, by a tag of Matroska and WebM.

    They do not store durations of frames. The tag of mkvmerge counts from the first frame, and is only followed where
    that is the same.
    """
    match = re.fullmatch(r"(\d+):(\d\d):(\d\d(?:\.\d+)?)", stream.metadata.get("DURATION", ""))
    if match and "_STATISTICS_TAGS" in stream.metadata and stream.start_time:
        return None
    return 3600 * int(match[1]) + 60 * int(match[2]) + float(match[3]) if match else None
