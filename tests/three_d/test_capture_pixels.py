"""Captures as people have them: odd image files, odd names, odd numbers. What a file says is used, or refused."""

import json
import math
import os
import struct
import unicodedata
import zlib

import numpy as np
import pytest
import torch
from PIL import Image

from scoredistill.media import limits
from scoredistill.three_d.camera import around
from scoredistill.three_d.capture import normalized, pixels, read_capture
from scoredistill.three_d.capture.distortion import Distortion
from scoredistill.three_d.capture.found import located

LENS = {"fl_x": 9.0, "fl_y": 8.0, "cx": 4.0, "cy": 3.0, "w": 8, "h": 6}
COLOR = (100, 150, 200)


def pose(azimuth=30.0):
    return around(torch.tensor([azimuth])).poses[0].tolist()


def scene(folder, image=None, name="images/{}.png", lens=LENS, change=None, frames=2):
    """A folder in the format of nerfstudio; `image` is a PIL image or a function that writes a path."""
    entries = []
    for i in range(frames):
        path = folder / name.format(i)
        path.parent.mkdir(parents=True, exist_ok=True)
        if callable(image):
            image(path)
        else:
            (image or Image.new("RGB", (8, 6), COLOR)).save(path)
        entries.append({"file_path": name.format(i), "transform_matrix": pose(30.0 * i)})
    entries[0].update(change or {})
    (folder / "transforms.json").write_text(json.dumps({**lens, "frames": entries}))
    return folder


def color(folder, **options):
    found = read_capture(folder, held_out=0, **options)
    return found.images[0, :, 2, 3].tolist()


def deep_png(path):
    """RGB of 16 bits, which Pillow does not write."""
    pixels = b"".join(b"\0" + struct.pack(">HHH", *(257 * v for v in COLOR)) * 8 for _ in range(6))
    chunk = lambda kind, data: struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 8, 6, 16, 2, 0, 0, 0))
    data = header + chunk(b"IDAT", zlib.compress(pixels)) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + data)


def test_large_photographs_and_malformed_metadata_are_no_obstacle(tmp_path, monkeypatch):
    """Pillow's own limit does not count, and a broken text chunk is skipped; ours is told."""
    folder = scene(tmp_path)
    path = folder / "images/0.png"
    data = path.read_bytes()
    at = data.index(b"IDAT") - 4
    path.write_bytes(data[:at] + struct.pack(">I", 5) + b"tEXt" + b"a\0bcd" + b"nocr" + data[at:])
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    assert color(folder) == pytest.approx([v / 255 for v in COLOR], abs=1e-6)
    monkeypatch.setattr(limits, "MAX_PIXELS", 47)
    with pytest.raises(ValueError, match=r"0\.png has 8 x 6 pixels, more than"):
        read_capture(folder)


GRAY = [
    ("png", Image.fromarray(np.full((6, 8), 100 * 257, np.uint16))),
    ("tif", Image.fromarray(np.full((6, 8), 100 / 255, np.float32))),
    ("png", Image.new("LA", (8, 6), (100, 255))),
]


@pytest.mark.parametrize(("kind", "image"), GRAY, ids=["16 bits", "floats", "gray and alpha"])
def test_gray_photographs_keep_their_values(tmp_path, kind, image):
    assert color(scene(tmp_path, image, f"images/{{}}.{kind}")) == pytest.approx([100 / 255] * 3, abs=1e-6)


def test_photographs_of_16_bits_keep_their_values(tmp_path):
    assert color(scene(tmp_path, deep_png)) == pytest.approx([v / 255 for v in COLOR], abs=1e-6)


def test_color_profiles_are_converted_as_for_all_images(tmp_path, monkeypatch):
    monkeypatch.setattr(pixels, "in_srgb", lambda image: image.point(lambda v: 255 - v))
    assert color(scene(tmp_path)) == pytest.approx([1 - v / 255 for v in COLOR], abs=1e-6)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_photographs_are_turned_only_if_their_cameras_are(tmp_path, orientation):
    """Stored as 8x6 with the red corner at the top left; seen as it is stored, or as EXIF says if the camera is."""
    image, exif = Image.new("RGB", (8, 6)), Image.Exif()
    image.paste((255, 0, 0), (0, 0, 4, 3))
    exif[0x0112] = orientation
    write = lambda path: image.save(path, exif=exif)
    as_stored = read_capture(scene(tmp_path / "a", write))
    assert as_stored.images[0, 0, 0, 0] == 1
    upright = {**LENS, "w": 6, "h": 8, "cx": 3.0, "cy": 4.0}
    folder = scene(tmp_path / "b", write, lens=upright, change={"mask_path": "m.png"})
    Image.new("L", (6, 8), 255).save(folder / "m.png")
    if orientation < 5:
        with pytest.raises(ValueError, match="is 8x6, but its camera is for 6x8"):
            read_capture(folder)
        return
    found = read_capture(folder, held_out=0)
    corner = {5: (0, 0), 6: (0, -1), 7: (-1, -1), 8: (-1, 0)}[orientation]
    assert found.images.shape == (2, 3, 8, 6)
    assert found.images[0, 0][corner] == 1
    assert found.images[0, 0].sum() == 12
    assert found.mask.eq(1).all()


