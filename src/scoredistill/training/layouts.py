"""Random layouts: where the emoji of a description go in the image.

Positions and sizes are fractions of the image, x to the right and y down, and refer to the bounding box of the visible
pixels of an emoji, so that drawings with wide margins are placed like those without. Layouts keep these promises:

- every box lies inside the image with a margin of at least `MARGIN`;
- emoji that are counted do not overlap: each stays in its own cell;
- "left", "above" and "beside": the boxes are apart, and their centers are in order along the axis;
- "on": the first emoji stands on the visible top of the second and is drawn over it;
- "in front": the first emoji is smaller, lower, overlaps the second, and is drawn over it.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

MARGIN = 0.02
"""Smallest distance of a visible pixel from the border."""
GAP = 0.02
"""Smallest distance between emoji that do not touch."""

ROWS: dict[int, tuple[tuple[int, ...], ...]] = {
    1: ((1,),),
    2: ((2,), (2,), (2,), (1, 1)),
    3: ((3,), (1, 2), (1, 2), (2, 1)),
    4: ((2, 2),),
    5: ((3, 2), (2, 3)),
    6: ((3, 3), (2, 2, 2)),
}
"""Number of emoji -> arrangements in rows, from which one is drawn: (1, 2) is one emoji above two."""


@dataclass(frozen=True)
class Shape:
    """The extent of a drawing before it is placed.

    Attributes:
        width, height: of the bounding box, as fractions of the square that it is drawn in.
        top: height above the bottom of the box of the highest visible pixel in the middle third of its width, as a
            fraction of the height of the box: 1 if the middle reaches the top.
    """

    width: float
    height: float
    top: float = 1.0


@dataclass(frozen=True)
class Placement:
    """One placed emoji.

    Attributes:
        x, y: center of its bounding box.
        scale: side of the square of the drawing relative to the image.
    """

    x: float
    y: float
    scale: float


def fitting(shape: Shape, width: float, height: float) -> float:
    """The largest scale at which a shape fits into a cell."""
    return min(width / shape.width, height / shape.height)


def within(center: float, half: float, low: float = MARGIN, high: float = 1 - MARGIN) -> float:
    """The center nearest to `center` at which an extent of twice `half` lies between `low` and `high`."""
    return min(max(center, low + half), high - half)


def placed(shape: Shape, x: float, y: float, scale: float) -> Placement:
    """A placement with its box moved inside the margins."""
    return Placement(within(x, scale * shape.width / 2), within(y, scale * shape.height / 2), scale)


def single(shape: Shape, rng: random.Random, small: float = 0.1) -> list[Placement]:
    """One emoji near the center at about full size; with probability `small` a smaller one anywhere."""
    largest = min(1.08, fitting(shape, 1 - 2 * MARGIN, 1 - 2 * MARGIN))
    if rng.random() < small:
        return [placed(shape, rng.random(), rng.random(), largest * rng.uniform(0.45, 0.85))]
    scale = largest * rng.uniform(0.88, 1.0)
    return [placed(shape, rng.gauss(0.5, 0.02), rng.gauss(0.5, 0.02), scale)]


def repeated(shape: Shape, count: int, rng: random.Random) -> list[Placement]:
    """Several emoji of about the same size in rows, each in a cell of its own.

    Raises:
        ValueError: if there is no arrangement for the count.
    """
    if count not in ROWS:
        raise ValueError(f"a layout has from 1 to {max(ROWS)} emoji of one kind, not {count}")
    rows, room = rng.choice(ROWS[count]), 1 - 2 * MARGIN
    row_height, cell_width = room / len(rows), room / max(rows)
    scale = fitting(shape, cell_width - GAP, row_height - GAP) * rng.uniform(0.75, 1.0)
    placements = []
    for row, columns in enumerate(rows):
        width, y = room / columns, MARGIN + (row + 0.5) * row_height
        for column in range(columns):
            own = scale * rng.uniform(0.92, 1.0)
            x = MARGIN + (column + 0.5) * width
            slack_x, slack_y = (width - GAP - own * shape.width) / 2, (row_height - GAP - own * shape.height) / 2
            reach_x, reach_y = min(slack_x, 0.06), min(slack_y, 0.06)
            placements.append(Placement(x + rng.uniform(-reach_x, reach_x), y + rng.uniform(-reach_y, reach_y), own))
    return placements


def beside(first: Shape, second: Shape, rng: random.Random) -> list[Placement]:
    """The first emoji to the left of the second, on a common ground half of the time."""
    border = rng.uniform(0.44, 0.56)
    widths = border - MARGIN - GAP / 2, 1 - border - MARGIN - GAP / 2
    scales = [
        fitting(shape, width, 0.8) * rng.uniform(0.8, 1.0) for shape, width in zip((first, second), widths, strict=True)
    ]
    halves = [scale * shape.width / 2 for scale, shape in zip(scales, (first, second), strict=True)]
    ground = rng.uniform(0.7, 0.9) if rng.random() < 0.5 else None
    middle, result = rng.uniform(0.42, 0.58), []
    spans = (MARGIN, border - GAP / 2), (border + GAP / 2, 1 - MARGIN)
    for shape, scale, half, (low, high) in zip((first, second), scales, halves, spans, strict=True):
        tall = scale * shape.height / 2
        y = middle + rng.uniform(-0.08, 0.08) if ground is None else ground - tall
        result.append(Placement(within(rng.uniform(low, high), half, low, high), within(y, tall), scale))
    return result


def above(first: Shape, second: Shape, rng: random.Random) -> list[Placement]:
    """The first emoji above the second: `beside` with the axes exchanged."""
    turned = beside(Shape(first.height, first.width), Shape(second.height, second.width), rng)
    return [Placement(placement.y, placement.x, placement.scale) for placement in turned]


def on_top(first: Shape, second: Shape, rng: random.Random) -> list[Placement]:
    """The first emoji standing on the second, whose top it overlaps a little."""
    below = fitting(second, 0.9, rng.uniform(0.4, 0.52))
    bottom = 1 - MARGIN - rng.uniform(0.0, 0.06)
    x, y = rng.uniform(0.45, 0.55), bottom - below * second.height / 2
    surface = bottom - below * second.height * second.top + rng.uniform(0.01, 0.03)
    widest = min(0.8, 1.2 * below * second.width)
    scale = fitting(first, widest, min(0.52, surface - MARGIN)) * rng.uniform(0.85, 1.0)
    shift = rng.uniform(-0.1, 0.1) * below * second.width
    return [
        placed(first, x + shift, surface - scale * first.height / 2, scale),
        placed(second, x, y, below),
    ]


def in_front(first: Shape, second: Shape, rng: random.Random) -> list[Placement]:
    """The first emoji smaller and lower, in front of the second."""
    side = rng.choice((-1, 1))
    large = fitting(second, 0.72, 0.75) * rng.uniform(0.85, 1.0)
    behind = placed(second, 0.5 - side * rng.uniform(0.05, 0.2), rng.uniform(0.38, 0.5), large)
    half, bottom = large * second.width / 2, behind.y + large * second.height / 2
    scale = fitting(first, 0.45, 0.42) * rng.uniform(0.8, 1.0)
    x = behind.x + side * (scale * first.width / 2 + rng.uniform(0.05, 0.6) * half)  # hides at most half of the width
    y = bottom - rng.uniform(0.0, 0.4) * scale * first.height  # at least a tenth of it is below
    return [placed(first, x, y, scale), behind]


RELATIONS = {"beside": beside, "left": beside, "above": above, "on": on_top, "in front": in_front}
"""Relation of `captions.RELATIONS` -> its layout, of the first and the second item."""
