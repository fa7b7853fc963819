"""Frames of a capture as described by its files, and reading their images at one size."""

from __future__ import annotations

import math
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from scoredistill.three_d.camera import Cameras
from scoredistill.three_d.capture.distortion import Distortion, undistorted, zoom
from scoredistill.three_d.capture.scene import Capture

Pixels = np.ndarray | None  # of a quantity that a capture may lack
DEPTH_UNITS = 1000  # steps of a 16-bit depth image per world unit: millimeters in nerfstudio
FINER = 4  # images are undistorted at so many times their final size, or at that on disk
STRIP = 128  # rows of an image that are floats at one time


@dataclass(frozen=True)
class Frame:
    """One image of a posed scene.

    Args:
        name: of the image, for messages and exports.
        path: of the image.
        pose: camera-to-world transform in the convention of `camera`, [4, 4], float64.
        lens: fx, fy, cx, cy in pixels, or the horizontal field of view in radians.
        size: (width, height) to which the lens refers; None for that of the image.
        alpha: path of a grayscale image of the opacity.
        depth: path of a 16-bit image of depth, in 1/1000 world units.
        mask: path of an image that is 0 where the image shall not be trained on.
        distortion: of the lens; the image is undistorted when it is read.
    """

    name: str
    path: Path
    pose: Float[np.ndarray, "4 4"]
    lens: tuple[float, float, float, float] | float
    size: tuple[int, int] | None = None
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
    _check(frames)
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
    poses = torch.tensor(np.stack([frame.pose for frame in frames]), dtype=torch.float32)
    return Capture(
        images,
        Cameras(poses, stacked[:, :2], stacked[:, 2:], new),
        tuple(frame.name for frame in frames),
        tuple(held_out),
        _stack(alphas),
        _stack(depths),
        None if some is None else _stack(some),
    )


def shape(frames: Sequence[Frame]) -> tuple[int, int]:
    """(height, width) of the images of all frames without reducing them, from the headers of the files.

    Raises:
        ValueError: as `load`, except for what only decoding an image shows.
    """
    _check(frames)
    width, height = _common(frames, None, quiet=True)
    return height, width


def _check(frames: Sequence[Frame]) -> None:
    """Refuse what can be refused without opening an image."""
    if len(frames) < 2:
        raise ValueError(f"a scene needs at least two posed images, not {len(frames)}")
    _check_poses(frames)
    missing = [frame.path.name for frame in frames if not frame.path.is_file()]
    if missing:
        more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
        raise ValueError(f"images are missing in {frames[0].path.parent}: {', '.join(missing[:3])}{more}")


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
    with _opened(frame.path) as image:
        width, height = image.size
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


def located(written: str, *folders: Path, suffixes: Sequence[str] = ()) -> Path:
    """The file that a scene names, also by a path of Windows, or by an absolute path of another computer.

    Args:
        written: the name in the file of the scene, relative to one of the folders or absolute.
        folders: where to look, in this order.
        suffixes: that may be missing from the name.

    Returns:
        The path of the first file found; without any, that in the first folder.
    """
    plain = written.replace("\\", "/")
    names = [written, plain]
    if PureWindowsPath(written).anchor or plain.startswith("/"):  # PureWindowsPath splits at both kinds of slash
        parts = PureWindowsPath(written).parts[1:]
        names += ["/".join(parts[k:]) for k in range(len(parts))]
    for name in names:
        for folder in folders:
            for suffix in ("", *suffixes):
                if (path := folder / (name + suffix)).is_file():
                    return path
    return folders[0] / plain


def _check_poses(frames: Sequence[Frame]) -> None:
    for frame in frames:
        turn = frame.pose[:3, :3]
        if not np.isfinite(frame.pose).all():
            raise ValueError(f"the pose of {frame.name} has numbers that are not finite: check the file of the scene")
        if np.linalg.det(turn) < 0:
            raise ValueError(f"the pose of {frame.name} is left-handed (determinant < 0): flip one axis of its cameras")
        if np.abs(turn.T @ turn - np.eye(3)).max() > 1e-3:
            raise ValueError(
                f"the pose of {frame.name} is no rotation and translation: remove the scale from its matrix"
            )


