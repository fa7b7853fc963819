"""Captures: both formats round-trip, a model written by hand projects correctly, and errors say why."""

import json
import math
import struct
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from scoredistill.three_d.camera import Cameras, RandomViews, around, look_at
from scoredistill.three_d.capture import (
    Capture,
    capture_folder,
    capture_shape,
    is_capture,
    normalized,
    pixels,
    read_capture,
    write_colmap,
    write_transforms,
)
from scoredistill.three_d.capture.distortion import Distortion


@pytest.fixture
def capture(rng):
    """Nine views with unequal lenses; images of 8 bits, depths of whole thousandths."""
    cameras = RandomViews(jitter=0.1)(9, rng, (10, 14))
    lens = 10 + 5 * torch.rand(9, 2, generator=rng)
    cameras = replace(cameras, focal=lens, center=cameras.center + torch.rand(9, 2, generator=rng))
    images = torch.randint(0, 256, (9, 3, 10, 14), generator=rng) / 255
    alpha = torch.randint(0, 256, (9, 1, 10, 14), generator=rng) / 255
    depth = torch.randint(0, 60000, (9, 1, 10, 14), generator=rng) / 1000
    names = tuple(f"part{i % 2}/view {i}.png" for i in range(9))
    return Capture(images, cameras, names, (1, 5), alpha, depth)


def close(found, expected, atol=1e-6):
    return found.shape == expected.shape and torch.allclose(found, expected, atol=atol, rtol=0)


def same_cameras(found, expected):
    return all(close(getattr(found, name), getattr(expected, name)) for name in ("poses", "focal", "center"))


def gray(folder, names, size=(8, 6), value=100):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", size, (value,) * 3).save(path)


def pose(azimuth=30.0):
    return around(torch.tensor([azimuth])).poses[0].tolist()


def scene(folder, change=None, frames=3, **keys):
    """A folder in the format of nerfstudio; `change` edits its first frame."""
    entries = [{"file_path": f"images/{i}.png", "transform_matrix": pose(30.0 * i)} for i in range(frames)]
    if entries:
        entries[0].update(change or {})
    content = {"fl_x": 9.0, "fl_y": 8.0, "cx": 4.0, "cy": 3.0, "w": 8, "h": 6, **keys, "frames": entries}
    gray(folder, [f"images/{i}.png" for i in range(frames)])
    (folder / "transforms.json").write_text(json.dumps(content))
    return folder


def model(folder, cameras, images, names):
    gray(folder, [f"images/{name}" for name in names])
    (folder / "sparse" / "0").mkdir(parents=True)
    (folder / "sparse" / "0" / "cameras.txt").write_text(cameras)
    (folder / "sparse" / "0" / "images.txt").write_text(images)
    return folder


def test_transforms_come_back(capture, tmp_path):
    write_transforms(capture, tmp_path)
    found = read_capture(tmp_path)
    assert same_cameras(found.cameras, capture.cameras)
    assert close(found.images, capture.images)
    assert close(found.alpha, capture.alpha)
    assert close(found.depth, capture.depth, 1e-5)
    assert (found.names, found.held_out) == (capture.names, capture.held_out)
    assert found.training == (0, 2, 3, 4, 6, 7, 8)


def test_colmap_comes_back_sorted_by_name(capture, tmp_path):
    write_colmap(capture, tmp_path)
    found = read_capture(tmp_path, held_out=3)
    order = sorted(range(9), key=capture.names.__getitem__)
    assert same_cameras(found.cameras, capture.cameras[order])
    assert close(found.images, capture.images[order])
    assert found.names == tuple(sorted(capture.names))
    assert found.held_out == (0, 3, 6)


def test_a_split_may_be_replaced(capture, tmp_path):
    write_transforms(capture, tmp_path)
    assert read_capture(tmp_path, held_out=4).held_out == (0, 4, 8)
    assert read_capture(tmp_path, held_out=0).held_out == ()
    write_transforms(replace(capture, held_out=()), tmp_path)
    assert read_capture(tmp_path).held_out == (0, 8)  # every 8th without a split


