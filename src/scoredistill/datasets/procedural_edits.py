r"""Procedural edits: instructions with functions that compute their ground truth, for images of any size.

All edits are local: a pixel of the result depends on the same pixel of the image in [0, 1], or on those within a few
pixels, so a window of the edited image is the edited window. With luma L = .299 R + .587 G + .114 B and
mix(a, b; s) = a + s (b - a):

    black and white   L
    sepia             M rgb, the usual sepia matrix
    night             mix(rgb, L; .5) * (.22, .28, .5)
    sunset            rgb^(.8, 1.1, 1.5) * (1, .86, .62) + (.08, 0, 0)
    snowy             mix(mix(rgb, L; .6), white; smoothstep(.25, .85; L)) * (.94, .97, 1)
    inverted          1 - rgb
    pencil sketch     L / blur(L), clipped: dark lines where the image is darker than its surroundings
    pixelated         means of blocks of 1/16 of 64 pixels
    posterized        four levels per channel
    blurry            Gaussian blur with a standard deviation of 1.5 pixels in 64
    tinted c          black -> color c -> white along L
    other colors      all hues rotated by one random angle, so the ground truth is deliberately ambiguous

Distances in pixels are those of a 64-pixel image; `unit` scales them.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from scoredistill.media.images import blurred

Images = Float[Tensor, "b 3 h w"]

SEPIA = ((0.393, 0.769, 0.189), (0.349, 0.686, 0.168), (0.272, 0.534, 0.131))
TINTS = {
    "red": (0.9, 0.16, 0.14),
    "orange": (0.98, 0.55, 0.1),
    "yellow": (0.98, 0.84, 0.15),
    "green": (0.15, 0.68, 0.25),
    "blue": (0.15, 0.38, 0.9),
    "purple": (0.55, 0.25, 0.8),
}


@dataclass(frozen=True)
class Edit:
    """One procedural edit.

    Attributes:
        name: short and unique.
        instructions: equivalent instructions; the first is the plainest.
        caption: phrase to append to the caption of an edited image.
        apply: (images, unit, rng) -> edited images; rng is used only by edits that are not exact.
        exact: whether the ground truth is unique.
    """

    name: str
    instructions: tuple[str, ...]
    caption: str
    apply: Callable[[Images, float, torch.Generator | None], Images]
    exact: bool = True

    def __call__(self, images: Images, unit: float = 1.0, rng: torch.Generator | None = None) -> Images:
        """Edit images.

        Args:
            images: in [0, 1].
            unit: pixels that correspond to one pixel of a 64-pixel image.
            rng: for edits that are not exact.

        Returns:
            The edited images, in [0, 1].
        """
        return self.apply(images, unit, rng).clamp(0, 1)


def luma(images: Images) -> Float[Tensor, "b 1 h w"]:
    """Luma L of each pixel."""
    weights = images.new_tensor([0.299, 0.587, 0.114])
    return (images * weights[:, None, None]).sum(1, keepdim=True)


def mix(a: Tensor, b: Tensor, s: Tensor | float) -> Tensor:
    """Linear interpolation a + s (b - a)."""
    return a + s * (b - a)


def colored(images: Tensor, gain: tuple[float, float, float]) -> Tensor:
    """Scale each channel by its gain."""
    return images * images.new_tensor(gain)[:, None, None]


def black_and_white(images: Images, unit: float, rng: torch.Generator | None) -> Images:
    return luma(images).expand_as(images)


def sepia(images: Images, unit: float, rng: torch.Generator | None) -> Images:
    return torch.einsum("oc,bchw->bohw", images.new_tensor(SEPIA), images)


def night(images: Images, unit: float, rng: torch.Generator | None) -> Images:
    return colored(mix(images, luma(images), 0.5), (0.22, 0.28, 0.5))


def sunset(images: Images, unit: float, rng: torch.Generator | None) -> Images:
    powers = images.new_tensor([0.8, 1.1, 1.5])[:, None, None]
    return colored(images.clamp(0, 1) ** powers, (1.0, 0.86, 0.62)) + images.new_tensor([0.08, 0, 0])[:, None, None]


def snowy(images: Images, unit: float, rng: torch.Generator | None) -> Images:
    light = luma(images)
    s = ((light - 0.25) / 0.6).clamp(0, 1)
    return colored(mix(mix(images, light, 0.6), torch.ones_like(images), s * s * (3 - 2 * s)), (0.94, 0.97, 1.0))


def inverted(images: Images, unit: float, rng: torch.Generator | None) -> Images:
    return 1 - images


def pencil_sketch(images: Images, unit: float, rng: torch.Generator | None) -> Images:
    light = luma(images)
    return (light / blurred(light, 3.0 * unit).clamp(min=1e-3)).clamp(0, 1).pow(1.5).expand_as(images)


def pixelated(images: Images, unit: float, rng: torch.Generator | None) -> Images:
    block = max(1, round(4 * unit))
    height, width = images.shape[-2:]
    padded = functional.pad(images, (0, -width % block, 0, -height % block), mode="replicate")
    coarse = functional.avg_pool2d(padded, block)
    return coarse.repeat_interleave(block, 2).repeat_interleave(block, 3)[..., :height, :width]


def posterized(images: Images, unit: float, rng: torch.Generator | None) -> Images:
    return (images * 3.999).floor() / 3


def blurry(images: Images, unit: float, rng: torch.Generator | None) -> Images:
    return blurred(images, 1.5 * unit)


def other_colors(images: Images, unit: float, rng: torch.Generator | None) -> Images:
    angle = math.pi * (1 / 3 + 4 / 3 * torch.rand(len(images), generator=rng, dtype=images.dtype))
    return hue_turned(images, angle.to(images.device))


def hue_turned(images: Images, angle: Float[Tensor, " b"]) -> Images:
    """Rotate the colors of each image about the gray axis by an angle in radians."""
    cos, sin = angle.cos()[:, None, None, None], angle.sin()[:, None, None, None]
    gray = images.mean(1, keepdim=True)
    red, green, blue = images.unbind(1)
    across = torch.stack([blue - green, red - blue, green - red], 1) / math.sqrt(3)
    return gray + cos * (images - gray) + sin * across


def tinted(color: str) -> Callable[[Images, float, torch.Generator | None], Images]:
    """The edit that renders an image in shades of one color."""

    def apply(images: Images, unit: float, rng: torch.Generator | None) -> Images:
        light, middle = luma(images), images.new_tensor(TINTS[color])[:, None, None]
        return torch.where(light < 0.5, 2 * light * middle, mix(middle, torch.ones_like(images), 2 * light - 1))

    return apply


EDITS: dict[str, Edit] = {
    edit.name: edit
    for edit in (
        Edit("black and white", ("make it black and white", "turn it into a black and white picture",
             "remove the colors"), "in black and white", black_and_white),
        Edit("sepia", ("make it sepia", "give it a sepia tone", "turn it into an old photo"), "in sepia", sepia),
        Edit("night", ("make it night", "make it nighttime", "as if at night"), "at night", night),
        Edit("sunset", ("make it sunset", "as if at sunset", "put it in the light of the evening"), "at sunset",
             sunset),
        Edit("snowy", ("make it snowy", "cover it in snow", "make it winter"), "in the snow", snowy),
        Edit("inverted", ("invert the colors", "make it a negative", "turn it into a negative"), "in inverted colors",
             inverted),
        Edit("pencil sketch", ("turn it into a pencil sketch", "make it a pencil drawing", "sketch it"),
             "as a pencil sketch", pencil_sketch),
        Edit("pixelated", ("pixelate it", "make it pixel art", "turn it into pixel art"), "as pixel art", pixelated),
        Edit("posterized", ("posterize it", "turn it into a poster", "use few colors"), "as a poster", posterized),
        Edit("blurry", ("blur it", "make it blurry", "make it out of focus"), "out of focus", blurry),
        *(Edit(f"tinted {color}", (f"make it {color}", f"tint it {color}", f"turn it {color}"),
               f"in {color} tones", tinted(color)) for color in TINTS),
        Edit("other colors", ("change the colors", "give it other colors", "recolor it"), "in other colors",
             other_colors, exact=False),
    )
}  # fmt: skip
"""All edits by name."""