def test_alpha_that_is_opaque_everywhere_says_nothing(tmp_path):
    assert read_capture(scene(tmp_path / "a", Image.new("RGBA", (8, 6), (*COLOR, 255)))).alpha is None
    folder = scene(tmp_path / "b", Image.new("RGBA", (8, 6), (*COLOR, 51)), frames=3)
    Image.new("RGB", (8, 6), COLOR).save(folder / "images/1.png")  # opaque, among transparent ones
    found = read_capture(folder, held_out=0)
    assert found.alpha.mean((1, 2, 3)).tolist() == pytest.approx([0.2, 1.0, 0.2])
    folder = scene(tmp_path / "c", change={"alpha_path": "alpha.png"})
    Image.new("L", (8, 6), 255).save(folder / "alpha.png")
    assert read_capture(folder).alpha.eq(1).all()  # the file says so


@pytest.mark.parametrize("size", [(8, 6), (4, 3), (16, 12)])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_alpha_and_masks_may_have_another_size_and_depth(tmp_path, size, dtype):
    folder = scene(tmp_path, change={"alpha_path": "a.png", "mask_path": "m.png"})
    values = np.zeros(size[::-1], dtype)
    values[:, size[0] // 2 :] = np.iinfo(dtype).max
    Image.fromarray(values).save(folder / "a.png")
    Image.fromarray(values // np.iinfo(dtype).max).save(folder / "m.png")
    found = read_capture(folder, held_out=0)
    assert found.alpha[0, 0].tolist() == found.mask[0, 0].tolist() == [[0.0] * 4 + [1.0] * 4] * 6
    Image.new("L", (6, 8)).save(folder / "m.png")
    with pytest.raises(ValueError, match=r"m\.png is 6x8, but must have the aspect ratio of its color image, 8x6"):
        read_capture(folder)


@pytest.mark.parametrize("kind", ["png", "npy", "tif"])
@pytest.mark.parametrize("size", [(6, 8), (3, 4)])
def test_depth_is_in_thousandths_in_every_format(tmp_path, kind, size):
    """Of one of two frames; it is unknown (0) in the other."""
    folder = scene(tmp_path, change={"depth_file_path": f"d.{kind}"})
    if kind == "npy":
        np.save(folder / "d.npy", np.full((*size, 1), 2500.0))
    else:
        Image.fromarray(np.full(size, 2500, np.uint16 if kind == "png" else np.float32)).save(folder / f"d.{kind}")
    found = read_capture(folder, held_out=0)
    assert found.depth.mean((1, 2, 3)).tolist() == pytest.approx([2.5, 0.0])


@pytest.mark.parametrize("values", [np.zeros(3), None])
def test_arrays_that_are_no_depth_are_refused(tmp_path, values):
    folder = scene(tmp_path, change={"depth_file_path": "d.npy"})
    (folder / "d.npy").write_bytes(b"none")
    if values is not None:
        np.save(folder / "d.npy", values)
    with pytest.raises(ValueError, match=r"d\.npy (must be an array|cannot be read as an array)"):
        read_capture(folder)


@pytest.mark.parametrize(
    ("lens", "expected"),
    [
        ({"fl_x": 9.0}, (9, 9, 4, 3)),
        ({"fl_y": 9.0, "cx": 5.0}, (9, 9, 5, 3)),
        ({"camera_angle_x": 2 * math.atan(0.5)}, (8, 8, 4, 3)),
        ({"camera_angle_x": 2 * math.atan(0.5), "cx": 3.0, "cy": 2.0}, (8, 8, 3, 2)),
        ({"camera_angle_y": 2 * math.atan(0.5)}, (6, 6, 4, 3)),
        ({"fl_x": 9.0, "camera_angle_x": 0.0, "camera_model": None}, (9, 9, 4, 3)),
        ({"fl_x": 18.0, "w": "16", "h": "12.0"}, (9, 9, 4, 3)),
        ({"fl_x": 9.0, "w": None, "h": None}, (9, 9, 4, 3)),
    ],
)
def test_what_a_lens_lacks_follows_from_its_image(tmp_path, lens, expected):
    cameras = read_capture(scene(tmp_path, lens=lens)).cameras
    assert (*cameras.focal[0].tolist(), *cameras.center[0].tolist()) == pytest.approx(expected)


@pytest.mark.parametrize("size", [(0, 0), (-8, -6), (float("inf"), 6), ("wide", 6)])
def test_sizes_without_pixels_are_refused(tmp_path, size):
    with pytest.raises(ValueError, match="in w and h"):
        read_capture(scene(tmp_path / "a", lens={**LENS, "w": size[0], "h": size[1]}))
    model(tmp_path / "b", "1 PINHOLE 0 0 8 6 4 3")
    with pytest.raises(ValueError, match=r"cameras\.txt has a camera of 0x0 pixels"):
        read_capture(tmp_path / "b")


def test_matrices_with_rounded_numbers_become_rotations(tmp_path):
    folder = scene(tmp_path / "a", change={"transform_matrix": np.round(pose(33.0), 2).tolist()})
    turn = read_capture(folder, held_out=0).cameras.poses[0, :3, :3]
    assert torch.allclose(turn.T @ turn, torch.eye(3), atol=1e-6)
    assert torch.allclose(turn, torch.tensor(pose(33.0))[:3, :3], atol=5e-3)
    folder = scene(tmp_path / "b", change={"transform_matrix": np.array(pose()).T.tolist()})
    with pytest.raises(ValueError, match="last row is not 0 0 0 1: the translation is its last column"):
        read_capture(folder)


def test_worlds_far_from_their_origin_lose_nothing(tmp_path):
    """Coordinates of a map, in meters: float32 has steps of 1/2 there."""
    expected = around(20 + torch.arange(4) * 90.0).poses.double()
    entries = []
    for i, matrix in enumerate(expected.clone()):
        Image.new("RGB", (8, 6)).save(tmp_path / f"{i}.png")
        matrix[:3, 3] += torch.tensor([500000.0, 4649776.0, 300.0])
        entries.append({"file_path": f"{i}.png", "transform_matrix": matrix.tolist()})
    (tmp_path / "transforms.json").write_text(json.dumps({**LENS, "frames": entries}))
    found, _ = normalized(read_capture(tmp_path))
    assert found.cameras.poses.dtype == torch.float32
    assert torch.allclose(found.cameras.eyes, expected[:, :3, 3].float(), atol=1e-4)


def test_k4_is_that_of_nerfstudio_unless_the_model_is_that_of_opencv(tmp_path):
    """r^2 = 1/4, and 1 + k4 r^8 against 1 / (1 + k4 r^2)."""
    assert Distortion(r8=0.32)(np.array([0.5]), np.zeros(1))[0] == pytest.approx(0.5 * (1 + 0.32 / 256))
    assert Distortion(k4=0.32)(np.array([0.5]), np.zeros(1))[0] == pytest.approx(0.5 / 1.08)
    image = Image.effect_noise((32, 24), 80).convert("RGB")
    lens = {"fl_x": 20.0, "w": 32, "h": 24}
    seen = {}
    for name, more in {
        "nerfstudio": {"camera_model": "OPENCV", "k4": 0.3},
        "opencv": {"camera_model": "FULL_OPENCV", "k4": 0.3},
        "rational": {"camera_model": "OPENCV", "k4": 0.3, "k5": 1e-9},
        "none": {},
    }.items():
        seen[name] = read_capture(scene(tmp_path / name, image, lens={**lens, **more})).images
    assert not torch.allclose(seen["nerfstudio"], seen["none"], atol=0.1)
    assert not torch.allclose(seen["nerfstudio"], seen["opencv"], atol=0.1)
    assert torch.allclose(seen["rational"], seen["opencv"], atol=1e-5)


def test_names_may_differ_in_case_and_composition(tmp_path):
    folder = scene(tmp_path / "a", name="images/Ansicht é{}.png")
    for path in sorted((folder / "images").iterdir()):
        path.rename(path.with_name(unicodedata.normalize("NFD", path.name).replace(".png", ".PNG")))
    (folder / "images").rename(folder / "Images")
    found = read_capture(folder)
    assert len(found) == 2
    for name in ("..", "/", "", "nowhere/../images", "images"):
        assert not located(name, folder).is_file()


def model(folder, cameras="1 PINHOLE 8 6 9 8 4 3", place="sparse/0"):
    (folder / place).mkdir(parents=True, exist_ok=True)
    (folder / place / "cameras.txt").write_text(cameras)
    (folder / place / "images.txt").write_text("1 1 0 0 0 0 0 2 1 left/a.png\n\n2 1 0 0 0 1 0 2 1 right/a.png\n\n")
    for name in ("left", "right"):
        (folder / "images" / name).mkdir(parents=True)
        Image.new("RGB", (8, 6), COLOR).save(folder / "images" / name / "a.png")
    return folder


@pytest.mark.parametrize("place", ["sparse/0", "sparse", "colmap/sparse/0", "colmap/sparse", "."])
def test_models_are_found_from_every_folder_of_theirs(tmp_path, place, monkeypatch):
    """Given by the scene, or by a folder on the way to the model, also by a name relative to the working directory."""
    model(tmp_path, place=place)
    steps = place.split("/")
    for k in range(len(steps) + 1):
        found = read_capture(tmp_path.joinpath(*steps[:k]), held_out=0)
        assert found.names == ("left/a.png", "right/a.png")
    monkeypatch.chdir(tmp_path / place)
    assert len(read_capture(os.curdir)) == 2
