"""HDR and wide-gamut videos are read as the SDR colors that they show."""

from fractions import Fraction

import numpy as np
import pytest

from scoredistill.media.colors import (
    BT709,
    BT2020,
    DCI_P3,
    DISPLAY_P3,
    HLG,
    LINEAR,
    PQ,
    compressed,
    tone_mapped,
)
from scoredistill.media.video import open_video
from scoredistill.media.video.hdr import check

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


def write(path, transfer, codec="libx264", width=32, height=32, matrix=BT2020, primaries=BT2020):
    """A video of one frame per color, in BT.2020 with 10 bits; `matrix` and `primaries` are only what the file says."""
    with av.open(str(path), "w") as out:
        stream = out.add_stream(codec, rate=10, options={"crf": "1"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p10le"
        context = stream.codec_context
        context.colorspace, context.color_primaries = matrix, primaries
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


def test_an_unstated_matrix_is_that_of_the_primaries(tmp_path):
    """HDR is coded by BT.2020; of Display P3, which has no matrix of its own, that of BT.709 is used."""
    files = [write(tmp_path / f"{m}.mkv", HLG, matrix=m, primaries=p) for m, p in [(BT2020, BT2020), (2, 2)]]
    (stated, unstated) = (np.stack(list(open_video(file).frames())).astype(int) for file in files)
    assert (stated == unstated).all()
    files = [write(tmp_path / f"p3-{m}.mkv", SDR, matrix=m, primaries=DISPLAY_P3) for m in (BT709, 2, BT2020)]
    (stated, unstated, other) = (np.stack(list(open_video(file).frames())).astype(int) for file in files)
    assert (stated == unstated).all()
    assert np.abs(stated - other).max() > 4


@pytest.mark.parametrize("matrix", [8, 10, 14])
def test_matrices_that_cannot_be_converted_are_refused(tmp_path, matrix):
    with pytest.raises(ValueError, match=r"a.mkv codes its colors by (YCgCo|BT.2020|ICtCp).*, which cannot be conv"):
        open_video(write(tmp_path / "a.mkv", PQ, matrix=matrix))


def test_dolby_vision_without_a_base_layer_is_refused():
    """Its frames, coded by IPT, state neither a matrix nor a transfer function: they would be green and magenta."""
    frame = av.VideoFrame(16, 16, "yuv420p10le")
    with pytest.raises(ValueError, match="IPT of Dolby Vision"):
        check(frame, "dvh1", "a.mp4")
    check(frame, "hvc1", "a.mp4")
    frame.color_trc = HLG  # profile 8.4, whose base layer is HLG
    check(frame, "dvh1", "a.mp4")


def test_linear_light():
    """Linear 0.2 is sRGB 124 / 255."""
    assert tone_mapped(np.full((1, 1, 3), 13107, np.uint16), LINEAR, BT709).tolist() == [[[124] * 3]]


@pytest.mark.parametrize("primaries", [BT709, BT2020, DISPLAY_P3])
@pytest.mark.parametrize("level", [0.3, 0.75, 0.9])
def test_hlg_is_displayed_by_its_luminance(primaries, level):
    """Red of one channel E' = level in HLG: light 1000 (L E)^0.2 E cd/m^2, by BT.2100 with L = .2627, .2126, .2290.

    In the primaries of BT.709 it is (E, 0, 0), in others red exceeds BT.709, which leaves the red channel alone.
    """
    weight, gain = {BT709: (0.2126, 1), BT2020: (0.2627, 1.660491), DISPLAY_P3: (0.22897, 1.224940)}[primaries]
    e = level**2 / 3 if level <= 0.5 else (np.exp((level - 0.55991073) / 0.17883277) + 0.28466892) / 12
    y = compressed(np.array([gain * e * (weight * e) ** 0.2 * 1000 / 203]))[0]
    expected = 255 * (12.92 * y if y <= 0.0031308 else 1.055 * y ** (1 / 2.4) - 0.055)
    made = tone_mapped(np.array([[[round(65535 * level), 0, 0]]], np.uint16), HLG, primaries)[0, 0]
    assert made[0] == pytest.approx(expected, abs=1)
    assert made[1:].tolist() == [0, 0]


@pytest.mark.parametrize("transfer", [HLG, PQ])
def test_tone_mapping_keeps_the_hue_and_the_order_of_brightness(transfer):
    """Colors within BT.709, brightened by a common factor: ratios of the channels stay, and the largest increases."""
    color = np.array([200, 120, 60]) / 255
    ratios = (light(color * 255) @ np.linalg.inv(TO_BT2020).T) / light((255,) * 3)[0]
    last = 0
    for factor in (0.05, 0.3, 1, 2, 4):
        e = light(color * 255) * factor
        if transfer == PQ:
            p = (e * 203 / 10000) ** 0.1593017578125
            v = ((0.8359375 + 18.8515625 * p) / (1 + 18.6875 * p)) ** 78.84375
        else:
            e = e * 0.203
            e = e * (LUMINANCE @ e) ** (1 / 1.2 - 1)
            v = np.where(
                e <= 1 / 12, np.sqrt(3 * e), 0.17883277 * np.log(np.maximum(12 * e - 0.28466892, 1e-9)) + 0.55991073
            )
        made = tone_mapped((65535 * v[None, None]).round().astype(np.uint16), transfer, BT2020)[0, 0]
        shown = np.where(made <= 10, made / 255 / 12.92, ((made / 255 + 0.055) / 1.055) ** 2.4)
        np.testing.assert_allclose(shown / shown.max(), ratios / ratios.max(), atol=0.02 / shown.max() ** 0.5)
        assert made.max() > last
        last = made.max()
