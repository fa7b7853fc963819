"""Training examples: what is drawn is what the description says, on synthetic drawings."""

import re

import numpy as np
import pytest
import torch

from scoredistill.datasets.emoji import Emoji
from scoredistill.training import compose, compositions
from scoredistill.training.captions import Description, Item
from scoredistill.training.compositions import Mixture, Scene, examples, texts
from scoredistill.training.layouts import Placement
from scoredistill.training.recoloring import apart, hsv

SIDE = 48
COLORS = {"red": (220, 10, 10), "lime": (10, 220, 10), "navy": (10, 10, 220), "plum": (200, 10, 200)}
ONLY_COUNTS, ONLY_RELATIONS = Mixture(1.0, 0.0, 1.0, 0.0), Mixture(0.0, 1.0, 1.0, 0.0)


def disc(color: tuple[int, int, int], radius: float) -> np.ndarray:
    y, x = np.mgrid[:SIDE, :SIDE] - (SIDE - 1) / 2
    return np.dstack([np.full((SIDE, SIDE, 3), color, np.uint8), 255 * (x**2 + y**2 < radius**2).astype(np.uint8)])


@pytest.fixture(scope="module")
def emoji() -> Emoji:
    """Discs of four colors in four styles, which differ in size."""
    kinds = [(concept, style) for style in range(4) for concept in range(len(COLORS))]
    rgba = np.stack([disc(list(COLORS.values())[concept], 14 + 3 * style) for concept, style in kinds])
    concept, style = np.array(kinds).T
    names = tuple(f"{color} disc" for color in COLORS)
    return Emoji(rgba, concept, style, names, (("round",),) * 4, ("tiny", "small", "large", "huge"))


def components(mask: np.ndarray) -> int:
    """Number of 4-connected components."""
    left = mask.copy()
    count = 0
    while left.any():
        count += 1
        frontier = [tuple(np.argwhere(left)[0])]
        left[frontier[0]] = False
        while frontier:
            y, x = frontier.pop()
            for place in ((y + 1, x), (y - 1, x), (y, x + 1), (y, x - 1)):
                if min(place) >= 0 and max(place) < len(mask) and left[place]:
                    left[place] = False
                    frontier.append(place)
    return count


