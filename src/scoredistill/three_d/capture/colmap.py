r"""COLMAP models in text format: cameras.txt and images.txt (https://colmap.github.io/format.html).

COLMAP stores the transform from world to camera as a quaternion (w, x, y, z) and a translation t, for a camera with x
right, y down and looking along +z. With F = diag(1, -1, -1), the pose in our convention (`camera`) is

    rotation = R(q)^T F,        eye = -R(q)^T t.

Both conventions measure pixels from the upper left corner of the image, with the center of the first at (1/2, 1/2).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float

from scoredistill.files import write_text
from scoredistill.three_d.capture.frames import Frame
from scoredistill.three_d.capture.scene import Capture
from scoredistill.three_d.capture.transforms import write_images
from scoredistill.three_d.rotations import matrix_to_quaternion, quaternion_to_matrix

PLACES = ("", "sparse/0", "sparse", "colmap/sparse/0")
FLIP = np.diag([1.0, -1.0, -1.0])


def find_model(folder: Path) -> Path | None:
    """The folder with cameras.txt and images.txt (or .bin), in one of the usual places; None if there is none."""
    for suffix in (".txt", ".bin"):
        for place in PLACES:
            if all((folder / place / f"{name}{suffix}").is_file() for name in ("cameras", "images")):
                return folder / place
    return None


def read_colmap(folder: Path) -> list[Frame]:
    """Frames sorted by name; the images are in images/, or beside the model.

    Raises:
        ValueError: if the model is missing, binary or invalid, or a camera is not a pinhole camera.
    """
    model = find_model(folder)
    if model is None:
        raise ValueError(f"{folder} has no COLMAP model: cameras.txt and images.txt are missing")
    if not (model / "images.txt").is_file():
        raise ValueError(
            f"the COLMAP model in {model} is binary: convert it with colmap model_converter --output_type TXT"
        )
    cameras = _cameras(model / "cameras.txt")
    images = folder / "images" if (folder / "images").is_dir() else model
    frames = []
    for words in _images(model / "images.txt"):
        try:
            numbers = np.array(words[1:8], np.float64)
            size, lens = cameras[int(words[8])]
        except (ValueError, KeyError) as error:
            raise ValueError(
                f"images.txt is invalid at {' '.join(words)!r}: check the numbers and CAMERA_ID"
            ) from error
        frames.append(Frame(words[9], images / words[9], _pose(numbers, words[9]), lens, size))
    return sorted(frames, key=lambda frame: frame.name)


def _cameras(path: Path) -> dict[int, tuple[tuple[int, int], tuple[float, float, float, float]]]:
    """(width, height) and fx, fy, cx, cy by CAMERA_ID."""
    cameras = {}
    for line in _lines(path):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        model = words[1] if len(words) > 1 else ""
        try:
            key, size, numbers = int(words[0]), (int(words[2]), int(words[3])), [float(w) for w in words[4:]]
        except (ValueError, IndexError) as error:
            raise ValueError(
                f"cameras.txt is invalid at {line.strip()!r}: expected CAMERA_ID, MODEL, WIDTH, HEIGHT and numbers"
            ) from error
        if model == "SIMPLE_PINHOLE" and len(numbers) == 3:
            numbers = [numbers[0], *numbers]
        elif model != "PINHOLE" or len(numbers) != 4:
            raise ValueError(
                f"cameras.txt has a camera of model {model} with {len(numbers)} numbers: only PINHOLE and "
                "SIMPLE_PINHOLE are read, so undistort the images first (colmap image_undistorter)"
            )
        fx, fy, cx, cy = numbers
        if not np.isfinite(numbers).all() or min(fx, fy) <= 0:
            raise ValueError(f"cameras.txt has a focal length that is not positive at {line.strip()!r}")
        cameras[key] = (size, (fx, fy, cx, cy))
    return cameras


def _images(path: Path) -> list[list[str]]:
    """The ten words of the first line of each image; the second line, with points, may be empty."""
    found, points = [], False
    for line in _lines(path):
        if points:
            points = False
            continue
        words = line.split(maxsplit=9)
        if not words or words[0].startswith("#"):
            continue
        if len(words) < 10:
            raise ValueError(f"images.txt is invalid at {line.strip()!r}: expected ten words")
        words[9] = words[9].strip()
        found.append(words)
        points = True
    return found


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path.name} cannot be read as text: export the model again") from error


def _pose(numbers: Float[np.ndarray, " 7"], name: str) -> Float[np.ndarray, "4 4"]:
    if not np.isfinite(numbers).all() or np.linalg.norm(numbers[:4]) < 1e-9:
        raise ValueError(f"the pose of {name} has numbers that are not finite, or a quaternion of 0: check images.txt")
    turn = quaternion_to_matrix(torch.from_numpy(numbers[:4])).numpy()
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = turn.T @ FLIP, -turn.T @ numbers[4:]
    return pose


def write_colmap(capture: Capture, folder: str | Path) -> Path:
    """Write a capture as a COLMAP model: sparse/0 with cameras, images and no points, and PNG images in images/.

    The format cannot hold the split, alpha and depth.

    Returns:
        The folder sparse/0.

    Raises:
        ValueError: if two images would get the same name.
    """
    folder = Path(folder)
    names = write_images(capture, folder, ".png")
    model = folder / "sparse" / "0"
    model.mkdir(parents=True, exist_ok=True)
    height, width = capture.cameras.size
    lenses: dict[tuple[float, ...], int] = {}
    images = ["# IMAGE_ID, QW, QX, QY, QZ, TX, TY, TZ, CAMERA_ID, NAME, then a line of points"]
    for i, name in enumerate(names):
        lens = (*capture.cameras.focal[i].tolist(), *capture.cameras.center[i].tolist())
        key = lenses.setdefault(lens, len(lenses) + 1)
        pose = capture.cameras.poses[i].double().numpy()
        turn = (pose[:3, :3] @ FLIP).T
        numbers = [*matrix_to_quaternion(torch.from_numpy(turn)).tolist(), *(-turn @ pose[:3, 3])]
        images += [f"{i + 1} {' '.join(repr(float(v)) for v in numbers)} {key} {name}", ""]
    cameras = ["# CAMERA_ID, MODEL, WIDTH, HEIGHT, fx, fy, cx, cy"]
    cameras += [f"{key} PINHOLE {width} {height} {' '.join(map(repr, lens))}" for lens, key in lenses.items()]
    for file, lines in (("cameras", cameras), ("images", images), ("points3D", ["# no points"])):
        write_text(model / f"{file}.txt", "\n".join(lines) + "\n")
    return model
