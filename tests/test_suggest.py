"""The nearest known word."""

import pytest

from scoredistill.suggest import did_you_mean, nearest


@pytest.mark.parametrize(
    ("word", "found"), [("sdz", "sds"), ("MSD", "msd"), ("colaborative", "collaborative"), ("xyz", ""), ("", "")]
)
def test_the_nearest_word_is_found_or_none(word, found):
    assert nearest(word, ("vsd", "csd", "sds", "msd", "collaborative")) == found


def test_the_phrase_is_empty_without_a_similar_word():
    assert did_you_mean("--sed", ("--seed", "--steps")) == " (did you mean '--seed'?)"
    assert did_you_mean("zebra", ("--seed", "--steps")) == ""
