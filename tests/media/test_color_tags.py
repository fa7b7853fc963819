"""Images that state their colors without a profile are read as the sRGB colors that they show."""

import io
import struct
import zlib
from contextlib import suppress

import numpy as np
import pytest
from PIL import Image, features

from scoredistill.media.colors import BT709, BT2020, DISPLAY_P3, HLG, LINEAR, PQ, PRIMARIES, tone_mapped
from scoredistill.media.images import read_image
from scoredistill.media.video import open_video
from tiny_profiles import linear_profile

SRGB = 13
COLOR = (200, 90, 40)  # of every file, as stored


def chunk(kind, body):
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def cicp(primaries, transfer, matrix=0, full=1):
    return chunk(b"cICP", bytes([primaries, transfer, matrix, full]))


def gama(value):
    return chunk(b"gAMA", struct.pack(">I", round(1e5 * value)))


def chrm(corners):
    red, green, blue, white = corners
    return chunk(b"cHRM", struct.pack(">8I", *(round(1e5 * v) for pair in (white, red, green, blue) for v in pair)))


def png(*chunks, image=None, **options):
    data = io.BytesIO()
    (image or Image.new("RGB", (4, 3), COLOR)).save(data, "PNG", **options)
    return data.getvalue()[:33] + b"".join(chunks) + data.getvalue()[33:]


def avif(primaries, transfer, **options):
    """An AVIF of COLOR whose color box has other numbers; the pixels are coded as before."""
    if not features.check("avif"):
        pytest.skip("this Pillow has no AVIF")
    data = io.BytesIO()
    Image.new("RGB", (32, 32), COLOR).save(data, "AVIF", quality=100, subsampling="4:4:4", **options)
    made = bytearray(data.getvalue())
    at = made.index(b"nclx") + 4
    made[at : at + 4] = struct.pack(">2H", primaries, transfer)
    return bytes(made)


def seen(data):
    return np.asarray(read_image(Image.open(io.BytesIO(data), formats=["PNG", "AVIF"])))[1, 1].astype(int)


def shown(primaries, transfer):
    return tone_mapped((np.array(COLOR, np.uint16) * 257)[None, None], transfer, primaries)[0, 0].astype(int)


HDR = [(BT2020, PQ), (BT2020, HLG), (BT709, PQ), (DISPLAY_P3, HLG), (BT2020, SRGB), (DISPLAY_P3, SRGB), (BT709, LINEAR)]


@pytest.mark.parametrize(("primaries", "transfer"), HDR)
@pytest.mark.parametrize("kind", ["png", "avif"])
def test_hdr_and_wide_gamut_are_shown_as_in_videos(kind, primaries, transfer):
    expected = shown(primaries, transfer)
    assert np.abs(expected - COLOR).max() > 8  # what a reader that ignores the numbers shows
    data = png(cicp(primaries, transfer)) if kind == "png" else avif(primaries, transfer)
    assert np.abs(seen(data) - expected).max() <= (1 if kind == "png" else 5)  # AVIF is off by one before


def test_an_unstated_gamut_of_hdr_is_that_of_bt2100():
    assert (seen(avif(2, PQ)) == seen(avif(BT2020, PQ))).all()


@pytest.mark.parametrize(
    "chunks",
    [
        [], [cicp(BT709, SRGB)], [cicp(BT709, 1)], [cicp(5, 6)], [cicp(BT2020, PQ, full=0)], [chunk(b"cICP", b"\x09")],
        [gama(0.45455)], [gama(0.45455), chrm(PRIMARIES[BT709])], [gama(0)], [chrm([(0, 0)] * 4)],
        [chunk(b"sRGB", b"\0"), gama(1)],
    ],
)  # fmt: skip
def test_srgb_unknown_and_damaged_statements_change_nothing(chunks):
    assert seen(png(*chunks)).tolist() == list(COLOR)


def test_the_gamma_of_a_png():
    """Linear .2 is sRGB 124 / 255; an old Macintosh's gamma of 1 / 1.8 makes 128 lighter: (128/255)^1.8 is sRGB 146."""
    gray = lambda level, mode="RGB": Image.new("RGB", (4, 3), (level,) * 3).convert(mode)
    for mode in ("RGB", "RGBA", "L", "LA", "P"):
        assert np.abs(seen(png(gama(1.0), image=gray(51, mode))) - 124).max() <= 1, mode
    deep = Image.fromarray(np.full((3, 4), 13107, np.uint16))
    assert np.abs(seen(png(gama(1.0), image=deep)) - 124).max() <= 1
    assert np.abs(seen(png(gama(1 / 1.8), image=gray(128))) - 146).max() <= 1


