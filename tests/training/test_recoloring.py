"""Recoloring of drawings."""

import colorsys

import numpy as np
import pytest

from scoredistill.training.recoloring import PAINTS, apart, dominant_hue, from_hsv, hsv, recolored


def drawing(*colors: tuple[int, int, int]) -> np.ndarray:
    """Vertical bands of colors with a transparent border."""
    rgba = np.zeros((64, 64, 4), np.uint8)
    for index, color in enumerate(colors):
        width = 56 // len(colors)
        rgba[4:60, 4 + index * width : 4 + (index + 1) * width] = (*color, 255)
    return rgba


def test_hsv_is_that_of_the_standard_library_and_is_undone():
    rgb = np.random.default_rng(0).random((100, 3))
    rgb[:4] = [[0, 0, 0], [1, 1, 1], [0.5, 0.5, 0.5], [1, 0, 0]]
    hue, saturation, value = hsv(rgb)
    expected = np.array([colorsys.rgb_to_hsv(*color) for color in rgb])
    assert np.allclose(np.stack([hue / 360, saturation, value], 1), expected)
    assert np.allclose(from_hsv(hue, saturation, value), rgb)


def test_hues_differ_on_a_circle():
    assert np.allclose(apart(np.array([350.0, 10.0, 180.0, 0.0]), 0.0), [10, 10, 180, 0])


@pytest.mark.parametrize("color", PAINTS)
def test_a_red_drawing_takes_any_color_and_keeps_its_shading_and_outlines(color):
    before = drawing((220, 30, 20), (180, 20, 10), (20, 20, 20), (240, 240, 240))
    after = recolored(before, color)
    bands = after[32, [8, 22, 36, 50], :3]
    hue, _, value = hsv(bands / 255.0)
    assert (apart(hue[:2], PAINTS[color].hue) < 8).all()
    assert value[0] > value[1]
    assert np.array_equal(bands[2:], before[32, [36, 50], :3])
    assert np.array_equal(after[..., 3], before[..., 3])


def test_hues_are_turned_by_one_angle_and_so_keep_their_differences():
    before = drawing((30, 60, 220), (30, 130, 220))  # blue and azure: their mean becomes green
    old, new = (hsv(image[32, [16, 44], :3] / 255.0)[0] for image in (before, recolored(before, "green")))
    assert new[1] - new[0] == pytest.approx(old[1] - old[0], abs=2)
    assert new.mean() == pytest.approx(PAINTS["green"].hue, abs=4)


def test_dark_lines_of_the_same_hue_stay_dark():
    after = recolored(drawing((220, 30, 20), (220, 30, 20), (40, 25, 24)), "yellow")
    assert after[32, 50, :3].max() < 80  # 169 if all pixels were brightened alike


def test_the_dominant_hue_is_that_of_most_chroma():
    assert dominant_hue(drawing((20, 40, 220), (20, 40, 220), (20, 40, 220), (230, 200, 30))) == pytest.approx(
        234, abs=1
    )
    around_zero = dominant_hue(drawing((255, 20, 40), (255, 40, 20)))
    assert around_zero is not None
    assert min(around_zero, 360 - around_zero) < 2


@pytest.mark.parametrize(
    "colors", [((220, 30, 20), (30, 220, 20), (20, 30, 220)), ((120, 120, 120), (30, 32, 30)), ((200, 190, 190),)]
)
def test_drawings_of_many_colors_and_gray_ones_are_not_recolored(colors):
    before = drawing(*colors)
    assert dominant_hue(before) is None
    assert recolored(before, "blue") is before


def test_a_blank_drawing_has_no_hue():
    assert dominant_hue(np.zeros((32, 32, 4), np.uint8)) is None


def test_parts_of_another_hue_keep_their_color():
    before = drawing((220, 30, 20), (220, 30, 20), (220, 30, 20), (40, 120, 220))
    after = recolored(before, "green")
    assert np.array_equal(after[32, 50], before[32, 50])
    assert not np.array_equal(after[32, 8], before[32, 8])
