"""Groups of frames of a video that are edited together, and how neighboring groups are joined.

Successive groups of a scene share `overlap` frames, over which the latents of one group fade into those of the next; no
group contains a cut. The memory needed is that of one group, for videos of any length.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True)
class Group:
    """The frames start, ..., stop - 1.

    Attributes:
        start: index of the first frame.
        stop: index after the last frame.
        fresh: index of the first frame that the previous group does not contain.
    """

    start: int
    stop: int
    fresh: int


def groups_of(frames: int, size: int, overlap: int, cuts: Sequence[int] = ()) -> list[Group]:
    """The groups of a video.

    Args:
        frames: number of frames of the video.
        size: number of frames of a group; shorter scenes are one group.
        overlap: number of frames that successive groups share, less than the size.
        cuts: indices of frames that begin a scene.
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
    """The latents of a group, whose first frames are blended linearly with the shared frames of the previous group.

    Args:
        before: latents of the shared frames in the previous group.
        after: latents of the group.
    """
    o = len(before)
    weight = (torch.arange(1, o + 1) / (o + 1)).to(after).reshape(-1, *[1] * (after.ndim - 1))
    return torch.cat([before + weight * (after[:o] - before), after[o:]])
