"""The exported vocabulary agrees with the captions and instructions of training."""

import random

import numpy as np
import pytest
import torch

from scoredistill.datasets.emoji import Emoji, common_groups, common_names
from scoredistill.priors.vocabulary import Vocabulary
from scoredistill.training import captions, pairs, vocabulary
from scoredistill.training.captions import Description, Item
from scoredistill.training.compositions import Mixture

NAMES = ("owl", "automobile", "french fries", "red apple", "popcorn")
TAGS = (("wise",), ("vehicle",), ("food",), ("fruit", "food"), ())
EMOJI = Emoji(np.zeros((5, 8, 8, 4), np.uint8), np.arange(5), np.zeros(5, np.int64), NAMES, TAGS, ("glossy", "flat"))


def items():
    return [Item(name, captions.plain_names().get(name, ()), TAGS[i], style)
            for i, name in enumerate(NAMES) for style in EMOJI.styles]  # fmt: skip


def test_captions_of_single_concepts_are_known():
    known, words = vocabulary.of_captions(EMOJI), random.Random(0)
    for item in items():
        for color in (None, "white", "light blue", "dark green"):
            for _ in range(4):
                text = captions.describe(Description((item,), background=color), words, tag=0.0)
                assert known.knows(text), known.knows(text)


def test_captions_of_compositions_are_known():
    known, words = vocabulary.of_captions(EMOJI), random.Random(0)
    for relation in captions.RELATIONS:
        for _ in range(20):
            first, second = words.sample(items(), 2)
            counted = Item(first.name, first.plain, count=3) if captions.is_countable(first.name) else first
            pair = Description((counted, Item(second.name, second.plain, color="blue")), relation, "pink")
            text = captions.describe(pair, words, tag=0.0)
            assert known.knows(text), known.knows(text)
    assert known.objects == 2
    assert not known.knows("an owl riding a car")
    assert not known.knows("seven owls")


def test_what_the_mixture_leaves_out_is_unknown():
    simple = vocabulary.of_captions(EMOJI, mixture=Mixture(counts=0.0, relations=0.0, recolored=0.0))
    assert (simple.objects, simple.colors, simple.counts, simple.relations) == (1, (), (), ())
    assert vocabulary.of_captions(EMOJI, mixture=Mixture(relations=0.0)).objects == 1
    assert simple.knows("a car on a pink background")
    for text in ("two owls", "a blue owl", "an owl next to a car"):
        assert not simple.knows(text)
    assert not vocabulary.of_captions(EMOJI, ["owl", "unicorn"]).knows("a car")
    assert [each.name for each in vocabulary.of_captions(EMOJI, ["owl", "unicorn"]).concepts] == ["owl"]


def test_all_instructions_of_training_are_known_and_those_left_out_are_not():
    known = vocabulary.of_instructions(EMOJI)
    for text in pairs.instructions(EMOJI):
        assert known.knows(text), known.knows(text)
    assert {each.group for each in known.instructions} == {"edits", "backgrounds", "styles", "objects"}
    assert known.knows("turn it into a car")
    fewer = vocabulary.of_instructions(EMOJI, left_out=("objects", "styles"))
    assert {each.group for each in fewer.instructions} == {"edits", "backgrounds"}
    assert not fewer.knows("turn it into a car")
    assert fewer.knows("make it night")


def test_groups_are_those_of_the_common_concepts():
    names = {name.lstrip("*"): group for group, names in common_groups().items() for name in names}
    assert set(names) == set(common_names())
    made = {each.name: each.group for each in vocabulary.of_captions(EMOJI).concepts}
    assert made["owl"] == names["owl"] == "animals"


def test_pieces_of_templates():
    assert vocabulary.pieces("{a} on the left and {b} on the right") == ["on the left and", "on the right"]
    assert vocabulary.pieces("{noun}, high quality, detailed") == ["high quality, detailed"]


def test_the_typical_similarity_is_the_mean_over_samples(tmp_path, monkeypatch):
    class Prior:
        latent_shape = (1, 2, 2)

        def encode_text(self, prompts):
            return prompts

        def decode(self, samples):
            return samples

    monkeypatch.setattr(vocabulary, "load_prior", lambda folder, device: Prior())
    monkeypatch.setattr(vocabulary, "Guided", lambda prior, scale: prior)
    monkeypatch.setattr(vocabulary, "Clip", lambda folder: None)
    monkeypatch.setattr(vocabulary, "ddim", lambda prior, noise, steps, cond: noise)
    seen = []

    def similarity(images, prompts, clip):
        seen.extend(prompts)
        return torch.arange(len(prompts), dtype=torch.float32) + 10

    monkeypatch.setattr(vocabulary, "clip_similarity", similarity)
    monkeypatch.setattr(vocabulary, "BATCH", 2)
    with pytest.raises(ValueError, match="has no vocabulary"):
        vocabulary.measure(tmp_path, tmp_path)
    vocabulary.of_captions(EMOJI).write(tmp_path)
    vocabulary.measure(tmp_path, tmp_path, n=3)
    assert seen == ["an owl", "french fries", "popcorn"]
    assert Vocabulary.read(tmp_path).typical == {"clip_similarity": 10.3}
