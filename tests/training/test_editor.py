"""Training of the instruction editor: pairs with known edits, and dropped conditions."""

import numpy as np
import pytest
import torch

from scoredistill.datasets.emoji import Emoji
from scoredistill.datasets.procedural_edits import EDITS
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
    fractions = {kind: first.kinds.count(kind) / 200 for kind in ("style", "background", "object")}
    for kind, fraction in fractions.items():
        assert fraction == pytest.approx(pairs.FRACTIONS[kind], abs=0.08)
    assert 0 <= first.target.min() <= first.target.max() <= 1


def test_procedural_pairs_are_their_edit(emoji):
    data = made(emoji)
    checked = 0
    for source, target, text, kind in zip(data.source, data.target, data.instructions, data.kinds, strict=True):
        if kind in EDITS:
            assert text in EDITS[kind].instructions
            if EDITS[kind].exact:
                assert (EDITS[kind](source[None])[0] - target).abs().max() < 1e-5
                checked += 1
    assert checked > 60


def test_redrawn_pairs_do_what_they_say(emoji):
    data = made(emoji)
    seen = set()
    for source, target, text, kind in zip(data.source, data.target, data.instructions, data.kinds, strict=True):
        if kind == "background":
            color = max((c for c in ("white", *compose.BACKGROUNDS) if c in text), key=len)
            wanted = torch.tensor(compose.BACKGROUNDS.get(color, (1.0, 1.0, 1.0)))
            assert (target[:, 0, 0] - wanted).abs().max() < 1e-5
            assert (source[:, 0, 0] - target[:, 0, 0]).abs().max() > 1e-3
            seen.add(kind)
        elif kind == "style":
            assert ("red" in text) != ("azure" in text)
            drawn = (source - target).abs().amax(0) > 0.3
            assert drawn.any()
            first, last = target[:, drawn].mean(1)[[0, 2]]
            assert (first > last) == ("red" in text)
            seen.add(kind)
        elif kind == "object":
            assert any(name in text for name in NAMES)
            assert (source[:, 0, 0] - target[:, 0, 0]).abs().max() < 1e-5
            seen.add(kind)
    assert seen == {"background", "style", "object"}


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
    tokenizer = train_tokenizer(clip.all_captions(emoji), tmp_path, merges=60)
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
