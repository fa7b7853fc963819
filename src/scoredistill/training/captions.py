"""Random captions of composed emoji: with or without style, background, article and filler words, sometimes empty."""

from __future__ import annotations

import random
from collections.abc import Sequence

import torch

TEMPLATES = (
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
STYLED = ("{article} {style} emoji of {noun}", "{article} {style} emoji of {noun}", "{noun}, {style} style")


def article(words: str) -> str:
    """The indefinite article, "a" or "an", of the words that follow."""
    return "an" if words[:1].lower() in "aeiou" else "a"


def with_article(name: str) -> str:
    """A name with its indefinite article, such as "an owl"; plurals ("french fries") are unchanged."""
    plural = name.endswith("s") and not name.endswith(("ss", "us", "is"))
    return name if plural else f"{article(name)} {name}"


def with_background(text: str, color: str | None) -> str:
    """Append "on a {color} background"; None (white) appends nothing."""
    return text if color is None else f"{text} on {article(color)} {color} background"


def caption(
    name: str,
    tags: Sequence[str],
    style: str,
    color: str | None,
    rng: random.Random,
    empty: float = 0.0,
    synonym: float = 0.1,
) -> str:
    """One random caption of an emoji.

    Args:
        name: of the concept.
        tags: synonyms of the name.
        style: name of the style, mentioned in 40 % of the captions.
        color: name of the background color, always mentioned; None for white.
        rng: draws the caption.
        empty: probability of an empty caption, for classifier-free guidance.
        synonym: probability that a synonym replaces the name.
    """
    if rng.random() < empty:
        return ""
    word = rng.choice(tags) if tags and rng.random() < synonym else name
    noun = with_article(word) if rng.random() < 0.6 else word
    template = rng.choice(STYLED if rng.random() < 0.4 else TEMPLATES)
    return with_background(template.format(noun=noun, style=style, article=article(style)), color)


def python_rng(rng: torch.Generator) -> random.Random:
    """A Python random generator seeded by a torch generator."""
    return random.Random(int(torch.randint(2**31, (), generator=rng)))
