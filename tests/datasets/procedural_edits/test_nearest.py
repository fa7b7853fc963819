"""Nearest right answers: planted ones are found, and windows agree exactly if they show one answer."""

import math

import pytest
import torch

from scoredistill.datasets.procedural_edits import AGREE, EDITS, Answers, View, agreement, nearest, unit_of
from scoredistill.datasets.procedural_edits.nearest import alike, chance, fraction
from scoredistill.media.images import resized
from scoredistill.window_grid import Layout

MANY = [edit for edit in EDITS.values() if not edit.exact]
SIDE = 64


def scene(n, side=SIDE, seed=0):
    """Colored blobs with edges, of all brightnesses."""
    rng = torch.Generator().manual_seed(seed)
    soft = resized(torch.rand(n, 3, 6, 6, generator=rng), (side, side))
    return torch.where(resized(torch.rand(n, 1, 5, 5, generator=rng), (side, side)) > 0.5, soft, 1 - 0.7 * soft)


def planted(edit, n=6):
    images, view = scene(n), View.whole((SIDE, SIDE))
    if len(edit.variants) == 1:
        return images, edit.draw(n, torch.Generator().manual_seed(1)), view
    variant = torch.arange(n) % len(edit.variants)  # every variant, with parameters of its own
    values = torch.zeros(n, edit.width)
    for row, index in enumerate(variant.tolist()):
        count = len(edit.variants[index].parameters)
        values[row, :count] = edit.variants[index].draw(1, torch.Generator().manual_seed(row))
    return images, Answers(variant, values), view


def turns(first, second):
    """Distances of periodic answers: (angle, phases) are the same as (angle + pi, -phases)."""
    flipped = second * torch.tensor([1.0, *[-1.0] * (second.shape[1] - 1)])
    flipped[:, 0] += math.pi
    period = torch.tensor([2 * math.pi, *[1.0] * (second.shape[1] - 1)])
    distance = [((first - other + period / 2).remainder(period) - period / 2).abs() for other in (second, flipped)]
    return torch.minimum(*(d.sum(1) for d in distance))


@pytest.mark.parametrize("edit", EDITS.values(), ids=EDITS)
def test_a_planted_answer_is_found(edit):
    images, answers, view = planted(edit)
    found = nearest(edit, images, edit.render(images, answers, view), view)
    assert found.psnr.min() > 50
    assert torch.equal(found.answers.variant, answers.variant)


@pytest.mark.parametrize("edit", MANY, ids=lambda e: e.name)
def test_a_planted_answer_is_found_under_noise_and_its_psnr_is_that_of_the_noise(edit):
    images, answers, view = planted(edit)
    noise = 0.06 * torch.randn(images.shape, generator=torch.Generator().manual_seed(2))
    right = edit.render(images, answers, view)
    found = nearest(edit, images, right + noise, view)
    assert torch.equal(found.answers.variant, answers.variant)
    wanted = -10 * noise.square().mean((1, 2, 3)).log10()
    assert (found.psnr - wanted).min() > -0.05  # at least as near as the planted one
    assert (found.psnr - wanted).max() < 0.2
    if edit.name == "other colors":
        assert (found.answers.values - answers.values).abs().max() < math.radians(1)
    if edit.name == "texture":
        assert turns(found.answers.values, answers.values).max() < 0.02
    if edit.name == "drawing":
        hatched = answers.variant == 3
        assert turns(found.answers.values[hatched], answers.values[hatched]).max() < 0.04


