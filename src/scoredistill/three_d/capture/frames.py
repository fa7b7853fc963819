"""Frames of a capture as described by its files, and reading their images at one size."""

from __future__ import annotations

import os
import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from scoredistill.three_d.camera import Cameras
from scoredistill.three_d.capture.distortion import Distortion, undistorted, zoom
from scoredistill.three_d.capture.pixels import decoded, fits, gray, opened, oriented, shrunk, strips
from scoredistill.three_d.capture.scene import Capture

Pixels = np.ndarray | None  # of a quantity that a capture may lack
DEPTH_UNITS = 1000  # steps of a 16-bit depth image per world unit: millimeters in nerfstudio
FINER = 4  # images are undistorted at so many times their final size, or at that on disk
OPAQUE = 1 - 1 / 512  # alpha from which a pixel counts as opaque
RIGID, NEARLY = 1e-3, 2e-2  # deviations of R^T R from 1 up to which R is a rotation, and is rounded to one


@dataclass(frozen=True)
class Frame:
    """One image of a posed scene.

    Args:
        name: of the image, for messages and exports.
        path: of the image.
        pose: camera-to-world transform in the convention of `camera`, [4, 4], float64.
        lens: fx, fy, cx, cy in pixels.
        size: (width, height) to which the lens refers.
        alpha: path of a grayscale image of the opacity.
        depth: path of a 16-bit image or an array (.npy) of depth, in 1/1000 world units.
        mask: path of an image that is 0 where the image shall not be trained on.
        distortion: of the lens; the image is undistorted when it is read.
    """

    name: str
    path: Path
    pose: Float[np.ndarray, "4 4"]
    lens: tuple[float, float, float, float]
    size: tuple[int, int]
    alpha: Path | None = None
    depth: Path | None = None
    mask: Path | None = None
    distortion: Distortion = Distortion()


def load(
    frames: Sequence[Frame], held_out: Sequence[int], size: int | None, background: tuple[float, float, float]
) -> Capture:
    """Read the images of all frames, one at a time; where their sizes differ, with a warning, they are resized to one.

    Args:
        frames: at least two.
        held_out: indices of held-out frames, in increasing order.
        size: shorter side in pixels to which larger images are reduced by area averaging; None keeps their size.
        background: RGB in [0, 1] behind transparent images.

    Raises:
        ValueError: if images are missing or unreadable, poses are not rigid transforms, or there are
            fewer than two frames.
    """
    frames = _checked(frames)
    width, height = _common(frames, size)
    new = (height, width)
    images = torch.empty(len(frames), 3, height, width)
    lenses: list[np.ndarray] = []
    alphas: list[Pixels] = []
    depths: list[Pixels] = []
    masks: list[Pixels] = []
    for i, frame in enumerate(frames):  # one photograph at a time: together they may exceed the memory
        rgb, lens, alpha, depth, mask = _read(frame, new, background)
        images[i] = torch.from_numpy(rgb).permute(2, 0, 1)
        lenses.append(lens)
        alphas.append(alpha)
        depths.append(depth)
        masks.append(mask)
    training = [mask for i, mask in enumerate(masks) if i not in held_out]
    if training and not any(mask is None or mask.any() for mask in training):
        raise ValueError("the masks leave no pixel to train on: they must be above 0 where images are to be used")
    some = None if all(mask is None for mask in masks) else [np.ones((*new, 1)) if m is None else m for m in masks]
    stacked = torch.tensor(np.stack(lenses), dtype=torch.float32)
    return Capture(
        images,
        Cameras(_poses(frames), stacked[:, :2], stacked[:, 2:], new),
        tuple(frame.name for frame in frames),
        tuple(held_out),
        _stack(_alphas(frames, alphas, new)),
        _stack([np.zeros((*new, 1)) if d is None else d for d in depths] if any(f.depth for f in frames) else depths),
        None if some is None else _stack(some),
    )


def shape(frames: Sequence[Frame]) -> tuple[int, int]:
    """(height, width) of the images of all frames without reducing them, from the headers of the files.

    Raises:
        ValueError: as `load`, except for what only decoding an image shows.
    """
    width, height = _common(_checked(frames), None, quiet=True)
    return height, width


def _checked(frames: Sequence[Frame]) -> list[Frame]:
    """The frames with poses that are rigid; refuse what can be refused without opening an image."""
    if len(frames) < 2:
        raise ValueError(f"a scene needs at least two posed images, not {len(frames)}")
    frames = [replace(frame, pose=_rigid(frame)) for frame in frames]
    missing = [frame.path.name for frame in frames if not os.path.isfile(frame.path)]
    if missing:
        more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
        folder = next(frame.path.parent for frame in frames if not os.path.isfile(frame.path))
        raise ValueError(
            f"images are missing in {folder}: {', '.join(missing[:3])}{more}; copy them there, or remove their entries "
            "from the file of the scene"
        )
    return frames


def _common(frames: Sequence[Frame], size: int | None, quiet: bool = False) -> tuple[int, int]:
    """(width, height) to which all images are brought: the most frequent one, and of several the smallest."""
    counts = Counter(_reduced(_size(frame), size) for frame in frames)
    common = min(counts, key=lambda s: (-counts[s], s[0] * s[1], s))
    if len(counts) > 1 and not quiet:
        others = sum(counts.values()) - counts[common]
        warnings.warn(
            f"the images have {len(counts)} sizes, so {others} of them are resized to {common[0]}x{common[1]} pixels "
            "and their cameras with them: crop them to one shape to avoid stretched images",
            stacklevel=4,
        )
    return common


