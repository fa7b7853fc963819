"""Writing videos frame by frame: video files and GIFs with PyAV, and folders of images."""

from __future__ import annotations

import errno
import itertools
import math
import os
import shutil
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from PIL import Image

from scoredistill.media.video.sound import Sound, stretch
from scoredistill.media.video.source import TIMES, Video, increase, location, pyav, spans

TICKS = 90_000  # time units per second of video files; a GIF has 100
SHORTEST = 2  # shortest duration of a GIF frame that browsers respect, in hundredths of a second
Coding = tuple[str, dict[str, str], tuple[str, ...], str]
"""Video codec, its options, audio codecs that are copied, and the codec for other audio."""
VIDEOS: dict[str, Coding] = {
    # without B-frames, since MP4 stores durations in the order of decoding: others get the duration of another frame
    ".mp4": ("libx264", {"crf": "18", "bf": "0"}, ("aac", "mp3", "opus", "flac", "alac", "ac3", "eac3"), "aac"),
    ".webm": ("libvpx-vp9", {"crf": "24", "b:v": "0", "cpu-used": "4", "row-mt": "0"}, ("opus", "vorbis"), "libopus"),
    # Where a palette equals that of the first frame, FFmpeg would compare its indices with those of another palette.
    ".gif": ("gif", {"gifflags": "-offsetting-transdiff"}, (), ""),
}
BT709, LIMITED = 1, 1  # FFmpeg's numbers of the color space and the range


