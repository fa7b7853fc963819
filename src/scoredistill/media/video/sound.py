"""Audio of a written video: the audio streams of another video, interleaved with the frames."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from scoredistill.media.video.source import Video, location, pyav, spans


def stretch(video: Video, times: Sequence[float | int]) -> Video:
    """The part of a video covered by `times`: its `origin` and `times` bound the sound, up to inf for the end."""
    end = math.inf if times[-1] >= video.times[-1] else spans(times)
    return replace(video, origin=video.origin + times[0], times=(times[0] - video.times[0], end - times[0]))


class Sound:
    """The audio streams of a video, shifted to start at its first frame, and written up to a given time.

    Args:
        video: whose `origin` and `times` bound the sound, see `stretch`.
        out: the container to write to.
        copied: codecs that are copied into it without coding.
        otherwise: codec with which streams of other codecs are coded again.
    """

    def __init__(self, video: Video, out: Any, copied: Sequence[str], otherwise: str) -> None:
        av = pyav()
        self.origin, (cut, self.end) = video.origin, video.times
        self.begin = 0.0 if cut > 0 else -math.inf
        assert video.path is not None  # only a video of a file has sound
        self.source, self.out = av.open(location(video.path), metadata_errors="replace"), out
        self.copied: dict[int, bool] = {}
        self.targets: dict[int, Any] = {}
        for stream in self.source.streams.audio:
            self.copied[stream.index] = stream.codec_context.name.removesuffix("float") in copied
            self.targets[stream.index] = (
                out.add_stream_from_template(stream) if self.copied[stream.index] else _coder(out, otherwise, stream)
            )
        self.packets = self._run()
        self.next = next(self.packets, None)

    def until(self, seconds: float) -> None:
        """Write the packets up to a time of the written video."""
        while self.next is not None and self.next[0] <= seconds:
            self.out.mux(self.next[1])
            self.next = next(self.packets, None)

    def _run(self) -> Iterator[tuple[float, Any]]:
        """Pairs of the time in the written video, in seconds, and packets."""
        for packet in self.source.demux(list(self.source.streams.audio)):
            target, copied = self.targets[packet.stream.index], self.copied[packet.stream.index]
            if copied and packet.pts is not None:
                time = self._shift(packet)
                if self.begin <= time < self.end:
                    packet.stream = target
                    yield time, packet
            elif not copied:
                for sound in packet.decode():
                    part = _cut(sound, self._shift(sound), self.begin, self.end)
                    if part is not None:
                        yield part.time, target.encode(part)
        for index, target in self.targets.items():
            if not self.copied[index]:
                yield 0.0, target.encode(None)

    def _shift(self, item: Any) -> float:
        ticks = round(self.origin / item.time_base)
        item.pts = item.pts - ticks
        if item.dts is not None and hasattr(item, "is_keyframe"):
            item.dts = item.dts - ticks
        return float(item.pts * item.time_base)


def _cut(sound: Any, time: float, begin: float, end: float) -> Any:
    """The samples of an audio frame, which starts at `time`, between `begin` and `end`; None if there are none."""
    rate, n = sound.sample_rate, sound.samples
    first, last = (round(min(max((at - time) * rate, 0), n)) for at in (begin, end))
    if (first, last) == (0, n) or first == last:
        return sound if first < last else None
    width = 1 if sound.format.is_planar else len(sound.layout.channels)
    samples = np.ascontiguousarray(sound.to_ndarray()[:, first * width : last * width])
    part = pyav().AudioFrame.from_ndarray(samples, format=sound.format.name, layout=sound.layout.name)
    part.sample_rate, part.time_base = rate, sound.time_base
    part.pts = sound.pts + round(first / rate / sound.time_base)
    return part


def _coder(out: Any, codec: str, stream: Any) -> Any:
    layout = stream.codec_context.layout.name
    layout = layout if layout in ("mono", "stereo", "5.1", "7.1") else "stereo"
    rate = stream.codec_context.sample_rate
    rate = rate if codec == "aac" and rate in (16000, 22050, 24000, 32000, 44100, 48000) else 48000
    return out.add_stream(codec, rate=rate, layout=layout)