def test_gray_of_16_bits_keeps_its_dark_tones():
    """Linear 0.001, which 8 bits would round to 0, is sRGB 3.3 / 255."""
    assert seen(png(gama(1.0), image=Image.fromarray(np.full((3, 4), 66, np.uint16)))).tolist() == [3] * 3


def test_the_chromaticities_of_a_png():
    """Adobe RGB with gamma 2.2: its green is out of sRGB, its red 219 is the red of sRGB."""
    adobe = ((0.64, 0.33), (0.21, 0.71), (0.15, 0.06), (0.3127, 0.329))
    one = lambda *color: png(gama(1 / 2.2), chrm(adobe), image=Image.new("RGB", (4, 3), color))
    assert seen(one(0, 255, 0)).tolist() == [0, 255, 0]
    assert np.abs(seen(one(219, 0, 0)) - (255, 0, 0)).max() <= 2
    assert np.abs(seen(one(128, 128, 128)) - 128).max() <= 1  # gray stays gray
    warm = (*PRIMARIES[BT709][:3], (0.3457, 0.3585))  # white of D50 is white
    assert np.abs(seen(png(gama(1 / 2.2), chrm(warm), image=Image.new("RGB", (4, 3), "white"))) - 255).max() <= 1


def test_what_comes_first():
    """cICP, then a profile, then gamma in a PNG; in AVIF a profile, unless the image is HDR."""
    profile = linear_profile()
    followed = seen(png(icc_profile=profile))
    assert (seen(png(gama(0.3), icc_profile=profile)) == followed).all()
    assert (seen(png(cicp(BT2020, PQ), gama(0.3), icc_profile=profile)) == shown(BT2020, PQ)).all()
    assert np.abs(seen(avif(BT2020, SRGB, icc_profile=profile)) - followed).max() <= 2
    assert np.abs(seen(avif(BT2020, PQ, icc_profile=profile)) - shown(BT2020, PQ)).max() <= 2


def test_alpha_turning_and_size_stay():
    image = Image.new("RGBA", (5, 3), (*COLOR, 255))
    image.putpixel((4, 0), (*COLOR, 100))
    turned = Image.Exif()
    turned[0x0112] = 6
    made = read_image(Image.open(io.BytesIO(png(cicp(BT2020, HLG), image=image, exif=turned))), transparency=True)
    assert (made.mode, made.size) == ("RGBA", (3, 5))
    assert made.getpixel((2, 4)) == (*shown(BT2020, HLG), 100)
    assert made.getpixel((0, 0)) == (*shown(BT2020, HLG), 255)


@pytest.mark.parametrize("suffix", ["png", "avif"])
def test_animations_are_converted_frame_by_frame(tmp_path, suffix):
    frames = [Image.new("RGB", (32, 32), color) for color in ((120, 120, 120), (60, 60, 60))]
    if suffix == "avif" and not features.check("avif"):
        pytest.skip("this Pillow has no AVIF")
    frames[0].save(tmp_path / f"a.{suffix}", save_all=True, append_images=frames[1:], duration=100)
    data = (tmp_path / f"a.{suffix}").read_bytes()
    data = (
        data[:33] + cicp(BT2020, PQ) + data[33:]
        if suffix == "png"
        else data.replace(b"nclx\0\1\0\x0d", b"nclx\0\x09\0\x10")
    )
    (tmp_path / f"a.{suffix}").write_bytes(data)
    made = [frame[16, 16].astype(int) for frame in open_video(tmp_path / f"a.{suffix}").frames()]
    for frame, level in zip(made, (120, 60), strict=True):
        expected = tone_mapped(np.full((1, 1, 3), level * 257, np.uint16), PQ, BT2020)[0, 0]
        assert np.abs(frame - expected).max() <= 3


def test_any_damage_of_a_header_is_survived(tmp_path):
    """Headers are followed by their lengths, which may be anything: the pixels are read, or the file is refused."""
    rng = np.random.default_rng(0)
    for name, data in (("a.png", png(cicp(BT2020, PQ))), ("a.avif", avif(BT2020, PQ))):
        for _ in range(60):
            broken = bytearray(data)
            for at in rng.integers(8, min(len(data), 300), 3):
                broken[at] = rng.integers(0, 256)
            (tmp_path / name).write_bytes(broken)
            with suppress(ValueError):
                assert read_image(tmp_path / name).mode == "RGB"
