"""Wordings of the procedural edits, as users type them: name of the edit -> (trained wordings, held-out wordings).

The first trained wording is the plainest; demos, studies and tests use it, so it never changes. Held-out wordings are
used by no training, neither of an editor nor of a tokenizer; `training.evaluation.editor` measures on them how well an
editor understands paraphrases. No two edits share a wording (`priors.wordings.normalized`).
"""

from __future__ import annotations

Wordings = tuple[tuple[str, ...], tuple[str, ...]]

WORDINGS: dict[str, Wordings] = {
    "black and white": (
        (
            "make it black and white",
            "turn it into a black and white picture",
            "remove the colors",
            "convert it to black and white",
            "in black and white",
            "make it grayscale",
            "a black and white photo",
            "take the color out",
            "change it to grayscale",
        ),
        ("turn it black and white", "convert it to grayscale", "remove all color"),
    ),
    "sepia": (
        (
            "make it sepia",
            "give it a sepia tone",
            "turn it into an old photo",
            "in sepia",
            "turn it sepia",
            "apply a sepia filter",
            "make it look like an old photo",
            "make it look vintage",
            "convert it to sepia",
        ),
        ("add a sepia tone", "make it look like a vintage photo", "change it to sepia"),
    ),
    "night": (
        (
            "make it night",
            "make it nighttime",
            "as if at night",
            "turn day into night",
            "make it look like night",
            "at night",
            "change it to night",
            "turn it into a night scene",
            "set it at night",
        ),
        ("make it look like nighttime", "turn it to night", "change day to night"),
    ),
    "sunset": (
        (
            "make it sunset",
            "as if at sunset",
            "put it in the light of the evening",
            "at sunset",
            "make it look like sunset",
            "turn day into sunset",
            "change it to sunset",
            "give it a sunset light",
            "set it at sunset",
        ),
        ("turn it into a sunset scene", "in the light of the sunset", "turn it to sunset"),
    ),
    "snowy": (
        (
            "make it snowy",
            "cover it in snow",
            "make it winter",
            "in the snow",
            "make it look like winter",
            "turn it into winter",
            "add snow",
            "let it snow",
            "cover it with snow",
        ),
        ("turn it into a winter scene", "put snow on it", "make it look snowy"),
    ),
    "inverted": (
        (
            "invert the colors",
            "make it a negative",
            "turn it into a negative",
            "invert it",
            "in inverted colors",
            "make it look like a negative",
            "reverse the colors",
            "invert all colors",
            "make the colors negative",
        ),
        ("flip the colors", "convert it to a negative", "turn it into a photo negative"),
    ),
    "pencil sketch": (
        (
            "turn it into a pencil sketch",
            "make it a pencil drawing",
            "sketch it",
            "as a pencil sketch",
            "make it a pencil sketch",
            "draw it with a pencil",
            "turn it into a pencil drawing",
            "make it look like a pencil sketch",
            "draw it in pencil",
        ),
        ("sketch it in pencil", "make it look like a pencil drawing", "convert it to a pencil sketch"),
    ),
    "pixelated": (
        (
            "pixelate it",
            "make it pixel art",
            "turn it into pixel art",
            "as pixel art",
            "make it pixelated",
            "make it blocky",
            "make it look like pixel art",
            "turn it into pixels",
            "give it big pixels",
        ),
        ("convert it to pixel art", "make it look pixelated", "turn it into big pixels"),
    ),
    "posterized": (
        (
            "posterize it",
            "use few colors",
            "use only a few colors",
            "reduce the number of colors",
            "make it posterized",
            "posterize the colors",
            "use fewer colors",
            "limit the colors",
            "flatten the colors",
        ),
        ("make it use few colors", "reduce it to a few colors", "make it look posterized"),
    ),
    "blurry": (
        (
            "blur it",
            "make it blurry",
            "make it out of focus",
            "out of focus",
            "make it blurred",
            "turn it blurry",
            "soften it",
            "make it look out of focus",
            "add a blur",
        ),
        ("make it look blurry", "put it out of focus", "apply a blur"),
    ),
    "other colors": (
        (
            "change the colors",
            "give it other colors",
            "recolor it",
            "use other colors",
            "in other colors",
            "make it another color",
            "change its colors",
            "give it different colors",
            "swap the colors",
        ),
        ("use different colors", "change all the colors", "color it differently"),
    ),
    "time of day": (
        (
            "another time of day",
            "change the time of day",
            "make it another time of day",
            "at another time of day",
            "set it at another time of day",
            "make it a different time of day",
            "as if at another time of day",
            "at a different hour",
            "change the daylight",
        ),
        ("at a different time of day", "turn it into another time of day", "give it the light of another hour"),
    ),
    "season": (
        (
            "another season",
            "change the season",
            "make it another season",
            "in another season",
            "turn it into another season",
            "make it a different season",
            "as if in another season",
            "set it in another season",
            "put it in another season",
        ),
        ("in a different season", "change it to another season", "make it look like another season"),
    ),
    "drawing": (
        (
            "draw it",
            "turn it into a drawing",
            "make it a drawing",
            "as a drawing",
            "draw it by hand",
            "make it look drawn",
            "make it look like a drawing",
            "make it a hand drawing",
            "turn it into a hand drawing",
        ),
        ("convert it to a drawing", "make it hand drawn", "turn it into something drawn by hand"),
    ),
    "poster": (
        (
            "make it a poster",
            "turn it into a poster",
            "as a poster",
            "make it look like a poster",
            "print it as a poster",
            "make a poster of it",
            "turn it into a screen print",
            "in the style of a poster",
            "make it pop art",
        ),
        ("convert it to a poster", "design a poster from it", "turn it into pop art"),
    ),
    "frame": (
        (
            "frame it in a color",
            "put a frame around it",
            "frame it",
            "add a frame",
            "give it a frame",
            "add a colored frame",
            "put it in a frame",
            "add a colored border",
            "in a colored frame",
        ),
        ("add a border", "give it a colored frame", "put a border around it"),
    ),
    "texture": (
        (
            "give it a texture",
            "add a texture",
            "add stripes",
            "give it stripes",
            "make it striped",
            "put stripes on it",
            "cover it with stripes",
            "with stripes",
            "print stripes on it",
        ),
        ("texture it", "cover it in stripes", "put a texture on it"),
    ),
}

TINTED: Wordings = (
    (
        "make it {color}",
        "tint it {color}",
        "turn it {color}",
        "in {color} tones",
        "give it a {color} tint",
        "in shades of {color}",
        "color it {color}",
        "make everything {color}",
        "change the color to {color}",
    ),
    ("tint everything {color}", "make it all {color}", "apply a {color} filter"),
)
"""Wordings of a tint."""


def wordings_of_tint(color: str) -> Wordings:
    """The wordings of the tint of one color."""
    trained, held_out = TINTED
    phrased = lambda text: text.format(color=color).replace(f" a {color}", f" {_article(color)} {color}")
    return tuple(map(phrased, trained)), tuple(map(phrased, held_out))


def _article(color: str) -> str:
    return "an" if color[0] in "aeiou" else "a"
