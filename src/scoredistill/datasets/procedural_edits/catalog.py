"""All edits by name: first those with one right answer, then those with many."""

from __future__ import annotations

import math

from scoredistill.datasets.procedural_edits import colors, strokes, waves
from scoredistill.datasets.procedural_edits.edit import Edit, Parameter, Prepare, Variant, fixed
from scoredistill.datasets.procedural_edits.wordings import WORDINGS, wordings_of_tint

HUE = Parameter("angle", math.pi / 3, 5 * math.pi / 3, periodic=False)
"""Rotations of hues that change an image visibly: at least 60 degrees in either direction."""
HATCHED = Variant(
    "crosshatching", strokes.crosshatched, (waves.ANGLE, waves.PHASE, waves.ACROSS), waves.hatching,
    waves.hatching_moved,
)  # fmt: skip
STRIPED = Variant("stripes", strokes.striped, (waves.ANGLE, waves.PHASE), waves.stripes, waves.stripes_moved)
EXACT: dict[str, tuple[Prepare, str]] = {
    "black and white": (colors.of_pixels(colors.black_and_white), "in black and white"),
    "sepia": (colors.of_pixels(colors.sepia), "in sepia"),
    "night": (colors.of_pixels(colors.night), "at night"),
    "sunset": (colors.of_pixels(colors.sunset), "at sunset"),
    "snowy": (colors.of_pixels(colors.snowy), "in the snow"),
    "inverted": (colors.of_pixels(colors.inverted), "in inverted colors"),
    "pencil sketch": (fixed(strokes.pencil_sketch), "as a pencil sketch"),
    "pixelated": (fixed(strokes.pixelated), "as pixel art"),
    "posterized": (colors.of_pixels(colors.posterized), "in few colors"),
    "blurry": (fixed(strokes.blurry), "out of focus"),
}
"""Function and caption of each edit with one right answer, besides tints."""
MANY: dict[str, tuple[tuple[Variant, ...], str]] = {
    "other colors": ((Variant("hue rotation", colors.recolored, (HUE,)),), "in other colors"),
    "time of day": (
        tuple(
            Variant(name, colors.of_pixels(function))
            for name, function in (
                ("night", colors.night),
                ("sunset", colors.sunset),
                ("dawn", colors.dawn),
                ("dusk", colors.dusk),
            )
        ),
        "at another time of day",
    ),
    "season": (
        tuple(
            Variant(name, colors.of_pixels(function))
            for name, function in (
                ("winter", colors.snowy),
                ("autumn", colors.autumn),
                ("spring", colors.spring),
                ("summer", colors.summer),
            )
        ),
        "in another season",
    ),
    "drawing": (
        (
            Variant("pencil", fixed(strokes.pencil_sketch)),
            Variant("ink", fixed(strokes.ink)),
            Variant("charcoal", fixed(strokes.charcoal)),
            HATCHED,
        ),
        "as a drawing",
    ),
    "poster": (
        tuple(Variant(name, colors.of_pixels(colors.poster(name))) for name in colors.PALETTES),
        "as a poster",
    ),
    "frame": (tuple(Variant(color, strokes.framed(color)) for color in strokes.FRAMES), "in a colored frame"),
    "texture": ((STRIPED,), "with stripes"),
}
"""Variants and caption of each edit with many right answers."""

EDITS: dict[str, Edit] = {
    edit.name: edit
    for edit in (
        *(Edit(name, *WORDINGS[name], caption, (Variant(name, made),)) for name, (made, caption) in EXACT.items()),
        *(
            Edit(f"tinted {color}", *wordings_of_tint(color), f"in {color} tones",
                 (Variant(f"tinted {color}", colors.of_pixels(colors.tinted(color))),))
            for color in colors.TINTS
        ),
        *(Edit(name, *WORDINGS[name], caption, variants) for name, (variants, caption) in MANY.items()),
    )
}  # fmt: skip
"""All edits by name."""