class VideoWriter:
    """Context manager that writes a video frame by frame.

        with VideoWriter(path, height, width, times=video.times) as out:
            out.write(frame)

    The suffix gives the format: .mp4 (H.264), .webm (VP9), .gif, or, without a suffix, a folder of 000000.png, ... and
    times.txt, which ends with the end of the last frame. Each frame keeps its time and duration; the first is shown at
    0. An odd side of an .mp4 or .webm is padded by one replicated row or column. A GIF has times in hundredths of a
    second and 256 colors per frame, and skips frames that follow within 0.02 s; GIFs and folders have no sound. The
    video appears at `path` only when it is complete; a killed process leaves a hidden folder .draft-... beside it.

    Args:
        path: of the file or folder.
        height, width: of the frames in pixels.
        times: in seconds, strictly increasing, one per frame.
        sound_from: a video whose audio streams are included, copied if the format can hold them and coded again
            otherwise. If `times` are a part of the times of that video, it is the sound of that part.
        duration: in seconds, from the first time to the end of the last frame; by default the last frame lasts for the
            median of the others.
        aspect: width over height of a pixel, which .mp4 files store.

    Raises:
        ValueError: if the suffix is unknown, times do not increase, the folder is in use, or frames have another size
            or number than announced.
        OSError: if the video cannot be written, for example because the disk is full; an earlier one is kept.
    """

    def __init__(
        self,
        path: str | Path,
        height: int,
        width: int,
        *,
        times: Sequence[float | int],
        sound_from: Video | None = None,
        duration: float | int | None = None,
        aspect: float = 1.0,
    ) -> None:
        self.path, self.height, self.width = Path(path), height, width
        self.times = [float(t - times[0]) for t in times]
        if not self.times or height < 1 or width < 1:
            raise ValueError(f"expected frames and pixels, got {len(self.times)} times and {width} x {height} pixels")
        if not increase(self.times):
            raise ValueError("times of frames must be finite and strictly increasing")
        if self.path.suffix.lower() not in ("", *VIDEOS):
            raise ValueError(
                f"cannot write {self.path.suffix}: use {', '.join(VIDEOS)}, or a folder name without a suffix"
            )
        if self.path.is_dir() and (self.path.suffix or any(self.path.iterdir())):
            raise ValueError(f"{self.path} is a folder that already exists: choose a new name")
        if self.path.suffix and not can_encode(self.path.suffix):
            others = ", ".join(suffix for suffix in VIDEOS if can_encode(suffix))
            raise ValueError(
                f"PyAV was built without the encoder of {self.path.suffix}: use {others}, or a folder name without a "
                "suffix"
            )
        self.duration = max(float(duration), self.times[-1]) if duration else spans(self.times)
        self.sound = stretch(sound_from, times) if sound_from is not None and sound_from.sound else None
        self.aspect = aspect
        self.count = 0

    def __enter__(self) -> VideoWriter:
        with self._told():
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.draft = Path(tempfile.mkdtemp(prefix=".draft-", dir=self.path.parent))
        try:
            with self._told():
                self.sink = _Video(self) if self.path.suffix else _Folder(self)
        except BaseException:
            shutil.rmtree(self.draft, ignore_errors=True)
            raise
        return self

    def write(self, frame: np.ndarray) -> None:
        """Append one frame, uint8 [h, w, 3]."""
        if frame.shape != (self.height, self.width, 3) or frame.dtype != np.uint8:
            raise ValueError(
                f"expected a uint8 frame [{self.height}, {self.width}, 3], got {frame.dtype} {list(frame.shape)}"
            )
        if self.count == len(self.times):
            raise ValueError(f"more frames than the {len(self.times)} times: write one frame per time")
        with self._told():
            self.sink.write(np.ascontiguousarray(frame), self.count)
        self.count += 1

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        try:
            if kind is None and self.count < len(self.times):
                raise ValueError(f"only {self.count} frames for {len(self.times)} times: write one frame per time")
            if kind is None:
                with self._told():
                    self.sink.close()
                    if self.path.is_dir():
                        self.path.rmdir()
                    (self.draft / self.path.name).replace(self.path)
        finally:
            self.sink.abandon()
            shutil.rmtree(self.draft, ignore_errors=True)

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Name the video in errors of the disk, and turn errors of the encoder into a ValueError of one sentence."""
        try:
            yield
        except OSError as error:
            number = error.errno or errno.EIO
            raise OSError(number, os.strerror(number), str(self.path)) from error
        except Exception as error:
            if type(error).__module__.startswith("av."):
                raise ValueError(
                    f"cannot write {self.path}: the encoder failed ({error}); try another suffix"
                ) from error
            raise


def can_encode(suffix: str) -> bool:
    """Whether PyAV has the encoder of a kind of video file.

    Args:
        suffix: one of `VIDEOS`.
    """
    try:
        pyav().codec.Codec(VIDEOS[suffix.lower()][0], "w")
    except ValueError:  # UnknownCodecError
        return False
    return True


class _Folder:
    """Writes numbered images, and the list of their times and of the end of the last."""

    def __init__(self, writer: VideoWriter) -> None:
        self.folder = writer.draft / writer.path.name
        self.ends = [*writer.times, writer.duration]
        self.folder.mkdir()

    def write(self, frame: np.ndarray, i: int) -> None:
        Image.fromarray(frame).save(self.folder / f"{i:06d}.png")

    def close(self) -> None:
        (self.folder / TIMES).write_text("".join(f"{t:.9f}\n" for t in self.ends))

    def abandon(self) -> None:
        pass


class _Video:
    """Writes one file with PyAV: frames at their times, interleaved with sound."""

    def __init__(self, writer: VideoWriter) -> None:
        av, suffix = pyav(), writer.path.suffix.lower()
        codec, options, copied, otherwise = VIDEOS[suffix]
        self.sound: Sound | None = None
        self.gif, per_second = suffix == ".gif", 100 if suffix == ".gif" else TICKS
        self.base = Fraction(1, per_second)
        self.ends = [round(per_second * t) for t in (*writer.times, writer.duration)]
        self.kept = _spaced(self.ends[:-1], SHORTEST if self.gif else 1)
        self.lasts = {
            a: b - a for a, b in itertools.pairwise(self.ends)
        }  # duration of the frame at each time, in ticks
        if not self.gif and len(self.kept) < len(writer.times):
            raise ValueError(f"two frames are less than 1/{TICKS} s apart: leave one of them out")
        final = max(SHORTEST, self.ends[-1] - self.ends[max(self.kept)])
        exact = {"fflags": "+bitexact"}  # without it, WebM files are given random numbers
        muxing = {
            ".gif": {"loop": "0", "final_delay": str(final)},
            ".mp4": {"movflags": "+faststart", **exact},
            ".webm": exact,
        }
        rate = Fraction(len(writer.times) / writer.duration).limit_denominator(1001)
        even = 1 if self.gif else 2
        self.pad = ((0, -writer.height % even), (0, -writer.width % even), (0, 0))
        sound = writer.sound if otherwise else None
        choices: list[tuple[str, ...]] = [copied, ()] if sound else []
        for codecs in (*choices, None):  # a format may refuse to hold what its codec can, as 8 kHz MP3 in an .mp4
            self.out = av.open(location(writer.draft / writer.path.name), "w", options=muxing.get(suffix, {}))
            self.stream = self.out.add_stream(codec, rate=max(rate, Fraction(1, 1001)), options=options)
            self._describe(writer)
            try:
                self.sound = None if codecs is None or sound is None else Sound(sound, self.out, codecs, otherwise)
                self.out.start_encoding()
                break
            except (av.error.FFmpegError, ValueError):
                if codecs is None:
                    raise
                self.abandon()
                self.sound = None
        if sound is not None and self.sound is None:
            warnings.warn(f"the sound of {sound.name} cannot be written: {suffix} gets none", stacklevel=4)

    def _describe(self, writer: VideoWriter) -> None:
        """Set the size, the pixel format and the colors of the stream."""
        self.stream.height, self.stream.width = writer.height + self.pad[0][1], writer.width + self.pad[1][1]
        self.stream.pix_fmt = "pal8" if self.gif else "yuv420p"
        context = self.stream.codec_context
        context.time_base = self.base
        context.thread_count = 1  # with more, the bytes of a file can differ from run to run
        if not self.gif:
            context.colorspace = context.color_primaries = context.color_trc = BT709
            context.color_range = LIMITED
            if writer.aspect != 1:
                context.sample_aspect_ratio = Fraction(writer.aspect).limit_denominator(10_000)

    def write(self, frame: np.ndarray, i: int) -> None:
        if i not in self.kept:
            return
        image = _paletted(frame) if self.gif else _in_yuv(np.pad(frame, self.pad, mode="edge"))
        image.pts, image.time_base = self.ends[i], self.base
        self._mux(self.stream.encode(image))

    def _mux(self, packets: Sequence[Any]) -> None:
        for packet in packets:
            ticks = self.lasts.get(round(packet.pts * packet.time_base / self.base))
            if ticks is not None:  # an encoder states a duration by the frame rate
                packet.duration = round(ticks * self.base / packet.time_base)
            if self.sound:
                self.sound.until(float(packet.dts * packet.time_base))
            self.out.mux(packet)

    def close(self) -> None:
        self._mux(self.stream.encode(None))
        if self.sound:
            self.sound.until(math.inf)
        self.out.close()

    def abandon(self) -> None:
        with suppress(Exception):
            self.out.close()
        if self.sound is not None:
            self.sound.source.close()


def _spaced(ticks: Sequence[int], apart: int) -> frozenset[int]:
    """Indices of frames that follow the last kept one by at least `apart` ticks."""
    kept = [0]
    for i, tick in enumerate(ticks):
        if tick - ticks[kept[-1]] >= apart:
            kept.append(i)
    return frozenset(kept)


def _in_yuv(frame: np.ndarray) -> Any:
    image = pyav().VideoFrame.from_ndarray(frame, format="rgb24")
    return image.reformat(format="yuv420p", dst_colorspace=BT709, dst_color_range=LIMITED)


def _paletted(frame: np.ndarray) -> Any:
    """A frame in 256 colors of its own, by median cut, with Floyd-Steinberg dithering."""
    image = Image.fromarray(frame)
    palette_of = image.quantize(256, Image.Quantize.MEDIANCUT)
    dithered = image.quantize(palette=palette_of, dither=Image.Dither.FLOYDSTEINBERG)
    colors = np.array(dithered.getpalette(), np.uint8).reshape(-1, 3)
    palette = np.zeros((256, 4), np.uint8)
    palette[:, 0] = 255
    palette[: len(colors), 1:] = colors
    return pyav().VideoFrame.from_ndarray((np.asarray(dithered), palette), format="pal8")