def where(image: torch.Tensor, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns of the pixels of a disc's color."""
    color = torch.tensor(COLORS[name.split()[0]])[:, None, None] / 255
    return np.nonzero(((image - color).abs().amax(0) < 0.2).numpy())


def test_there_are_as_many_emoji_as_the_description_says(emoji, rng):
    drawn = examples(emoji, 60, rng, mixture=ONLY_COUNTS, empty=0.0)
    counts = [description.items[0].count for description in drawn.descriptions]
    for image, count in zip(drawn.images, counts, strict=True):
        assert components((image.amin(0) < 0.5).numpy()) == count
    assert set(counts) == set(compositions.COUNTS)
    spoken = ("two|2", "three|3", "four|4", "five|5", "six|6")
    for text, count in zip(drawn.captions, counts, strict=True):
        assert re.search(rf"\b({spoken[count - 2]}) (red|lime|navy|plum) discs\b", text)


def test_relations_are_drawn_as_described(emoji, rng):
    drawn = examples(emoji, 120, rng, mixture=ONLY_RELATIONS)
    assert (drawn.concepts == -1).all()
    assert {description.relation for description in drawn.descriptions} == set(compositions.RELATIONS)
    for image, description in zip(drawn.images, drawn.descriptions, strict=True):
        first, second = (where(image, item.name) for item in description.items)
        if description.relation in ("left", "beside"):
            assert first[1].max() < second[1].min()
        elif description.relation == "above":
            assert first[0].max() < second[0].min()
        elif description.relation == "on":
            assert abs(first[0].max() - second[0].min()) <= 3
            assert second[1].min() < first[1].mean() < second[1].max()
        else:
            assert first[0].max() > second[0].max()
            assert len(first[0]) < np.pi / 4 * np.ptp(second[0]) * np.ptp(second[1])
            assert np.ptp(first[0]) == pytest.approx(np.ptp(first[1]), abs=1)  # nothing hides the one in front


def test_other_colors_are_drawn_and_named(emoji, rng):
    drawn = examples(emoji, 60, rng, empty=0.0, mixture=Mixture(0.3, 0.0, 1.0, 1.0))
    assert (drawn.concepts == -1).all()
    hues = {"red": 0.0, "green": 120.0, "blue": 216.0, "purple": 275.0}
    for image, text, description in zip(drawn.images, drawn.captions, drawn.descriptions, strict=True):
        color = description.items[0].color
        assert re.search(rf"\b{color} ((lime|navy|plum) )?discs?\b", text)
        if color in hues:
            ink = image[:, image.amin(0) < 0.5].mean(1, keepdim=True).T.numpy()
            assert apart(hsv(ink)[0], hues[color]).item() < 12


def test_two_emoji_have_different_concepts_and_the_same_style(emoji, rng):
    for description in examples(emoji, 40, rng, mixture=ONLY_RELATIONS).descriptions:
        first, second = description.items
        assert first.name != second.name
        assert first.style == second.style


def test_backgrounds_are_those_of_the_captions(emoji, rng):
    drawn = examples(emoji, 300, rng, empty=0.0)
    white = 0
    for image, text, description in zip(drawn.images, drawn.captions, drawn.descriptions, strict=True):
        color = description.background
        assert torch.allclose(image[:, 0, 0], torch.tensor(compose.BACKGROUNDS.get(color, (1.0, 1.0, 1.0))), atol=1e-6)
        assert f"{color} background" in text or color == "white"
        white += color == "white"
    assert white / 300 == pytest.approx(compositions.MIXTURE.white, abs=0.08)


def test_the_mixture_and_empty_captions_come_at_their_rates(emoji, rng):
    drawn = examples(emoji, 600, rng, size=8)
    counted = sum(description.items[0].count > 1 for description in drawn.descriptions)
    pairs = sum(len(description.items) > 1 for description in drawn.descriptions)
    assert counted / 600 == pytest.approx(0.15, abs=0.04)
    assert pairs / 600 == pytest.approx(0.10, abs=0.035)
    assert drawn.captions.count("") / 600 == pytest.approx(0.09, abs=0.035)


def test_concepts_are_those_of_the_items(emoji, rng):
    drawn = examples(emoji, 100, rng)
    for concept, description in zip(drawn.concepts.tolist(), drawn.descriptions, strict=True):
        item = description.items[0]
        changed = len(description.items) > 1 or item.color
        assert concept == -1 if changed else emoji.names[concept] == item.name


def test_held_out_images_are_never_drawn_and_alone_if_wanted(emoji):
    marked = np.zeros(len(emoji), bool)
    marked[emoji.concept == 2] = True
    split = Emoji(emoji.rgba, emoji.concept, emoji.style, emoji.names, emoji.tags, emoji.styles, marked)
    seen = examples(split, 200, torch.Generator().manual_seed(0), empty=0.0, mixture=Mixture(0.3, 0.3, recolored=0.0))
    assert not any("navy" in text for text in seen.captions)
    assert not any(len(where(image, "navy disc")[0]) for image in seen.images if image[:, 0, 0].min() == 1)
    unseen = examples(split, 50, torch.Generator().manual_seed(0), held_out=True)
    assert {item.name for description in unseen.descriptions for item in description.items} == {"navy disc"}
    with pytest.raises(ValueError, match="no emoji to draw from"):
        examples(split.train, 1, torch.Generator(), held_out=True)


def test_examples_follow_the_generator(emoji):
    first, again, other = (examples(emoji, 12, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))
    assert torch.equal(first.images, again.images)
    assert first.captions == again.captions
    assert first.descriptions == again.descriptions
    assert not torch.equal(first.images, other.images)
    assert texts(emoji, 20, torch.Generator().manual_seed(1)) == texts(emoji, 20, torch.Generator().manual_seed(1))


def test_sizes_and_ranges(emoji, rng):
    for size in (None, 24, 96):
        images = examples(emoji, 4, rng, size=size).images
        assert images.shape == (4, 3, size or SIDE, size or SIDE)
        assert images.dtype == torch.float32
        assert 0 <= images.min() < images.max() <= 1
    assert examples(emoji, 0, rng).images.shape == (0, 3, SIDE, SIDE)


def test_frequent_concepts_are_drawn_more_often(emoji, rng):
    drawn = examples(emoji, 400, rng, size=8, often={"plum disc": 9}, mixture=Mixture(0.0, 0.0))
    shown = np.bincount(emoji.train.concept)  # drawings of each concept
    expected = 9 * shown[3] / (shown[:3].sum() + 9 * shown[3])
    assert float((drawn.concepts == 3).float().mean()) == pytest.approx(expected, abs=0.07)


def test_texts_are_never_empty_and_of_all_kinds(emoji, rng):
    drawn = texts(emoji, 300, rng)
    assert all(drawn)
    assert any(" next to " in text for text in drawn)
    assert any("two " in text for text in drawn)


def test_mirrored_emoji_are_flipped_about_their_own_center(emoji):
    rgba = emoji.rgba[:1].copy()
    rgba[0, :, : SIDE // 2, 3] = 0  # the right half of a disc
    half = Emoji(rgba, emoji.concept[:1], emoji.style[:1], emoji.names, emoji.tags, emoji.styles)
    scenes = [
        Scene((0,), (Placement(0.4, 0.5, 1.0),), (mirrored,), Description((Item("red disc"),)))
        for mirrored in (False, True)
    ]
    plain, flipped = ((image.amin(0) < 0.5).numpy() for image in compositions.render(half, scenes, SIDE))
    heights = [mask.sum(0)[mask.any(0)] for mask in (plain, flipped)]
    assert heights[0][0] > 2 * heights[0][-1]  # the straight edge is on the left
    assert heights[1].tolist() == heights[0][::-1].tolist()
    assert np.flatnonzero(plain.any(0)).tolist() == np.flatnonzero(flipped.any(0)).tolist()


@pytest.mark.parametrize("name", ["alarm clock", "taxi", "newspaper", "ten o’clock", "pool 8 ball", "crescent moon"])
def test_letters_and_clocks_are_not_mirrored(name, emoji, rng):
    assert not compositions.mirrors(name)
    renamed = Emoji(emoji.rgba, emoji.concept, emoji.style, (name,) * 4, emoji.tags, emoji.styles)
    pool = compositions.Pool(renamed, np.arange(len(renamed)), {})
    words = compositions.captions.python_rng(rng)
    scenes = [compositions.draw_scene(pool, compositions.MIXTURE, 1.0, words) for _ in range(20)]
    assert not any(flag for scene in scenes for flag in scene.mirrored)


def test_other_names_are_mirrored(emoji, rng):
    assert all(map(compositions.mirrors, ("cat", "automobile", "watermelon", "signal horn")))
    pool = compositions.Pool(emoji, np.arange(len(emoji)), {})
    words = compositions.captions.python_rng(rng)
    scenes = [compositions.draw_scene(pool, compositions.MIXTURE, 1.0, words) for _ in range(20)]
    assert all(flag for scene in scenes for flag in scene.mirrored)


@pytest.mark.parametrize("values", [(-0.1, 0.1), (0.6, 0.6), (0.1, 0.1, 1.5), (0.1, 0.1, 0.5, -1.0)])
def test_impossible_mixtures_are_refused(values):
    with pytest.raises(ValueError, match="fractions of a mixture must be from 0 to 1"):
        Mixture(*values)
