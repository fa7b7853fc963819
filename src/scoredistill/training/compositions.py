"""Training images with captions: single emoji, several of a kind, two emoji in a relation, and other colors.

An example is drawn in three steps, of which each is a function of its own: a `Scene` (which drawings, where, on which
background, and its `Description`), the image (`render`), and the caption (`captions.describe`).
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor

from scoredistill.datasets.emoji import Emoji
from scoredistill.training import captions, layouts
from scoredistill.training.captions import WHITE, Description, Item
from scoredistill.training.compose import BACKGROUNDS, named_backgrounds, over, premultiplied, resampled
from scoredistill.training.compose import resampling_weights as weights
from scoredistill.training.layouts import Placement, Shape
from scoredistill.training.nouns import is_countable
from scoredistill.training.recoloring import PAINTS, dominant_hue, recolored

COUNTS = {2: 0.4, 3: 0.3, 4: 0.15, 5: 0.08, 6: 0.07}
"""Number of emoji of a kind -> its probability."""
RELATIONS = {"beside": 0.35, "left": 0.2, "above": 0.2, "on": 0.15, "in front": 0.1}
"""Relation -> its probability."""

LETTERS = re.compile(
    r"\b(?:clock|clocks|watch|stopwatch|timer|calendar|newspaper|note|notes|score|banknote|money|coin|card|hundred|taxi|"
    r"ambulance|truck|school|bank|hotel|hospital|store|post|postbox|mail|e-mail|mailbox|ballot|ball|die|pager|dvd|"
    r"keyboard|battery|slot|medal|globe|map|sign|stop|zzz|sleeping|sleepy|chart|ruler|abacus|receipt|ticket|tickets|"
    r"left|right|moon|mahjong|joker|cards|envelope|bento|police|bus|racing|symbols|identification|book|memo|scroll|"
    r"barber|radio|atm|DNA|dna|thermometer|speedometer|station|package)\b|o’clock|-thirty",
    re.IGNORECASE,
)
"""Names of drawings with letters, digits or hands of a clock, or whose sides have a meaning; these are not mirrored."""

CHUNK = 16
"""Images that are rendered at a time, so that they stay in the cache of the processor."""


@dataclass(frozen=True)
class Mixture:
    """Fractions of examples with several emoji; the rest shows one.

    Attributes:
        counts: several emoji of a kind.
        relations: two emoji in a relation.
        white: white backgrounds; the others have a color of `compose.BACKGROUNDS`.
        recolored: examples of one concept in another color, of those that can be recolored (three quarters).
    """

    counts: float = 0.15
    relations: float = 0.10
    white: float = 0.65
    recolored: float = 0.08

    def __post_init__(self) -> None:
        fractions = self.counts, self.relations, self.white, self.recolored
        if min(fractions) < 0 or max(fractions) > 1 or self.counts + self.relations > 1:
            raise ValueError(
                "the fractions of a mixture must be from 0 to 1, and those of counts and relations must add up to at "
                f"most 1: got {self}"
            )


MIXTURE = Mixture()


class Examples(NamedTuple):
    """Images and captions.

    Attributes:
        images: float32 [n, 3, s, s] in [0, 1].
        captions: n captions, some of them empty.
        concepts: int64 [n], index of the concept into `names`; -1 where there are two, or one in another color.
        descriptions: what each image shows, to draw other captions of the same images with `captions.describe`.
    """

    images: Float[Tensor, "n 3 s s"]
    captions: list[str]
    concepts: Int[Tensor, " n"]
    descriptions: list[Description]


@dataclass(frozen=True)
class Scene:
    """What to draw.

    Attributes:
        rows: index of the drawing of each placed emoji, from front to back.
        placements: their positions and sizes.
        mirrored: whether each is mirrored.
        description: of the image, with its background and colors.
    """

    rows: tuple[int, ...]
    placements: tuple[Placement, ...]
    mirrored: tuple[bool, ...]
    description: Description

    @property
    def color(self) -> str:
        """The color in which the first item is drawn; empty for its own."""
        return self.description.items[0].color

    @property
    def changed(self) -> bool:
        """Whether the image is of more than one concept as it is usually drawn."""
        return len(self.description.items) > 1 or bool(self.color)


def examples(
    emoji: Emoji,
    n: int,
    rng: torch.Generator,
    *,
    size: int | None = None,
    often: Mapping[str, int] | None = None,
    mixture: Mixture = MIXTURE,
    empty: float = 0.09,
    mirror: float = 0.3,
    held_out: bool = False,
) -> Examples:
    """Draw `n` training examples.

    Args:
        emoji: the data set or a selection of it. Its held-out images are never used.
        n: number of examples.
        rng: draws everything: the same state gives the same examples.
        size: side of the images in pixels; by default that of the emoji.
        often: name of a concept -> relative frequency of its drawings; 1 by default.
        mixture: fractions of counts, relations and white backgrounds.
        empty: probability of an empty caption, for classifier-free guidance.
        mirror: probability that an emoji is mirrored, if its name allows (`LETTERS`).
        held_out: draw from the held-out images instead, for evaluation.

    Raises:
        ValueError: if there is no image to draw from.
    """
    words = captions.python_rng(rng)
    pool = Pool(emoji, np.flatnonzero(emoji.held_out == held_out), often or {})
    scenes = [draw_scene(pool, mixture, mirror, words) for _ in range(n)]
    texts = [captions.describe(scene.description, words, empty) for scene in scenes]
    concepts = [-1 if scene.changed else int(emoji.concept[scene.rows[0]]) for scene in scenes]
    images = render(emoji, scenes, size or emoji.rgba.shape[1])
    return Examples(images, texts, torch.tensor(concepts, dtype=torch.long), [scene.description for scene in scenes])


def texts(
    emoji: Emoji,
    n: int,
    rng: torch.Generator,
    *,
    often: Mapping[str, int] | None = None,
    mixture: Mixture = MIXTURE,
) -> list[str]:
    """Draw `n` captions without images, none of them empty, to train a tokenizer or a text encoder on."""
    words = captions.python_rng(rng)
    pool = Pool(emoji, np.arange(len(emoji)), often or {})
    return [captions.describe(draw_scene(pool, mixture, 0.0, words).description, words) for _ in range(n)]


class Pool:
    """The drawings that may be drawn, and their probabilities.

    Args:
        emoji: the data set.
        rows: indices of the drawings.
        often: name of a concept -> relative frequency of its drawings.

    Raises:
        ValueError: if there are no rows.
    """

    def __init__(self, emoji: Emoji, rows: NDArray[np.int64], often: Mapping[str, int]) -> None:
        if not len(rows):
            raise ValueError("there is no emoji to draw from: select more concepts, or other than held-out images")
        self.emoji, self.rows = emoji, rows
        frequency = np.array([float(often.get(name, 1)) for name in emoji.names])
        self.cumulative = np.cumsum(frequency[emoji.concept[rows]])

    def row(self, words: random.Random) -> int:
        """A random drawing."""
        return int(self.rows[self._place(words)])

    def companion(self, row: int, words: random.Random) -> int:
        """A drawing of another concept in the same style as `row`; `row` itself if there is none."""
        for _ in range(50):
            other = self.row(words)
            if (
                self.emoji.style[other] == self.emoji.style[row]
                and self.emoji.concept[other] != self.emoji.concept[row]
            ):
                return other
        return row

    def shape(self, row: int) -> Shape:
        """The extent of a drawing."""
        left, top, right, bottom = self.emoji.boxes[row].tolist()
        return Shape(right - left, bottom - top, float(self.emoji.tops[row]))

    def item(self, row: int, count: int = 1, color: str = "") -> Item:
        """The item of a drawing."""
        return replace(captions.item_of(self.emoji, row, count), color=color)

    def color(self, row: int, background: str, words: random.Random) -> str:
        """A color to give to a drawing, other than that of the background; empty if it cannot be recolored."""
        if dominant_hue(self.emoji.rgba[row]) is None:
            return ""
        return words.choice([color for color in PAINTS if color not in background.split()])

    def _place(self, words: random.Random) -> int:
        found = np.searchsorted(self.cumulative, words.random() * self.cumulative[-1], side="right")
        return min(int(found), len(self.rows) - 1)


def draw_scene(pool: Pool, mixture: Mixture, mirror: float, words: random.Random) -> Scene:
    """A random scene. Names that cannot be counted, and drawings without a companion, are shown alone."""
    background = WHITE if words.random() < mixture.white else words.choice(list(BACKGROUNDS))
    row, kind = pool.row(words), words.random()
    color = pool.color(row, background, words) if words.random() < mixture.recolored else ""
    item, other = pool.item(row, color=color), row
    if kind < mixture.counts and any(map(is_countable, (item.name, *item.plain))):
        count = words.choices(list(COUNTS), list(COUNTS.values()))[0]
        rows, description = [row] * count, Description((replace(item, count=count),), background=background)
        placements = layouts.repeated(pool.shape(row), count, words)
    elif kind >= 1 - mixture.relations and (other := pool.companion(row, words)) != row:
        relation = words.choices(list(RELATIONS), list(RELATIONS.values()))[0]
        rows = [row, other]
        description = Description((replace(item, color=""), pool.item(other)), relation, background)
        placements = layouts.RELATIONS[relation](pool.shape(row), pool.shape(other), words)
    else:
        rows, description = [row], Description((item,), background=background)
        placements = layouts.single(pool.shape(row), words)
    flips = {chosen: mirrors(pool.item(chosen).name) and words.random() < mirror for chosen in rows}
    return Scene(tuple(rows), tuple(placements), tuple(flips[chosen] for chosen in rows), description)


def mirrors(name: str) -> bool:
    """Whether a drawing of this name may be mirrored."""
    return LETTERS.search(name) is None


def render(emoji: Emoji, scenes: Sequence[Scene], size: int) -> Float[Tensor, "n 3 s s"]:
    """The images of scenes, emoji over emoji over the background, from back to front."""
    images = torch.empty(len(scenes), 3, size, size)
    for start in range(0, len(scenes), CHUNK):
        part = scenes[start : start + CHUNK]
        image = over(drawn(emoji, part, 0, size), named_backgrounds([scene.description.background for scene in part]))
        for layer in range(1, max(len(scene.rows) for scene in part)):
            deeper = [index for index, scene in enumerate(part) if len(scene.rows) > layer]
            image[deeper] = over(drawn(emoji, [part[index] for index in deeper], layer, size), image[deeper])
        images[start : start + CHUNK] = image
    return images


def drawn(emoji: Emoji, scenes: Sequence[Scene], layer: int, size: int) -> Float[Tensor, "k 4 s s"]:
    """One emoji of each scene at its place, premultiplied; layer 0 is the back."""
    rows = [scene.rows[-1 - layer] for scene in scenes]
    placements = [scene.placements[-1 - layer] for scene in scenes]
    x, y, scale = torch.tensor([[p.x, p.y, p.scale] for p in placements]).T
    signed = torch.where(torch.tensor([scene.mirrored[-1 - layer] for scene in scenes]), -scale, scale)
    left, top, right, bottom = torch.from_numpy(emoji.boxes[rows]).T
    sides = size, emoji.rgba.shape[1]
    across, down = weights(x, (left + right) / 2, signed, sides), weights(y, (top + bottom) / 2, scale, sides)
    rgba = emoji.rgba[rows]
    for index, scene in enumerate(scenes):
        if scene.color:
            rgba[index] = recolored(rgba[index], scene.color)
    return resampled(premultiplied(rgba), across, down)