def _read(
    frame: Frame, new: tuple[int, int], background: Sequence[float]
) -> tuple[np.ndarray, np.ndarray, Pixels, Pixels, Pixels]:
    """RGB [h, w, 3], lens [4], and alpha, depth and mask [h, w, 1] or None, at the size (h, w)."""
    with _decoded(frame.path) as image:
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
            both = _strips(image, "RGBA", at, over)
            rgb, alpha = both[..., :3], both[..., 3:]
        else:
            rgb, alpha = _strips(image, "RGB", at), None
    lens, factor = _lens(frame, width, height), _zoom(frame, width, height)
    fx, fy, cx, cy = (lens * np.tile([at[1] / width, at[0] / height], 2)).tolist()

    def finished(values: np.ndarray) -> np.ndarray:
        return shrunk(undistorted(values, bent, (fx, fy, cx, cy), factor), new) if bent else values

    if alpha is None and frame.alpha is not None:
        alpha = shrunk(_gray(frame.alpha, (height, width)) / 255, at)
    depth = None if frame.depth is None else _gray(frame.depth, (height, width)) / DEPTH_UNITS
    if depth is not None:
        known = finished(shrunk((depth > 0).astype(np.float32), at))
        depth = finished(shrunk(depth, at)) / np.maximum(known, 1e-6)
    mask = None if frame.mask is None else _gray(frame.mask, (height, width)) > 0
    if mask is not None:  # a pixel counts if all that it covers does
        mask = (finished(shrunk(mask.astype(np.float32), at)) > 1 - 1e-4).astype(np.float32)
    lens = lens * [factor, factor, 1, 1] * np.tile([new[1] / width, new[0] / height], 2)
    return finished(rgb), lens, None if alpha is None else finished(alpha), depth, mask


def _strips(
    image: Image.Image, mode: str, new: tuple[int, int], change: Callable[[np.ndarray], np.ndarray] = lambda v: v
) -> Float[np.ndarray, "a b c"]:
    """`shrunk` of an image in [0, 1], changed before, which holds only a strip of it as floats at any time."""
    width, height = image.size
    rows, columns = _overlaps(height, new[0]), _overlaps(width, new[1])
    total: np.ndarray | float = 0.0
    for top in range(0, height, STRIP):
        strip = image.crop((0, top, width, min(top + STRIP, height))).convert(mode)
        values = change(np.asarray(strip, np.float32) / 255)
        some = rows[:, top : top + STRIP]
        covered = np.flatnonzero(some.any(1))  # few rows of the result
        if isinstance(total, float):
            total = np.zeros((*new, values.shape[2]), np.float32)
        if width != new[1]:
            values = np.einsum("bw,hwc->hbc", columns, values, optimize=True)
        total[covered] += np.einsum("ah,hbc->abc", some[covered], values, optimize=True)
    return np.asarray(total)


def _gray(path: Path, size: tuple[int, int]) -> np.ndarray:
    """Unscaled values of a grayscale image, [h, w, 1]."""
    if not path.is_file():
        raise ValueError(f"there is no image {path}: check its name in the file of the scene")
    with _decoded(path) as image:
        values = np.asarray(image if image.mode.startswith("I") else image.convert("L"), np.float32)
    if values.shape != size:
        raise ValueError(f"{path.name} must have the size of its color image, {size[1]}x{size[0]}")
    return values[..., None]


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    """The image of a file, of which only the header is read."""
    try:
        with Image.open(path) as image:
            yield image
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(f"{path.name} cannot be read as an image: save it again as PNG or JPEG") from error


@contextmanager
def _decoded(path: Path) -> Iterator[Image.Image]:
    try:
        with Image.open(path) as image:
            image.load()
            yield image
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(f"{path.name} cannot be read as an image: save it again as PNG or JPEG") from error


def _lens(frame: Frame, width: int, height: int) -> np.ndarray:
    """fx, fy, cx, cy for the size of the image on disk."""
    if isinstance(frame.lens, float):
        focal = width / 2 / math.tan(frame.lens / 2)
        return np.array([focal, focal, width / 2, height / 2])
    across, down = (width, height) if frame.size is None else frame.size
    if abs(width * down - height * across) > max(width, height, across, down):  # a pixel of rounding
        raise ValueError(
            f"{frame.path.name} is {width}x{height}, but its camera is for {across}x{down}: keep the aspect ratio"
        )
    return np.array(frame.lens) * np.tile([width / across, height / down], 2)


def shrunk(values: Float[np.ndarray, "h w c"], size: tuple[int, int]) -> Float[np.ndarray, "a b c"]:
    """Reduce an image to [a, b, c] by area averaging: pixels are exact means over the area that they cover."""
    if values.shape[:2] == size:
        return values
    rows, columns = _overlaps(values.shape[0], size[0]), _overlaps(values.shape[1], size[1])
    return np.einsum("ah,hbc->abc", rows, np.einsum("bw,hwc->hbc", columns, values, optimize=True), optimize=True)


def _overlaps(old: int, new: int) -> Float[np.ndarray, "new old"]:
    """Fraction of each new pixel that each old pixel covers; rows sum to 1."""
    edges = np.arange(new + 1) * (old / new)
    left, right = np.maximum(edges[:-1, None], np.arange(old)), np.minimum(edges[1:, None], np.arange(1, old + 1))
    return (np.maximum(right - left, 0) * (new / old)).astype(np.float32)


def _stack(images: Sequence[Pixels]) -> Float[Tensor, "n c h w"] | None:
    """Images as a tensor; None if one is missing."""
    known = [image for image in images if image is not None]
    if len(known) < len(images):
        return None
    return torch.from_numpy(np.stack(known)).permute(0, 3, 1, 2).float().contiguous()
