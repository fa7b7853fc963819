"""Training pairs of the editor: source image, instruction and edited image.

There are four kinds of edits: procedural edits of any image (`datasets.procedural_edits`), the same emoji in another
style, on another background, and another emoji of the same style in its place. Sources are single emoji on white or a
color, scenes of several emoji, and photographs.
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
from scoredistill.datasets.emoji import Emoji
from scoredistill.datasets.procedural_edits import EDITS
from scoredistill.training import captions, compose

FRACTIONS = {"procedural": 0.6, "style": 0.16, "background": 0.14, "object": 0.1}
SCENES, PHOTOGRAPHS = 0.25, 0.4
"""Fractions of scenes and photographs among the sources of procedural edits; the rest are single emoji."""

STYLE = ("turn it into {style} style", "make it {style} style", "as {article} {style} emoji", "in {style} style")
BACKGROUND = (
    "on {article} {color} background",
    "put it on {article} {color} background",
    "make the background {color}",
    "change the background to {color}",
)
OBJECT = ("turn it into {noun}", "make it {noun}", "replace it with {noun}", "change it to {noun}")


@dataclass(frozen=True)
class Pairs:
    """Images before and after an edit.

    Attributes:
        source, target: float32 [n, 3, 64, 64] in [0, 1].
        instructions: n instructions.
        kinds: n kinds: "style", "background", "object", or the name of a procedural edit.
    """

    source: Float[Tensor, "n 3 h w"]
    target: Float[Tensor, "n 3 h w"]
    instructions: list[str]
    kinds: list[str]


def style_instruction(style: str, words: random.Random) -> str:
    """A random instruction for another style."""
    return words.choice(STYLE).format(style=style, article=captions.article(style))


def background_instruction(color: str, words: random.Random) -> str:
    """A random instruction for another background."""
    return words.choice(BACKGROUND).format(color=color, article=captions.article(color))


def object_instruction(name: str, words: random.Random) -> str:
    """A random instruction for another object."""
    return words.choice(OBJECT).format(noun=captions.with_article(name))


def make_pairs(emoji: Emoji, photos: UInt8[NDArray, "k h w 3"], size: int, rng: torch.Generator) -> Pairs:
    """Make `size` random pairs, of all kinds according to `FRACTIONS`."""
    words = captions.python_rng(rng)
    kinds = words.choices(list(FRACTIONS), list(FRACTIONS.values()), k=size)
    counts = {kind: kinds.count(kind) for kind in FRACTIONS}
    parts = [
        procedural(emoji, photos, count, rng, words)
        if kind == "procedural"
        else redrawn(emoji, kind, count, rng, words)
        for kind, count in counts.items()
        if count
    ]
    return Pairs(
        torch.cat([part.source for part in parts]),
        torch.cat([part.target for part in parts]),
        [text for part in parts for text in part.instructions],
        [kind for part in parts for kind in part.kinds],
    )


def procedural(
    emoji: Emoji, photos: UInt8[NDArray, "k h w 3"], size: int, rng: torch.Generator, words: random.Random
) -> Pairs:
    """Pairs of any image and a procedural edit of it."""
    source = images(emoji, photos, size, rng)
    edits = [words.choice(list(EDITS.values())) for _ in range(size)]
    target = source.clone()
    for edit in EDITS.values():
        rows = [row for row, own in enumerate(edits) if own is edit]
        if rows:
            target[rows] = edit(source[rows], rng=rng)
    return Pairs(source, target, [words.choice(edit.instructions) for edit in edits], [edit.name for edit in edits])


def images(
    emoji: Emoji, photos: UInt8[NDArray, "k h w 3"], size: int, rng: torch.Generator
) -> Float[Tensor, "n 3 h w"]:
    """Shuffled source images: single emoji, scenes and photographs in their fractions."""
    photographed, scenic = int(PHOTOGRAPHS * size) if len(photos) else 0, int(SCENES * size)
    alone = size - photographed - scenic
    rgba = compose.premultiplied(emoji.rgba[torch.randint(len(emoji), (alone,), generator=rng).numpy()])
    placed = compose.place_at_random(rgba, (0.6, 1.05), 0.2, rng)
    parts = [compose.over(placed, compose.random_backgrounds(alone, 0.5, rng))]
    if scenic:
        behind = compose.random_backgrounds(scenic, 0.3, rng).expand(-1, -1, *placed.shape[2:])
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
    after, colors = list(before), [color_or_white(words) for _ in before]
    new_colors, texts = list(colors), []
    for row, index in enumerate(before):
        if kind == "background":
            new_colors[row] = words.choice(
                [c for c in ("white", *compose.BACKGROUNDS) if c != (colors[row] or "white")]
            )
            texts.append(background_instruction(new_colors[row] or "white", words))
            continue
        same = emoji.concept == emoji.concept[index] if kind == "style" else emoji.style == emoji.style[index]
        same[index] = False
        after[row] = words.choice(np.flatnonzero(same).tolist() or [index])
        style, name = emoji.styles[emoji.style[after[row]]], emoji.names[emoji.concept[after[row]]]
        texts.append(style_instruction(style, words) if kind == "style" else object_instruction(name, words))
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
