"""Model cards: figures that are known get a row, and no field is left open."""

import pytest

from scoredistill.training import card

FIGURES = dict.fromkeys((*card.MEANINGS, *card.EDITOR_MEANINGS), 0.123456)


@pytest.mark.parametrize(
    "text",
    [
        card.prior_card(FIGURES, "In an hour.", 452, 1000, 128, 8),
        card.clip_card(FIGURES, "In an hour.", 1000),
        card.editor_card(FIGURES, "In an hour."),
    ],
)
def test_cards_are_complete(text):
    assert text.startswith("---\nlicense: apache-2.0")
    assert "{" not in text
    assert "In an hour." in text
    assert "rasterized at 128" in text
    assert "| 0.123 |" in text
    assert max(map(len, text.splitlines())) <= 150


def test_the_prior_has_the_figures_of_samples_and_the_clip_those_of_retrieval():
    prior, clip = card.prior_card(FIGURES, "", 1, 1), card.clip_card(FIGURES, "", 1)
    for name, meaning in card.MEANINGS.items():
        assert (f"| {meaning} |" in clip) == (name in card.OF_CLIP)
        assert (f"| {meaning} |" in prior) == (name not in card.OF_CLIP)


def test_unknown_figures_are_left_out():
    assert card.table({"a": 1.0, "b": 2.0}, {"a": "first"}) == "| figure | value |\n| --- | --- |\n| first | 1 |"
