"""Frames of a capture as described by its files, and reading their images at one size."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from scoredistill.three_d.camera import Cameras
from scoredistill.three_d.capture.scene import Capture

Pixels = np.ndarray | None  # of a quantity that a capture may lack
DEPTH_UNITS = 1000  # steps of a 16-bit depth image per world unit: millimeters in nerfstudio


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
    """

    name: str
    path: Path
    pose: Float[np.ndarray, "4 4"]
    lens: tuple[float, float, float, float] | float
    size: tuple[int, int] | None = None
    alpha: Path | None = None
    depth: Path | None = None


def load(
    frames: Sequence[Frame], held_out: Sequence[int], size: int | None, background: tuple[float, float, float]
) -> Capture:
    """Read the images of all frames.

    Args:
        frames: at least two.
        held_out: indices of held-out frames, in increasing order.
        size: shorter side in pixels to which larger images are reduced by area averaging; None keeps their size.
        background: RGB in [0, 1] behind transparent images.

    Raises:
        ValueError: if images are missing, unreadable or of several sizes, poses are not rigid transforms, or there are
            fewer than two frames.
    """
    if len(frames) < 2:
        raise ValueError(f"a scene needs at least two posed images, not {len(frames)}")
    _check_poses(frames)
    missing = [frame.path.name for frame in frames if not frame.path.is_file()]
    if missing:
        more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
        raise ValueError(f"images are missing in {frames[0].path.parent}: {', '.join(missing[:3])}{more}")
    read = [_read(frame, size, background) for frame in frames]
    sizes = sorted({(image.shape[1], image.shape[0]) for image, *_ in read})
    if len(sizes) > 1:
        named = ", ".join(f"{w}x{h}" for w, h in sizes[:3])
        raise ValueError(f"images must have one size, not {named}: crop or resize them first")
    images, lenses, alphas, depths = zip(*read, strict=True)
    lens = torch.tensor(np.stack(lenses), dtype=torch.float32)
    poses = torch.tensor(np.stack([frame.pose for frame in frames]), dtype=torch.float32)
    width, height = sizes[0]
    return Capture(
        _stack(images),
        Cameras(poses, lens[:, :2], lens[:, 2:], (height, width)),
        tuple(frame.name for frame in frames),
        tuple(held_out),
        None if any(a is None for a in alphas) else _stack(alphas),
        None if any(d is None for d in depths) else _stack(depths),
    )


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


def _read(frame: Frame, size: int | None, background: Sequence[float]) -> tuple[np.ndarray, np.ndarray, Pixels, Pixels]:
    """RGB [h, w, 3], lens [4], and alpha and depth [h, w, 1] or None, at the requested size."""
    rgb, alpha = _image(frame.path, background)
    height, width = rgb.shape[:2]
    lens = _lens(frame, width, height)
    if alpha is None and frame.alpha is not None:
        alpha = _gray(frame.alpha, (height, width)) / 255
    depth = None if frame.depth is None else _gray(frame.depth, (height, width)) / DEPTH_UNITS
    if size is None or min(width, height) <= size:
        return rgb, lens, alpha, depth
    scale = size / min(width, height)
    new = (max(1, round(height * scale)), max(1, round(width * scale)))
    lens = lens * np.tile([new[1] / width, new[0] / height], 2)
    alpha = None if alpha is None else shrunk(alpha, new)
    if depth is not None:
        known = shrunk((depth > 0).astype(np.float32), new)
        depth = shrunk(depth, new) / np.maximum(known, 1e-6)
    return shrunk(rgb, new), lens, alpha, depth


def _image(path: Path, background: Sequence[float]) -> tuple[np.ndarray, Pixels]:
    """RGB [h, w, 3] in [0, 1] over the background, and alpha [h, w, 1] if the image has transparency."""
    with _opened(path) as image:
        if not image.has_transparency_data:
            return np.asarray(image.convert("RGB"), np.float32) / 255, None
        rgba = np.asarray(image.convert("RGBA"), np.float32) / 255
    alpha = rgba[..., 3:]
    return rgba[..., :3] * alpha + (1 - alpha) * np.asarray(background, np.float32), alpha


def _gray(path: Path, size: tuple[int, int]) -> np.ndarray:
    """Unscaled values of a grayscale image, [h, w, 1]."""
    if not path.is_file():
        raise ValueError(f"there is no image {path}: check its name in the file of the scene")
    with _opened(path) as image:
        values = np.asarray(image if image.mode.startswith("I") else image.convert("L"), np.float32)
    if values.shape != size:
        raise ValueError(f"{path.name} must have the size of its color image, {size[1]}x{size[0]}")
    return values[..., None]


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
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
    rows, columns = _overlaps(values.shape[0], size[0]), _overlaps(values.shape[1], size[1])
    return np.einsum("ah,hbc->abc", rows, np.einsum("bw,hwc->hbc", columns, values, optimize=True), optimize=True)


def _overlaps(old: int, new: int) -> Float[np.ndarray, "new old"]:
    """Fraction of each new pixel that each old pixel covers; rows sum to 1."""
    edges = np.arange(new + 1) * (old / new)
    left, right = np.maximum(edges[:-1, None], np.arange(old)), np.minimum(edges[1:, None], np.arange(1, old + 1))
    return (np.maximum(right - left, 0) * (new / old)).astype(np.float32)


def _stack(images: Sequence[np.ndarray]) -> Float[Tensor, "n c h w"]:
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float().contiguous()