def test_a_model_of_colmap_by_hand(tmp_path):
    # Camera 2: turned by a quarter about its x axis, (cos 45, sin 45, 0, 0), and moved by t = (0.5, 0.25, 4). Its
    # rotation takes (x, y, z) to (x, -z, y): (1, 2, -3) becomes (1.5, 3.25, 6), seen at
    # (8 * 1.5 / 6 + 4, 6 * 3.25 / 6 + 3) = (6, 6.25) and a depth of 6. Camera 1 stands at (0, 0, -2), unturned: it
    # sees (1, 2, -3) behind it, and (1, 2, 3) at (5 / 5 + 4, 2 * 5 / 5 + 3) and a depth of 5.
    half = math.sqrt(0.5)
    folder = model(
        tmp_path,
        "# cameras\n1 SIMPLE_PINHOLE 8 6 5 4 3\n\n2 PINHOLE 8 6 8 6 4 3\n",
        f"# images\n7 {half} {half} 0 0 0.5 0.25 4 2 b c.png\n1 2 -1 3 4 5\n3 1 0 0 0 0 0 2 1 a.png\n\n",
        ["a.png", "b c.png"],
    )
    found = read_capture(folder, held_out=0)
    assert found.names == ("a.png", "b c.png")
    where, depth = found.cameras.project(torch.tensor([[1.0, 2.0, -3.0], [1.0, 2.0, 3.0]]))
    assert close(where[1, 0], torch.tensor([6.0, 6.25]), 1e-5)
    assert close(where[0, 1], torch.tensor([5.0, 5.0]), 1e-5)
    assert close(depth[:, 0], torch.tensor([-1.0, 6.0]), 1e-5)
    assert close(found.cameras.eyes[0], torch.tensor([0.0, 0.0, -2.0]))
    assert close(found.cameras.forward[0], torch.tensor([0.0, 0.0, 1.0]))


def test_quaternions_of_half_turns_come_back(tmp_path):
    """Where the real part is 0: cameras below, beside and upside down."""
    turns = torch.eye(4).repeat(4, 1, 1)
    for i, signs in enumerate(([1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1])):
        turns[i, :3, :3] = torch.diag(torch.tensor(signs).float())
    cameras = Cameras(turns, torch.full((4, 2), 9.0), torch.full((4, 2), 4.0), (8, 8))
    capture = Capture(torch.zeros(4, 3, 8, 8), cameras, ("a", "b", "c", "d"))
    write_colmap(capture, tmp_path)
    assert same_cameras(read_capture(tmp_path).cameras, cameras)


def test_the_original_format(tmp_path):
    angle = 2 * math.atan(0.5)  # w / 2 / focal = 1/2: the focal length is the width
    for part, count in (("train", 2), ("val", 1), ("test", 2)):
        entries = [{"file_path": f"./{part}/r_{i}", "transform_matrix": pose(10.0 * i)} for i in range(count)]
        gray(tmp_path, [f"{part}/r_{i}.png" for i in range(count)])
        content = {"camera_angle_x": angle, "frames": entries}
        (tmp_path / f"transforms_{part}.json").write_text(json.dumps(content))
    found = read_capture(tmp_path)
    assert found.names == ("train/r_0.png", "train/r_1.png", "val/r_0.png", "test/r_0.png", "test/r_1.png")
    assert found.held_out == (2, 3, 4)
    assert close(found.cameras.focal, torch.full((5, 2), 8.0), 1e-5)
    assert close(found.cameras.center, torch.tensor([[4.0, 3.0]]).expand(5, 2))
    assert close(found.cameras.azimuth, torch.tensor([0.0, 10.0, 0.0, 0.0, 10.0]), 1e-4)


def test_lenses_may_differ_by_frame_and_follow_the_image(tmp_path):
    folder = scene(tmp_path, {"fl_x": 18.0, "w": 16, "h": 12, "cx": 9.0})
    found = read_capture(folder, held_out=0)
    assert close(found.cameras.focal, torch.tensor([[9.0, 4.0], [9.0, 8.0], [9.0, 8.0]]))  # of an image half as large
    assert close(found.cameras.center[:2], torch.tensor([[4.5, 1.5], [4.0, 3.0]]))


def test_transparency_lies_over_the_background(tmp_path):
    folder = scene(tmp_path)
    for i in range(3):
        Image.new("RGBA", (8, 6), (255, 0, 0, 51)).save(folder / f"images/{i}.png")
    white, blue = read_capture(folder), read_capture(folder, background=(0.0, 0.0, 1.0))
    assert close(white.images[0, :, 0, 0], torch.tensor([1.0, 0.8, 0.8]))
    assert close(blue.images[0, :, 0, 0], torch.tensor([0.2, 0.0, 0.8]))
    assert close(white.alpha, torch.full((3, 1, 6, 8), 0.2))


