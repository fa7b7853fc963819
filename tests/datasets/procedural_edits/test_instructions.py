"""Instructions: wordings of every edit, trained and held out, and the recognition of known ones."""

import pytest

from scoredistill.datasets.procedural_edits import EDITS, TINTS, known_wordings, recognized
from scoredistill.priors.wordings import normalized

FIRST = ("make it black and white", "make it sepia", "make it night", "make it sunset", "make it snowy",
         "invert the colors", "turn it into a pencil sketch", "pixelate it", "posterize it", "blur it",
         *(f"make it {color}" for color in TINTS), "change the colors")  # fmt: skip


def test_first_wordings_never_change():
    """Studies, demos and the first bundled editor use them."""
    assert tuple(edit.instructions[0] for edit in EDITS.values())[: len(FIRST)] == FIRST


@pytest.mark.parametrize("edit", EDITS.values(), ids=EDITS)
def test_every_edit_has_eight_wordings_of_which_two_are_held_out(edit):
    assert len(edit.instructions) >= 8
    assert len(edit.held_out) >= 2
    assert edit.caption
    for text in (*edit.instructions, *edit.held_out):
        assert text == text.strip().lower()
        assert "{" not in text


def test_no_two_wordings_are_the_same_text():
    texts = [normalized(text) for edit in EDITS.values() for text in (*edit.instructions, *edit.held_out)]
    assert len(texts) == len(set(texts))
    assert "" not in texts
    assert "give it an orange tint" in EDITS["tinted orange"].instructions


def test_held_out_wordings_are_known_only_if_asked_for():
    trained, everything = known_wordings(), known_wordings(held_out=True)
    assert everything.keys() > trained.keys()
    for edit in EDITS.values():
        assert all(trained[text] == edit.name for text in edit.instructions)
        for text in edit.held_out:
            assert text not in trained
            assert not recognized(text, trained).known
            assert everything[text] == edit.name


@pytest.mark.parametrize(
    ("text", "wording"),
    [
        ("make it night", "make it night"),
        ("  Make it NIGHT!! ", "make it night"),
        ("please make the photo night.", "make it night"),
        ("Could you make this picture night, please?", "make it night"),
        ("POSTERISE IT", "posterize it"),
        ("Change the colours", "change the colors"),
        ("make it greyscale", "make it grayscale"),
        ("turn the image into a black-and-white picture", "turn it into a black and white picture"),
        ("change colors", "change the colors"),
        ("make an image sepia", None),
        ("put frame around it", None),
        ("turn it in to a poster", None),
        ("make it night and add a moon", None),
        ("don't make it night", None),
        ("do not make it night", None),
        ("make it nihgt", None),
        ("make it", None),
        ("night", None),
        ("turn it into a dragon", None),
        ("add a hat", None),
        ("make it greenish", None),
        ("mach es dunkel", None),
        ("夜にする", None),
        ("?!", None),
        ("", None),
    ],
)
def test_known_texts_are_recognized_and_no_others(text, wording):
    match = recognized(text)
    assert match.known == (wording is not None)
    assert match.name == known_wordings()[match.wording]
    assert 0 <= match.similarity <= 1
    if wording is not None:
        assert match.wording == wording
        assert match.similarity == 1


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("make it nihgt time", "night"),
        ("turn the day into the night", "night"),
        ("make it a pencl sketch", "pencil sketch"),
        ("make my cat green", "tinted green"),
        ("into pixel art turn it", "pixelated"),
        ("recolour it all", "other colors"),
        ("make it look like another season", "season"),
    ],
)
def test_the_nearest_wording_is_suggested(text, name):
    match = recognized(text)
    assert match.name == name
    assert (match.similarity < 1) or match.known


def test_similarity_is_the_dice_coefficient_of_trigrams():
    match = recognized("make it bad", {"make it bat": "bat"})  # 11 trigrams each, of which "bad", "ad " differ
    assert match.similarity == pytest.approx(2 * 9 / (11 + 11))
    assert not match.known


def test_other_wordings_can_be_recognized_and_none_is_an_error():
    match = recognized("On a blue background.", known_wordings() | {"on a blue background": "background"})
    assert (match.known, match.name) == (True, "background")
    with pytest.raises(ValueError, match="there are no known wordings: give at least one"):
        recognized("make it night", {})
