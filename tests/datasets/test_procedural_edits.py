"""Procedural edits: against their formulas, and equal in a window and in the whole image."""

import pytest
import torch

from scoredistill.datasets.procedural_edits import EDITS, TINTS, hue_turned, luma
from scoredistill.media.images import blurred
from scoredistill.three_d.view_prompts import view_prompts

GRAY, RED, WHITE = (torch.tensor(c).view(1, 3, 1, 1).expand(1, 3, 8, 8) for c in ([0.5] * 3, [1.0, 0, 0], [1.0] * 3))
REACH = {"pencil sketch": 9, "blurry": 5}  # pixels of the blur's half width


def image(height=24, width=40, n=2):
    return torch.rand(n, 3, height, width, generator=torch.Generator().manual_seed(0))


def run(edit, images, **options):
    return edit(images, rng=torch.Generator().manual_seed(1), **options)


@pytest.mark.parametrize("edit", EDITS.values(), ids=EDITS)
def test_edits_change_images_of_any_size_and_stay_in_range(edit):
    for size in ((24, 40), (7, 5)):
        images = image(*size)
        before = images.clone()
        result = run(edit, images)
        assert result.shape == images.shape
        assert 0 <= result.min() <= result.max() <= 1
        assert (result - images).abs().max() > 0.05
        assert torch.equal(images, before)


@pytest.mark.parametrize("edit", [e for e in EDITS.values() if e.exact], ids=lambda e: e.name)
def test_a_window_of_the_edited_image_is_the_edited_window(edit):
    images, margin = image(), REACH.get(edit.name, 0)
    window = (slice(None), slice(None), slice(0, 20), slice(8, 36))
    inner = (slice(None), slice(None), slice(margin, 20 - margin), slice(margin, 28 - margin))
    assert (edit(images)[window][inner] - edit(images[window])[inner]).abs().max() < 1e-5


def test_known_colors_become_what_the_formulas_say():
    assert EDITS["black and white"](RED)[0, :, 0, 0].tolist() == pytest.approx([0.299] * 3)
    assert EDITS["sepia"](RED)[0, :, 0, 0].tolist() == pytest.approx([0.393, 0.349, 0.272])
    assert EDITS["night"](WHITE)[0, :, 0, 0].tolist() == pytest.approx([0.22, 0.28, 0.5])
    assert EDITS["sunset"](WHITE)[0, :, 0, 0].tolist() == pytest.approx([1.0, 0.86, 0.62])
    assert EDITS["snowy"](WHITE)[0, :, 0, 0].tolist() == pytest.approx([0.94, 0.97, 1.0])
    assert EDITS["inverted"](RED)[0, :, 0, 0].tolist() == pytest.approx([0, 1, 1])
    assert EDITS["pencil sketch"](GRAY).min() == pytest.approx(1.0)
    assert sorted(set(EDITS["posterized"](image()).unique().tolist())) == pytest.approx([0, 1 / 3, 2 / 3, 1])
    for color, rgb in TINTS.items():
        assert EDITS[f"tinted {color}"](GRAY)[0, :, 0, 0].tolist() == pytest.approx(rgb, abs=1e-5)
        assert EDITS[f"tinted {color}"](WHITE).min() == pytest.approx(1.0)


def test_blocks_and_blurs_grow_with_the_image():
    images = image(64, 64)
    blocks = EDITS["pixelated"](images, unit=2.0)
    assert torch.equal(blocks[..., ::8, ::8].repeat_interleave(8, 2).repeat_interleave(8, 3), blocks)
    assert (blocks[..., 0, 0] - images[..., :8, :8].mean((2, 3))).abs().max() < 1e-6
    spread = [EDITS["blurry"](images, unit).std() for unit in (0.5, 1.0, 2.0)]
    assert spread[0] > spread[1] > spread[2]


def test_a_blurred_dot_has_the_width_asked_for():
    dot = torch.zeros(1, 1, 41, 41)
    dot[..., 20, 20] = 1
    away = torch.arange(41.0) - 20
    for sigma in (0.8, 1.5, 4.0):
        spread = (blurred(dot, sigma).sum(2).flatten() * away**2).sum().sqrt()
        assert spread == pytest.approx(sigma, rel=0.03)


def test_rotating_hues_keeps_brightness_and_three_thirds_are_a_full_turn():
    images = image()
    third = torch.full((2,), 2 * torch.pi / 3)
    assert (hue_turned(images, third) - images.roll(1, 1)).abs().max() < 1e-5
    assert (hue_turned(images, third / 3).mean(1) - images.mean(1)).abs().max() < 1e-6


def test_other_colors_are_many():
    edit = EDITS["other colors"]
    assert not edit.exact
    images = image(n=1)
    first, second = (edit(images, rng=torch.Generator().manual_seed(seed)) for seed in (0, 1))
    assert (first - second).abs().mean() > 0.01


def test_every_instruction_belongs_to_one_edit():
    texts = [text for edit in EDITS.values() for text in edit.instructions]
    assert len(texts) == len(set(texts))
    assert all(len(edit.instructions) >= 3 and edit.caption for edit in EDITS.values())
    assert luma(WHITE).max() == pytest.approx(1.0)


def test_views_are_named_by_the_camera():
    azimuth = [0.0, 44.0, 46.0, 90.0, 135.0, 136.0, 180.0, -90.0, 350.0, 720.0]
    names = [text.removeprefix("a corgi, ").removesuffix(" view") for text in view_prompts("a corgi", azimuth)]
    assert names == ["front", "front", "side", "side", "side", "back", "back", "side", "front", "front"]
    assert view_prompts("a corgi", [180.0], [75.0]) == ["a corgi, overhead view"]
    with pytest.raises(ValueError, match="2 azimuths and 1 elevations"):
        view_prompts("a corgi", [0.0, 1.0], [0.0])
