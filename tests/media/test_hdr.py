"""HDR and wide-gamut videos are read as the SDR colors that they show."""

from fractions import Fraction

import numpy as np
import pytest

from scoredistill.media.video import open_video
from scoredistill.media.video.hdr import BT2020, DCI_P3, DISPLAY_P3, HLG, PQ, compressed, tone_mapped

av = pytest.importorskip("av")

COLORS = [(255, 255, 255), (200, 40, 40), (40, 120, 200), (118, 118, 118), (0, 0, 0)]
TO_BT2020 = np.array([[0.6274, 0.3293, 0.0433], [0.0691, 0.9195, 0.0114], [0.0164, 0.0880, 0.8956]])  # BT.2087
LUMINANCE = np.array([0.2627, 0.6780, 0.0593])
SDR = 14  # BT.2020 of 10 bits, the transfer function of BT.709


def light(color):
    c = np.asarray(color) / 255
    return TO_BT2020 @ np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)


def signal(color, transfer):
    """The nonlinear BT.2020 value of an sRGB color whose white has 203 cd/m^2, by BT.2100."""
    if transfer == PQ:
        p = (light(color) * 203 / 10000) ** 0.1593017578125
        return ((0.8359375 + 18.8515625 * p) / (1 + 18.6875 * p)) ** 78.84375
    if transfer == HLG:
        e = light(color) * 0.203
        e = e * max(LUMINANCE @ e, 1e-12) ** (1 / 1.2 - 1)
        return np.where(
            e <= 1 / 12, np.sqrt(3 * e), 0.17883277 * np.log(np.maximum(12 * e - 0.28466892, 1e-9)) + 0.55991073
        )
    v = light(color)
    return np.where(v <= 0.0031308, 12.92 * v, 1.055 * v ** (1 / 2.4) - 0.055)


def write(path, transfer, codec="libx264", width=32, height=32):
    """A video of one frame per color, in BT.2020 with 10 bits."""
    with av.open(str(path), "w") as out:
        stream = out.add_stream(codec, rate=10, options={"crf": "1"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p10le"
        context = stream.codec_context
        context.colorspace = context.color_primaries = BT2020
        context.color_trc, context.color_range = transfer, 1
        for i, color in enumerate(COLORS):
            rgb = signal(color, transfer)
            y = LUMINANCE @ rgb
            levels = (64 + 876 * y, 512 + 896 * (rgb[2] - y) / 1.8814, 512 + 896 * (rgb[0] - y) / 1.4746)
            frame = av.VideoFrame(width, height, "yuv420p10le")
            for plane, level in zip(frame.planes, levels, strict=True):
                plane.update(np.full(plane.buffer_size // 2, round(level), np.uint16).tobytes())
            frame.pts, frame.time_base = i, Fraction(1, 10)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return path


@pytest.mark.parametrize("transfer", [HLG, PQ, SDR])
def test_files_show_the_colors_of_their_sdr_version(tmp_path, transfer):
    """White becomes 243 of 255 in HDR, which leaves room for highlights; what is darker is kept."""
    frames = list(open_video(write(tmp_path / "a.mp4", transfer)).frames())
    white = 255 if transfer == SDR else 243
    for frame, color in zip(frames, [(white,) * 3, *COLORS[1:]], strict=True):
        assert np.abs(frame[16, 16].astype(int) - color).max() <= 4, (frame[16, 16], color)


@pytest.mark.parametrize(("transfer", "white"), [(HLG, 0.75), (PQ, 0.58069)])
def test_reference_white_of_bt2408(transfer, white):
    """203 cd/m^2 are 75 % in HLG and 58 % in PQ."""
    gray = np.full((1, 1, 3), round(65535 * white), np.uint16)
    assert np.abs(tone_mapped(gray, transfer, BT2020).astype(int) - 243).max() <= 1


@pytest.mark.parametrize("transfer", [HLG, PQ])
def test_gray_stays_gray_and_the_order_of_brightness(transfer):
    ramp = np.repeat(np.linspace(0, 65535, 200).round().astype(np.uint16)[None, :, None], 3, axis=2)
    made = tone_mapped(ramp, transfer, BT2020).astype(int)[0]
    assert np.ptp(made, axis=1).max() <= 1
    assert (np.diff(made[:, 0]) >= 0).all()
    assert (made[0, 0], made[-1, 0]) == (0, 255)


def test_the_curve_is_smooth_at_the_knee_and_ends_at_one():
    assert compressed(np.array([0.3, 0.8])).tolist() == [0.3, 0.8]
    assert compressed(np.array([0.8001]))[0] == pytest.approx(0.8001, abs=1e-6)
    assert compressed(np.array([1000 / 203, 50.0])) == pytest.approx([1, 1])


@pytest.mark.parametrize("primaries", [BT2020, DCI_P3, DISPLAY_P3])
def test_white_is_the_same_in_all_primaries(primaries):
    white = np.full((1, 1, 3), 65535, np.uint16)
    assert tone_mapped(white, 13, primaries).tolist() == [[[255, 255, 255]]]


def test_display_p3():
    """The sRGB color (255, 0, 0) is (234, 51, 35) in Display P3."""
    red = np.array([[[234, 51, 35]]], np.uint16) * 257
    assert np.abs(tone_mapped(red, 13, DISPLAY_P3).astype(int) - (255, 0, 0)).max() <= 12