def test_answers_at_the_ends_of_a_range_are_found():
    edit, images, view = EDITS["other colors"], scene(4), View.whole((SIDE, SIDE))
    low, high = edit.variants[0].parameters[0].low, edit.variants[0].parameters[0].high
    answers = Answers(torch.zeros(4).long(), torch.tensor([[low], [low + 0.04], [high - 0.04], [high - 1e-4]]))
    found = nearest(edit, images, edit.render(images, answers, view), view)
    assert (found.answers.values - answers.values).abs().max() < 1e-3
    beyond = Answers(answers.variant, torch.tensor([[low - 0.4]] * 4))  # which is no answer: the nearest is the end
    result = edit.render(images, beyond, view)
    error = (edit.render(images, Answers(answers.variant, torch.tensor([[low]] * 4)), view) - result).square()
    found = nearest(edit, images, result, view)
    assert found.answers.values.flatten().tolist() == pytest.approx([low] * 4)
    assert torch.allclose(found.psnr, -10 * error.mean((1, 2, 3)).log10(), atol=1e-3)


@pytest.mark.parametrize("name", ["texture", "drawing"])
def test_searches_for_waves_start_near_them(name):
    edit, images, view = EDITS[name], scene(3), View.whole((SIDE, SIDE))
    variant = edit.variants[-1]
    values = torch.tensor([[0.4, 0.3, 0.7], [2.0, 0.1, 0.4], [1.2, 0.8, 0.1]])[:, : len(variant.parameters)]
    starts, steps = variant.starts(images, variant.prepare(images, view)(values), view)
    distance = torch.stack([turns(start, values) for start in starts]).amin(0)
    assert distance.max() < (0.25 if name == "drawing" else 0.1)
    assert steps[0] < 0.1


def test_the_search_is_as_good_as_a_grid_of_all_answers():
    """Of results that are no right answer, too: here the mean of two."""
    for name in ("other colors", "texture"):
        edit, images, view = EDITS[name], scene(3), View.whole((SIDE, SIDE))
        first, second = (edit.render(images, edit.draw(3, torch.Generator().manual_seed(s)), view) for s in (5, 6))
        mixed = 0.6 * first + 0.4 * second
        grid = edit.answers()
        rows = [edit.render(images, grid[torch.tensor([i] * 3)], view) for i in range(len(grid))]
        best = torch.stack([(row - mixed).square().mean((1, 2, 3)) for row in rows]).amin(0)
        assert (nearest(edit, images, mixed, view).psnr >= -10 * best.log10() - 1e-3).all()


@pytest.mark.parametrize("name", ["texture", "drawing"])
def test_parameters_found_in_a_crop_are_those_of_the_whole_image(name):
    """The answer to a crop far from the center, applied to the whole image, is the planted one."""
    edit, image = EDITS[name], scene(1, 160)
    values = torch.tensor([[0.7, 0.3, 0.8][: edit.width]])
    answers, whole = Answers(torch.tensor([len(edit.variants) - 1]), values), View.whole((160, 160), 2.0)
    right = edit.render(image, answers, whole)
    view = View.of_crops((160, 160), torch.tensor([[90, 4]]), 2.0)
    crop = image[..., 90:154, 4:68]
    found = nearest(edit, crop, edit.render(crop, answers, view), view)
    error = (edit.render(image, found.answers, whole) - right).square().mean()
    assert -10 * error.log10() > 25


def test_exact_edits_give_the_psnr_to_their_only_answer():
    edit, images, view = EDITS["night"], scene(2), View.whole((SIDE, SIDE))
    result = (edit(images) + 0.1).clamp(0, 1)
    error = (result - edit(images)).square().mean((1, 2, 3))
    assert torch.allclose(nearest(edit, images, result, view).psnr, -10 * error.log10(), atol=1e-4)


def test_nearest_answers_need_results_for_all_images():
    images, view = scene(2), View.whole((SIDE, SIDE))
    with pytest.raises(ValueError, match="give one result per image"):
        nearest(EDITS["night"], images, images[:1], view)
    with pytest.raises(ValueError, match="an edit that diverged has no nearest answer"):
        nearest(EDITS["night"], images, images * torch.nan, view)


# --- windows ---

LAYOUT = Layout((96, 96), (48, 48), (48, 48))


def windows(image):
    return LAYOUT.take(image, LAYOUT.boxes()), View.of_crops(LAYOUT.size, LAYOUT.boxes())


