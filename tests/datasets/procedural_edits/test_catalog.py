"""Procedural edits: against their formulas, in crops of whole images, and at several sizes."""

import math

import pytest
import torch

from scoredistill.datasets.procedural_edits import EDITS, TINTS, Answers, View, hue_turned, luma, unit_of
from scoredistill.datasets.procedural_edits.colors import PALETTES
from scoredistill.datasets.procedural_edits.strokes import FRAMES, STRIPE
from scoredistill.media.images import blurred, resized
from scoredistill.three_d.view_prompts import view_prompts

GRAY, RED, WHITE = (torch.tensor(c).view(1, 3, 1, 1).expand(1, 3, 8, 8) for c in ([0.5] * 3, [1.0, 0, 0], [1.0] * 3))
REACH = {"pencil sketch": 9, "blurry": 5, "drawing": 17}  # pixels of the half widths of blurs
MANY = [edit for edit in EDITS.values() if not edit.exact]
VARIANTS = [(edit, variant.name) for edit in EDITS.values() for variant in edit.variants]


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


def only(edit, name, n, seed=0):
    """Random answers of one variant."""
    index = [variant.name for variant in edit.variants].index(name)
    values = torch.zeros(n, edit.width)
    variant = edit.variants[index]
    values[:, : len(variant.parameters)] = variant.draw(n, torch.Generator().manual_seed(seed))
    return Answers(torch.full((n,), index), values)


@pytest.mark.parametrize(("edit", "name"), VARIANTS, ids=lambda x: x if isinstance(x, str) else "")
def test_a_window_of_the_edited_image_is_the_edited_window(edit, name):
    """Two images, with windows in different places and answers of their own."""
    images, margin = image(60, 70), REACH.get(edit.name, 0)
    answers, corner = only(edit, name, 2), torch.tensor([[0, 9], [17, 3]])
    whole = edit.render(images, answers, View.whole((60, 70)))
    cut = lambda x: torch.stack([x[i, :, y : y + 40, left : left + 44] for i, (y, left) in enumerate(corner.tolist())])
    apart = edit.render(cut(images), answers, View.of_crops((60, 70), corner))
    inner = (..., slice(margin, 40 - margin), slice(margin, 44 - margin))
    if name == "pixelated":  # blocks that the window cuts are means of their visible parts
        inner = (..., slice(4, 36), slice(4, 40))
    assert (cut(whole)[inner] - apart[inner]).abs().max() < 2e-4


def test_a_frame_lies_on_the_border_of_the_whole_image_only():
    images, edit = image(64, 64, 1), EDITS["frame"]
    answers = only(edit, "blue", 1)
    whole = edit.render(images, answers, View.whole((64, 64)))
    frame = whole[0].sub(torch.tensor(FRAMES["blue"])[:, None, None]).abs().amax(0) < 1e-5
    assert frame[:5].all()
    assert frame[:, 59:].all()
    assert torch.equal(whole[..., 6:58, 6:58], images[..., 6:58, 6:58])
    middle = images[..., 16:48, 16:48]
    assert torch.equal(edit.render(middle, answers, View.of_crops((64, 64), torch.tensor([[16, 16]]))), middle)