def test_size_averages_by_area_and_keeps_the_rays(capture, tmp_path):
    write_transforms(capture, tmp_path)
    half = read_capture(tmp_path, size=5)
    assert half.images.shape == (9, 3, 5, 7)
    assert close(half.images, torch.nn.functional.avg_pool2d(capture.images, 2))
    assert close(half.alpha, torch.nn.functional.avg_pool2d(capture.alpha, 2))
    assert same_cameras(half.cameras, capture.cameras.resized((5, 7)))
    points = torch.randn(5, 3)
    assert close(half.cameras.project(points)[0], capture.cameras.project(points)[0] / 2, 1e-3)
    # 10 rows to 4, 14 columns to 6 (5.6 rounded): new rows cover 2.5 old ones. Means stay.
    odd = read_capture(tmp_path, size=4)
    assert odd.images.shape == (9, 3, 4, 6)
    assert same_cameras(odd.cameras, capture.cameras.resized((4, 6)))
    assert close(odd.images.mean((2, 3)), capture.images.mean((2, 3)), 1e-5)
    rows = capture.images.mean(3)
    assert close(odd.images.mean(3)[:, :, 0], (rows[:, :, 0] + rows[:, :, 1] + rows[:, :, 2] / 2) / 2.5, 1e-5)
    assert read_capture(tmp_path, size=400).images.shape == capture.images.shape  # never enlarged


def test_images_of_several_sizes_become_one_with_their_cameras(tmp_path):
    """Upright and across: the most frequent size is kept, and the rays of the others are the same ones."""
    sizes = [(48, 32), (32, 48), (48, 32), (48, 33)]
    entries = []
    for i, (w, h) in enumerate(sizes):
        gray(tmp_path, [f"{i}.png"], (w, h))
        lens = {"fl_x": 60, "fl_y": 50, "cx": w / 2 + 1, "cy": h / 2, "w": w, "h": h}
        entries.append({"file_path": f"{i}.png", "transform_matrix": pose(40.0 * i), **lens})
    (tmp_path / "transforms.json").write_text(json.dumps({"frames": entries}))
    with pytest.warns(UserWarning, match="3 sizes, so 2 of them are resized to 24x16 pixels"):
        found = read_capture(tmp_path, 16, held_out=0)
    assert found.images.shape == (4, 3, 16, 24)
    assert close(found.cameras.focal[1], torch.tensor([60 * 24 / 32, 50 * 16 / 48]))
    assert close(found.cameras.center[1], torch.tensor([17 * 24 / 32, 8.0]))
    assert capture_shape(tmp_path, held_out=2) == (2, (32, 48))


def test_the_shape_of_a_capture_needs_no_pixels(tmp_path):
    folder = scene(tmp_path, w=80, h=60, frames=9)
    gray(folder, [f"images/{i}.png" for i in range(9)], (80, 60))
    for path in (folder / "images").iterdir():
        path.write_bytes(path.read_bytes()[:60])
    assert capture_shape(folder) == (7, (60, 80))


def test_images_are_reduced_in_strips(tmp_path, monkeypatch):
    """Results do not depend on the height of the strips that are held as floats."""
    folder = scene(tmp_path, w=40, h=30, cx=20.0, cy=15.0)
    for i in range(3):
        Image.effect_noise((40, 30), 80).convert("RGBA").save(folder / f"images/{i}.png")
    whole = read_capture(folder, 7)
    monkeypatch.setattr(pixels, "STRIP", 4)
    assert close(read_capture(folder, 7).images, whole.images)