def _size(frame: Frame) -> tuple[int, int]:
    """(width, height) of an image on disk, whose aspect ratio must be that of its camera."""
    with opened(frame.path) as image:
        width, height = oriented(image, frame.size)
    _zoom(frame, width, height)
    return width, height


def _zoom(frame: Frame, width: int, height: int) -> float:
    """By how much the focal length grows when an image of this size is undistorted; 1 without distortion."""
    fx, fy, cx, cy = _lens(frame, width, height).tolist()
    return zoom(frame.distortion, (fx, fy, cx, cy), (width, height)) if frame.distortion else 1.0


def _reduced(size: tuple[int, int], shorter: int | None) -> tuple[int, int]:
    """(width, height) with at most so many pixels along the shorter side."""
    if shorter is None or min(size) <= shorter:
        return size
    scale = shorter / min(size)
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def _rigid(frame: Frame) -> Float[np.ndarray, "4 4"]:
    """The pose, whose rotation is replaced by the nearest one if its numbers are rounded."""
    turn = frame.pose[:3, :3]
    if not np.isfinite(frame.pose).all():
        raise ValueError(f"the pose of {frame.name} has numbers that are not finite: check the file of the scene")
    if np.linalg.det(turn) < 0:
        raise ValueError(f"the pose of {frame.name} is left-handed (determinant < 0): flip one axis of its cameras")
    off = np.abs(turn.T @ turn - np.eye(3)).max()
    if off > NEARLY:
        raise ValueError(f"the pose of {frame.name} is no rotation and translation: remove the scale from its matrix")
    if off <= RIGID:
        return frame.pose
    left, _, right = np.linalg.svd(turn)
    pose = frame.pose.copy()
    pose[:3, :3] = left @ right
    return pose


def _poses(frames: Sequence[Frame]) -> Float[Tensor, "n 4 4"]:
    """Poses in float32, or in float64 where cameras are so far from the origin that float32 would move them."""
    poses = torch.from_numpy(np.stack([frame.pose for frame in frames]))
    eyes = poses[:, :3, 3]
    moved = (eyes.float().double() - eyes).abs().max()
    return poses if moved > 1e-5 * (eyes - eyes.mean(0)).abs().max() else poses.float()


def _alphas(frames: Sequence[Frame], alphas: Sequence[Pixels], size: tuple[int, int]) -> Sequence[Pixels]:
    """Opacities of all images or of none: alpha channels that are opaque everywhere say nothing.

    Images without an alpha channel among others that have one are opaque.
    """
    told = any(frame.alpha is not None for frame in frames)
    if not told and all(alpha is None or alpha.min() > OPAQUE for alpha in alphas):
        return [None]
    return [np.ones((*size, 1)) if alpha is None else alpha for alpha in alphas]


def _read(
    frame: Frame, new: tuple[int, int], background: Sequence[float]
) -> tuple[np.ndarray, np.ndarray, Pixels, Pixels, Pixels]:
    """RGB [h, w, 3], lens [4], and alpha, depth and mask [h, w, 1] or None, at the size (h, w)."""
    with decoded(frame.path, frame.size) as image:
        width, height = image.size
        bent = frame.distortion
        at = (min(height, FINER * new[0]), min(width, FINER * new[1])) if bent else new
        if image.has_transparency_data:
            over = lambda rgba: np.concatenate(
                [
                    rgba[..., :3] * rgba[..., 3:] + (1 - rgba[..., 3:]) * np.asarray(background, np.float32),
                    rgba[..., 3:],
                ],
                2,
            )
            both = strips(image, "RGBA", at, over)
            rgb, alpha = both[..., :3], both[..., 3:]
        else:
            rgb, alpha = strips(image, "RGB", at), None
    lens, factor = _lens(frame, width, height), _zoom(frame, width, height)
    fx, fy, cx, cy = (lens * np.tile([at[1] / width, at[0] / height], 2)).tolist()

    def finished(values: np.ndarray) -> np.ndarray:
        return shrunk(undistorted(values, bent, (fx, fy, cx, cy), factor), new) if bent else values

    if alpha is None and frame.alpha is not None:
        opacity, white = gray(frame.alpha, (width, height))
        alpha = shrunk(opacity / white, at)
    depth = mask = None
    if frame.depth is not None:
        far, _ = gray(frame.depth, (width, height))
        known = finished(shrunk((far > 0).astype(np.float32), at))
        depth = finished(shrunk(far / DEPTH_UNITS, at)) / np.maximum(known, 1e-6)
    if frame.mask is not None:  # a pixel counts if all that it covers does
        used = (gray(frame.mask, (width, height))[0] > 0).astype(np.float32)
        mask = (finished(shrunk(used, at)) > 1 - 1e-4).astype(np.float32)
    lens = lens * [factor, factor, 1, 1] * np.tile([new[1] / width, new[0] / height], 2)
    return finished(rgb), lens, None if alpha is None else finished(alpha), depth, mask


def _lens(frame: Frame, width: int, height: int) -> np.ndarray:
    """fx, fy, cx, cy for the size of the image on disk."""
    if not fits((width, height), frame.size):
        raise ValueError(
            f"{frame.path.name} is {width}x{height}, but its camera is for {frame.size[0]}x{frame.size[1]}: keep the "
            "aspect ratio"
        )
    return np.array(frame.lens) * np.tile([width / frame.size[0], height / frame.size[1]], 2)


def _stack(images: Sequence[Pixels]) -> Float[Tensor, "n c h w"] | None:
    """Images as a tensor; None if one is missing."""
    known = [image for image in images if image is not None]
    if len(known) < len(images):
        return None
    return torch.from_numpy(np.stack(known)).permute(0, 3, 1, 2).float().contiguous()