def test_stripes_have_their_wavelength_angle_and_phase():
    gray = torch.full((1, 3, 64, 64), 0.5)
    edit = EDITS["texture"]
    turned = edit.render(gray, Answers(torch.zeros(1).long(), torch.tensor([[math.pi / 2, 0.0]])), View.whole((64, 64)))
    assert (turned - turned[..., :1]).abs().max() < 1e-4  # at 90 degrees they change from row to row only
    column = turned[0, 0, :, 0]
    assert (column[int(STRIPE) :] - column[: -int(STRIPE)]).abs().max() < 1e-5
    assert column[32] > 0.65  # a crest at the center
    assert column[32 + int(STRIPE) // 2] < 0.35


@pytest.mark.parametrize(("edit", "name"), VARIANTS, ids=lambda x: x if isinstance(x, str) else "")
def test_edits_look_alike_at_both_sizes(edit, name):
    """The edit of a smooth image of 128 pixels, reduced to 64, is about the edit of the reduced image."""
    rough = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    large = resized(rough, (128, 128))
    small, answers = resized(large, (64, 64)), only(edit, name, 1)
    fine = edit.render(large, answers, View.whole((128, 128), unit_of(128)))
    coarse = edit.render(small, answers, View.whole((64, 64), unit_of(64)))
    error = (resized(fine, (64, 64)) - coarse).square().mean()
    alike = -10 * error.clamp(min=1e-10).log10()
    assert alike > {"posterized": 19, "ink": 16, "crosshatching": 16}.get(name, 24)


@pytest.mark.parametrize("edit", MANY, ids=lambda e: e.name)
def test_answers_of_edits_with_many_differ_clearly(edit):
    images = resized(torch.rand(6, 3, 6, 6, generator=torch.Generator().manual_seed(0)), (64, 64))
    grid = edit.answers()
    chosen = grid[torch.linspace(0, len(grid) - 1, min(len(grid), 8)).long()]
    view = View.whole((64, 64))
    made = torch.stack([edit.render(images, chosen[torch.tensor([i] * 6)], view) for i in range(len(chosen))])
    assert (made - images).square().mean((1, 2, 3, 4)).min() > 0.003  # 25 dB
    apart = (made[:, None] - made).square().mean((2, 3, 4, 5)) + torch.eye(len(made))
    assert apart.min() > 0.003


@pytest.mark.parametrize("edit", MANY, ids=lambda e: e.name)
def test_draws_are_the_edits_answers_and_follow_the_generator(edit):
    drawn, again = (edit.draw(200, torch.Generator().manual_seed(3)) for _ in range(2))
    assert torch.equal(drawn.values, again.values)
    assert torch.equal(drawn.variant, again.variant)
    counts = drawn.variant.bincount(minlength=len(edit.variants))
    assert counts.min() > 200 / len(edit.variants) / 2
    for index, variant in enumerate(edit.variants):
        values = drawn.values[drawn.variant == index]
        for column, parameter in enumerate(variant.parameters):
            assert values[:, column].min() >= parameter.low
            assert values[:, column].max() < parameter.high
            assert values[:, column].std() > (parameter.high - parameter.low) / 5
        assert not values[:, len(variant.parameters) :].any()
    images = image(n=3)
    answers, view = edit.draw(3, torch.Generator().manual_seed(0)), View.whole((24, 40))
    assert torch.equal(edit(images, rng=torch.Generator().manual_seed(0)), edit.render(images, answers, view))
    with pytest.raises(ValueError, match="2 answers for 3 images: give one per image"):
        edit.render(images, answers[:2], view)


def test_the_answers_of_an_exact_edit_are_one():
    assert {name for name, edit in EDITS.items() if not edit.exact} == {
        "other colors", "time of day", "season", "drawing", "poster", "frame", "texture"
    }  # fmt: skip
    assert all(len(edit.answers()) == 1 for edit in EDITS.values() if edit.exact)
    assert len(EDITS["texture"].answers()) == 24 * 8
    assert len(EDITS["drawing"].answers()) == 3 + 24 * 8 * 8


def test_known_colors_become_what_the_formulas_say():
    assert EDITS["black and white"](RED)[0, :, 0, 0].tolist() == pytest.approx([0.299] * 3)
    assert EDITS["sepia"](RED)[0, :, 0, 0].tolist() == pytest.approx([0.393, 0.349, 0.272])
    assert EDITS["night"](WHITE)[0, :, 0, 0].tolist() == pytest.approx([0.22, 0.28, 0.5])
    assert EDITS["sunset"](WHITE)[0, :, 0, 0].tolist() == pytest.approx([1.0, 0.86, 0.62])
    assert EDITS["snowy"](WHITE)[0, :, 0, 0].tolist() == pytest.approx([0.94, 0.97, 1.0])
    assert EDITS["inverted"](RED)[0, :, 0, 0].tolist() == pytest.approx([0, 1, 1])
    assert EDITS["pencil sketch"](GRAY).min() == pytest.approx(1.0)
    assert sorted(set(EDITS["posterized"](image()).unique().tolist())) == pytest.approx([0, 1 / 3, 2 / 3, 1])
    for colors in PALETTES.values():  # in steps that end at 0 and at 1
        gray = torch.tensor([0.0, 1.0]).expand(1, 3, 2)[..., None]
        shown = EDITS["poster"].render(gray, only(EDITS["poster"], [*PALETTES][[*PALETTES.values()].index(colors)], 1),
                                       View.whole((2, 1)))  # fmt: skip
        assert (shown[0, :, :, 0].T - torch.tensor([colors[0], colors[-1]])).abs().max() < 0.01
    light = torch.full((1, 3, 8, 8), 0.75)
    for color, rgb in TINTS.items():
        halfway = [(1 + channel) / 2 for channel in rgb]
        assert EDITS[f"tinted {color}"](light)[0, :, 0, 0].tolist() == pytest.approx(halfway, abs=1e-5)
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


def test_luma_of_white_is_one():
    assert luma(WHITE).max() == pytest.approx(1.0)


def test_views_are_named_by_the_camera():
    azimuth = [0.0, 44.0, 46.0, 90.0, 135.0, 136.0, 180.0, -90.0, 350.0, 720.0]
    names = [text.removeprefix("a corgi, ").removesuffix(" view") for text in view_prompts("a corgi", azimuth)]
    assert names == ["front", "front", "side", "side", "side", "back", "back", "side", "front", "front"]
    assert view_prompts("a corgi", [180.0], [75.0]) == ["a corgi, overhead view"]
    with pytest.raises(ValueError, match="2 azimuths and 1 elevations"):
        view_prompts("a corgi", [0.0, 1.0], [0.0])