def test_masks_say_which_pixels_are_used(tmp_path):
    """A pixel of a reduced image is used if all that it covers is; frames without a mask are used whole."""
    folder = scene(tmp_path, {"mask_path": "m\\0.png"})
    (folder / "m").mkdir()
    mask = np.zeros((6, 8), np.uint8)
    mask[:, 3:] = 1  # any value above 0
    Image.fromarray(mask).save(folder / "m/0.png")
    found = read_capture(folder, size=3, held_out=0)
    assert found.mask[0, 0].tolist() == [[0, 0, 1, 1]] * 3
    assert found.mask[1:].eq(1).all()
    assert normalized(found)[0].mask is not None
    write_transforms(found, tmp_path / "again")
    assert read_capture(tmp_path / "again").mask.equal(found.mask)
    for i in range(3):
        Image.new("L", (8, 6)).save(folder / f"m/{i}.png")
    content = json.loads((folder / "transforms.json").read_text())
    for i, entry in enumerate(content["frames"]):
        entry["mask_path"] = f"m/{i}.png"
    (folder / "transforms.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match="the masks leave no pixel"):
        read_capture(folder)


def test_keys_without_effect_are_named_unless_they_change_nothing(tmp_path):
    folder = scene(tmp_path, {"time": 0.5, "sharpness": 3.0}, rolling_shutter=[1, 0], aabb_scale=4, shutter=None)
    with pytest.warns(UserWarning, match=r"transforms\.json has keys that have no effect: rolling_shutter, time$"):
        read_capture(folder)


def test_angles_and_principal_points_are_used_together(tmp_path):
    folder = scene(tmp_path, camera_angle_x=2 * math.atan(0.5), camera_angle_y=2 * math.atan(1.0), cx=5.0)
    content = json.loads((folder / "transforms.json").read_text())
    (folder / "transforms.json").write_text(json.dumps({k: v for k, v in content.items() if k not in ("fl_x", "fl_y")}))
    cameras = read_capture(folder).cameras
    assert close(cameras.focal[0], torch.tensor([8.0, 3.0]))
    assert close(cameras.center[0], torch.tensor([5.0, 3.0]))


DISTORTED = {
    "barrel": ({"k1": -0.2, "k2": 0.05}, (None, 40)),
    "pincushion": ({"k1": 0.15, "p1": 0.01, "p2": -0.02}, (None, 40)),
    "rational": ({"k1": 0.3, "k3": -0.02, "k4": 0.35, "k5": 0.01}, (None, 32)),
}


@pytest.mark.parametrize("name", DISTORTED)
def test_distorted_images_are_those_of_a_pinhole_camera(tmp_path, name):
    """A pattern of the direction of rays, as a distorted lens and as the pinhole camera sees it, at two sizes."""
    coefficients, sizes = DISTORTED[name]
    width, height, fx, fy, cx, cy = 120, 90, 100.0, 95.0, 62.0, 43.0
    pattern = lambda x, y: np.stack([0.5 + 0.4 * np.sin(9 * x), 0.5 + 0.4 * np.cos(8 * y), 0.5 + x * y], -1)
    seen = np.meshgrid((np.arange(width) + 0.5 - cx) / fx, (np.arange(height) + 0.5 - cy) / fy)
    lens = Distortion(**coefficients)
    x, y = seen
    for _ in range(100):  # invert the distortion
        at = lens(x, y)
        x, y = x + seen[0] - at[0], y + seen[1] - at[1]
    picture = Image.fromarray((pattern(x, y).clip(0, 1) * 255).round().astype(np.uint8))
    entries = []
    for i in range(2):
        picture.save(tmp_path / f"{i}.png")
        entries.append({"file_path": f"{i}.png", "transform_matrix": pose(30.0 * i)})
    shared = {"camera_model": "OPENCV", "fl_x": fx, "fl_y": fy, "cx": cx, "cy": cy, "w": width, "h": height}
    (tmp_path / "transforms.json").write_text(json.dumps({**shared, **coefficients, "frames": entries}))
    for size in sizes:
        found = read_capture(tmp_path, size, held_out=0)
        rows, columns = found.cameras.size
        (f, g), (u, v) = found.cameras.focal[0].tolist(), found.cameras.center[0].tolist()
        true = pattern(*np.meshgrid((np.arange(columns) + 0.5 - u) / f, (np.arange(rows) + 0.5 - v) / g))
        assert abs(found.images[0].permute(1, 2, 0).numpy() - true.clip(0, 1)).max() < 0.012
        factor = f / fx * width / columns
        assert 1.02 < factor < 1.2 if name == "pincushion" else factor == pytest.approx(1.0)


def test_distortion_of_a_ray_by_hand():
    # r^2 = 0.13 and a = 1 + 0.013 + 0.000169. x' = 0.3 a - 0.0024 - 0.0093, y' = -0.2 a + 0.0042 + 0.0036.
    lens = Distortion(k1=0.1, k2=0.01, p1=0.02, p2=-0.03)
    x, y = lens(np.array([0.3]), np.array([-0.2]))
    assert (x.item(), y.item()) == pytest.approx((0.2922507, -0.1948338), abs=1e-9)


def test_masks_and_colmap_lenses_are_undistorted(tmp_path):
    """COLMAP's RADIAL equals OPENCV with the same coefficients."""
    half = np.zeros((30, 40, 3), np.uint8)
    half[:, 20:] = 255
    for kind, line in (("a", "1 RADIAL 40 30 30 20 15 -0.1 0.02"), ("b", "1 OPENCV 40 30 30 30 20 15 -0.1 0.02 0 0")):
        model(tmp_path / kind, line, "1 1 0 0 0 0 0 2 1 a.png\n\n2 1 0 0 0 1 0 2 1 b.png\n", [])
        (tmp_path / kind / "images").mkdir()
        for name in "ab":
            Image.fromarray(half).save(tmp_path / kind / "images" / f"{name}.png")
    one, other = read_capture(tmp_path / "a"), read_capture(tmp_path / "b")
    assert close(one.images, other.images)
    assert 0.4 < float(one.images.mean()) < 0.6
    folder = scene(tmp_path / "c", {"mask_path": "m.png"}, k1=-0.05)
    mask = np.zeros((6, 8), np.uint8)
    mask[:, 4:] = 255
    Image.fromarray(mask).save(folder / "m.png")
    assert read_capture(folder).mask[0, 0, :, [2, 6]].tolist() == [[0, 1]] * 6


def test_depth_is_averaged_over_what_is_known(tmp_path):
    cameras = around(torch.tensor([0.0, 90.0]), size=(2, 2))
    depth = torch.tensor([[[[2.0, 0.0], [4.0, 0.0]]], [[[0.0, 0.0], [0.0, 0.0]]]])
    write_transforms(Capture(torch.zeros(2, 3, 2, 2), cameras, ("a.png", "b.png"), depth=depth), tmp_path)
    assert close(read_capture(tmp_path, size=1, held_out=0).depth.flatten(), torch.tensor([3.0, 0.0]))


def test_normalized_undoes_a_similarity(rng):
    """A turntable, moved, turned and scaled, comes back up to its azimuth; the inverse leads back to the file."""
    cameras = around(45.0 * torch.arange(8.0), 20.0, 3.0)
    turn = look_at(torch.tensor([[1.0, 2.0, -0.5]]))[0, :3, :3]
    moved = cameras.poses.clone()
    moved[:, :3, :3] = turn @ cameras.poses[:, :3, :3]
    moved[:, :3, 3] = 7 * cameras.eyes @ turn.T + torch.tensor([5.0, -6.0, 2.0])
    images = torch.rand(8, 3, 64, 64, generator=rng)
    far = Capture(images, replace(cameras, poses=moved), tuple("abcdefgh"), depth=torch.full((8, 1, 64, 64), 21.0))
    found, similarity = normalized(far)
    assert close(found.cameras.eyes.norm(dim=-1), torch.full((8,), 3.0), 1e-5)
    assert close(found.cameras.elevation, torch.full((8,), 20.0), 1e-3)
    assert close((found.cameras.azimuth - found.cameras.azimuth[0]) % 360 % 359.999, cameras.azimuth, 1e-2)
    assert close(found.depth, torch.full((8, 1, 64, 64), 3.0), 1e-5)
    assert similarity.scale == pytest.approx(1 / 7, rel=1e-5)
    assert close(similarity(torch.tensor([[5.0, -6.0, 2.0]])), torch.zeros(1, 3), 1e-5)
    back = similarity.inverse().capture(found)
    assert close(back.cameras.poses, far.cameras.poses, 1e-5)
    assert close(back.depth, far.depth, 1e-5)
    points = torch.randn(6, 3, generator=rng) + 2
    assert close(found.cameras.project(similarity(points))[0], far.cameras.project(points)[0], 2e-2)
    assert close(similarity.inverse()(similarity(points)), points, 1e-5)
    other, _ = normalized(far, distance=1.5)
    assert close(other.cameras.eyes.norm(dim=-1), torch.full((8,), 1.5), 1e-5)


def test_normalized_leaves_an_aligned_world_unchanged(capture):
    found, similarity = normalized(capture)
    assert found is capture
    assert close(similarity(torch.eye(3)), torch.eye(3), 0)
    moved, _ = normalized(capture, always=True)
    assert moved.cameras.eyes.norm(dim=-1).mean().item() == pytest.approx(3.0, abs=1e-5)
    assert not moved.cameras.poses.equal(capture.cameras.poses)


def test_normalized_turns_an_upside_down_world():
    cameras = around(90.0 * torch.arange(4.0), 10.0)
    flipped = cameras.poses.clone()
    flipped[:, 1:3] *= -1  # half a turn about x
    found, _ = normalized(Capture(torch.zeros(4, 3, 64, 64), replace(cameras, poses=flipped), tuple("abcd")))
    assert close(found.cameras.elevation, torch.full((4,), 10.0), 1e-3)
    assert close(torch.linalg.det(found.cameras.poses[:, :3, :3]), torch.ones(4), 1e-5)


def test_normalized_refuses_degenerate_captures():
    cameras = around(90.0 * torch.arange(4.0))
    same = replace(cameras, poses=cameras.poses[:1].repeat(4, 1, 1))
    with pytest.raises(ValueError, match="in one direction"):
        normalized(Capture(torch.zeros(4, 3, 64, 64), same, tuple("abcd")))
    inside = cameras.poses.clone()
    inside[:, :3, 3] = 0
    with pytest.raises(ValueError, match="one place"):
        normalized(Capture(torch.zeros(4, 3, 64, 64), replace(cameras, poses=inside), tuple("abcd")))


def test_names_may_be_those_of_windows(tmp_path):
    folder = scene(tmp_path, {"alpha_path": "masks\\0.png"}, train_filenames=["images/1.png", "images\\2.png"])
    gray(folder, ["masks/0.png"])
    content = json.loads((folder / "transforms.json").read_text())
    for entry, root in zip(content["frames"], (".\\", "", "C:\\Users\\me\\scene\\"), strict=True):
        entry["file_path"] = root + entry["file_path"].replace("/", "\\")
    content["train_filenames"][1] = content["frames"][2]["file_path"]
    (folder / "transforms.json").write_text(json.dumps(content))
    found = read_capture(folder)
    assert found.names == ("0.png", "1.png", "2.png")
    assert found.held_out == (0,)
    write_transforms(found, tmp_path / "again")
    assert read_capture(tmp_path / "again").names == found.names


def test_colmap_names_may_be_those_of_windows(capture, tmp_path):
    listing = write_colmap(capture, tmp_path) / "images.txt"
    listing.write_text(listing.read_text().replace("part1/", "part1\\").replace("part0/", "D:/scans/images/part0/"))
    found = read_capture(tmp_path)
    assert sorted(name.rpartition("/")[2] for name in found.names) == sorted(
        name.rpartition("/")[2] for name in capture.names
    )
    assert "part1/view 1.png" in found.names


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
def test_byte_order_marks_are_read_over(capture, tmp_path, encoding):
    model = write_colmap(capture, tmp_path / "colmap")
    for path in (write_transforms(capture, tmp_path / "a"), model / "cameras.txt", model / "images.txt"):
        path.write_text(path.read_text(), encoding=encoding)
    assert len(read_capture(tmp_path / "a")) == len(read_capture(tmp_path / "colmap")) == 9


@pytest.mark.parametrize("points", ["", "1 2 -1", "1.5 2 7 3 4 -1 5 6 8 9 10 -1", None])
@pytest.mark.parametrize("name", ["a.png", "12", "b c.png"])
def test_lists_without_lines_of_points_are_whole(tmp_path, points, name):
    lines = []
    for i in range(4):
        lines.append(f"{i} 1 0 0 0 {i} 0 2 1 {i}/{name}" if name != "12" else f"{i} 1 0 0 0 {i} 0 2 1 {12 + i}")
        if points is not None and i % 2:
            lines.append(points)
    names = [line.split(maxsplit=9)[9] for line in lines if len(line.split()) in (10, 11)]
    folder = model(tmp_path, "1 PINHOLE 8 6 8 6 4 3\n", "\n".join(["# list", *lines]), [])
    for each in names:
        gray(folder, ["images/picture.png"])
        (folder / "images" / each).parent.mkdir(exist_ok=True)
        (folder / "images/picture.png").rename(folder / "images" / each)
    assert len(read_capture(folder).names) == 4


LENSES = [
    ("SIMPLE_RADIAL", "9 4 3 0"), ("RADIAL", "9 4 3 0 0"), ("OPENCV", "9 9 4 3 0 0 0 0"),
    ("FULL_OPENCV", "9 9 4 3 0 0 0 0 0 0 0 0"), ("FOV", "9 9 4 3 0"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "numbers"), LENSES)
def test_models_without_distortion_are_pinhole_cameras(tmp_path, name, numbers):
    folder = model(tmp_path, f"1 {name} 8 6 {numbers}", "1 1 0 0 0 0 0 2 1 a\n\n2 1 0 0 0 1 0 2 1 b\n", [])
    for each in "ab":
        gray(folder, ["images/picture.png"])
        (folder / "images/picture.png").rename(folder / "images" / each)
    found = read_capture(folder).cameras
    assert close(found.focal, torch.full((2, 2), 9.0))
    assert close(found.center, torch.tensor([[4.0, 3.0]]).expand(2, 2))


def as_binary(folder):
    """The text files of a model, as binary files in their place; every image has two points."""
    rows = [line.split() for line in (folder / "cameras.txt").read_text().splitlines() if line[0] != "#"]
    cameras = [struct.pack("<iiQQ4d", int(r[0]), 1, int(r[2]), int(r[3]), *map(float, r[4:])) for r in rows]
    lines = [line for line in (folder / "images.txt").read_text().splitlines() if line.strip() and line[0] != "#"]
    images = []
    for words in (line.split(maxsplit=9) for line in lines):
        head = struct.pack("<i7di", int(words[0]), *map(float, words[1:8]), int(words[8]))
        images.append(head + words[9].encode() + b"\0" + struct.pack("<Qddqddq", 2, 1, 2, -1, 3, 4, 5))
    for name, parts in (("cameras", cameras), ("images", images)):
        (folder / f"{name}.bin").write_bytes(struct.pack("<Q", len(parts)) + b"".join(parts))
        (folder / f"{name}.txt").unlink()


def test_binary_models_are_read_as_text_is(capture, tmp_path):
    folder = write_colmap(capture, tmp_path)
    text = read_capture(tmp_path)
    as_binary(folder)
    found = read_capture(tmp_path)
    assert found.names == text.names
    assert same_cameras(found.cameras, text.cameras)
    for name in ("cameras", "images"):
        whole = (folder / f"{name}.bin").read_bytes()
        for size in (0, 9, len(whole) - 1):
            (folder / f"{name}.bin").write_bytes(whole[:size])
            with pytest.raises(ValueError, match=rf"{name}\.bin is truncated"):
                read_capture(tmp_path)
        (folder / f"{name}.bin").write_bytes(whole)


def test_of_several_models_the_largest_is_read(capture, tmp_path):
    large = write_colmap(capture, tmp_path)
    large.rename(tmp_path / "sparse" / "1")
    assert len(read_capture(tmp_path)) == 9
    (tmp_path / "sparse" / "0").mkdir()
    for name in ("cameras", "images"):
        text = (tmp_path / "sparse" / "1" / f"{name}.txt").read_text().splitlines()
        (tmp_path / "sparse" / "0" / f"{name}.txt").write_text("\n".join(text[:5]))
    assert len(read_capture(tmp_path)) == 9
    assert len(read_capture(tmp_path / "sparse" / "0")) == 2


def test_posed_scenes_are_distinguished_from_folders_of_images(capture, tmp_path):
    gray(tmp_path / "video", ["0.png", "1.png"])
    assert not is_capture(tmp_path / "video")
    assert not is_capture(tmp_path / "video" / "0.png")
    assert not is_capture(tmp_path / "nowhere")
    write_transforms(capture, tmp_path / "a")
    write_colmap(capture, tmp_path / "b")
    assert is_capture(tmp_path / "a")
    assert is_capture(str(tmp_path / "b"))
    assert is_capture(tmp_path / "a" / "transforms.json")
    assert not is_capture(tmp_path / "nowhere" / "transforms.json")
    assert len(read_capture(tmp_path / "a" / "transforms.json")) == 9
    assert capture_folder(tmp_path / "b" / "sparse" / "0" / "images.txt") == tmp_path / "b" / "sparse" / "0"
    assert len(read_capture(tmp_path / "b" / "sparse" / "0" / "images.txt")) == 9


def test_a_model_may_lie_beside_its_images(tmp_path):
    folder = model(tmp_path / "in", "1 PINHOLE 8 6 8 6 4 3\n", "1 1 0 0 0 0 0 2 1 a\n\n2 1 0 0 0 1 0 2 1 b\n", [])
    gray(folder, ["sparse/0/a.png", "sparse/0/b.png"])
    inner = folder / "sparse" / "0"
    for name in "ab":
        (inner / f"{name}.png").rename(inner / name)
    assert len(read_capture(inner)) == 2


@pytest.mark.parametrize(
    ("change", "keys", "sentence"),
    [
        ({"file_path": "images/9.png"}, {}, r"missing in .*images: 9\.png"),
        ({"transform_matrix": None}, {}, "transform_matrix"),
        ({"transform_matrix": [[1, 2], [3, 4]]}, {}, "4x4"),
        ({"transform_matrix": [[1, 2], [3]]}, {}, "transform_matrix"),
        ({"transform_matrix": np.diag([1, 1, -1, 1]).tolist()}, {}, "left-handed"),
        ({"transform_matrix": np.diag([2, 2, 2, 1]).tolist()}, {}, "no rotation"),
        ({"transform_matrix": np.diag([1, 1, float("nan"), 1]).tolist()}, {}, "not finite"),
        ({}, {"k1": -50.0}, "too strong for a pinhole camera"),
        ({"p2": "0.x"}, {}, "in k1 and the like"),
        ({}, {"camera_model": "OPENCV_FISHEYE"}, r"not undistorted here \(OPENCV_FISHEYE\)"),
        ({}, {"is_fisheye": True}, r"not undistorted here \(is_fisheye\)"),
        ({"fl_x": "wide"}, {}, "needs numbers in transform_matrix"),
        ({"fl_x": -3.0}, {}, "needs numbers in transform_matrix"),
        ({"w": 10}, {}, "is 8x6, but its camera is for 10x6"),
        ({}, {"train_filenames": ["images/7.png"]}, "names images/7.png"),
        ({}, {"val_filenames": [f"images/{i}.png" for i in range(3)]}, "leave some for training"),
    ],
)
def test_broken_scenes_are_refused(tmp_path, change, keys, sentence):
    with pytest.raises(ValueError, match=sentence):
        read_capture(scene(tmp_path, change, **keys))


def test_too_few_frames_and_broken_files_are_refused(tmp_path):
    for frames in (0, 1):
        with pytest.raises(ValueError, match=f"at least two posed images, not {frames}"):
            read_capture(scene(tmp_path, frames=frames))
    folder = scene(tmp_path)
    gray(folder, ["images/1.png"], size=(16, 12))
    with pytest.warns(UserWarning, match="2 sizes, so 1 of them are resized to 8x6"):
        read_capture(folder)
    assert read_capture(folder, size=6).images.shape == (3, 3, 6, 8)  # sizes may differ on disk
    (folder / "images/1.png").write_bytes(b"no image")
    with pytest.raises(ValueError, match=r"1\.png cannot be read as an image"):
        read_capture(folder)
    for text in ("{", "[]", '{"frames": 3}', '{"frames": [{}]}'):
        (folder / "transforms.json").write_text(text)
        with pytest.raises(ValueError, match=r"transforms\.json"):
            read_capture(folder)


def test_a_truncated_image_is_refused(tmp_path):
    folder = scene(tmp_path, w=80, h=60)
    Image.effect_noise((80, 60), 50).convert("RGB").save(folder / "images/0.png")
    content = (folder / "images/0.png").read_bytes()
    (folder / "images/0.png").write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match=r"0\.png cannot be read as an image"):
        read_capture(folder)


