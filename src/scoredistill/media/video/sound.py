"""Audio of a written video: the audio streams of another video, interleaved with the frames."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from scoredistill.media.video.source import Video, location, pyav, spans

PACKED = "flt"  # sample format between decoder and coder
LAYOUTS = {  # that players understand, per codec, from the smallest
    "aac": ("mono", "stereo", "3.0", "quad", "4.0", "5.0", "5.1", "7.1"),
    "libopus": ("mono", "stereo", "3.0", "quad", "5.1", "7.1"),  # FFmpeg confuses the channels of 5.0 and 6.1
}
RATES = {"aac": (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000), "libopus": (48000,)}
UNNAMED = ("mono", "stereo", "3.0", "quad", "5.0", "5.1", "6.1", "7.1")  # layouts of 1, 2, ... channels without names
SPEAKERS = frozenset(("FL", "FR", "FC", "LFE", "BL", "BR", "SL", "SR"))


def stretch(video: Video, times: Sequence[float | int]) -> Video:
    """The part of a video covered by `times`: its `origin` and `times` bound the sound, up to inf for the end."""
    end = math.inf if times[-1] >= video.times[-1] else spans(times)
    return replace(video, origin=video.origin + times[0], times=(times[0] - video.times[0], end - times[0]))


class Sound:
    """The audio streams of a video, shifted to start at its first frame, and written up to a given time.

    Streams that are coded again keep their channels, see `layout_for`. Damaged packets are left out. A stream of an
    unknown codec is left out with a warning.

    Args:
        video: whose `origin` and `times` bound the sound, see `stretch`.
        out: the container to write to.
        copied: codecs that are copied into it without coding.
        otherwise: codec with which streams of other codecs are coded again, a key of LAYOUTS.
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
            if stream.codec_context is None:
                warnings.warn(f"an audio stream of {video.name} has an unknown codec: it is left out", stacklevel=2)
                continue
            name = stream.codec_context.name.removeprefix("lib").removesuffix("float")
            self.copied[stream.index] = name in copied
            target = out.add_stream_from_template(stream) if name in copied else _coder(out, otherwise, stream)
            target.metadata.update({k: v for k, v in stream.metadata.items() if k in ("language", "title")})
            self.targets[stream.index] = target
        self.packets = self._run()
        self.next: tuple[float, Any] | None = (-math.inf, [])

    def until(self, seconds: float) -> None:
        """Write the packets up to a time of the written video."""
        while self.next is not None and self.next[0] <= seconds:
            self.out.mux(self.next[1])
            self.next = next(self.packets, None)

    def _run(self) -> Iterator[tuple[float, Any]]:
        """Pairs of the time in the written video, in seconds, and packets."""
        decoded = {i: _Packed(target) for i, target in self.targets.items() if not self.copied[i]}
        for packet in self._demuxed():
            index = packet.stream.index
            target = self.targets[index]
            if index in decoded:
                for sound in decoded[index].of(packet):
                    part = _cut(sound, self._shift(sound), self.begin, self.end)
                    if part is not None:
                        yield part.time, target.encode(part)
            elif packet.pts is not None:
                time = self._shift(packet)
                if self.begin <= time < self.end:
                    packet.stream = target
                    yield time, packet
        for index in decoded:
            yield 0.0, self.targets[index].encode(None)

    def _demuxed(self) -> Iterator[Any]:
        """Packets of the streams that are written, up to where the container is damaged."""
        streams = [stream for stream in self.source.streams.audio if stream.index in self.targets]
        try:
            yield from self.source.demux(streams) if streams else ()
        except pyav().error.FFmpegError:
            return

    def _shift(self, item: Any) -> float:
        ticks = round(self.origin / item.time_base)
        item.pts = item.pts - ticks
        if item.dts is not None and hasattr(item, "is_keyframe"):
            item.dts = item.dts - ticks
        return float(item.pts * item.time_base)


