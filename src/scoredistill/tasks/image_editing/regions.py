"""Regions of an image with instructions of their own, blended smoothly.

    "0-0.4: make it night"            a span from left to right, in fractions of the width; 0.8-0.2 crosses the seam
                                      of a panorama that wraps around
    "0.1,0.2,0.6,0.9: make it red"    a box: left, top, right, bottom, in fractions of width and height
    "sky.png: make it sunset"         a mask: an image file, white where the instruction applies

With masks m_k, the instruction k contributes the fraction m_k / sum_j m_j of the update of a pixel, and the edit is
blended with the source with weight min(1, sum_j m_j): outside all regions the source is unchanged, unless there is an
instruction for the rest.
"""

import os
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from scoredistill.media.images import blurred, read_image

NUMBER = r"\s*([0-9]+(?:\.[0-9]+)?|\.[0-9]+)\s*"  # of one reading only, so that matching takes linear time
SPAN, BOX = re.compile(rf"^{NUMBER}-{NUMBER}$"), re.compile(rf"^{NUMBER},{NUMBER},{NUMBER},{NUMBER}$")


@dataclass(frozen=True)
class Regions:
    """Instructions and where they apply.

    Attributes:
        instructions: one per region.
        maps: fraction of the update due to each instruction, [regions, h, w]; they sum to 1 where there is a region.
        shown: weight of the edit against the source, [h, w] in [0, 1].
    """

    instructions: tuple[str, ...]
    maps: Float[Tensor, "r h w"]
    shown: Float[Tensor, "h w"]

    @property
    def everywhere(self) -> bool:
        """Whether there is one instruction for the whole image."""
        return len(self.instructions) == 1 and bool((self.shown == 1).all())


def parse(text: str, wrap: bool = False) -> tuple[str, str]:
    """(place, instruction) of a region; with `wrap` a span may cross the seam.

    Raises:
        ValueError: in one sentence, if the place is neither a span nor a box nor the file of a mask.
    """
    where, colon, instruction = text.partition(":")
    if not colon or not instruction.strip() or not where.strip():
        raise ValueError(f'cannot read the region {text!r}: write it like "0-0.5: make it night"')
    where = where.strip()
    if match := BOX.match(where):
        left, top, right, bottom = map(float, match.groups())
        if not (0 <= left < right <= 1 and 0 <= top < bottom <= 1):
            raise ValueError(f"the box {where[:99]} must be left,top,right,bottom in fractions of the image, 0 to 1")
    elif match := SPAN.match(where):
        start, end = map(float, match.groups())
        if not (0 <= start <= 1 and 0 <= end <= 1 and start != end):
            raise ValueError(f"the span {where[:100]} must be start-end in fractions of the width, from 0 to 1")
        if start > end and not wrap:
            raise ValueError(f"the span {where[:100]} runs backwards: swap its ends, or use --wrap for a panorama")
    elif not os.path.isfile(where):  # unlike that of Path, False for names that no file can have
        raise ValueError(
            f"{where[:100]} is no span (0-0.5), no box (0,0,0.5,1) and no file: give one of them as the region's place"
        )
    return where, instruction.strip()


def check(texts: tuple[str, ...], wrap: bool = False) -> None:
    """Refuse regions that cannot be read.

    Raises:
        ValueError: in one sentence, see `parse`.
    """
    for text in texts:
        parse(text, wrap)


def instructions(texts: tuple[str, ...], wrap: bool = False) -> list[str]:
    """The instructions of regions."""
    return [parse(text, wrap)[1] for text in texts]


def masks(texts: tuple[str, ...], wrap: bool = False) -> list[Path]:
    """The files of the masks among regions."""
    places = [parse(text, wrap)[0] for text in texts]
    return [Path(where) for where in places if not BOX.match(where) and not SPAN.match(where)]


def make(
    instruction: str, texts: tuple[str, ...], size: tuple[int, int], feather: float = 0.1, wrap: bool = False
) -> Regions:
    """The regions of an image.

    Args:
        instruction: applies outside all regions; may be empty.
        texts: regions as in the module's description.
        size: (height, width) of the image.
        feather: width of the blend, as a fraction of the shorter side.
        wrap: whether the left border joins the right one.

    Raises:
        ValueError: if a region cannot be read, or no region covers any pixel.
    """
    if not texts:
        return Regions((instruction,), torch.ones(1, *size), torch.ones(size))
    pairs = [parse(text, wrap) for text in texts]
    masks = torch.stack([_soft(_mask(where, size), feather * min(size), wrap) for where, _ in pairs])
    instructions = [text for _, text in pairs]
    if instruction.strip():
        masks = torch.cat([masks, (1 - masks.sum(0)).clamp(min=0)[None]])
        instructions.append(instruction)
    total = masks.sum(0)
    if not bool((total > 0).any()):
        raise ValueError("no region covers any pixel: give masks that contain something white")
    return Regions(tuple(instructions), masks / total.clamp(min=1e-6), total.clamp(max=1))


def _mask(where: str, size: tuple[int, int]) -> Tensor:
    height, width = size
    x, y = (torch.arange(width) + 0.5) / width, (torch.arange(height) + 0.5) / height
    if match := SPAN.match(where):
        start, end = map(float, match.groups())
        inside = (x >= start) & (x < end) if start < end else (x >= start) | (x < end)
        return inside.float().expand(height, width)
    if match := BOX.match(where):
        left, top, right, bottom = map(float, match.groups())
        return (((y >= top) & (y < bottom)).float()[:, None]) * ((x >= left) & (x < right)).float()
    gray = read_image(where).convert("L").resize((width, height), Image.Resampling.BILINEAR)
    return torch.from_numpy(np.array(gray, dtype=np.float32)) / 255


def _soft(mask: Float[Tensor, "h w"], width: float, wrap: bool) -> Float[Tensor, "h w"]:
    """The mask with its borders blurred to a width of `width` pixels."""
    sigma = width / 4
    if sigma < 0.25:
        return mask
    reach = min(mask.shape[1] - 1, int(4 * sigma) + 1)
    sides = torch.cat([mask[:, -reach:], mask, mask[:, :reach]], 1) if wrap else mask
    soft = blurred(sides[None, None], sigma)[0, 0]
    soft = soft[:, reach:-reach] if wrap else soft
    return torch.where(soft < 1e-3, 0, soft)