@pytest.mark.parametrize(
    ("cameras", "images", "sentence"),
    [
        ("1 OPENCV 8 6 8 6 4 3 0 0 0 0.1", "1 1 0 0 0 0 0 2 1 a.png\n", "at least two"),
        (
            "1 OPENCV_FISHEYE 8 6 8 6 4 3 0 0 0 0",
            "1 1 0 0 0 0 0 2 1 a.png\n",
            "distorted camera of model OPENCV_FISHEYE",
        ),
        ("1 PINHOLE 8 6 8 6 4", "1 1 0 0 0 0 0 2 1 a.png\n", "model PINHOLE with 3 numbers"),
        ("1 PINHOLE 8 6 0 6 4 3", "1 1 0 0 0 0 0 2 1 a.png\n", "not positive"),
        ("1 PINHOLE wide 6", "1 1 0 0 0 0 0 2 1 a.png\n", "cameras.txt is invalid"),
        ("1 PINHOLE 8 6 8 6 4 3", "1 1 0 0 0 0 0 2 5 a.png\n", "CAMERA_ID"),
        ("1 PINHOLE 8 6 8 6 4 3", "1 1 0 0 x 0 0 2 1 a.png\n", "images.txt is invalid"),
        ("1 PINHOLE 8 6 8 6 4 3", "1 1 0 0\n", "ten words"),
        ("1 PINHOLE 8 6 8 6 4 3", "1 0 0 0 0 0 0 2 1 a.png\n", "quaternion of 0"),
        ("1 PINHOLE 8 6 8 6 4 3", "1 1 0 0 0 nan 0 2 1 a.png\n", "not finite"),
        ("1 PINHOLE 8 6 8 6 4 3", "1 1 0 0 0 0 0 2 1 a.png\n", "at least two"),
        ("1 PINHOLE 8 6 8 6 4 3", "1 1 0 0 0 0 0 2 1 a.png\n\n2 1 0 0 0 0 0 2 1 z.png\n", r"images: z\.png"),
    ],
)
def test_broken_models_are_refused(tmp_path, cameras, images, sentence):
    with pytest.raises(ValueError, match=sentence):
        read_capture(model(tmp_path, cameras, images, ["a.png"]))


