"""English noun phrases of emoji names."""

import pytest

from scoredistill.datasets.emoji import common_names, plain_names
from scoredistill.training import nouns


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("owl", "an owl"),
        ("cactus", "a cactus"),
        ("french fries", "french fries"),
        ("glass", "a glass"),
        ("glasses", "glasses"),
        ("unicorn", "a unicorn"),
        ("umbrella", "an umbrella"),
        ("ewe", "a ewe"),
        ("UFO", "a UFO"),
        ("SUV", "an SUV"),
        ("TV", "a TV"),
        ("T-Rex", "a T-Rex"),
        ("x-ray", "an x-ray"),
        ("hourglass done", "an hourglass done"),
        ("8 ball", "an 8 ball"),
        ("1st place medal", "a 1st place medal"),
        ("popcorn", "popcorn"),
        ("box of popcorn", "a box of popcorn"),
        ("cooked rice", "cooked rice"),
        ("ice cream", "an ice cream"),
        ("the earth", "the earth"),
        ("Statue of Liberty", "the Statue of Liberty"),
    ],
)
def test_articles(name, expected):
    assert nouns.with_article(name) == expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("owl", "owls"),
        ("mouse face", "mouse faces"),
        ("mouse", "mice"),
        ("computer mouse", "computer mice"),
        ("pile of poo", "piles of poo"),
        ("smiling face with halo", "smiling faces with halo"),
        ("magnifying glass tilted left", "magnifying glasses tilted left"),
        ("hourglass done", "hourglasses done"),
        ("cherry", "cherries"),
        ("monkey", "monkeys"),
        ("cactus", "cactuses"),
        ("fox", "foxes"),
        ("torch", "torches"),
        ("jellyfish", "jellyfish"),
        ("snowman", "snowmen"),
        ("rhinoceros", "rhinoceroses"),
        ("face blowing a kiss", "faces blowing a kiss"),
        ("tropical fish", "tropical fish"),
        ("maple leaf", "maple leaves"),
        ("kitchen knife", "kitchen knives"),
        ("tomato", "tomatoes"),
        ("T-Rex", "T-Rexes"),
        ("woman’s hat", "woman’s hats"),
    ],
)
def test_plurals(name, expected):
    assert nouns.plural(name) == expected
    assert nouns.is_countable(name)


@pytest.mark.parametrize(
    "name",
    [
        "popcorn",
        "garlic",
        "grapes",
        "nut and bolt",
        "the moon",
        "ten o’clock",
        "Statue of Liberty",
        "ping pong",
        "scissors",
    ],
)
def test_some_names_are_not_counted(name):
    assert not nouns.is_countable(name)


def test_counts_are_words_or_digits_from_two_to_ten():
    assert nouns.counted("bus", 3) == "three buses"
    assert nouns.counted("bus", 10, digits=True) == "10 buses"
    for count in (0, 1, 11):
        with pytest.raises(ValueError, match=f"from 2 to 10, not {count}"):
            nouns.counted("bus", count)


def test_most_common_concepts_can_be_counted_by_some_name():
    names = plain_names()
    counted = [any(map(nouns.is_countable, (name, *names.get(name, ())))) for name in common_names()]
    assert sum(counted) > 0.9 * len(counted)
