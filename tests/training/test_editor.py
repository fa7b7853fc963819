"""Training of the instruction editor: pairs with known edits, and dropped conditions."""

import dataclasses
import random

import numpy as np
import pytest
import torch

from scoredistill.datasets.emoji import Emoji
from scoredistill.datasets.procedural_edits import EDITS, View, nearest, recognized, unit_of
from scoredistill.training import clip, compose, editor, pairs, unet
from scoredistill.training.tokenizer import train_tokenizer

NAMES = ("disc", "bar", "ring")
PHOTOS = np.random.default_rng(0).integers(0, 255, (3, 64, 64, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def emoji():
    """Three concepts in two styles: red and blue."""
    y, x = np.mgrid[:64, :64] - 31.5
    shapes = [x**2 + y**2 < 400, (abs(x) < 8) & (abs(y) < 25), (x**2 + y**2 < 500) & (x**2 + y**2 > 200)]
    colors = [(230, 30, 30), (30, 30, 230)]
    rows = [(c, s) for c in range(3) for s in range(2)]
    rgba = np.stack([np.dstack([np.full((64, 64, 3), colors[s], np.uint8), 255 * shapes[c].astype(np.uint8)])
                     for c, s in rows])  # fmt: skip
    concept, style = np.array(rows).T
    return Emoji(rgba, concept, style, NAMES, ((),) * 3, ("red", "azure"))


def made(emoji, n=200):
    return pairs.make_pairs(emoji, PHOTOS, n, torch.Generator().manual_seed(0))


def test_pairs_come_in_their_fractions_and_repeat_with_the_seed(emoji):
    first, second = made(emoji), made(emoji)
    assert torch.equal(first.target, second.target)
    assert first.instructions == second.instructions
    assert len(first.source) == len(first.target) == len(first.instructions) == len(first.kinds) == 200
    counts = {"one answer": 0, "many answers": 0} | dict.fromkeys(("style", "background", "object", "empty"), 0)
    for kind in first.kinds:
        if kind in EDITS:
            counts["one answer" if EDITS[kind].exact else "many answers"] += 1
        else:
            counts[kind or "empty"] += 1
    assert sum(pairs.FRACTIONS.values()) == pytest.approx(1)
    for kind, fraction in pairs.FRACTIONS.items():
        assert counts[kind] / 200 == pytest.approx(fraction, abs=0.08)
    assert 0 <= first.target.min() <= first.target.max() <= 1


@pytest.mark.parametrize("side", [32, 64])
def test_procedural_pairs_are_right_answers_of_their_edit_at_any_size(emoji, side):
    reduced = dataclasses.replace(emoji, rgba=emoji.rgba[:, :: 64 // side, :: 64 // side])
    photos = PHOTOS[:, :side, :side]
    data = pairs.make_pairs(reduced, photos, 120, torch.Generator().manual_seed(1))
    assert data.source.shape == (120, 3, side, side)
    view, seen = View.whole((side, side), unit_of(side)), set()
    for source, target, text, kind in zip(data.source, data.target, data.instructions, data.kinds, strict=True):
        if kind not in EDITS:
            continue
        assert text in EDITS[kind].instructions
        if EDITS[kind].exact:
            assert (EDITS[kind](source[None], view=view)[0] - target).abs().max() < 1e-5
        elif kind != "drawing" or "drawing" not in seen:  # the search for crosshatching takes longest
            assert nearest(EDITS[kind], source[None], target[None], view).psnr > 45
        seen.add(kind)
    assert len(seen) > 15
    assert {"drawing", "texture", "frame"} <= seen


def test_the_answers_of_pairs_differ_from_image_to_image(emoji):
    """Frames, whose color is seen in a corner."""
    data = pairs.make_pairs(emoji, PHOTOS, 400, torch.Generator().manual_seed(2))
    corners = {tuple(target[:, 0, 0].tolist()) for target, kind in zip(data.target, data.kinds, strict=True)
               if kind == "frame"}  # fmt: skip
    assert len(corners) >= 4


def test_redrawn_pairs_do_what_they_say(emoji):
    data = made(emoji)
    seen = set()
    for source, target, text, kind in zip(data.source, data.target, data.instructions, data.kinds, strict=True):
        if kind == "background":
            color = max((c for c in ("white", *compose.BACKGROUNDS) if c in text), key=len)
            wanted = torch.tensor(compose.BACKGROUNDS.get(color, (1.0, 1.0, 1.0)))
            assert (target[:, 0, 0] - wanted).abs().max() < 1e-5
            assert (source[:, 0, 0] - target[:, 0, 0]).abs().max() > 1e-3
            assert text in {pairs.phrased(t, color) for t in pairs.BACKGROUND.trained}
        elif kind == "style":
            assert ("red" in text.split()) != ("azure" in text.split())
            drawn = (source - target).abs().amax(0) > 0.3
            assert drawn.any()
            first, last = target[:, drawn].mean(1)[[0, 2]]
            assert (first > last) == ("red" in text.split())
        elif kind == "object":
            known = [word for name in NAMES for word in pairs.synonyms(name)]
            assert text in {pairs.named(t, word) for t in pairs.OBJECT.trained for word in known}
            assert (source[:, 0, 0] - target[:, 0, 0]).abs().max() < 1e-5
        elif kind == "":
            assert text == ""
            assert torch.equal(source, target)
        seen.add(kind)
    assert seen >= {"background", "style", "object", ""}


def test_objects_are_common_concepts_of_the_same_style_in_the_same_place(emoji):
    """Only "disc" is common here: every object pair turns into it, in the source's color and place."""
    concepts = dataclasses.replace(emoji, names=("pizza", "bar", "loop"))
    assert pairs.object_names(concepts) == ["pizza"]
    assert pairs.synonyms("automobile")[:2] == ("automobile", "car")
    words, rng = random.Random(0), torch.Generator().manual_seed(0)
    data = pairs.redrawn(concepts, "object", 40, rng, words)
    for source, target, text in zip(data.source, data.target, data.instructions, strict=True):
        assert any(pairs.named("{name}", word) in text for word in pairs.synonyms("pizza"))
        before, after = ((x - x[:, :1, :1]).abs().amax(0) > 0.1 for x in (source, target))  # apart from the background
        centers = [shape.nonzero().float().mean(0) for shape in (before, after)]
        assert (centers[0] - centers[1]).abs().max() < 2
        blue = [(image[2] > image[0])[shape].float().mean() > 0.5
                for image, shape in ((source, before), (target, after))]  # fmt: skip
        assert blue[0] == blue[1]
        assert 500 < after.sum() < 1400  # a disc with a radius of 20 pixels, at scales of 0.7 to 1


@pytest.mark.parametrize("phrases", [pairs.STYLE, pairs.BACKGROUND, pairs.OBJECT])
def test_redrawn_edits_have_eight_wordings_besides_those_held_out(phrases):
    assert len(phrases.trained) >= 8
    assert len(phrases.held_out) >= 2
    assert len({*phrases.trained, *phrases.held_out}) == len(phrases.trained) + len(phrases.held_out)
    assert all("{name}" in text for text in (*phrases.trained, *phrases.held_out))


def test_all_instructions_of_pairs_are_known_and_no_held_out_one_is(emoji):
    known = pairs.instructions(emoji)
    data = made(emoji)
    for text, kind in zip(data.instructions, data.kinds, strict=True):
        assert text == "" or known[text] == kind
    held_out = [text for edit in EDITS.values() for text in edit.held_out]
    held_out += [pairs.phrased(text, "blue") for text in pairs.BACKGROUND.held_out]
    held_out += [pairs.named(text, "ring") for text in pairs.OBJECT.held_out]
    assert not [text for text in held_out if recognized(text, known).known]
    assert pairs.named("turn it into {name}", "owl") == "turn it into an owl"
    assert pairs.phrased("on {a} {name} background", "orange") == "on an orange background"
    assert recognized("On an orange background!", known).name == "background"
    oranges = dict.fromkeys(["make it an orange"], "object") | known
    assert recognized("Make it orange", oranges).name == "tinted orange"
    assert recognized("Make it an orange", oranges).name == "object"


def test_pairs_without_photographs_and_of_one_image(emoji):
    nothing = np.empty((0, 64, 64, 3), np.uint8)
    for size in (1, 2, 9):
        data = pairs.make_pairs(emoji, nothing, size, torch.Generator().manual_seed(size))
        assert len(data.source) == len(data.target) == len(data.instructions) == size
    with pytest.raises(ValueError, match="emoji of 64x64 pixels and photographs of 32x32: crop the photographs to 64"):
        pairs.make_pairs(emoji, PHOTOS[:, :32, :32], 4, torch.Generator())


def test_conditions_are_dropped_at_their_rates_and_no_instruction_means_no_change():
    n = 4000
    data = editor.LatentPairs(torch.ones(1, 4, 2, 2), 2 * torch.ones(1, 4, 2, 2), ["make it green"])
    rng = torch.Generator().manual_seed(0)
    target, source, texts = editor.dropped(data, torch.zeros(n, dtype=torch.long), rng)
    silent = torch.tensor([text == "" for text in texts])
    blind, same = source[:, 0, 0, 0] == 0, target[:, 0, 0, 0] == 1
    assert same.float().mean() == pytest.approx(editor.NO_TEXT, abs=0.02)
    assert (blind & silent).float().mean() == pytest.approx(editor.NEITHER, abs=0.015)
    assert (blind & ~silent).float().mean() == pytest.approx(editor.NO_IMAGE, abs=0.015)
    assert torch.equal(same, silent & ~blind)


def test_a_widened_network_is_the_old_one_until_it_is_trained(emoji, tmp_path):
    tokenizer = train_tokenizer(clip.all_captions(emoji, 50), tmp_path, merges=60)
    network = unet.TextToImage(
        unet.build_unet((16, 32), channels=4), clip.text_encoder_of(clip.build(tokenizer))
    ).eval()
    wide = editor.widened(network).eval()
    z, time = torch.randn(2, 4, 16, 16), torch.tensor([10, 900])
    ids = clip.tokens(tokenizer, ["a disc", ""], padding="max_length")
    with torch.no_grad():
        before = network(z, time, ids)
        assert (wide(torch.cat([z, torch.randn(2, 4, 16, 16)], 1), time, ids) - before).abs().max() < 1e-6
    assert wide.unet.config["in_channels"] == 8