def test_other_folders_are_refused(tmp_path, capture):
    with pytest.raises(ValueError, match="not a posed scene"):
        read_capture(tmp_path)
    with pytest.raises(ValueError, match="not a folder"):
        read_capture(tmp_path / "nowhere")
    for name in ("cameras", "images"):
        (tmp_path / f"{name}.bin").write_bytes(b"")
    assert is_capture(tmp_path)
    with pytest.raises(ValueError, match=r"cameras\.bin is truncated"):
        read_capture(tmp_path)
    for wrong in ({"size": 0}, {"held_out": 1}, {"held_out": -1}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            read_capture(tmp_path, **wrong)
    with pytest.raises(ValueError, match=r"two images would be named a\.png"):
        write_transforms(replace(capture, names=("a.png", "a.jpg", *"bcdefgh")), tmp_path)
    with pytest.raises(ValueError, match="stay within the folder"):
        write_colmap(replace(capture, names=("../a.png", *"abcdefgh")), tmp_path)
    with pytest.raises(ValueError, match="16 bits"):
        write_transforms(replace(capture, depth=capture.depth + 66), tmp_path)


def test_parts_of_a_capture_must_fit(capture):
    with pytest.raises(ValueError, match="as many cameras and names"):
        replace(capture, cameras=capture.cameras[:3])
    with pytest.raises(ValueError, match="cameras of that size"):
        replace(capture, cameras=capture.cameras.resized((3, 4)))
    for wrong in ((1, 1), (9,), (5, 1)):
        with pytest.raises(ValueError, match="held_out"):
            replace(capture, held_out=wrong)
    with pytest.raises(ValueError, match="leave some"):
        replace(capture, held_out=tuple(range(9)))
