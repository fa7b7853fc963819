"""How a video is cut into groups of frames that are edited together, and how neighboring groups become one.

Groups follow each other within a scene and share `overlap` frames, over which the latents of one fade into those of the
next; none reaches across a cut. Memory is that of a group, however long the video is.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True)
class Group:
    """Frames start, ..., stop - 1.

    Attributes:
        fresh: the first frame that the group before does not have.
    """

    start: int
    stop: int
    fresh: int


def groups_of(frames: int, size: int, overlap: int, cuts: Sequence[int] = ()) -> list[Group]:
    """The groups of a video.

    Args:
        frames: how many there are.
        size: of a group; scenes that are shorter are one group.
        overlap: frames shared by groups that follow each other, less than the size.
        cuts: frames that begin a scene.
    """
    made = []
    borders = [0, *cuts, frames]
    for begin, end in pairwise(borders):
        start = begin
        while True:
            stop = min(start + size, end)
            made.append(Group(start, stop, start if start == begin else start + overlap))
            if stop == end:
                break
            start = stop - overlap
    return made


def faded(before: Float[Tensor, " o *d"], after: Float[Tensor, " n *d"]) -> Float[Tensor, " n *d"]:
    """`after`, whose first frames come in linearly over the last ones of the group before."""
    o = len(before)
    share = (torch.arange(1, o + 1) / (o + 1)).to(after).reshape(-1, *[1] * (after.ndim - 1))
    return torch.cat([before + share * (after[:o] - before), after[o:]])
