"""Random captions of composed emoji.

A `Description` says what an image shows: one or two items, each with its names, style and count, the relation of two
items, and the background. `describe` words it at random, for example

    two owls, flat style, on a blue background
    a picture of a cat next to a dog
    a glossy emoji of a red apple

with or without style and article, with plain names and tags as synonyms, sometimes with filler words, sometimes empty.
All randomness comes from the generator that is passed in.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from scoredistill.datasets.emoji import Emoji, plain_names
from scoredistill.training.nouns import article, counted, is_countable, with_article

WHITE = "white"

TEMPLATES = (
    "{noun}",
    "{noun}",
    "{noun}",
    "a picture of {noun}",
    "a drawing of {noun}",
    "an emoji of {noun}",
    "{noun}, emoji",
    "a photo of {noun}",
    "a DSLR photo of {noun}",
    "{noun}, high quality, detailed",
)
SHORT = 4
"""The first templates, without filler words after the noun: those of two items, whose captions are long."""
STYLED = (
    "{article} {style} emoji of {noun}",
    "{article} {style} emoji of {noun}",
    "{noun}, {style} style",
    "{noun} in {style} style",
)
COLOR_WORDS = re.compile(
    r"\b(?:light |dark )?(?:red|orange|yellow|green|blue|purple|pink|brown|black|white|gray|gold|golden)\b (?=\w)"
)
"""Colors in a name, which another color replaces."""
STYLE_WORDS = {"glossy": ("glossy", "glossy", "3D", "shiny")}
"""Words for a style; a style that is not listed has its own name only."""

BACKGROUND = "{text} on {article} {color} background"
OTHER_BACKGROUND = (
    "{text}, {color} background",
    "{text} with {article} {color} background",
    "{text} against {article} {color} background",
)
"""Wordings of the background besides the usual one; the only ones after a relation with "on"."""

RELATIONS: dict[str, tuple[str, ...]] = {
    "beside": ("{a} and {b}", "{a} next to {b}", "{a} next to {b}", "{a} beside {b}", "{a} with {b}"),
    "left": (
        "{a} to the left of {b}",
        "{a} left of {b}",
        "{b} to the right of {a}",
        "{b} right of {a}",
        "{a} on the left and {b} on the right",
    ),
    "above": ("{a} above {b}", "{a} over {b}", "{b} below {a}", "{b} under {a}"),
    "on": ("{a} on {b}", "{a} on {b}", "{a} on top of {b}"),
    "in front": ("{a} in front of {b}", "{b} behind {a}"),
}
"""Relation of a first item a to a second item b -> its wordings. Items that are "beside" each other have no order."""

PLAIN, TAG, KEYWORDS = 0.5, 0.02, 0.08
"""Probabilities that a plain name replaces the name, that a tag replaces a name that has no plain name, and that tags
follow as keywords."""
STYLE, SAY_WHITE, USUAL, BARE, DIGITS = 0.4, 0.1, 0.7, 0.4, 0.15
"""Probabilities that the style is mentioned, that a white background is, that the background has its usual wording,
that nouns have no article, and that counts are digits."""


@dataclass(frozen=True)
class Item:
    """Emoji of one concept and style.

    Attributes:
        name: of the concept, such as "automobile".
        plain: plain names, such as "car".
        tags: looser synonyms, such as "vehicle".
        style: name of the style; empty to say nothing about it.
        count: how many there are, from 1.
        color: of a recolored drawing, always mentioned; empty for the usual color.
    """

    name: str
    plain: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    style: str = ""
    count: int = 1
    color: str = ""


@dataclass(frozen=True)
class Description:
    """What an image shows.

    Attributes:
        items: one item, or two.
        relation: of the first item to the second, a key of `RELATIONS`; None with one item.
        background: name of the color, always mentioned unless it is "white"; None to say nothing about it.
    """

    items: tuple[Item, ...]
    relation: str | None = None
    background: str | None = WHITE

    def __post_init__(self) -> None:
        if len(self.items) not in (1, 2) or (len(self.items) == 2) != (self.relation is not None):
            raise ValueError(
                "a description has one item, or two items and a relation: "
                f"got {len(self.items)} items and the relation {self.relation!r}"
            )
        if self.relation is not None and self.relation not in RELATIONS:
            raise ValueError(f"unknown relation {self.relation!r}: choose one of {', '.join(RELATIONS)}")


def describe(
    description: Description, rng: random.Random, empty: float = 0.0, plain: float = PLAIN, tag: float = TAG
) -> str:
    """One random caption.

    Args:
        description: of the image.
        rng: draws the wording.
        empty: probability of an empty caption, for classifier-free guidance.
        plain: probability that a plain name replaces the name, if there is one.
        tag: probability that a tag replaces a name that has no plain name.
    """
    if rng.random() < empty:
        return ""
    bare = rng.random() < BARE
    nouns = [noun(item, rng, bare, plain, tag) for item in description.items]
    alone = description.relation is None
    phrase = related(nouns, description.relation, rng)
    styles = {item.style for item in description.items}
    style = rng.choice(STYLE_WORDS.get(word := styles.pop(), (word,))) if len(styles) == 1 else ""
    template = rng.choice(STYLED if style and rng.random() < STYLE else TEMPLATES if alone else TEMPLATES[:SHORT])
    text = template.format(noun=phrase, style=style, article=article(style))
    if alone and rng.random() < KEYWORDS:
        tags = description.items[0].tags
        text = ", ".join([text, *rng.sample(tags, min(len(tags), rng.randint(1, 2)))])
    return on_background(text, description, rng)


def noun(item: Item, rng: random.Random, bare: bool, plain: float = PLAIN, tag: float = TAG) -> str:
    """A noun phrase of an item: "an owl", "owl" (if `bare`), "two owls", "2 owls" or "a blue owl"."""
    names = [painted(word, item.color) for word in (item.name, *item.plain)]
    if item.count > 1:
        names = [name for name in names if is_countable(name)] or names[:1]
    word, synonyms = names[0], names[1:]
    if synonyms and rng.random() < plain:
        word = rng.choice(synonyms)
    elif item.tags and not item.plain and item.count == 1 and rng.random() < tag:
        word = painted(rng.choice(item.tags), item.color)
    if item.count > 1:
        return counted(word, item.count, digits=rng.random() < DIGITS)
    return word if bare else with_article(word)


def painted(name: str, color: str) -> str:
    """A name with another color: "red apple" in blue is "blue apple"; with an empty color unchanged."""
    if not color:
        return name
    return f"{color} {COLOR_WORDS.sub('', name.removeprefix('the '))}"


def related(nouns: Sequence[str], relation: str | None, rng: random.Random) -> str:
    """A phrase of two nouns in a relation; of a single noun without one."""
    if relation is None:
        return nouns[0]
    first, second = nouns if relation != "beside" or rng.random() < 0.5 else reversed(nouns)
    return rng.choice(RELATIONS[relation]).format(a=first, b=second)


def on_background(text: str, description: Description, rng: random.Random) -> str:
    """Append the background: any color, and white now and then."""
    color = description.background
    if color == WHITE and rng.random() >= SAY_WHITE:
        return text
    usual = description.relation != "on" and rng.random() < USUAL
    return with_background(text, color, BACKGROUND if usual else rng.choice(OTHER_BACKGROUND))


def with_background(text: str, color: str | None, wording: str = BACKGROUND) -> str:
    """Append the background in a wording; None appends nothing."""
    return text if color is None else wording.format(text=text, color=color, article=article(color))


def caption(
    name: str,
    tags: Sequence[str],
    style: str,
    color: str | None,
    rng: random.Random,
    empty: float = 0.0,
    synonym: float = TAG,
) -> str:
    """One random caption of one emoji.

    Args:
        name: of the concept; its plain names replace it in half of the captions.
        tags: synonyms of the name.
        style: name of the style, mentioned in 40 % of the captions.
        color: name of the background color, always mentioned; None to say nothing.
        rng: draws the caption.
        empty: probability of an empty caption, for classifier-free guidance.
        synonym: probability that a tag replaces a name that has no plain name.
    """
    item = Item(name, plain_names().get(name, ()), tuple(tags), style)
    return describe(Description((item,), background=color), rng, empty, tag=synonym)


def item_of(emoji: Emoji, index: int, count: int = 1) -> Item:
    """The item of image `index` of a data set."""
    concept = int(emoji.concept[index])
    name, style = emoji.names[concept], emoji.styles[int(emoji.style[index])]
    return Item(name, plain_names().get(name, ()), emoji.tags[concept], style, count)


def python_rng(rng: torch.Generator) -> random.Random:
    """A Python random generator seeded by a torch generator."""
    return random.Random(int(torch.randint(2**31, (), generator=rng)))
