"""Captions: what they mention, how often, and the order of the items of a relation."""

import random
import re
from dataclasses import replace

import pytest
import torch

from scoredistill.training import captions
from scoredistill.training.captions import RELATIONS, Description, Item, describe

OWL = Item("owl", ("night bird",), ("wise", "animal"), "flat")
CAR = Item("car", style="flat")


def many(description: Description, n: int = 400, **options) -> list[str]:
    rng = random.Random(0)
    return [describe(description, rng, **options) for _ in range(n)]


def rate(texts: list[str], pattern: str) -> float:
    return sum(bool(re.search(pattern, text)) for text in texts) / len(texts)


def test_a_single_item_is_named_with_style_background_and_keywords_at_their_rates():
    texts = many(Description((OWL,), background="blue"), 3000)
    assert all(re.search(r"\b(owl|night bird)\b", text) for text in texts)
    assert all("blue background" in text for text in texts)
    assert rate(texts, "night bird") == pytest.approx(captions.PLAIN, abs=0.03)
    assert rate(texts, "flat") == pytest.approx(captions.STYLE, abs=0.03)
    assert rate(texts, "wise|animal") == pytest.approx(captions.KEYWORDS, abs=0.02)
    assert rate(texts, "on a blue background$") == pytest.approx(captions.USUAL, abs=0.03)
    assert {"an owl on a blue background", "a flat emoji of an owl on a blue background"} <= set(texts)
    assert len(set(texts)) > 200


def test_white_is_mentioned_now_and_then_and_no_background_never():
    assert rate(many(Description((OWL,)), 2000), "white background") == pytest.approx(captions.SAY_WHITE, abs=0.03)
    assert rate(many(Description((OWL,), background=None)), "background") == 0


def test_a_tag_replaces_only_a_name_without_plain_names():
    lonely = replace(OWL, plain=())
    assert rate(many(Description((lonely,)), tag=0.5), r"\bowl\b") < 0.65
    assert rate(many(Description((OWL,)), tag=1.0, plain=0.0), r"\bowl\b") == 1


def test_empty_captions_come_at_their_rate():
    texts = many(Description((OWL,)), 2000, empty=0.1)
    assert texts.count("") / len(texts) == pytest.approx(0.1, abs=0.03)


def test_counts_are_spoken_in_words_or_digits():
    texts = many(Description((replace(OWL, count=3),)), 1000)
    assert all(re.search(r"\b(three|3) (owls|night birds)\b", text) for text in texts)
    assert rate(texts, r"\b3\b") == pytest.approx(captions.DIGITS, abs=0.05)


def test_what_is_counted_has_a_countable_name():
    tea = Item("rice", ("bowl of rice", "grains"), ("food",), count=2)
    texts = many(Description((tea,), background=None), plain=0.9, tag=0.9)
    assert all(re.search(r"\b(two|2) bowls of rice\b", text) for text in texts)


def test_another_color_is_always_said_and_replaces_that_of_the_name():
    apple = Item("red apple", ("apple",), ("fruit",), color="blue")
    texts = many(Description((apple,)), tag=0.5)
    assert all("blue apple" in text and "red" not in text for text in texts)
    assert captions.painted("light green heart", "pink") == "pink heart"
    assert captions.painted("orange", "blue") == "blue orange"
    assert captions.painted("the sun", "green") == "green sun"
    assert captions.painted("red apple", "") == "red apple"


ORDER = {  # relation -> words between the first and the second item, and between the second and the first
    "left": (
        r"owl (to the |)left of .*car|owl on the left and .*car on the right",
        r"car (to the |)right of .*owl",
    ),
    "above": (r"owl (above|over) .*car", r"car (below|under) .*owl"),
    "on": (r"owl on (top of |).*car", None),
    "in front": (r"owl in front of .*car", r"car behind .*owl"),
}


@pytest.mark.parametrize("relation", ORDER)
def test_relations_are_worded_in_the_right_order(relation):
    forward, backward = ORDER[relation]
    texts = many(Description((replace(OWL, plain=()), CAR), relation), tag=0.0)
    there = rate(texts, forward)
    back = rate(texts, backward) if backward else 0.0
    assert there + back == 1
    assert there > 0.3
    assert (back > 0.15) == (backward is not None)


def test_items_beside_each_other_are_named_in_either_order():
    texts = many(Description((replace(OWL, plain=()), CAR), "beside"), tag=0.0)
    joined = r" (and|next to|beside|with) (a |an |)"
    there, back = rate(texts, f"owl{joined}car"), rate(texts, f"car{joined}owl")
    assert there + back == 1
    assert 0.4 < there < 0.6


def test_on_names_the_item_below_and_not_the_background():
    texts = many(Description((OWL, CAR), "on", "blue"))
    assert all("blue background" in text for text in texts)
    assert not any("on a blue background" in text for text in texts)


def test_a_style_is_mentioned_only_if_both_items_have_it():
    other = replace(CAR, style="round")
    assert rate(many(Description((OWL, CAR), "above")), "flat") > 0.3
    assert rate(many(Description((OWL, other), "above")), r"flat|\bround\b") == 0


def test_every_relation_has_wordings_with_both_items():
    for wordings in RELATIONS.values():
        assert all(wording.count("{a}") == wording.count("{b}") == 1 for wording in wordings)


@pytest.mark.parametrize(
    ("items", "relation", "message"),
    [
        ((), None, "got 0 items"),
        ((OWL, CAR), None, "got 2 items and the relation None"),
        ((OWL,), "on", "got 1 items and the relation 'on'"),
        ((OWL, CAR, OWL), "on", "got 3 items"),
        ((OWL, CAR), "inside", "unknown relation 'inside': choose one of beside, left"),
    ],
)
def test_impossible_descriptions_are_refused(items, relation, message):
    with pytest.raises(ValueError, match=message):
        Description(items, relation)


def test_captions_follow_the_generator():
    description = Description((OWL, CAR), "above", "pink")
    assert many(description) == many(description)
    first, again, other = (captions.python_rng(torch.Generator().manual_seed(seed)).random() for seed in (1, 1, 2))
    assert first == again != other


def test_the_caption_of_a_name_uses_its_plain_names():
    rng = random.Random(0)
    texts = [captions.caption("automobile", ("vehicle",), "glossy", "blue", rng) for _ in range(300)]
    assert all(re.search("automobile|car", text) and "blue background" in text for text in texts)
    assert 0.3 < rate(texts, r"\bcar\b") < 0.7
    assert rate(texts, r"\b3D\b") > 0.02  # another word for the glossy style
