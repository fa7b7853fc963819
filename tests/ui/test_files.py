"""Uploads are kept by content under safe names, masks are what was painted, and images fit the page."""

import numpy as np
import pytest
from PIL import Image

from scoredistill.ui.files import COLORS, UPLOADS, Display, keep, masks, sized


def test_an_upload_is_kept_under_a_safe_name(tmp_path):
    (tmp_path / "x").write_bytes(b"image")
    kept = keep(tmp_path / "x", tmp_path / "runs", "../../My, Valley:ä.JPG")
    assert kept == tmp_path / "runs" / UPLOADS / "my_valley_ä-6105d6cc.jpg"
    assert kept.read_bytes() == b"image"
    assert keep(tmp_path / "x", tmp_path / "runs", "My Valley ä.jpg") == kept
    (tmp_path / "x").write_bytes(b"another")
    assert keep(tmp_path / "x", tmp_path / "runs", "My Valley ä.jpg") != kept
    assert keep(tmp_path / "x", tmp_path / "runs", "???.png").name.startswith("file-")


@pytest.mark.parametrize("name", ["a.py", "a", ".png", "a.png/..", "a.html"])
def test_other_kinds_of_files_are_refused(tmp_path, name):
    (tmp_path / "x").touch()
    with pytest.raises(ValueError, match="give an image or a video"):
        keep(tmp_path / "x", tmp_path, name)


def painted(*boxes, size=(6, 8)):
    layer = np.zeros((*size, 4), np.uint8)
    for color, (top, bottom, left, right) in boxes:
        code = COLORS[color]
        layer[top:bottom, left:right] = [*(int(code[k : k + 2], 16) for k in (1, 3, 5)), 255]
    return layer


def test_masks_are_white_where_a_color_was_painted(tmp_path):
    first = painted(("red", (0, 2, 0, 4)), ("blue", (4, 6, 0, 8)))
    faint = painted(("green", (0, 1, 0, 1)))
    faint[..., 3] = np.minimum(faint[..., 3], 90)  # the soft border of a stroke
    found = masks({"layers": [first, faint, painted(("red", (2, 3, 0, 1)))]}, tmp_path)
    assert list(found) == ["red", "blue"]
    red = np.asarray(Image.open(found["red"]))
    expected = np.zeros((6, 8), np.uint8)
    expected[0:2, 0:4] = expected[2, 0] = 255
    assert np.array_equal(red, expected)
    assert np.asarray(Image.open(found["blue"])).sum() == 16 * 255
    assert masks({"layers": [first]}, tmp_path)["blue"] == found["blue"]


@pytest.mark.parametrize("drawing", [None, {}, {"layers": []}, {"layers": [None]}, {"layers": [painted()]}])
def test_nothing_painted_is_no_mask(tmp_path, drawing):
    assert masks(drawing, tmp_path) == {}


def test_images_are_enlarged_by_whole_numbers_or_reduced():
    assert sized(Image.new("RGB", (64, 64))).size == (384, 384)
    assert sized(Image.new("RGB", (3200, 100))).size == (1600, 50)
    assert sized(Image.new("RGB", (500, 400))).size == (500, 400)
    assert sized(Image.new("RGB", (64, 64)), 160).size == (128, 128)


def test_a_copy_for_the_page_follows_the_image(tmp_path):
    (tmp_path / "shown").mkdir()
    display = Display(tmp_path / "shown")
    path = tmp_path / "preview.png"
    assert display(path) is None
    path.write_bytes(b"half")
    assert display(path) is None
    Image.new("RGB", (64, 32), "red").save(path)
    first = display(path)
    assert first == display(path)
    assert Image.open(first).size == (384, 192)
    Image.new("RGB", (64, 64), "blue").save(path)
    assert display(path) != first
    display.trim(1)
    assert len(list((tmp_path / "shown").iterdir())) == 1
