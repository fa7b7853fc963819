"""Training pairs of the editor: source image, instruction and edited image.

A pair is of one of six kinds, drawn with the probabilities `FRACTIONS`:

    one answer    a procedural edit with one right answer (`datasets.procedural_edits`), of any image
    many answers  a procedural edit with many, of which one is drawn for the image
    background    an emoji on another background
    object        another emoji, one of the common concepts, in the place and style of the first
    style         the same emoji in another style
    empty         an empty instruction, which changes nothing

Any image is a single emoji, a scene of several, or a photograph (`SCENES`, `PHOTOGRAPHS`). Wordings are drawn uniformly
from the trained ones; those held out are for evaluation only.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, UInt8
from numpy.typing import NDArray
from torch import Tensor

from scoredistill.datasets import photographs
from scoredistill.datasets.emoji import Emoji, common_names, plain_names
from scoredistill.datasets.procedural_edits import EDITS, known_wordings, unit_of
from scoredistill.training import captions, compose
from scoredistill.training.nouns import article, with_article

FRACTIONS = {
    "one answer": 0.44,
    "many answers": 0.26,
    "background": 0.07,
    "object": 0.15,
    "style": 0.04,
    "empty": 0.04,
}
SCENES, PHOTOGRAPHS = 0.25, 0.4
"""Fractions of scenes and photographs among the sources of procedural edits; the rest are single emoji."""


@dataclass(frozen=True)
class Phrases:
    """Wordings of an edit with a name in it.

    Attributes:
        trained: with the field {name}, which stands for the name with its indefinite article if the words need one.
        held_out: wordings on which no network is trained.
    """

    trained: tuple[str, ...]
    held_out: tuple[str, ...]


STYLE = Phrases(
    (
        "turn it into {name} style",
        "make it {name} style",
        "in {name} style",
        "as {a} {name} emoji",
        "change it to {name} style",
        "draw it in {name} style",
        "make it look like {a} {name} emoji",
        "redraw it in {name} style",
    ),
    ("change the style to {name}", "turn it into {a} {name} emoji"),
)
BACKGROUND = Phrases(
    (
        "on {a} {name} background",
        "put it on {a} {name} background",
        "make the background {name}",
        "change the background to {name}",
        "give it {a} {name} background",
        "turn the background {name}",
        "with {a} {name} background",
        "set it on {a} {name} background",
    ),
    ("use {a} {name} background", "color the background {name}"),
)
OBJECT = Phrases(
    (
        "turn it into {name}",
        "make it {name}",
        "replace it with {name}",
        "change it to {name}",
        "change it into {name}",
        "swap it for {name}",
        "transform it into {name}",
        "put {name} there instead",
    ),
    ("make it into {name}", "exchange it for {name}"),
)


@dataclass(frozen=True)
class Pairs:
    """Images before and after an edit.

    Attributes:
        source, target: float32 [n, 3, h, w] in [0, 1].
        instructions: n instructions.
        kinds: n kinds: "style", "background", "object", "" for an empty instruction, or the name of a procedural edit.
    """

    source: Float[Tensor, "n 3 h w"]
    target: Float[Tensor, "n 3 h w"]
    instructions: list[str]
    kinds: list[str]


def phrased(text: str, name: str) -> str:
    """A wording of `STYLE` or `BACKGROUND` with a name in it."""
    return text.format(name=name, a=article(name))


def named(text: str, name: str) -> str:
    """A wording of `OBJECT` with a name in it, such as "turn it into an owl"."""
    return text.format(name=with_article(name))


def instructions(emoji: Emoji) -> dict[str, str]:
    """All instructions that pairs of a data set may have -> the name of their edit, or their kind."""
    known = known_wordings()
    for color in ("white", *compose.BACKGROUNDS):
        known |= {phrased(text, color): "background" for text in BACKGROUND.trained}
    for style in emoji.styles:
        known |= {phrased(text, style): "style" for text in STYLE.trained}
    for name in object_names(emoji):
        known |= {named(text, word): "object" for text in OBJECT.trained for word in synonyms(name)}
    return known


def object_names(emoji: Emoji) -> list[str]:
    """Names that instructions ask for: the common concepts drawn in a data set, or all of its concepts if none is."""
    drawn = [emoji.names[index] for index in np.unique(emoji.concept)]
    return [name for name in common_names() if name in drawn] or drawn


def synonyms(name: str) -> tuple[str, ...]:
    """The name of a concept and the plain names that people use for it, such as "automobile" and "car"."""
    return (name, *plain_names().get(name, ()))


def make_pairs(emoji: Emoji, photos: UInt8[NDArray, "k h w 3"], size: int, rng: torch.Generator) -> Pairs:
    """Make random pairs, of all kinds according to `FRACTIONS`, ordered by kind.

    Args:
        emoji: drawings for the sources and targets, such as the `train` part of a data set. The pairs have their size.
        photos: square photographs of the same size; there may be none.
        size: number of pairs.
        rng: of all choices.

    Raises:
        ValueError: if the photographs have another size than the emoji.
    """
    side = emoji.rgba.shape[1]
    if len(photos) and photos.shape[1:3] != (side, side):
        raise ValueError(
            f"emoji of {side}x{side} pixels and photographs of {photos.shape[1]}x{photos.shape[2]}: "
            f"crop the photographs to {side} pixels"
        )
    words = captions.python_rng(rng)
    kinds = words.choices(list(FRACTIONS), list(FRACTIONS.values()), k=size)
    parts = []
    for kind in FRACTIONS:
        count = kinds.count(kind)
        if not count:
            continue
        if kind in ("one answer", "many answers"):
            parts.append(procedural(emoji, photos, count, rng, words, exact=kind == "one answer"))
        elif kind == "empty":
            source = images(emoji, photos, count, rng)
            parts.append(Pairs(source, source, [""] * count, [""] * count))
        else:
            parts.append(redrawn(emoji, kind, count, rng, words))
    return Pairs(
        torch.cat([part.source for part in parts]),
        torch.cat([part.target for part in parts]),
        [text for part in parts for text in part.instructions],
        [kind for part in parts for kind in part.kinds],
    )


def procedural(
    emoji: Emoji, photos: UInt8[NDArray, "k h w 3"], size: int, rng: torch.Generator, words: random.Random, exact: bool
) -> Pairs:
    """Pairs of any image and a procedural edit of it, with one right answer if `exact`, or else with many."""
    source = images(emoji, photos, size, rng)
    unit, known = unit_of(source.shape[2]), [edit for edit in EDITS.values() if edit.exact == exact]
    edits = [words.choice(known) for _ in range(size)]
    target = source.clone()
    for edit in known:
        rows = [row for row, own in enumerate(edits) if own is edit]
        if rows:
            target[rows] = edit(source[rows], unit, rng)
    return Pairs(source, target, [words.choice(edit.instructions) for edit in edits], [edit.name for edit in edits])


def images(
    emoji: Emoji, photos: UInt8[NDArray, "k h w 3"], size: int, rng: torch.Generator
) -> Float[Tensor, "n 3 h w"]:
    """Shuffled source images: single emoji, scenes and photographs in their fractions."""
    photographed, scenic = round(PHOTOGRAPHS * size) if len(photos) else 0, round(SCENES * size)
    alone = size - photographed - scenic
    parts = []
    if alone:
        rgba = compose.premultiplied(emoji.rgba[torch.randint(len(emoji), (alone,), generator=rng).numpy()])
        placed = compose.place_at_random(rgba, (0.6, 1.05), 0.2, rng)
        parts.append(compose.over(placed, compose.random_backgrounds(alone, 0.5, rng)))
    if scenic:
        behind = compose.random_backgrounds(scenic, 0.3, rng).expand(-1, -1, *emoji.rgba.shape[1:3])
        parts.append(compose.scenes(emoji.rgba, behind, 3, rng))
    if photographed:
        chosen = torch.randint(len(photos), (photographed,), generator=rng).numpy()
        photo = photographs.as_images(photos[chosen])
        mirrored = torch.rand(photographed, 1, 1, 1, generator=rng) < 0.5
        parts.append(compose.color_jittered(torch.where(mirrored, photo.flip(-1), photo), 0.2, rng))
    return torch.cat(parts)[torch.randperm(size, generator=rng)]


def redrawn(emoji: Emoji, kind: str, size: int, rng: torch.Generator, words: random.Random) -> Pairs:
    """Pairs of emoji that differ in style, background or object, depending on `kind`, with the same placement."""
    before = torch.randint(len(emoji), (size,), generator=rng).tolist()
    colors = [color_or_white(words) for _ in before]
    after, new_colors = list(before), list(colors)
    common = np.isin(emoji.concept, [emoji.names.index(name) for name in object_names(emoji)])
    texts = []
    for row, index in enumerate(before):
        if kind == "background":
            color = words.choice([c for c in ("white", *compose.BACKGROUNDS) if c != (colors[row] or "white")])
            new_colors[row] = color
            texts.append(phrased(words.choice(BACKGROUND.trained), color))
        elif kind == "style":
            others = np.flatnonzero((emoji.concept == emoji.concept[index]) & (emoji.style != emoji.style[index]))
            after[row] = words.choice(others.tolist() or [index])
            texts.append(phrased(words.choice(STYLE.trained), emoji.styles[emoji.style[after[row]]]))
        else:
            others = np.flatnonzero(common & (emoji.style == emoji.style[index]))
            after[row] = words.choice(others.tolist() or np.flatnonzero(common).tolist())
            name = words.choice(synonyms(emoji.names[emoji.concept[after[row]]]))
            texts.append(named(words.choice(OBJECT.trained), name))
    seed = int(torch.randint(2**31, (), generator=rng))
    return Pairs(shown(emoji, before, colors, seed), shown(emoji, after, new_colors, seed), texts, [kind] * size)


def shown(emoji: Emoji, indices: Sequence[int], colors: Sequence[str | None], seed: int) -> Float[Tensor, "n 3 h w"]:
    """Emoji on named backgrounds, with the placement drawn from a seed."""
    rng = torch.Generator().manual_seed(seed)
    placed = compose.place_at_random(compose.premultiplied(emoji.rgba[list(indices)]), (0.7, 1.0), 0.1, rng, mirror=0.0)
    return compose.over(placed, compose.named_backgrounds(list(colors)))


def color_or_white(words: random.Random) -> str | None:
    """The name of a random background, or None for white with probability 1/2."""
    return words.choice(list(compose.BACKGROUNDS)) if words.random() < 0.5 else None
