"""Videos: frames, colors, times and sound round-trip; corrupt files are refused in one sentence.

All material is made here. Frame i of a test video has the flat color COLORS[i % 5] in its upper part and, in the lower
part, a bar of i + 1 white columns, so that a frame lost, doubled or out of order shows.
"""

import errno
import gc
import io
import resource
import struct
import subprocess
import sys
import textwrap
import wave
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, features

from scoredistill.media.video import Video, VideoWriter, open_video
from scoredistill.media.video.reading import is_video
from scoredistill.media.video.sound import layout_for
from scoredistill.media.video.writing import VIDEOS
from scoredistill.optional import MissingExtra

av = pytest.importorskip("av")

COLORS = [(200, 60, 30), (30, 160, 70), (40, 50, 190), (128, 128, 128), (220, 200, 40)]
UNEVEN = (0.0, 0.040, 0.100, 0.333, 0.350, 1.0, 1.2, 1.234, 2.0, 2.5, 2.6, 2.61)


def frame(i, height=48, width=64):
    pixels = np.empty((height, width, 3), np.uint8)
    pixels[:] = COLORS[i % 5]
    pixels[height // 2 :] = 0
    pixels[height // 2 :, : i + 1] = 255
    return pixels


def write(path, times, height=48, width=64, frames=None, **options):
    with VideoWriter(path, height, width, times=times, **options) as out:
        for pixels in (frame(i, height, width) for i in range(len(times))) if frames is None else frames:
            out.write(pixels)
    return path


def steady(n, rate=25):
    return tuple(i / rate for i in range(n))


def bar(pixels):
    """The index of a frame, read from its bar."""
    return round(float(pixels[pixels.shape[0] * 3 // 4, :, 1].mean() * pixels.shape[1] / 255)) - 1


def tone(path, seconds=2.0, rate=44100):
    """A WAV file, 16 bits, stereo, 440 Hz."""
    samples = (8000 * np.sin(2 * np.pi * 440 * np.arange(int(seconds * rate)) / rate)).astype("<i2")
    with wave.open(str(path), "wb") as file:
        file.setparams((2, 2, rate, 0, "NONE", ""))
        file.writeframes(np.repeat(samples, 2).tobytes())
    return path


def with_sound(path, n=50, codec="aac", streams=1, seconds=2.0, onset=0.0, languages=()):
    """A video of n frames at 25 per second with `streams` tones, each of another frequency."""
    with av.open(str(path), "w") as out:
        video = out.add_stream("libx264", rate=25, options={"bf": "2", "g": "12"})
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        tones = [out.add_stream(codec, rate=48000, layout="mono") for _ in range(streams)]
        for stream, language in zip(tones, languages, strict=False):
            stream.metadata["language"] = language
        for i in range(n):
            out.mux(video.encode(av.VideoFrame.from_ndarray(frame(i), format="rgb24")))
        out.mux(video.encode(None))
        for k, stream in enumerate(tones):
            wavy = 8000 * np.sin(2 * np.pi * 440 * (k + 1) * np.arange(int(48000 * seconds)) / 48000)
            wavy[: int(48000 * onset)] = 0
            sound = av.AudioFrame.from_ndarray(wavy.astype(np.int16)[None], format="s16", layout="mono")
            sound.sample_rate, sound.pts, sound.time_base = 48000, 0, Fraction(1, 48000)
            out.mux(stream.encode(sound))
            out.mux(stream.encode(None))
    return path


def heard(path):
    """Per audio stream: codec, samples decoded as seconds, and the pitch in Hz."""
    found = []
    for k in range(len(av.open(str(path)).streams.audio)):
        with av.open(str(path)) as source:
            stream = source.streams.audio[k]
            wavy = np.concatenate(
                [f.to_ndarray().reshape(f.to_ndarray().shape[0], -1)[0] for f in source.decode(stream)]
            )
            rate, name = stream.codec_context.sample_rate, stream.codec_context.name
        pitch = np.abs(np.fft.rfft(wavy.astype(float))).argmax() * rate / len(wavy)
        found.append((name, len(wavy) / rate, pitch))
    return found


def onset(path):
    """Seconds from the start of the file until its sound is loud."""
    with av.open(str(path)) as source:
        for sound in source.decode(audio=0):
            loud = np.abs(sound.to_ndarray()[0]) > 0.1
            if loud.any():
                return sound.time + loud.argmax() / sound.sample_rate


def assert_left_nothing(folder):
    assert list(folder.iterdir()) == []


# Round trips.


@pytest.mark.parametrize("suffix", [".mp4", ".webm", ".gif", ""])
@pytest.mark.parametrize("times", [steady(12), UNEVEN], ids=["even", "uneven"])
def test_round_trip_keeps_frames_order_colors_and_times(tmp_path, suffix, times):
    if suffix == ".gif":  # hundredths of a second, at least two of them
        times = times[:-1] if times is UNEVEN else times
    video = open_video(write(tmp_path / f"a{suffix}", times))
    frames = list(video.frames())
    assert (len(video), video.height, video.width, video.sound, video.complete) == (len(times), 48, 64, False, True)
    assert [bar(f) for f in frames] == list(range(len(times)))
    error = max(np.abs(f[:16].astype(int) - COLORS[i % 5]).max() for i, f in enumerate(frames))
    assert error <= {".mp4": 6, ".webm": 6, ".gif": 0, "": 0}[suffix]
    tolerance = 0.005 if suffix == ".gif" else 0.001  # half of a hundredth
    np.testing.assert_allclose(video.times, times, atol=tolerance + 1e-9, rtol=0)
    assert [p.name for p in tmp_path.iterdir()] == [f"a{suffix}"]


@pytest.mark.parametrize("name", ["10:30.mp4", "talk:one.mp4", "night:1/file:a.mp4", "night:1/a:b.gif", "-a%03d?.webm"])
def test_names_with_a_colon_are_no_protocol(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    video = open_video(write(Path(name), steady(3)))
    assert [bar(f) for f in video.frames()] == [0, 1, 2]


def test_sound_is_taken_from_a_name_with_a_colon(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    source = open_video(with_sound(tmp_path / "b.mp4", n=5, seconds=0.2).rename("10:30.mp4"))
    assert len(heard(write(tmp_path / "a.mp4", source.times, sound_from=source))) == 1


def test_rate_and_duration_are_averages(tmp_path):
    video = open_video(write(tmp_path / "a.mp4", steady(30, 30000 / 1001)))
    assert video.rate == pytest.approx(30000 / 1001, rel=1e-4)
    assert video.duration == pytest.approx(1.001, abs=1e-3)
    held = open_video(write(tmp_path / "b.gif", steady(4, 10), duration=2.3))
    assert held.duration == pytest.approx(2.3)  # the last frame stays for 2 s
    assert held.rate == pytest.approx(4 / 2.3)


@pytest.mark.parametrize("suffix", [".mp4", ".webm", ".gif", ""])
@pytest.mark.parametrize("duration", [0.4, 3.0])
def test_the_last_frame_keeps_its_duration(tmp_path, suffix, duration):
    """After 0.34 s it is shown for 0.06 s or 2.66 s, also in a copy."""
    times = (0.0, 0.04, 0.1, 0.34)
    video = open_video(write(tmp_path / f"a{suffix}", times, duration=duration))
    assert video.duration == pytest.approx(duration, abs=1e-3)
    copy = open_video(write(tmp_path / f"b{suffix}", video.times, duration=video.duration))
    assert copy.duration == pytest.approx(duration, abs=1e-3)
    np.testing.assert_allclose(copy.times, times, atol=1e-3)


def test_the_end_stated_by_matroska_counts_from_the_start_of_the_file(tmp_path):
    """The first frame is shown at 0.5 s, the third and last from 0.6 s to 2 s."""
    with av.open(str(tmp_path / "a.mkv"), "w") as out:
        stream = out.add_stream("libx264", rate=25, options={"bf": "0"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 1000)
        packets = []
        for i, at in enumerate((500, 540, 600)):
            image = av.VideoFrame.from_ndarray(frame(i), format="rgb24")
            image.pts, image.time_base = at, Fraction(1, 1000)
            packets += stream.encode(image)
        packets += stream.encode(None)
        packets[-1].duration = 1400
        out.mux(packets)
    video = open_video(tmp_path / "a.mkv")
    assert (video.origin, video.duration) == (pytest.approx(0.5), pytest.approx(1.5, abs=1e-3))


def test_index_of_an_mp4_stands_first_so_that_browsers_start_at_once(tmp_path):
    data = write(tmp_path / "a.mp4", steady(30)).read_bytes()
    assert 0 < data.find(b"moov") < data.find(b"mdat")


def test_times_start_at_zero_and_the_first_may_not(tmp_path):
    video = open_video(write(tmp_path / "a.mp4", [7.0, 7.5, 7.6]))
    np.testing.assert_allclose(video.times, [0, 0.5, 0.6], atol=1e-3)


@pytest.mark.parametrize("suffix", [".mp4", ".webm", ".gif", ""])
def test_a_stretch_equals_the_slice_of_the_whole(tmp_path, suffix):
    if suffix == ".mp4":  # several key frames, images out of order
        video = open_video(with_sound(tmp_path / "a.mp4"))
    else:
        video = open_video(write(tmp_path / f"a{suffix}", steady(20)))
    whole = [f.copy() for f in video.frames()]
    for start, stop in [(0, 3), (5, 9), (11, 14), (12, 13), (13, 20), (19, None), (-2, None), (3, -15), (7, 7), (9, 4)]:
        part = list(video.frames(start, stop))
        assert len(part) == len(whole[start:stop])
        assert all((a == b).all() for a, b in zip(part, whole[start:stop], strict=True))
    assert len(list(video.frames(0, 10**6))) == len(video)


def test_a_stretch_far_in_does_not_decode_the_whole(tmp_path, monkeypatch):
    import scoredistill.media.video.decoding as module

    video, seen = open_video(with_sound(tmp_path / "a.mp4")), []
    images = module._images
    spy = lambda frames, *rest: images((seen.append(1) or f for f in frames), *rest)
    monkeypatch.setattr(module, "_images", spy)
    (one,) = video.frames(40, 41)
    assert bar(one) == 40
    assert len(seen) <= 12  # the distance of key frames


@pytest.mark.parametrize("suffix", [".mp4", ".webm"])
def test_odd_sides_are_padded_by_repeating(tmp_path, suffix):
    video = open_video(write(tmp_path / f"a{suffix}", steady(3), height=47, width=63))
    assert (video.height, video.width) == (48, 64)
    last = next(video.frames())
    assert np.abs(last[:16, -1].astype(int) - COLORS[0]).max() <= 6
    assert np.abs(last[-1].astype(int) - last[-2]).max() <= 12


def test_odd_sides_stay_in_gif_and_folder(tmp_path):
    for name in ("a.gif", "a"):
        video = open_video(write(tmp_path / name, steady(3), height=47, width=63))
        assert (video.height, video.width) == (47, 63)


def test_colors_follow_the_matrix_of_the_stream(tmp_path):
    """The same color coded by BT.601 and by BT.709 comes back the same."""
    for matrix in (1, 5):
        with av.open(str(tmp_path / f"{matrix}.mp4"), "w") as out:
            stream = out.add_stream("libx264", rate=25, options={"crf": "5"})
            stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
            stream.codec_context.colorspace, stream.codec_context.color_range = matrix, 1
            flat = np.full((64, 64, 3), COLORS[0], np.uint8)
            image = av.VideoFrame.from_ndarray(flat, format="rgb24")
            out.mux(stream.encode(image.reformat(format="yuv420p", dst_colorspace=matrix, dst_color_range=1)))
            out.mux(stream.encode(None))
        pixels = next(open_video(tmp_path / f"{matrix}.mp4").frames())
        assert np.abs(pixels.astype(int) - COLORS[0]).max() <= 4


@pytest.mark.parametrize("degrees", [90, -90, 180])
def test_rotation_noted_by_a_phone_is_applied(tmp_path, degrees):
    with av.open(str(tmp_path / "a.mp4"), "w") as out:
        stream = out.add_stream("libx264", rate=25)
        if not hasattr(stream, "set_display_rotation"):
            pytest.skip("this PyAV cannot write a rotation")
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.set_display_rotation(degrees)
        out.mux(stream.encode(av.VideoFrame.from_ndarray(frame(9), format="rgb24")))
        out.mux(stream.encode(None))
    video = open_video(tmp_path / "a.mp4")
    assert (video.height, video.width) == ((48, 64) if degrees == 180 else (64, 48))
    (pixels,) = video.frames()
    expected = np.rot90(frame(9), degrees // 90)  # against the time schedule
    assert np.abs(pixels.astype(int) - expected).mean() < 6


def with_matrix(path, a, b, c, d):
    """Replace the display matrix of an .mp4 file; (x, y) is shown at (a x + c y, b x + d y)."""
    data = bytearray(path.read_bytes())
    at = data.index(b"tkhd") + 44
    data[at : at + 36] = struct.pack(">9i", a << 16, b << 16, 0, c << 16, d << 16, 0, 0, 0, 1 << 30)
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(
    ("matrix", "shown"),
    [
        ((1, 0, 0, 1), lambda p: p),
        ((-1, 0, 0, 1), lambda p: p[:, ::-1]),
        ((1, 0, 0, -1), lambda p: p[::-1]),
        ((-1, 0, 0, -1), lambda p: p[::-1, ::-1]),
        ((0, 1, -1, 0), lambda p: np.rot90(p, -1)),
        ((0, -1, 1, 0), lambda p: np.rot90(p)),
        ((0, 1, 1, 0), lambda p: p.transpose(1, 0, 2)),
        ((0, -1, -1, 0), lambda p: np.rot90(p, 2).transpose(1, 0, 2)),
    ],
)
def test_display_matrices_turn_and_mirror(tmp_path, matrix, shown):
    (pixels,) = open_video(with_matrix(write(tmp_path / "a.mp4", [0.0], frames=[frame(9)]), *matrix)).frames()
    expected = shown(frame(9))
    assert pixels.shape == expected.shape
    assert np.abs(pixels.astype(int) - expected).mean() < 6


def shown_ratio(path):
    with av.open(str(path)) as source:
        stream = source.streams.video[0]
        return stream.width / stream.height * float(stream.sample_aspect_ratio or 1)


@pytest.mark.parametrize(
    "aspect", [Fraction(32, 27), Fraction(10, 11), Fraction(2), Fraction(1, 2), Fraction(101, 100)]
)
@pytest.mark.parametrize("turned", [False, True])
def test_pixels_that_are_not_square_keep_their_shape(tmp_path, aspect, turned):
    """Frames are resampled to square pixels; what is left by rounding is written into the file."""
    path = write(tmp_path / "a.mp4", [0.0], 32, 40, frames=[np.full((32, 40, 3), 90, np.uint8)], aspect=float(aspect))
    if turned:
        with_matrix(path, 0, 1, -1, 0)
    video = open_video(path)
    expected = 32 / float(40 * aspect) if turned else float(40 * aspect) / 32
    assert video.width / video.height == pytest.approx(expected, rel=0.03)
    assert next(video.frames()).shape == (video.height, video.width, 3)
    again = write(tmp_path / "b.mp4", video.times, video.height, video.width, video.frames(), aspect=video.aspect)
    assert shown_ratio(again) == pytest.approx(expected, rel=1e-3)


def test_gif_leaves_out_what_browsers_slow_down(tmp_path):
    path = write(tmp_path / "a.gif", steady(61, 60), duration=61 / 60)
    video = open_video(path)
    assert len(video) <= 51
    assert np.diff(video.times).min() >= 0.02 - 1e-9
    assert video.times[-1] == pytest.approx(1.0, abs=0.02)
    with Image.open(path) as image:
        assert image.info["loop"] == 0


def test_gif_keeps_a_still_image_for_its_time(tmp_path):
    with VideoWriter(tmp_path / "a.gif", 8, 8, times=[0, 0.5, 1.0]) as out:
        for _ in range(3):
            out.write(np.full((8, 8, 3), 90, np.uint8))
    assert open_video(tmp_path / "a.gif").times == pytest.approx((0, 0.5, 1.0))


def test_gif_colors_of_a_smooth_image(tmp_path):
    """A gradient in two colors: 256 of its own, chosen per frame, come within a few levels of 3072 different ones."""
    ys, xs = np.mgrid[0:48, 0:64]
    smooth = np.stack([4 * xs, 5 * ys, np.full_like(xs, 99)], -1).astype(np.uint8)
    with VideoWriter(tmp_path / "a.gif", 48, 64, times=[0, 0.1]) as out:
        out.write(smooth)
        out.write(smooth[::-1])
    first, second = open_video(tmp_path / "a.gif").frames()
    assert np.abs(first.astype(int) - smooth).mean() < 4
    assert np.abs(second.astype(int) - smooth[::-1]).mean() < 4


# Other sources.


def test_a_folder_comes_in_the_natural_order(tmp_path):
    for i in (10, 2, 1):
        Image.fromarray(frame(i)).save(tmp_path / f"Frame{i}.png")
    (tmp_path / "notes.txt").write_text("no image")
    video = open_video(tmp_path, rate=10)
    assert [bar(f) for f in video.frames()] == [1, 2, 10]
    assert video.times == pytest.approx((0, 0.1, 0.2))
    assert video.rate == pytest.approx(10)


def test_a_folder_turns_photographs(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(frame(3)).save(tmp_path / "a.jpg", exif=exif)
    video = open_video(tmp_path)
    assert (video.height, video.width) == (64, 48)
    assert next(video.frames()).shape == (64, 48, 3)


@pytest.mark.parametrize("suffix", ["tif", "png", "jpg", "webp"])
@pytest.mark.parametrize("orientation", [1, 6, 7])
def test_a_folder_turns_images_of_every_format(tmp_path, suffix, orientation):
    """The size of the header agrees with that of the frames: Pillow reports the size of a TIFF as already turned."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.new("RGB", (16, 8)).save(tmp_path / f"0.{suffix}", exif=exif)
    video = open_video(tmp_path)
    assert (video.width, video.height) == ((16, 8) if orientation == 1 else (8, 16))
    assert next(video.frames()).shape[:2] == (video.height, video.width)


def test_frames_in_memory_can_be_read_again_and_again():
    video = Video.of([Image.fromarray(frame(i)) for i in range(6)], rate=4)
    for _ in range(2):
        assert [bar(f) for f in video.frames(2)] == [2, 3, 4, 5]
    assert (video.times[5], video.duration, video.rate, video.sound) == (1.25, 1.5, 4, False)
    with pytest.raises(ValueError, match="at least one"):
        Video.of([])
    with pytest.raises(ValueError, match="one size"):
        Video.of([Image.new("RGB", (2, 2)), Image.new("RGB", (3, 2))])
    with pytest.raises(ValueError, match="positive and finite rate"):
        Video.of([Image.new("RGB", (2, 2))], rate=0)


@pytest.mark.parametrize("suffix", ["gif", "webp", "png", "avif"])
def test_animated_images_are_videos(tmp_path, suffix):
    if suffix == "avif" and not features.check("avif"):
        pytest.skip("this Pillow has no AVIF")
    path = tmp_path / f"a.{suffix}"
    frames = [Image.new("RGB", (16, 16), color) for color in ("red", "lime", "blue")]
    options = {"lossless": True} if suffix == "webp" else {"quality": 95} if suffix == "avif" else {}
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=[40, 100, 700], **options)
    assert is_video(path)
    video = open_video(path)
    assert (video.times, video.duration) == (pytest.approx((0, 0.04, 0.14)), pytest.approx(0.84))
    shown = [frame[8, 8].tolist() for frame in video.frames()]
    assert np.abs(np.subtract(shown, [(255, 0, 0), (0, 255, 0), (0, 0, 255)])).max() <= 3
    frames[0].save(path, **options)
    assert not is_video(path)


def test_the_default_image_of_an_animated_png_is_not_a_frame(tmp_path):
    """It is for viewers that do not animate."""
    still, *frames = (Image.new("RGB", (16, 16), color) for color in ("red", "lime", "blue"))
    still.save(tmp_path / "a.png", save_all=True, append_images=frames, duration=[100, 700], default_image=True)
    video = open_video(tmp_path / "a.png")
    assert [frame[8, 8].tolist() for frame in video.frames()] == [[0, 255, 0], [0, 0, 255]]
    assert (video.times, video.duration) == (pytest.approx((0, 0.1)), pytest.approx(0.8))


@pytest.mark.parametrize("suffix", ["gif", "webp", "png"])
@pytest.mark.parametrize("alpha", [0, 255])
def test_transparency_of_an_animation_is_said(tmp_path, suffix, alpha, recwarn):
    frames = [Image.new("RGBA", (16, 16), (255, 0, k, alpha)) for k in (0, 250)]
    frames[0].save(tmp_path / f"a.{suffix}", save_all=True, append_images=frames[1:], duration=100)
    video = open_video(tmp_path / f"a.{suffix}")
    assert int(next(video.frames())[8, 8, 1]) == pytest.approx(0 if alpha else 255, abs=3)
    said = [str(w.message) for w in recwarn if "transparency, which videos do not keep" in str(w.message)]
    assert len(said) == (0 if alpha else 1)


def test_frames_with_exif_data(tmp_path):
    """Frames of motion JPEG, as cameras write them, have EXIF data, whose kind PyAV does not know."""
    exif = Image.Exif()
    exif[0x010F] = "maker"
    with av.open(str(tmp_path / "a.mkv"), "w") as out:
        stream = out.add_stream("mjpeg", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuvj420p"
        for i in range(3):
            data = io.BytesIO()
            Image.fromarray(frame(i)).save(data, format="JPEG", exif=exif, quality=95)
            packet = av.Packet(data.getvalue())
            packet.stream, packet.pts, packet.dts, packet.time_base = stream, i, i, Fraction(1, 10)
            out.mux(packet)
    assert [bar(pixels) for pixels in open_video(tmp_path / "a.mkv").frames()] == [0, 1, 2]


def test_gif_of_no_time_is_shown_as_browsers_do(tmp_path):
    images = [Image.fromarray(frame(i)) for i in range(3)]
    images[0].save(tmp_path / "a.gif", save_all=True, append_images=images[1:], duration=0)
    assert open_video(tmp_path / "a.gif").times == pytest.approx((0, 0.1, 0.2))


def test_a_video_without_times_runs_at_its_rate(tmp_path):
    with av.open(str(tmp_path / "a.h264"), "w") as out:
        stream = out.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for i in range(20):
            out.mux(stream.encode(av.VideoFrame.from_ndarray(frame(i), format="rgb24")))
        out.mux(stream.encode(None))
    video = open_video(tmp_path / "a.h264")
    assert [bar(f) for f in video.frames()] == list(range(20))
    assert video.times == pytest.approx(steady(20))


# Sound.


@pytest.mark.parametrize(
    ("source", "codec", "target", "expected"),
    [
        ("a.mp4", "aac", ".mp4", "aac"),
        ("a.mkv", "pcm_s16le", ".mp4", "aac"),
        ("a.mkv", "libopus", ".mp4", "opus"),
        ("a.mp4", "aac", ".webm", "opus"),
    ],
)
def test_sound_comes_along(tmp_path, source, codec, target, expected):
    video = open_video(with_sound(tmp_path / source, codec=codec, streams=2))
    assert video.sound
    copy = write(tmp_path / f"copy{target}", video.times, sound_from=video)
    assert open_video(copy).sound
    assert len(open_video(copy)) == 50
    for k, (name, seconds, pitch) in enumerate(heard(copy)):
        assert name.removeprefix("lib") == expected
        assert seconds == pytest.approx(2.0, abs=0.06)  # coders pad by a block or two, 21 ms each
        assert pitch == pytest.approx(440 * (k + 1), abs=2)
    assert len(heard(copy)) == 2


def test_copied_sound_is_the_same_packet_for_packet(tmp_path):
    video = open_video(with_sound(tmp_path / "a.mp4"))
    copy = write(tmp_path / "b.mp4", video.times, sound_from=video)

    def packets(path):
        with av.open(str(path)) as source:
            return [(bytes(p), float(p.pts * p.time_base)) for p in source.demux(audio=0) if p.size]

    before, after = packets(video.path), packets(copy)
    assert [data for data, _ in before] == [data for data, _ in after]
    np.testing.assert_allclose([t for _, t in before], [t for _, t in after], atol=1e-3)


@pytest.mark.parametrize(("source", "codec"), [("a.mp4", "aac"), ("a.mkv", "pcm_s16le")])
def test_a_part_takes_its_part_of_the_sound(tmp_path, source, codec):
    """The tone sets in at 1.2 s, which is 0.8 s and 0.2 s into stretches from 0.4 s and 1 s on."""
    video = open_video(with_sound(tmp_path / source, codec=codec, onset=1.2))
    for start, stop in [(10, 35), (25, 50)]:
        copy = write(tmp_path / f"{start}.mp4", video.times[start:stop], sound_from=video)
        ((_, seconds, _),) = heard(copy)
        assert seconds == pytest.approx(1.0, abs=0.06)
        assert onset(copy) == pytest.approx(1.2 - start / 25, abs=0.03)


def test_no_sound_where_there_is_none(tmp_path):
    silent = open_video(write(tmp_path / "a.mp4", steady(3)))
    assert not open_video(write(tmp_path / "b.mp4", steady(3), sound_from=silent)).sound
    loud = open_video(with_sound(tmp_path / "c.mp4", n=3))
    assert not open_video(write(tmp_path / "d.gif", steady(3), sound_from=loud)).sound
    assert not open_video(write(tmp_path / "folder", steady(3), sound_from=loud)).sound


PITCHES = (300, 600, 900, 1200, 1500, 1800, 2100, 2400)  # of channels in Hz; a low-frequency channel has 60 Hz


def with_channels(path, codec, layout, rate=48000):
    """A video of ten frames whose sound has another pitch in each channel."""
    channels = [channel.name for channel in av.AudioLayout(layout).channels]
    time = np.arange(rate * 2 // 5) / rate
    waves = [
        0.3 * np.sin(2 * np.pi * (60 if c == "LFE" else f) * time) for c, f in zip(channels, PITCHES, strict=False)
    ]
    with av.open(str(path), "w") as out:
        video, stream = out.add_stream("libx264", rate=25), out.add_stream(codec, rate=rate, layout=layout)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        for i in range(10):
            out.mux(video.encode(av.VideoFrame.from_ndarray(frame(i), format="rgb24")))
        out.mux(video.encode(None))
        samples = np.stack(waves, 1).astype(np.float32).reshape(1, -1)
        sound = av.AudioFrame.from_ndarray(samples, format="flt", layout=layout)
        sound.sample_rate, sound.pts, sound.time_base = rate, 0, Fraction(1, rate)
        out.mux(stream.encode(sound))
        out.mux(stream.encode(None))
    return path


def channel_pitches(path):
    """The pitch in Hz of each channel, by name; silent channels are left out."""
    packed, parts = av.AudioResampler("flt"), []
    with av.open(str(path)) as source:
        channels = [channel.name for channel in source.streams.audio[0].codec_context.layout.channels]
        rate = source.streams.audio[0].codec_context.sample_rate
        for sound in source.decode(audio=0):
            parts += [part.to_ndarray().reshape(-1, len(channels)) for part in packed.resample(sound)]
    waves = np.concatenate(parts)
    found = np.abs(np.fft.rfft(waves, axis=0)).argmax(0) * rate / len(waves)
    return {name: pitch for name, pitch, loud in zip(channels, found, waves.std(0) > 0.03, strict=True) if loud}


@pytest.mark.parametrize("suffix", [".mp4", ".webm"])
@pytest.mark.parametrize(
    ("codec", "layout"),
    [("pcm_s16le", n) for n in ("mono", "3.0", "quad", "5.1", "7.1")]
    + [("ac3", n) for n in ("5.0(side)", "5.1(side)")]
    + [("wavpack", n) for n in ("4.0", "5.1", "6.1", "7.1")],
)
def test_every_channel_is_kept_at_its_place(tmp_path, suffix, codec, layout):
    """Sides become backs where the layout has no sides; a center back is divided among both. PCM names no channels."""
    video = open_video(with_channels(tmp_path / "a.mkv", codec, layout))
    with av.open(str(video.path)) as source:
        stated = [channel.name for channel in source.streams.audio[0].codec_context.layout.channels]
    channels = stated if "NONE" not in stated else [channel.name for channel in av.AudioLayout(layout).channels]
    copy = write(tmp_path / f"b{suffix}", video.times, sound_from=video)
    found = channel_pitches(copy)
    backs = {"SL": "BL", "SR": "BR"}
    for name, pitch in zip(channels, PITCHES, strict=False):
        pitch = 60 if name == "LFE" else pitch
        places = [name] if name in found else ["BL", "BR"] if name == "BC" else [backs.get(name, name)]
        for place in places:
            assert found.pop(place) == pytest.approx(pitch, abs=4)
    assert not found


def test_layouts_for_channels():
    assert layout_for("libopus", ["FL", "FR", "FC", "LFE", "SL", "SR"]) == "5.1"
    assert layout_for("libopus", ["FL", "FR", "LFE"]) == "5.1"
    assert layout_for("aac", ["FL", "FR", "FC", "BC"]) == "4.0"
    assert layout_for("libopus", ["FL", "FR", "FC", "LFE", "BC", "SL", "SR"]) == "7.1"
    assert layout_for("aac", ["FL", "FR", "FC", "LFE", "BL", "BR", "FLC", "FRC"]) == "5.1"
    assert layout_for("aac", ["DL", "DR"]) == layout_for("aac", ["NONE"] * 16) == "stereo"


@pytest.mark.parametrize(
    ("source", "codec", "rate"),
    [
        ("a.mkv", "libmp3lame", 8000),  # which an .mp4 cannot hold
        ("a.mov", "pcm_mulaw", 8000),
        ("a.mov", "pcm_s16be", 11025),
        ("a.mkv", "pcm_f64le", 96000),
        ("a.mkv", "wavpack", 192000),
        ("a.ts", "mp2", 44100),
        ("a.ts", "aac", 48000),
        ("a.avi", "adpcm_ms", 22050),
    ],
)
def test_odd_codecs_and_rates(tmp_path, source, codec, rate):
    video = open_video(with_channels(tmp_path / source, codec, "mono", rate))
    found = channel_pitches(write(tmp_path / "b.mp4", video.times, sound_from=video))
    assert list(found.values()) == [pytest.approx(300, abs=4)]


def test_an_unknown_codec_of_sound_is_left_out_with_a_warning(tmp_path):
    path = with_sound(tmp_path / "a.mkv", n=3, codec="libopus")
    path.write_bytes(path.read_bytes().replace(b"A_OPUS", b"A_XXXX"))
    video = open_video(path)
    with pytest.warns(UserWarning, match="unknown codec: it is left out"):
        copy = write(tmp_path / "b.mp4", video.times, sound_from=video)
    assert len(open_video(copy)) == 3
    assert not open_video(copy).sound


def test_damaged_sound_does_not_end_the_writing(tmp_path):
    """Packets in the middle of the sound are overwritten; what is before and after is kept."""
    path = with_sound(tmp_path / "a.mkv", n=50, codec="flac")
    data = bytearray(path.read_bytes())
    with av.open(str(path)) as source:
        packets = [bytes(packet) for packet in source.demux(audio=0) if packet.size]
    for packet in packets[5:9]:
        at = data.index(packet)
        data[at : at + len(packet)] = bytes(len(packet))
    path.write_bytes(data)
    video = open_video(path)
    ((_, seconds, pitch),) = heard(write(tmp_path / "b.webm", video.times, sound_from=video))
    assert 1.5 < seconds < 2.1
    assert pitch == pytest.approx(440, abs=3)


def test_languages_of_sound_are_kept(tmp_path):
    video = open_video(with_sound(tmp_path / "a.mkv", n=3, streams=2, languages=("ger", "jpn")))
    for suffix in (".mp4", ".webm"):
        with av.open(str(write(tmp_path / f"b{suffix}", video.times, sound_from=video))) as made:
            assert [stream.language for stream in made.streams.audio] == ["ger", "jpn"]


# Memory.


def test_memory_does_not_grow_with_the_number_of_frames(tmp_path):
    """600 frames of 96 x 160 take 27.6 MB, or 9.2 MB with a palette, and 100 frames a sixth of that.

    So a process that held them would peak higher by 23 MB, or 7.7 MB with palettes, when it goes on to 600 after 100.
    """
    code = """
        import resource, sys, numpy as np
        from scoredistill.media.video import VideoWriter, open_video
        def go(path, n):
            with VideoWriter(path, 96, 160, times=[i / 25 for i in range(n)]) as out:
                for i in range(n):
                    out.write(np.full((96, 160, 3), i % 256, np.uint8))
            assert sum(f.shape == (96, 160, 3) for f in open_video(path).frames()) == n
            return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        before = go(sys.argv[1] + "/a" + sys.argv[2], 100)
        print(go(sys.argv[1] + "/b" + sys.argv[2], 600) - before)
    """
    for suffix in (".mp4", ".gif"):
        command = [sys.executable, "-c", textwrap.dedent(code), str(tmp_path), suffix]
        grown = float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        assert grown < 6, f"{suffix} took {grown:.1f} MB more"


def test_decoded_frames_do_not_wait_for_the_collection_of_garbage(tmp_path):
    path = write(tmp_path / "a.mp4", steady(30))
    alive = lambda: sum(isinstance(thing, av.VideoFrame) for thing in gc.get_objects())
    gc.collect()
    gc.disable()
    try:
        before = alive()
        video = open_video(path)
        assert len(list(video.frames())) == 30
        assert alive() - before <= 3
    finally:
        gc.enable()


# What can go wrong.


def failing(path, there):
    yield frame(0)
    assert path.exists() == there
    raise RuntimeError("own")


@pytest.mark.parametrize("name", ["a.mp4", "a.webm", "a.gif", "folder"])
def test_an_error_inside_leaves_nothing(tmp_path, name):
    with pytest.raises(RuntimeError, match="own"):
        write(tmp_path / name, steady(9), frames=failing(tmp_path / name, there=False))
    assert_left_nothing(tmp_path)


@pytest.mark.parametrize("name", ["a.mp4", "a.gif", "folder"])
def test_too_few_too_many_or_other_frames(tmp_path, name):
    with pytest.raises(ValueError, match="only 1 frames for 2 times"):
        write(tmp_path / name, steady(2), frames=[frame(0)])
    with pytest.raises(ValueError, match="more frames than"):
        write(tmp_path / name, [0], frames=[frame(0), frame(1)])
    for other in (frame(0, 46), frame(0).astype(np.float32), frame(0)[..., 0]):
        with pytest.raises(ValueError, match=r"uint8 frame \[48, 64, 3\]"):
            write(tmp_path / name, [0], frames=[other])
    assert_left_nothing(tmp_path)


def test_a_failed_writer_keeps_what_was_there(tmp_path):
    path = write(tmp_path / "a.mp4", steady(3))
    before = path.read_bytes()
    with pytest.raises(RuntimeError, match="own"):
        write(path, steady(9), frames=failing(path, there=True))
    assert path.read_bytes() == before
    assert len(open_video(write(path, steady(5)))) == 5  # a success replaces it


def test_a_killed_writer_leaves_no_half_file(tmp_path):
    code = """
        import os, signal, sys, numpy as np
        from scoredistill.media.video import VideoWriter
        with VideoWriter(sys.argv[1], 48, 64, times=[0, 1, 2]) as out:
            out.write(np.zeros((48, 64, 3), np.uint8))
            os.kill(os.getpid(), signal.SIGKILL)
    """
    run = subprocess.run([sys.executable, "-c", textwrap.dedent(code), str(tmp_path / "a.mp4")], check=False)
    assert run.returncode == -9
    assert not (tmp_path / "a.mp4").exists()
    assert [p.name[:7] for p in tmp_path.iterdir()] == [".draft-"]


@pytest.mark.parametrize("name", ["a.mp4", "a.gif", "folder"])
def test_a_full_disk_is_reported(tmp_path, name):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    noise = np.random.default_rng(0).integers(0, 255, (40, 192, 256, 3), dtype=np.uint8)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, hard))
    try:
        with pytest.raises(OSError, match="File too large") as error:
            write(tmp_path / name, steady(40), 192, 256, frames=noise)
        assert (error.value.errno, error.value.filename) == (errno.EFBIG, str(tmp_path / name))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert_left_nothing(tmp_path)


@pytest.mark.parametrize(
    ("name", "times", "message"),
    [
        ("a.avi", [0, 1], "cannot write .avi"),
        ("a.mp4", [], "0 times"),
        ("a.mp4", [0, 0], "strictly increasing"),
        ("a.mp4", [0, float("nan")], "finite"),
        ("a.mp4", [0, 1e-6], "less than 1/90000 s apart"),
    ],
)
def test_invalid_videos_are_refused_before_writing(tmp_path, name, times, message):
    with pytest.raises(ValueError, match=message), VideoWriter(tmp_path / name, 48, 64, times=times):
        pass
    assert_left_nothing(tmp_path)


def test_a_folder_in_use_is_left_alone(tmp_path):
    (tmp_path / "mine").write_text("mine")
    with pytest.raises(ValueError, match="already exists"):
        VideoWriter(tmp_path, 48, 64, times=[0])
    (tmp_path / "new").mkdir()
    assert len(open_video(write(tmp_path / "new", steady(2)))) == 2  # an empty one is fine


def broken(tmp_path, kind):
    path = tmp_path / kind
    if kind == "text.mp4":
        path.write_text("not a video" * 100)
    elif kind == "empty.mp4":
        path.write_bytes(b"")
    elif kind == "cut.mp4":  # the index at its end is gone
        path.write_bytes(with_sound(tmp_path / "whole.mp4").read_bytes()[:5000])
    elif kind == "sound.m4a":
        with av.open(str(path), "w", format="mp4") as out, av.open(str(tone(tmp_path / "t.wav"))) as source:
            stream = out.add_stream("aac", rate=44100, layout="stereo")
            for sound in source.decode(audio=0):
                out.mux(stream.encode(sound))
            out.mux(stream.encode(None))
    elif kind == "sound.wav":
        tone(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "mixed":
        path.mkdir()
        Image.new("RGB", (8, 8)).save(path / "1.png")
        Image.new("RGB", (9, 8)).save(path / "2.png")
    elif kind == "wrong":
        write(path, steady(3))
        (path / "times.txt").write_text("0 1")
    elif kind == "text.gif":
        path.write_text("not an image")
    return path


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("missing.mp4", "there is no file"),
        ("text.mp4", "not a video"),
        ("empty.mp4", "not a video"),
        ("cut.mp4", "not a video or is corrupt"),
        ("sound.m4a", "no video stream"),
        ("sound.wav", "no video stream"),
        ("folder", "no frames"),
        ("mixed", "one size.*2.png"),
        ("wrong", "must list 3"),
        ("text.gif", "cannot be read as an image"),
    ],
)
def test_unreadable_files_are_refused_in_one_sentence(tmp_path, kind, message):
    with pytest.raises(ValueError, match=message) as caught:
        open_video(broken(tmp_path, kind))
    assert type(caught.value) is ValueError
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_a_video_that_ends_early_gives_as_many_frames_as_it_says(tmp_path, suffix):
    """The index of the .mp4 stands before the images and still lists 50 of them."""
    whole = with_sound(tmp_path / f"a{suffix}")
    if suffix == ".mp4":
        video = open_video(whole)
        whole = write(tmp_path / "b.mp4", video.times, sound_from=video)
    data = whole.read_bytes()
    cut = tmp_path / f"cut{suffix}"
    for fraction in (0.6, 0.8):
        cut.write_bytes(data[: int(fraction * len(data))])
        video = open_video(cut)
        frames = list(video.frames())
        assert 0 < len(video) == len(frames) < 50
        assert [bar(f) for f in frames] == [round(25 * t) for t in video.times]  # each whole and at its time
        assert len(list(video.frames(len(video) - 1))) == 1
        assert suffix == ".mkv" or not video.complete


def test_a_hole_in_a_video_is_a_gap_in_its_times(tmp_path):
    data = bytearray(with_sound(tmp_path / "a.mp4").read_bytes())
    with av.open(str(tmp_path / "a.mp4")) as source:
        packets = [(p.pos, p.size) for p in source.demux(video=0) if p.size]
    for at, size in packets[20:23]:
        data[at : at + size] = b"\xff" * size
    (tmp_path / "b.mp4").write_bytes(data)
    video = open_video(tmp_path / "b.mp4")
    frames = list(video.frames())
    assert len(frames) == len(video) < 50
    assert not video.complete
    assert video.times[-1] == pytest.approx(49 / 25)
    assert len(list(video.frames(30, 32))) == len(video.times[30:32])


def test_a_video_that_changes_after_opening_is_noticed(tmp_path):
    video = open_video(write(tmp_path / "a.mp4", steady(9)))
    write(tmp_path / "a.mp4", steady(4))
    with pytest.raises(ValueError, match="fewer frames"):
        list(video.frames())
    write(tmp_path / "a.mp4", steady(9), height=32)
    with pytest.raises(ValueError, match="another size"):
        list(video.frames())


def test_versions_of_pyav_that_show_wrong_colors_are_refused(tmp_path, monkeypatch):
    """The least version is that of pyproject.toml, as are all extras that install PyAV."""
    path = write(tmp_path / "a.mp4", steady(2))
    for version, right in [("17.1.0", True), ("18.0.0rc1", True), ("17.0.1", False), ("12.3.0", False)]:
        monkeypatch.setattr(av, "__version__", version)
        if right:
            assert len(open_video(path)) == 2
        else:
            with pytest.raises(ValueError, match=rf"need PyAV 17\.1 or later, not {version}: pip install"):
                open_video(path)
    declared = (Path(__file__).parents[2] / "pyproject.toml").read_text()
    assert declared.count('"av>=17.1"') == declared.count('"av') > 0


def test_without_pyav_the_extra_is_named(tmp_path, monkeypatch):
    path = write(tmp_path / "a.mp4", steady(2))
    gif = write(tmp_path / "a.gif", steady(2))
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(MissingExtra, match=r"pip install 'scoredistill\[video\]'"):
        open_video(path)
    assert len(open_video(gif)) == 2
    assert Path(gif).exists()


@pytest.mark.parametrize("suffix", [".mp4", ".webm"])
def test_the_same_frames_are_the_same_bytes(tmp_path, suffix):
    """With a single thread of the encoder, whatever the number of cores."""
    frames = np.random.default_rng(0).integers(0, 255, (12, 64, 96, 3), np.uint8)
    threads, made = [], []
    for name in ("a", "b"):
        with VideoWriter(tmp_path / f"{name}{suffix}", 64, 96, times=[i / 8 for i in range(12)]) as out:
            for frame in frames:
                out.write(frame)
            threads.append(out.sink.stream.codec_context.thread_count)
        made.append((tmp_path / f"{name}{suffix}").read_bytes())
    assert threads == [1, 1]
    assert made[0] == made[1]


def test_a_missing_encoder_is_said_before_the_work(tmp_path, monkeypatch):
    monkeypatch.setitem(VIDEOS, ".webm", ("none", {}, (), ""))
    with pytest.raises(ValueError, match=r"without the encoder of .webm: use .mp4, .gif, or a folder"):
        VideoWriter(tmp_path / "a.webm", 2, 2, times=[0.0])
