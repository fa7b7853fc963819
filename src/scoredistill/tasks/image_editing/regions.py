"""Regions of an image with instructions of their own, blended smoothly.

    "0-0.4: make it night"            a span from left to right, in parts of the width; 0.8-0.2 passes the seam of a
                                      panorama that wraps around
    "0.1,0.2,0.6,0.9: make it red"    a box: left, top, right, bottom, in parts of width and height
    "sky.png: make it sunset"         a mask: an image file, white where the instruction counts

A pixel's instructions weigh m_k / sum m_k of its update, and the whole edit shows with weight min(1, sum m_k): where no
region lies the source stays as it is, unless there is an instruction for the rest.
"""

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from scoredistill.media.images import blurred, read_image

NUMBER = r"\s*([0-9]*\.?[0-9]+)\s*"
SPAN, BOX = re.compile(rf"^{NUMBER}-{NUMBER}$"), re.compile(rf"^{NUMBER},{NUMBER},{NUMBER},{NUMBER}$")


@dataclass(frozen=True)
class Regions:
    """Instructions and where they count.

    Attributes:
        instructions: one per region.
        maps: their shares of the update, which sum to 1 wherever there is one, [regions, h, w].
        shown: how much of the edit shows, in [0, 1], [h, w].
    """

    instructions: tuple[str, ...]
    maps: Float[Tensor, "r h w"]
    shown: Float[Tensor, "h w"]

    @property
    def everywhere(self) -> bool:
        """Whether there is one instruction for the whole image."""
        return len(self.instructions) == 1 and bool((self.shown == 1).all())


def parse(text: str, wrap: bool = False) -> tuple[str, str]:
    """(where, instruction) of a region; with `wrap` a span may pass the seam.

    Raises:
        ValueError: in one sentence, if it is neither a span nor a box nor the name of a mask's file.
    """
    where, colon, instruction = text.partition(":")
    if not colon or not instruction.strip() or not where.strip():
        raise ValueError(f'cannot read the region {text!r}: write it like "0-0.5: make it night"')
    where = where.strip()
    if match := BOX.match(where):
        left, top, right, bottom = map(float, match.groups())
        if not (0 <= left < right <= 1 and 0 <= top < bottom <= 1):
            raise ValueError(f"the box {where} must be left,top,right,bottom in parts of the image, from 0 to 1")
    elif match := SPAN.match(where):
        start, end = map(float, match.groups())
        if not (0 <= start <= 1 and 0 <= end <= 1 and start != end):
            raise ValueError(f"the span {where} must be start-end in parts of the width, from 0 to 1")
        if start > end and not wrap:
            raise ValueError(f"the span {where} runs backwards: swap its ends, or use --wrap for a panorama")
    elif not Path(where).is_file():
        raise ValueError(f"{where} is no span (0-0.5), no box (0,0,0.5,1) and no file: cannot tell the region's place")
    return where, instruction.strip()


def make(
    instruction: str, texts: tuple[str, ...], size: tuple[int, int], feather: float = 0.1, wrap: bool = False
) -> Regions:
    """Regions of an image.

    Args:
        instruction: for what no region covers; may be empty.
        texts: see the module.
        size: (height, width).
        feather: width of the blend, as a part of the shorter side.
        wrap: the left border meets the right one.
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
        raise ValueError("no region has any weight: give masks with something white in them")
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
    """The mask with borders as wide as `width` pixels."""
    sigma = width / 4
    if sigma < 0.25:
        return mask
    reach = min(mask.shape[1] - 1, int(4 * sigma) + 1)
    sides = torch.cat([mask[:, -reach:], mask, mask[:, :reach]], 1) if wrap else mask
    soft = blurred(sides[None, None], sigma)[0, 0]
    soft = soft[:, reach:-reach] if wrap else soft
    return torch.where(soft < 1e-3, 0, soft)
