"""Malformed EXIF data, text and color profiles never make an intact image unreadable; valid ones are followed."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageCms

from scoredistill.media.images import read_image
from tiny_profiles import linear_profile

Y, X = np.mgrid[0:24, 0:32]
IMAGE = Image.fromarray(np.stack([X * 8, Y * 10, X + Y], -1).astype(np.uint8))
ROTATED = (0x0112, 3, 1, 6)


def exif(entries):
    """EXIF data of (tag, type, count, value) entries, where a value of bytes is stored behind them."""
    body, extra, start = struct.pack("<H", len(entries)), b"", 8 + 2 + 12 * len(entries) + 4
    for tag, kind, count, value in entries:
        head = struct.pack("<HHL", tag, kind, count)
        if isinstance(value, bytes):
            body, extra = body + head + struct.pack("<L", start + len(extra)), extra + value
        else:
            body += head + struct.pack("<HH", value, 0)
    return b"Exif\0\0II" + struct.pack("<HL", 42, 8) + body + struct.pack("<L", 0) + extra


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp"])
@pytest.mark.parametrize(
    ("data", "size"),
    [
        (exif([ROTATED, (0x011A, 10, 1, struct.pack("<ll", -1, 0))]), (24, 32)),  # a resolution of -1 / 0
        (exif([ROTATED, (0x0100, 2, 5, b"4000\0\0\0\0")]), (24, 32)),  # a width that is a text
        (exif([(0x0112, 2, 4, 6)]), (32, 24)),  # an orientation that is a text
        (exif([(0x0112, 3, 1, 77)]), (32, 24)),
        (b"Exif\0\0\0\x08\0\x02\x01\x12\0\x03", (32, 24)),
    ],
)
def test_odd_exif_data_leave_the_image_readable(tmp_path, suffix, data, size):
    path = tmp_path / f"a.{suffix}"
    IMAGE.save(path, exif=data)
    assert read_image(path).size == size


def png_chunk(kind, body, check=None):
    check = zlib.crc32(kind + body) if check is None else check
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", check)


@pytest.mark.parametrize(
    "chunk",
    [
        png_chunk(b"tEXt", b"Comment\0hello", check=1),
        png_chunk(b"eXIf", b"II*\0", check=1),
        png_chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(2**21))),  # more than Pillow's limit on text
        png_chunk(b"iCCP", b""),
        png_chunk(b"pHYs", b"\0"),
        png_chunk(b"gAMA", b"\0"),
    ],
    ids=lambda chunk: chunk[4:8].decode(),
)
def test_a_damaged_optional_chunk_of_a_png_is_left_out(tmp_path, chunk):
    data = io.BytesIO()
    IMAGE.save(data, format="PNG")
    path = tmp_path / "a.png"
    path.write_bytes(data.getvalue()[:33] + chunk + data.getvalue()[33:])
    assert (np.asarray(read_image(path)) == np.asarray(IMAGE)).all()


@pytest.mark.parametrize("marker", [0xE1, 0xE2, 0xED, 0xEE, 0xFE])
def test_odd_segments_of_a_jpeg_are_left_out(tmp_path, marker):
    data = io.BytesIO()
    IMAGE.save(data, format="JPEG")
    path = tmp_path / "a.jpg"
    for body in (b"Exif\0\0junk", b"ICC_PROFILE\0\1", b"MPF\0junk", b"Photoshop 3.0\x008BIM\0", b"Adobe", b""):
        segment = bytes([0xFF, marker]) + struct.pack(">H", 2 + len(body)) + body
        path.write_bytes(data.getvalue()[:20] + segment + data.getvalue()[20:])
        assert read_image(path).size == (32, 24)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "LA", "P"])
def test_linear_profiles_are_followed_whatever_their_name(tmp_path, mode):
    """Linear 0.2 is sRGB 124 / 255."""
    path = tmp_path / "a.png"
    profile = linear_profile(b"GRAY" if mode in ("L", "LA") else b"RGB ")
    Image.new("RGB", (4, 4), (51, 51, 51)).convert(mode).save(path, icc_profile=profile)
    assert np.abs(np.asarray(read_image(path)).astype(int) - 124).max() <= 1


def test_a_linear_profile_of_16_bits(tmp_path):
    path = tmp_path / "a.png"
    Image.fromarray(np.full((4, 4), 55 * 257, np.uint16)).save(path, icc_profile=linear_profile(b"GRAY"))
    assert np.abs(np.asarray(read_image(path)).astype(int) - 128).max() <= 1
    image = Image.open(path, formats=["PNG"])
    older = image.convert("I")  # the mode in which Pillow up to 11 reads such files
    older.info = image.info
    assert np.abs(np.asarray(read_image(older)).astype(int) - 128).max() <= 1


def test_lab_is_converted(tmp_path):
    image = Image.new("LAB", (4, 4), (128, 128, 128))  # L* = 50
    image.save(tmp_path / "a.tif", icc_profile=ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes())
    assert np.abs(np.asarray(read_image(tmp_path / "a.tif")).astype(int) - 119).max() <= 2


def test_transparency_survives_the_profile(tmp_path):
    image = Image.new("RGBA", (2, 1), (55, 55, 55, 255))
    image.putpixel((1, 0), (55, 55, 55, 0))
    image.save(tmp_path / "a.png", icc_profile=linear_profile())
    assert np.asarray(read_image(tmp_path / "a.png"))[0, :, 0].tolist() == [128, 255]