class _Packed:
    """Decodes packets to interleaved samples in the layout and at the rate of a target stream."""

    def __init__(self, target: Any) -> None:
        self.context = target.codec_context
        self.resampler: Any = None
        self.kind: tuple[object, ...] = ()

    def of(self, packet: Any) -> Iterator[Any]:
        """Audio frames with a time; those that are damaged are left out."""
        try:
            sounds = packet.decode()
        except pyav().error.FFmpegError:
            return
        for sound in map(_named, sounds):
            kind = (sound.format.name, sound.layout.name, sound.sample_rate)
            if kind != self.kind:  # also within a stream, as where the program of a broadcast changes
                yield from self._rest()
                layout, rate = self.context.layout, self.context.sample_rate
                self.kind, self.resampler = kind, pyav().AudioResampler(PACKED, layout, rate)
            yield from self._timed(sound)
        if not packet.size:
            yield from self._rest()

    def _rest(self) -> Iterator[Any]:
        if self.resampler is not None:
            yield from self._timed(None)
            self.resampler = None

    def _timed(self, sound: Any) -> Iterator[Any]:
        return (made for made in self.resampler.resample(sound) if made.pts is not None)


def _named(sound: Any) -> Any:
    """The audio frame; with the usual layout of as many channels where it names none."""
    count = sound.layout.nb_channels
    if count > len(UNNAMED) or any(channel.name != "NONE" for channel in sound.layout.channels):
        return sound
    if sound.format.is_planar and count == 8:  # PyAV cannot list 8 planes
        return sound
    named = pyav().AudioFrame.from_ndarray(sound.to_ndarray(), format=sound.format.name, layout=UNNAMED[count - 1])
    named.sample_rate, named.time_base, named.pts = sound.sample_rate, sound.time_base, sound.pts
    return named


def _cut(sound: Any, time: float, begin: float, end: float) -> Any:
    """The samples of a packed audio frame, which starts at `time`, between `begin` and `end`; None if it has none."""
    rate, n = sound.sample_rate, sound.samples
    first, last = (round(min(max((at - time) * rate, 0), n)) for at in (begin, end))
    if (first, last) == (0, n) or first == last:
        return sound if first < last else None
    width = sound.layout.nb_channels
    samples = np.ascontiguousarray(sound.to_ndarray()[:, first * width : last * width])
    part = pyav().AudioFrame.from_ndarray(samples, format=sound.format.name, layout=sound.layout.name)
    part.sample_rate, part.time_base = rate, sound.time_base
    part.pts = sound.pts + round(first / rate / sound.time_base)
    return part


def _coder(out: Any, codec: str, stream: Any) -> Any:
    layout, rate = stream.codec_context.layout, stream.codec_context.sample_rate
    names = [channel.name for channel in layout.channels]
    rate = rate if rate in RATES[codec] else RATES[codec][-1]
    return out.add_stream(codec, rate=rate, layout=layout_for(codec, names))


def layout_for(codec: str, channels: Sequence[str]) -> str:
    """The smallest layout of a codec that has a speaker for every channel.

    Sides count as backs where there are no backs, and a center back as both backs; where the codec has nothing better,
    FFmpeg mixes the rest, as heights and wides, into the front.

    Args:
        codec: a key of LAYOUTS.
        channels: FFmpeg's names, for example FL and FR; NONE for a channel without a name.
    """
    if set(channels) == {"NONE"} and len(channels) <= len(UNNAMED):
        channels = [channel.name for channel in pyav().AudioLayout(UNNAMED[len(channels) - 1]).channels]
    wanted = set(channels) & SPEAKERS
    if "BC" in channels:
        wanted |= {"BL", "BR"}
    elif not wanted & {"BL", "BR"}:
        wanted = {{"SL": "BL", "SR": "BR"}.get(name, name) for name in wanted}
    for layout in LAYOUTS[codec] if wanted else ():
        names = {channel.name for channel in pyav().AudioLayout(layout).channels}
        if wanted <= names or ("BC" in channels and set(channels) <= names):
            return layout
    return "stereo"
