"""Captures from strangers: images are read inside their folder only, and wrong values of any type are one sentence."""

import json
from contextlib import suppress

import numpy as np
import pytest

from scoredistill.three_d.capture import capture_shape, read_capture
from three_d.test_capture import gray, scene


@pytest.fixture
def secret(tmp_path):
    """A file beside the folder of the scene."""
    gray(tmp_path, ["secret.png"])
    return tmp_path / "secret.png"


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "scene").mkdir()
    return tmp_path / "scene"


def refused(folder):
    for reader in (read_capture, capture_shape):
        with pytest.raises(ValueError, match="leads out of its folder") as caught:
            reader(folder)
        assert "\n" not in str(caught.value)
    assert len(read_capture(folder, outside=True)) > 1


def edit(folder, change):
    content = json.loads((folder / "transforms.json").read_text())
    change(content)
    (folder / "transforms.json").write_text(json.dumps(content))


@pytest.mark.parametrize("key", ["file_path", "alpha_path", "mask_path"])
@pytest.mark.parametrize("name", ["../secret.png", "images/../../secret.png", "..\\secret.png", "{secret}"])
def test_names_that_lead_out(folder, secret, key, name):
    scene(folder)
    edit(folder, lambda content: content["frames"][0].update({key: name.format(secret=secret)}))
    refused(folder)


@pytest.mark.parametrize("how", ["file", "folder", "chain"])
def test_links_that_lead_out(folder, secret, how):
    scene(folder)
    images = next(folder.rglob("*.png")).parent
    path = sorted(images.glob("*.png"))[0]
    if how == "folder" and images != folder:
        images.rename(folder.parent / "elsewhere")
        images.symlink_to(folder.parent / "elsewhere")
    else:
        path.unlink()
        if how == "chain":
            (folder / "step.png").symlink_to(secret)
        path.symlink_to(folder / "step.png" if how == "chain" else secret)
    refused(folder)


@pytest.mark.parametrize("place", ["sparse/0", ""])
def test_models_of_colmap(folder, secret, place):
    there = folder / place
    there.mkdir(parents=True, exist_ok=True)
    (there / "cameras.txt").write_text("1 PINHOLE 8 6 5 5 4 3\n")
    line = "{} 1 0 0 0 0 0 {} 1 {}\n\n"
    (there / "images.txt").write_text(line.format(1, 1, "../secret.png" if not place else "../../secret.png") * 2)
    if place:
        (folder / "images").mkdir()
        (there / "images.txt").write_text(line.format(1, 1, "../../secret.png") + line.format(2, 2, "../../secret.png"))
    refused(folder)


def test_links_within_the_folder_and_a_linked_folder_are_fine(folder, tmp_path):
    scene(folder)
    path = sorted(folder.rglob("*.png"))[0]
    path.rename(folder / "moved.png")
    path.symlink_to(folder / "moved.png")
    assert len(read_capture(folder)) == 3
    (tmp_path / "link").symlink_to(folder)
    assert len(read_capture(tmp_path / "link")) == 3


DEEP = object()
VALUES = [
    float("inf"),
    float("nan"),
    0,
    -1,
    1e308,
    10**30,
    None,
    "x",
    "",
    [],
    {},
    [[]],
    True,
    DEEP,
    "\0",
    "a" * 5000,
    [None],
]
KEYS = [
    "fl_x",
    "fl_y",
    "w",
    "h",
    "cx",
    "camera_angle_x",
    "k1",
    "k4",
    "camera_model",
    "is_fisheye",
    "train_filenames",
    "frames",
]
FRAME_KEYS = ["transform_matrix", "file_path", "mask_path", "alpha_path", "depth_file_path", "fl_x", "w"]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("value", VALUES, ids=lambda value: "deep" if value is DEEP else repr(value)[:12])
def test_values_of_any_kind_are_one_sentence(folder, value):
    scene(folder)
    before = (folder / "transforms.json").read_text()
    for key, whole in [*((key, True) for key in KEYS), *((key, False) for key in FRAME_KEYS)]:
        content = json.loads(before)
        (content if whole else content["frames"][1])[key] = "DEEP" if value is DEEP else value
        text = json.dumps(content).replace('"DEEP"', "[" * 50_000 + "]" * 50_000)
        (folder / "transforms.json").write_text(text)
        for reader in (read_capture, capture_shape):
            with suppress(ValueError):
                reader(folder)


def test_matrices_of_any_kind_are_one_sentence(folder):
    scene(folder)
    before = (folder / "transforms.json").read_text()
    matrices = [np.zeros((4, 4)), np.full((4, 4), 1e200), np.eye(4) * 1e-300, np.zeros((2, 2)), np.zeros((4, 4, 4))]
    for matrix in [
        *(m.tolist() for m in matrices),
        [["x"] * 4] * 4,
        [[1], [2, 3]],
        [[None] * 4] * 4,
        [[10**400] * 4] * 4,
    ]:
        content = json.loads(before)
        content["frames"][0]["transform_matrix"] = matrix
        (folder / "transforms.json").write_text(json.dumps(content))
        with pytest.raises(ValueError, match=r"transform_matrix|pose"):
            read_capture(folder)
