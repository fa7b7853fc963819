r"""Motion in videos: optical flow between two frames, warping along it, visibility, and scene cuts.

    flow       f with second(p + f(p)) ~ first(p), p = (x, y) in pixels
    visible    |f(p) + b(p + f(p))|^2 < .01 (|f(p)|^2 + |b(p + f(p))|^2) + .5,    b the flow from second to first
    distance   D(i, j) = mean |T_i - T_j| + mean |sorted T_i - sorted T_j|,    T_i a thumbnail of frame i
    cut at k   C_k = min of D(i, j) over the 3 frames i before k and the 3 frames j from k on,
               C_k > .1  and  C_k > 2.5 max(median D of the 8 steps before k, least D of the 2 steps before k,
                                            least D of the 2 steps after k), steps D(i - 1, i) of this scene

The second part of D compares color histograms: it is the Wasserstein distance between the values of each channel. The
least D over pairs of frames ignores a flash of one or two frames, after which the old scene continues. The steps before
and after distinguish a cut, which is sudden, from a pan or a fade, which lasts.

References: A duality based approach for realtime TV-L1 optical flow (Zach et al. 2007), by scikit-image; Dense point
trajectories by GPU-accelerated large displacement optical flow (Sundaram et al. 2010), for the visibility check.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from scoredistill.optional import require

CONTRAST = 0.25  # standard deviation of brightness to which frames are scaled before the flow is computed
ATTACHMENT = 30  # weight of the data term at that contrast: a larger one follows finer motion, and noise
THUMBNAIL = 32  # side of a thumbnail in pixels
REACH = 3  # frames on each side of a cut that are compared
MEMORY = 8  # preceding steps from which the motion of the scene is estimated
LEAST = 0.1  # distance, for colors in [0, 1], below which nothing is a cut
SUDDEN = 2.5  # ratio of a cut to the steps around it


def optical_flow(first: Float[Tensor, "3 h w"], second: Float[Tensor, "3 _ _"]) -> Float[Tensor, "2 h w"]:
    """Optical flow: the displacement (dx, dy) in pixels of every pixel of `first`, second(p + flow(p)) ~ first(p).

    TV-L1 on brightness, coarse to fine in octaves down to 16 pixels. Both frames are scaled by a common factor to a
    fixed contrast, so that a dark video has the flow of a bright one. The flow is 0 if the frames have no contrast or
    are one pixel high or wide.

    Args:
        first, second: frames of one size.

    Raises:
        ValueError: if the sizes differ or values are not finite.
        MissingExtra: if scikit-image is not installed.
    """
    if first.shape != second.shape:
        raise ValueError(f"expected frames of one size, not {list(first.shape)} and {list(second.shape)}")
    pair = torch.stack([first, second]).detach().double().cpu()
    if not bool(pair.isfinite().all()):
        raise ValueError("frames have values that are not finite: their flow is undefined")
    method = require("skimage.registration", "video", "optical flow").optical_flow_tvl1
    light = torch.einsum("c,bchw->bhw", pair.new_tensor([0.299, 0.587, 0.114]), pair)
    light = light - light.mean()
    spread = light.square().mean().sqrt()
    if spread < 1e-6 or min(first.shape[1:]) < 2:
        return torch.zeros_like(first[:2])
    a, b = (light * (CONTRAST / spread)).float().numpy()
    dy, dx = method(a, b, attachment=ATTACHMENT)
    return torch.from_numpy(np.stack([dx, dy])).to(first)


def warp(image: Float[Tensor, "c h w"], flow: Float[Tensor, "2 _ _"]) -> Float[Tensor, "c h w"]:
    """Backward warp: the image at p + flow(p), bilinear, with replicated borders; exact for shifts of whole pixels.

    Raises:
        ValueError: if the sizes differ.
    """
    height, width = image.shape[1:]
    if flow.shape[1:] != image.shape[1:]:
        raise ValueError(
            f"flow of size {list(flow.shape[1:])} for an image of size {list(image.shape[1:])}: they must agree"
        )
    x, y = _landing(flow)
    grid = torch.stack([(2 * x + 1) / width - 1, (2 * y + 1) / height - 1], dim=-1).to(image)
    sampled = torch.nn.functional.grid_sample(image[None], grid[None], padding_mode="border", align_corners=False)
    return sampled[0]


def visible(
    forward: Float[Tensor, "2 h w"], backward: Float[Tensor, "2 _ _"], tolerance: float = 0.5
) -> Bool[Tensor, "h w"]:
    """Forward-backward check: pixels of the first frame that land inside the second and are mapped back by its flow.

    Args:
        forward: flow from the first frame to the second.
        backward: flow from the second frame to the first.
        tolerance: squared error, in square pixels, allowed where nothing moves.

    Raises:
        ValueError: if the sizes differ.
    """
    back = warp(backward, forward)
    height, width = forward.shape[1:]
    x, y = _landing(forward)
    inside = (x >= -0.5) & (x <= width - 0.5) & (y >= -0.5) & (y <= height - 0.5)  # on the area of some pixel
    error, size = (forward + back).square().sum(0), forward.square().sum(0) + back.square().sum(0)
    return inside & (error < 0.01 * size + tolerance)


def _landing(flow: Tensor) -> tuple[Tensor, Tensor]:
    """Coordinates x and y of p + flow(p), each [h, w]."""
    y, x = (torch.arange(n, device=flow.device, dtype=flow.dtype) for n in flow.shape[1:])
    return x[None, :] + flow[0], y[:, None] + flow[1]


def scene_cuts(frames: Iterable[np.ndarray], sudden: float = SUDDEN, least: float = LEAST) -> list[int]:
    """Indices of the frames that begin a new scene, by the rule of this module; never 0.

    Frames are read once, and few are kept, as thumbnails of 32 x 32 pixels. A dissolve or fade of at least four steps
    is not a cut; a scene of one or two frames belongs to the scene after it, or is a flash. Since nothing is known
    about what would follow the last frame, a flash at the end of the video counts as a cut.

    Args:
        frames: uint8 images [h, w, 3] of one size.
        sudden: least ratio of a cut to the steps around it.
        least: smallest distance that can be a cut, for colors in [0, 1].

    Raises:
        ValueError: if a frame is not a uint8 image, or sizes differ.
    """
    cuts: list[int] = []
    past: deque[float] = deque(maxlen=MEMORY)  # distances of the last steps within this scene
    for step in _steps(frames):
        before = max(np.median(past), min(list(past)[1 - REACH :])) if past else 0.0
        motion = max(float(before), step.after)
        if step.across > max(least, sudden * motion) and (not cuts or step.index - cuts[-1] >= REACH):
            cuts.append(step.index)
            past.clear()
        else:
            past.append(step.change)
    return cuts


@dataclass(frozen=True)
class _Step:
    """The step from frame k - 1 to frame k.

    Attributes:
        index: k.
        change: D(k - 1, k).
        across: least D between frames just before k and frames from k on.
        after: least change among the steps after this one; 0 at the end of the video.
    """

    index: int
    change: float
    across: float
    after: float


def _steps(frames: Iterable[np.ndarray]) -> Iterator[_Step]:
    """The steps of a video, each as soon as the frames after it are known."""
    kept: deque[_Thumbnail] = deque(maxlen=2 * REACH)  # the frames around frame k
    k, count = 1, 0
    for thumbnail in _thumbnails(frames):
        kept.append(thumbnail)
        count += 1
        if count >= k + REACH:
            yield _step(list(kept), k, count)
            k += 1
    for late in range(k, count):
        yield _step(list(kept), late, count)


def _step(kept: "list[_Thumbnail]", k: int, count: int) -> _Step:
    """Step k, where `kept` are the last of `count` frames."""
    place = k - (count - len(kept))
    before, after = kept[max(0, place - REACH) : place], kept[place : place + REACH]
    changes = [after[i].distance(after[i + 1]) for i in range(len(after) - 1)]
    across = min(a.distance(b) for a in before for b in after)
    return _Step(k, before[-1].distance(after[0]), across, min(changes, default=0.0))


@dataclass(frozen=True)
class _Thumbnail:
    """A reduced copy of a frame, and its values sorted per channel, both [pixels, 3]."""

    values: np.ndarray
    ordered: np.ndarray

    def distance(self, other: "_Thumbnail") -> float:
        """The distance D, in [0, 2]."""
        return float(np.abs(self.values - other.values).mean() + np.abs(self.ordered - other.ordered).mean())


def _thumbnails(frames: Iterable[np.ndarray]) -> Iterator[_Thumbnail]:
    size = None
    for index, frame in enumerate(frames):
        if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3 or not frame.size:
            raise ValueError(f"frame {index} is {frame.dtype} of shape {list(frame.shape)}, not uint8 [h, w, 3]")
        size = size or frame.shape
        if frame.shape != size:
            raise ValueError(f"frame {index} has shape {list(frame.shape)}, those before it {list(size)}")
        small = frame.astype(np.float32) / 255
        for axis in (0, 1):
            edges = np.linspace(0, small.shape[axis], min(THUMBNAIL, small.shape[axis]) + 1).astype(int)
            widths = np.diff(edges).reshape((-1, 1, 1) if axis == 0 else (1, -1, 1))
            small = np.add.reduceat(small, edges[:-1], axis=axis) / widths
        values = small.reshape(-1, 3)
        yield _Thumbnail(values, np.sort(values, axis=0))
