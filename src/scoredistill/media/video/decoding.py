"""Video decoding with PyAV: one pass to find the frame times, then streaming from the nearest earlier key frame."""

from __future__ import annotations

import itertools
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from scoredistill.media.video.hdr import is_wide, standard
from scoredistill.media.video.source import RATE, Frame, Video, increase, location, one_size, pyav, spans


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
    with _video(path) as (container, stream):
        base, rate, sound = stream.time_base, stream.average_rate, bool(container.streams.audio)
        if any(entry.pos + entry.size > path.stat().st_size for entry in getattr(stream, "index_entries", ())):
            faults.append("the index lists frames after the end of the file")
    last = 0
    for frame in _decoded(path, faults=faults):
        turned = _quarters(frame) % 2
        sizes.setdefault((frame.height, frame.width) if turned else (frame.width, frame.height), len(marks))
        if frame.key_frame:
            keys.append(len(marks))
        marks.append(frame.pts)
        last = getattr(frame, "duration", 0) or 0
    if not marks:
        raise ValueError(
            f"no frame of {path.name} can be decoded, because it is empty or corrupt: save or download it again"
        )
    width, height = one_size(sizes, path.name)
    pts = [m for m in marks if m is not None]
    sane = len(pts) == len(marks) and increase(pts)
    if not sane:  # missing or decreasing times are replaced by a constant frame rate
        times = tuple(i / float(rate or RATE) for i in range(len(marks)))
        read = lambda start, stop: _images(_decoded(path), start)
        return Video(path.name, height, width, times, spans(times), read, path, sound, complete=not faults)
    times = tuple(float((p - pts[0]) * base) for p in pts)
    keys = keys if not faults else []
    read = lambda start, stop: _images(*_from_key(path, pts, keys, start))
    duration = spans(times, float(last * base))
    return Video(path.name, height, width, times, duration, read, path, sound, float(pts[0] * base), not faults)


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
    return bool(int(getattr(stream, "disposition", 0) or 0) & 0x400)  # AV_DISPOSITION_ATTACHED_PIC


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


def _images(frames: Iterator[Any], skip: int) -> Iterator[Frame]:
    for frame in itertools.islice(frames, skip, None):
        pixels = standard(frame) if is_wide(frame) else frame.to_ndarray(format="rgb24")
        yield np.ascontiguousarray(np.rot90(pixels, _quarters(frame)))


def _quarters(frame: Any) -> int:
    """Counterclockwise quarter turns with which the frame is to be displayed."""
    return round(getattr(frame, "rotation", 0) / 90) % 4
