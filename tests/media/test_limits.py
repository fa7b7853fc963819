"""What image files may be: formats without programs behind them, and no more pixels than fit into memory."""

import stat
import struct
import zlib
from contextlib import suppress

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from scoredistill.media import limits
from scoredistill.media.images import read_image
from scoredistill.media.video.reading import is_video, open_video
from scoredistill.three_d.capture import pixels

EPS = b"""%!PS-Adobe-3.0 EPSF-3.0
%%BoundingBox: 0 0 8 8
%%EndComments
{} loop
"""
FOREIGN = {
    "eps": EPS,
    "wmf": bytes.fromhex("d7cdc69a")
    + bytes(10)
    + struct.pack("<H", 1440)
    + bytes(6)
    + bytes([1, 0, 9, 0])
    + bytes(400),
    "grib": b"GRIB" + bytes(3) + b"\1" + bytes(100),
    "mpeg": b"\0\0\1\xb3" + bytes([8, 0, 8, 0x13]) + bytes(100),
    "fits": b"SIMPLE  =                    T".ljust(80) + b"END".ljust(2800),
    "bufr": b"BUFR" + bytes(200),
    "dds": b"DDS " + struct.pack("<3I", 124, 0x1007, 8) + bytes(112),
    "pdf": b"%PDF-1.4\n",
}


@pytest.fixture
def programs(tmp_path, monkeypatch):
    """A PATH on which every program that image libraries start is a script that leaves a mark."""
    folder, mark = tmp_path / "bin", tmp_path / "started"
    folder.mkdir()
    for name in ("gs", "gswin64c", "convert", "magick", "inkscape", "djpeg", "sh", "which"):
        script = folder / name
        script.write_text(f"#!/bin/bash\necho {name} > {mark}\n")
        script.chmod(script.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setattr("PIL.EpsImagePlugin.gs_binary", None)
    return mark


@pytest.mark.parametrize("kind", FOREIGN)
@pytest.mark.parametrize("name", ["image.png", "image.jpg", "image.tif"])
def test_other_formats_are_refused_whatever_their_name(tmp_path, programs, kind, name):
    path = tmp_path / name
    path.write_bytes(FOREIGN[kind])
    with pytest.raises(ValueError, match="cannot be read as an image"):
        read_image(path)
    assert not is_video(path)
    with pytest.raises(ValueError, match="cannot be read as an image"):
        pixels.gray(path, (8, 8))
    folder = tmp_path / "frames"
    folder.mkdir()
    path.rename(folder / name)
    with pytest.raises(ValueError, match="cannot be read as an image"):
        open_video(folder)
    assert not programs.exists()


def test_every_format_is_one_of_pillow():
    known = set(Image.registered_extensions().values()) | set(Image.OPEN)
    assert {*limits.FORMATS} - {"HEIF", "MPO", "AVIF"} <= known  # AVIF since Pillow 11.3
    assert set(limits.formats()) <= set(Image.OPEN)
    assert not {"EPS", "WMF", "GRIB", "HDF5", "BUFR", "MPEG", "FITS", "IPTC"} & set(limits.formats())


def bomb(path, side, mode=2):
    """A PNG of side x side pixels that is a few kilobytes long."""
    png = lambda kind, data: struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    head = struct.pack(">2I5B", side, side, 8, mode, 0, 0, 0)
    path.write_bytes(PngImagePlugin._MAGIC + png(b"IHDR", head) + png(b"IDAT", b"\0") + png(b"IEND", b""))


@pytest.mark.parametrize("mode", [0, 2, 3, 6])
def test_pixels_are_counted_before_they_are_decoded(tmp_path, monkeypatch, mode):
    monkeypatch.setattr(limits, "free_memory", lambda: 3 * 2**30)
    monkeypatch.setattr(PngImagePlugin.PngImageFile, "load", lambda self: pytest.fail("decoded"))
    path = tmp_path / "bomb.png"
    bomb(path, 16384, mode)
    with pytest.raises(
        ValueError, match=r"16384 x 16384 pixels, for which about 5.0 GiB of memory are needed, but 3.0"
    ):
        read_image(path)
    with pytest.raises(ValueError, match=r"about 14.0 GiB"):
        read_image(path, limits.EDITING)
    bomb(path, 16385, mode)
    with pytest.raises(ValueError, match=r"more than 2\^28"):
        read_image(path)
    for reader in (lambda: pixels.gray(path, (8, 8)), lambda: open_video(path)):
        bomb(path, 13000, mode)
        with pytest.raises(ValueError, match=r"GiB of memory are needed|cannot be read"):
            reader()


def test_what_fits_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr(limits, "free_memory", lambda: 2**26)
    path = tmp_path / "a.png"
    Image.new("RGB", (1000, 1000), "red").save(path)
    assert read_image(path, limits.EDITING).size == (1000, 1000)
    monkeypatch.setattr(limits, "free_memory", lambda: None)  # on systems that do not tell
    assert limits.check_size((16384, 16384), "a") is None


def test_free_memory_is_that_of_the_container(tmp_path):
    assert limits.free_memory(tmp_path) is None
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc" / "meminfo").write_text("MemTotal: 9 kB\nMemAvailable:    4096 kB\n")
    assert limits.free_memory(tmp_path) == 2**22
    group = tmp_path / "sys" / "fs" / "cgroup"
    group.mkdir(parents=True)
    (group / "memory.max").write_text("max\n")
    (group / "memory.current").write_text("5\n")
    assert limits.free_memory(tmp_path) == 2**22
    (group / "memory.max").write_text("1005\n")
    assert limits.free_memory(tmp_path) == 1000
    (tmp_path / "proc" / "meminfo").write_text("odd\nMemAvailable:\n")
    assert limits.free_memory(tmp_path) == 1000


@pytest.mark.filterwarnings("ignore")  # of Pillow
@pytest.mark.parametrize("suffix", ["gif", "dds", "tif", "webp", "png", "apng", "jp2", "psd", "qoi", "tga", "ico"])
def test_broken_files_are_said_to_be(tmp_path, suffix):
    rng, path = np.random.default_rng(5), tmp_path / f"a.{suffix}"
    image = Image.fromarray(rng.integers(0, 256, (9, 8, 3), np.uint8))
    try:
        image.save(path)
        data = path.read_bytes()
    except (OSError, KeyError, ValueError):  # Pillow does not write all that it reads
        data = {"psd": b"8BPS\0\1", "qoi": b"qoif"}[suffix] + bytes(40)
    for _ in range(30):
        broken = bytearray(data[: rng.integers(1, len(data) + 1)])
        for at in rng.integers(0, len(broken), 4):
            broken[at] = rng.integers(256)
        path.write_bytes(bytes(broken))
        for reader in (read_image, open_video, lambda path: pixels.gray(path, (8, 9))):
            with suppress(ValueError):
                is_video(path)
                reader(path)


def test_names_with_other_digits_are_sorted(tmp_path):
    for name in ("a10.png", "a9.png", "1²2.png", "٣.png", "²"):
        Image.new("RGB", (4, 4)).save(tmp_path / name, format="PNG")
    assert len(open_video(tmp_path)) == 4
