"""An edited photograph comes back in the format of its source, with EXIF data, color profile and resolution."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms

from scoredistill.media.images import read_image
from scoredistill.media.metadata import ORIENTATION
from scoredistill.media.returned import EXIF_IFD, SIZES, Origin

MAKER, DATE = 0x010F, 0x9003  # EXIF tags: of the image, of the exposure


def gradient(width=24, height=16):
    y, x = np.mgrid[0:height, 0:width]
    return Image.fromarray(np.stack([10 * x, 15 * y, 5 * (x + y)], -1).clip(0, 255).astype(np.uint8))


def profile(name="sRGB"):
    made = ImageCms.ImageCmsProfile(ImageCms.createProfile(name))
    return made.tobytes()


def swapped():
    """A profile whose red is the blue of sRGB: a matrix profile with its columns exchanged."""
    data = bytearray(profile())
    count = int.from_bytes(data[128:132], "big")
    at = {bytes(data[132 + 12 * i : 136 + 12 * i]): 132 + 12 * i for i in range(count)}
    red, blue = (bytes(data[at[name] + 4 : at[name] + 12]) for name in (b"rXYZ", b"bXYZ"))
    data[at[b"rXYZ"] + 4 : at[b"rXYZ"] + 12], data[at[b"bXYZ"] + 4 : at[b"bXYZ"] + 12] = blue, red
    return bytes(data)


def photograph(path, orientation=1, **how):
    exif = Image.Exif()
    exif[MAKER], exif[ORIENTATION] = "a camera", orientation
    exif.get_ifd(EXIF_IFD)[DATE] = "2001:02:03 04:05:06"
    for tag, size in zip(SIZES, (24, 16), strict=True):
        exif.get_ifd(EXIF_IFD)[tag] = size
    gradient().save(path, exif=exif.tobytes(), dpi=(300, 300), **how)
    return path


@pytest.mark.parametrize(("suffix", "kind"), [(".jpg", "JPEG"), (".webp", "WEBP"), (".tif", "TIFF")])
def test_the_format_and_the_exif_data_are_those_of_the_source(tmp_path, suffix, kind):
    source = photograph(tmp_path / f"a{suffix}", orientation=6)
    edited = read_image(source)  # upright
    made = Origin.of(source).save(edited, tmp_path / "edited")
    assert made.name == f"edited{suffix}"
    with Image.open(made) as image:
        assert image.format == kind
        assert image.size == (16, 24)
        assert image.getexif()[MAKER] == "a camera"
        assert image.getexif().get(ORIENTATION, 1) == 1  # else viewers would turn it again
        inner = image.getexif().get_ifd(EXIF_IFD)
        assert inner[DATE] == "2001:02:03 04:05:06"
        assert (inner[SIZES[0]], inner[SIZES[1]]) == (16, 24)
    assert np.abs(np.asarray(read_image(made), int) - np.asarray(edited, int)).mean() < 4


def test_a_jpeg_keeps_its_tables_and_its_resolution(tmp_path):
    for quality in (60, 98):
        source = photograph(tmp_path / "a.jpg", quality=quality)
        made = Origin.of(source).save(gradient(), tmp_path / "edited")
        with Image.open(source) as before, Image.open(made) as after:
            assert after.quantization == before.quantization
            assert after.info["dpi"] == (300, 300)


@pytest.mark.parametrize("suffix", [".jpg", ".webp", ".tif"])
def test_a_color_profile_is_kept_and_the_colors_are_the_same(tmp_path, suffix):
    """Red in sRGB is blue in the numbers of a profile with exchanged primaries, and reads as red again."""
    gradient().save(tmp_path / f"a{suffix}", icc_profile=swapped())
    red = Image.new("RGB", (24, 16), (220, 30, 30))
    made = Origin.of(tmp_path / f"a{suffix}").save(red, tmp_path / "edited")
    with Image.open(made) as image:
        assert image.info["icc_profile"] == swapped()
        assert image.convert("RGB").getpixel((5, 5))[2] > 180
    assert np.abs(np.asarray(read_image(made), int) - (220, 30, 30)).max() < 12


def test_transparency_is_kept_where_the_format_has_it(tmp_path):
    layer = gradient().convert("RGBA")
    layer.putalpha(Image.new("L", layer.size, 90))
    layer.save(tmp_path / "a.webp", lossless=True)
    with Image.open(Origin.of(tmp_path / "a.webp").save(layer, tmp_path / "edited")) as image:
        assert image.mode == "RGBA"
        assert image.getpixel((3, 3))[3] == 90


@pytest.mark.parametrize("content", [b"", b"no image", None])
def test_what_cannot_be_read_or_is_png_is_written_as_png_only(tmp_path, content):
    path = tmp_path / "a.png"
    gradient().save(path) if content is None else path.write_bytes(content)
    assert Origin.of(path).save(gradient(), tmp_path / "edited") is None
    assert [each.name for each in tmp_path.iterdir()] == ["a.png"]


def test_broken_metadata_does_no_harm(tmp_path):
    buffer = io.BytesIO()
    gradient().save(buffer, format="JPEG", exif=b"Exif\0\0broken", icc_profile=b"broken")
    Path(tmp_path / "a.jpg").write_bytes(buffer.getvalue())
    with Image.open(Origin.of(tmp_path / "a.jpg").save(gradient(), tmp_path / "edited")) as image:
        assert image.format == "JPEG"
        assert "icc_profile" not in image.info


def test_gray_and_cmyk_photographs_come_back_in_color(tmp_path):
    for mode in ("L", "CMYK"):
        gradient().convert(mode).save(tmp_path / "a.jpg")
        with Image.open(Origin.of(tmp_path / "a.jpg").save(gradient(), tmp_path / "edited")) as image:
            assert (image.format, image.mode) == ("JPEG", "RGB")
