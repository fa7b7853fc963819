"""Image files of every kind become upright 8-bit RGB; unreadable files are refused in one sentence."""

import io
import struct
import warnings
import zlib
from contextlib import suppress

import numpy as np
import pytest
from PIL import Image, ImageCms

from scoredistill.media import limits
from scoredistill.media.images import read_image
from scoredistill.media.video import open_video

RAMP = np.arange(256, dtype=np.uint8).reshape(16, 16)


def saved(image, path, **options):
    image.save(path, **options)
    return path


def values(image):
    assert image.mode == "RGB"
    return np.asarray(image)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_rotation_is_applied(tmp_path, orientation):
    """The corner that was at the top left of the scene comes back there, for all eight ways to hold a camera."""
    scene = np.zeros((6, 4, 3), np.uint8)
    scene[0, 0] = (255, 0, 0)
    scene[0, 3] = (0, 255, 0)
    stored = {
        1: scene,
        2: scene[:, ::-1],
        3: scene[::-1, ::-1],
        4: scene[::-1],
        5: scene.transpose(1, 0, 2),
        6: np.rot90(scene),
        7: scene.transpose(1, 0, 2)[::-1, ::-1],
        8: np.rot90(scene, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = saved(Image.fromarray(np.ascontiguousarray(stored)), tmp_path / "a.png", exif=exif)
    assert (values(read_image(path)) == scene).all()


def test_gray_palette_and_one_bit(tmp_path):
    gray = Image.fromarray(RAMP)
    assert (values(read_image(saved(gray, tmp_path / "g.png"))) == RAMP[..., None]).all()
    colors = Image.new("P", (2, 1))
    colors.putpalette([10, 20, 30, 200, 100, 50])
    colors.putpixel((1, 0), 1)
    assert values(read_image(saved(colors, tmp_path / "p.png"))).tolist() == [[[10, 20, 30], [200, 100, 50]]]
    bits = Image.fromarray(RAMP > 127)
    assert bits.mode == "1"
    assert (values(read_image(saved(bits, tmp_path / "b.png"))) == 255 * (RAMP > 127)[..., None]).all()


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparency_is_laid_over_white(tmp_path, mode):
    image = Image.new("RGBA", (3, 1), (0, 0, 0, 0))
    image.putpixel((1, 0), (0, 0, 0, 255))
    if mode != "P":
        image.putpixel((2, 0), (0, 0, 0, 128))
    path = saved(image.convert(mode), tmp_path / "a.png")
    found = values(read_image(path))[0, :, 0].tolist()
    assert found == [255, 0, 255 if mode == "P" else 127]


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_gray_of_16_bits_is_scaled_not_clipped(tmp_path, suffix):
    deep = np.array([[0, 128, 129, 257, 32768, 65281, 65535]], np.uint16)
    path = saved(Image.fromarray(deep), tmp_path / f"a{suffix}")
    assert values(read_image(path))[0, :, 1].tolist() == [0, 0, 1, 1, 128, 254, 255]  # 255 v / 65535, rounded
    assert values(read_image(Image.fromarray(deep.astype(np.int32))))[0, :, 1].tolist() == [0, 0, 1, 1, 128, 254, 255]


def test_rgb_of_16_bits_keeps_8_of_them(tmp_path):
    row = b"\0" + struct.pack(">6H", 0, 0x8000, 0xFFFF, 0x1234, 0xABCD, 0x00FF)
    path = tmp_path / "a.png"
    path.write_bytes(png(2, 1, 16, zlib.compress(row)))
    found = values(read_image(path)).astype(int).ravel()
    assert np.abs(found - [0, 128, 255, 0x12, 0xAC, 1]).max() <= 1


def test_floats_in_one_and_in_255(tmp_path):
    unit = np.array([[-0.5, 0.0, 0.25, 1.0]], np.float32)
    path = saved(Image.fromarray(unit), tmp_path / "a.tif")
    assert values(read_image(path))[0, :, 0].tolist() == [0, 0, 64, 255]
    wide = Image.fromarray(np.array([[0.0, 64.4, 255.0, 300.0]], np.float32))
    assert values(read_image(wide))[0, :, 0].tolist() == [0, 64, 255, 255]


def test_cmyk_with_and_without_a_profile(tmp_path):
    """By the profile, else as Pillow converts; a profile of another color space is ignored."""
    ink = Image.new("CMYK", (4, 4), (0, 255, 255, 0))
    path = saved(ink, tmp_path / "a.tif")
    assert values(read_image(path))[0, 0].tolist() == [255, 0, 0]
    other = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    path = saved(ink, tmp_path / "b.tif", icc_profile=other)
    assert values(read_image(path))[0, 0].tolist() == [255, 0, 0]
    for name in ("c.tif", "c.jpg"):
        path = saved(Image.new("CMYK", (8, 8), (255, 0, 0, 0)), tmp_path / name, icc_profile=gray_ink_profile())
        assert np.abs(values(read_image(path))[4, 4].astype(int) - 119).max() <= 2  # L* = 50 in sRGB


def gray_ink_profile():
    """A CMYK profile in which paper has L* = 100 and any one, two or three inks L* = 50, all four L* = 0."""
    grid = b"".join(bytes([{0: 255, 15: 0}.get(inks, 128), 128, 128]) for inks in range(16))
    identity = struct.pack(">9i", *(65536 * (i % 4 == 0) for i in range(9)))
    table = b"mft1" + bytes(4) + bytes([4, 3, 2, 0]) + identity + bytes(range(256)) * 4 + grid + bytes(range(256)) * 3
    text = b"gray ink\0"
    tags = {
        b"desc": b"desc" + bytes(4) + struct.pack(">I", len(text)) + text + bytes(78),
        b"cprt": b"text" + bytes(4) + text,
        b"wtpt": b"XYZ " + bytes(4) + struct.pack(">3i", 63190, 65536, 54061),
        b"A2B0": table,
    }
    index, body, at = struct.pack(">I", len(tags)), b"", 128 + 4 + 12 * len(tags)
    for name, data in tags.items():
        data += bytes(-len(data) % 4)
        index += name + struct.pack(">2I", at + len(body), len(data))
        body += data
    header = struct.pack(
        ">I4sI4s4s4s12s4s", at + len(body), b"", 0x02400000, b"prtr", b"CMYK", b"Lab ", bytes(12), b"acsp"
    )
    light = struct.pack(">3i", 63190, 65536, 54061)
    return header + bytes(68 - len(header)) + light + bytes(128 - 68 - len(light)) + index + body


def swapped_profile():
    """An RGB profile under another name whose red and green primaries are exchanged."""
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    red, green = profile.index(b"rXYZ"), profile.index(b"gXYZ")
    profile[red : red + 4], profile[green : green + 4] = b"gXYZ", b"rXYZ"
    return bytes(profile).replace("sRGB".encode("utf-16-be"), "test".encode("utf-16-be"))


def test_an_embedded_profile_is_followed(tmp_path):
    path = saved(Image.new("RGB", (4, 4), (255, 0, 0)), tmp_path / "a.png", icc_profile=swapped_profile())
    assert np.abs(values(read_image(path))[0, 0].astype(int) - (0, 255, 0)).max() <= 2
    layer = Image.new("RGBA", (4, 4), (255, 0, 0, 0))
    assert values(read_image(saved(layer, tmp_path / "b.png", icc_profile=swapped_profile()))).min() == 255


def test_srgb_and_broken_profiles_change_nothing(tmp_path):
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    image = Image.fromarray(np.stack([RAMP, RAMP.T, 255 - RAMP], -1))
    for i, profile in enumerate((srgb, b"nonsense")):
        path = saved(image, tmp_path / f"{i}.png", icc_profile=profile)
        assert (values(read_image(path)) == np.asarray(image)).all()


@pytest.mark.parametrize("suffix", [".gif", ".webp", ".png", ".tiff"])
def test_animations_cut_anywhere_are_read_or_refused(tmp_path, suffix):
    """Pillow looks for more frames when it is asked whether there are any, and raises errors of many kinds there."""
    path, whole = tmp_path / f"a{suffix}", tmp_path / f"whole{suffix}"
    first, *others = [Image.new("RGB", (4, 3), color) for color in ("red", "green", "blue")]
    first.save(whole, save_all=True, append_images=others)
    data = whole.read_bytes()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = np.asarray(read_image(whole))
        for end in range(1, len(data)):
            path.write_bytes(data[:end])
            for read in (read_image, lambda path: next(iter(open_video(path).frames()))):
                with suppress(ValueError):
                    assert np.asarray(read(path)).shape == expected.shape


def test_animated_files_give_their_first_frame(tmp_path):
    frames = [Image.new("RGB", (4, 4), color) for color in ("red", "lime")]
    for name in ("a.gif", "a.webp", "a.png", "a.tif"):
        path = saved(frames[0], tmp_path / name, save_all=True, append_images=frames[1:], **webp(name))
        with pytest.warns(
            UserWarning, match=f"{name} (is animated: only its first frame|has 2 pages: only the first) is"
        ):
            assert values(read_image(path))[0, 0].tolist() == [255, 0, 0]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for name in ("b.gif", "b.webp", "b.png", "b.tif"):
            read_image(saved(frames[0], tmp_path / name, **webp(name)))


def webp(name):
    return {"lossless": True} if name.endswith("webp") else {}


def test_an_image_in_memory_is_not_changed():
    image = Image.new("RGBA", (2, 2), (0, 0, 0, 0))
    assert values(read_image(image)).min() == 255
    assert image.mode == "RGBA"
    assert read_image(image.convert("RGB")).size == (2, 2)


def png(width, height, bits, data=b""):
    """A PNG in RGB whose header says this size, whatever data follow."""
    chunk = lambda kind, body: struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
    header = struct.pack(">IIBBBBB", width, height, bits, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def test_large_images_are_read_without_a_warning(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)  # stands in for Pillow's 2^26.4, so that the test stays small
    path = saved(Image.new("RGB", (64, 64)), tmp_path / "a.png")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read_image(path).size == (64, 64)
    assert Image.MAX_IMAGE_PIXELS == 1000  # as it was


def test_the_limit_is_2_to_the_28(tmp_path, monkeypatch):
    monkeypatch.setattr(limits, "free_memory", lambda: None)
    assert limits.MAX_PIXELS == 2**28
    path = tmp_path / "bomb.png"
    path.write_bytes(png(16385, 16384, 8))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(ValueError, match=r"16385 x 16384 pixels, more than 2\^28"):
            read_image(path)
        path.write_bytes(png(16384, 16384, 8))  # the size is fine, its data are missing
        with pytest.raises(ValueError, match="corrupt or truncated"):
            read_image(path)


def bad(tmp_path, kind):
    path = tmp_path / kind
    if kind == "folder":
        path.mkdir()
    elif kind == "empty.png":
        path.write_bytes(b"")
    elif kind == "text.png":
        path.write_text("no image")
    elif kind.startswith("cut"):
        data = io.BytesIO()
        noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
        Image.fromarray(noise).save(data, format={"png": "PNG", "jpg": "JPEG", "gif": "GIF"}[kind[-3:]])
        path.write_bytes(data.getvalue()[: len(data.getvalue()) // 2])
    elif kind == "nan.tif":
        Image.fromarray(np.array([[0.0, np.nan]], np.float32)).save(path)
    elif kind == "inf.tif":
        Image.fromarray(np.array([[0.0, np.inf]], np.float32)).save(path)
    return path


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("missing.png", "there is no file"),
        ("folder", "is a folder"),
        ("empty.png", "empty file"),
        ("text.png", "cannot be read as an image"),
        ("cut.png", "corrupt or truncated"),
        ("cut.jpg", "corrupt or truncated"),
        ("cut.gif", "corrupt or truncated"),
        ("nan.tif", "nan or infinite"),
        ("inf.tif", "nan or infinite"),
    ],
)
def test_unreadable_files_are_refused_in_one_sentence(tmp_path, kind, message):
    with pytest.raises(ValueError, match=message) as caught:
        read_image(bad(tmp_path, kind))
    assert type(caught.value) is ValueError
    assert "\n" not in str(caught.value)


def test_an_image_without_pixels_is_refused():
    with pytest.raises(ValueError, match="no pixels"):
        read_image(Image.new("RGB", (0, 5)))


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_random_damage_never_raises_anything_else(tmp_path):
    """Bytes are overwritten at random in files of several formats: an image comes back, or a ValueError."""
    rng, outcomes = np.random.default_rng(0), set()
    for suffix in ("png", "jpg", "gif", "tif", "webp", "bmp"):
        data = io.BytesIO()
        Image.fromarray(np.stack([RAMP] * 3, -1)).save(data, format={"jpg": "JPEG", "tif": "TIFF"}.get(suffix, suffix))
        for _ in range(40):
            broken = bytearray(data.getvalue())
            for at in rng.integers(0, len(broken), 6):
                broken[at] = rng.integers(256)
            path = tmp_path / f"a.{suffix}"
            path.write_bytes(broken)
            try:
                outcomes.add(read_image(path).mode)
            except ValueError as error:
                outcomes.add(type(error).__name__)
    assert outcomes == {"RGB", "ValueError"}
