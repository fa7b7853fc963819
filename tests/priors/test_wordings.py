"""Similarity of texts by their trigrams, and the weights of rare ones."""

import math

import pytest

from scoredistill.priors.wordings import plain, rarity, similarity


def test_similarity_is_the_dice_coefficient():
    assert similarity("ab", "ab") == 1
    assert similarity("ab", "cd") == 0
    assert similarity("abc", "abd") == pytest.approx(2 * 1 / 6)  # " ab" of {" ab", "abc", "bc "}
    assert similarity("", "") == similarity("", "a") == 0


def test_weights_count_what_is_rare():
    weights = rarity(["abc", "abd", "xyz"])
    assert weights[" ab"] == pytest.approx(math.log(4 / 2))
    assert weights["abc"] == pytest.approx(math.log(4))
    common, rare = math.log(2), math.log(4)
    expected = 2 * common / (2 * (common + 2 * rare))
    assert similarity("abc", "abd", weights) == pytest.approx(expected)
    assert similarity("abc", "abq", weights) == pytest.approx(expected)  # unseen trigrams count as the rarest
    assert similarity("abc", "abc", weights) == pytest.approx(1)
    assert similarity("abc", "ab", weights) == pytest.approx(2 * common / (common + 2 * rare + common + rare))
    assert similarity("abc", "", {}) == 0


def test_plain_words():
    assert plain("  A T-shirt,  GREY’s `colour`! ") == "a t shirt grays color"
    assert plain("Ｏｗｌ") == "owl"