@pytest.mark.parametrize("edit", MANY, ids=lambda e: e.name)
def test_windows_of_one_answer_agree_and_those_of_different_answers_do_not(edit):
    image = scene(1, 96)
    crops, view = windows(image)
    one = edit.draw(1, torch.Generator().manual_seed(0))[torch.zeros(4).long()]
    together = agreement(edit, image, edit.render(crops, one, view), LAYOUT, 1.0)
    assert together.agreement == 1
    assert together.window_psnr.min() > 50
    grid = edit.answers()
    apart = grid[torch.linspace(0, len(grid) * 0.9, 4).long()]
    separate = agreement(edit, image, edit.render(crops, apart, view), LAYOUT, 1.0)
    assert separate.agreement == 0
    assert separate.window_psnr.min() > 50
    assert separate.whole_psnr < 25 < together.whole_psnr
    assert 0 <= separate.chance < 0.7


def test_the_agreement_is_its_formula():
    """Two of three hues that are close agree; so do all in a gray image, where hues cannot be seen."""
    edit, image = EDITS["other colors"], scene(1, 96)
    crops, view = windows(image)
    crops, view = crops[:3], view.rows(torch.arange(3))
    answers = Answers(torch.zeros(3).long(), torch.tensor([[2.0], [2.05], [4.0]]))
    agree = alike(edit, crops, answers, view)
    assert agree.tolist() == [[True, True, False], [True, True, False], [False, False, True]]
    assert fraction(agree) == pytest.approx(1 / 3)
    turned = [edit.render(crops, Answers(torch.zeros(3).long(), answers.values[i].expand(3, 1)), view) for i in (0, 2)]
    apart = (turned[0] - turned[1]).square().mean((1, 2, 3))[[0, 2]].mean()
    assert -10 * apart.log10() < AGREE
    gray = crops.mean(1, keepdim=True).expand(-1, 3, -1, -1)
    assert alike(edit, gray, answers, view).all()
    one_gray = torch.cat([crops[:1], gray[1:]])  # what differs in either window counts
    assert alike(edit, one_gray, answers, view).tolist() == [
        [True, True, False],
        [True, True, True],
        [False, True, True],
    ]
    with pytest.raises(ValueError, match="give at least 2 windows"):
        fraction(agree[:1, :1])


def test_the_threshold_of_agreement_is_where_it_says():
    """A difference of brightness d between two answers is -20 log10 d dB."""
    edit, images = EDITS["frame"], torch.full((2, 3, 64, 64), 0.5)
    view = View.whole((64, 64))
    names = [variant.name for variant in edit.variants]
    red, orange = (edit.render(images, Answers(torch.tensor([names.index(c)] * 2), torch.zeros(2, 0)), view)
                   for c in ("red", "orange"))  # fmt: skip
    apart = -10 * (red - orange).square().mean((1, 2, 3)).mean().log10()
    answers = Answers(torch.tensor([names.index("red"), names.index("orange")]), torch.zeros(2, 0))
    assert (bool(alike(edit, images, answers, view)[0, 1])) == bool(apart >= AGREE)


def test_chance_is_one_for_exact_edits_and_about_one_in_k_for_k_answers():
    image = scene(1, 96)
    crops, view = windows(image)
    assert chance(EDITS["night"], crops, view) == 1
    assert chance(EDITS["poster"], crops, view, draws=20) == pytest.approx(1 / 6, abs=0.1)
    assert chance(EDITS["texture"], crops, view) < 0.2


def test_the_whole_is_the_mean_of_its_windows_where_they_overlap():
    edit, image = EDITS["time of day"], scene(1, 96)
    layout = Layout((96, 96), (64, 64), (32, 32))
    crops = layout.take(image, layout.boxes())
    view = View.of_crops(layout.size, layout.boxes())
    one = Answers(torch.full((len(crops),), 2), torch.zeros(len(crops), 0))
    found = agreement(edit, image, edit.render(crops, one, view), layout, unit_of(64))
    assert found.whole_psnr > 80
    assert found.answers.variant.tolist() == [2] * len(crops)
