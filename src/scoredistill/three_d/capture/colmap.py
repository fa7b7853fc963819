r"""Models of COLMAP in text form: cameras.txt and images.txt (https://colmap.github.io/format.html).

COLMAP writes the motion from the world to the camera as a quaternion (w, x, y, z) and a shift t, the camera with x
right, y down and looking along +z. With F = diag(1, -1, -1) the pose of `camera` is

    rotation = R(q)^T F,        eye = -R(q)^T t

Both count pixels from the upper left corner of the image, the center of the first one at (1/2, 1/2).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from jaxtyping import Float

from scoredistill.three_d.capture.frames import Frame
from scoredistill.three_d.capture.scene import Capture
from scoredistill.three_d.capture.transforms import write_images

PLACES = ("", "sparse/0", "sparse", "colmap/sparse/0")
FLIP = np.diag([1.0, -1.0, -1.0])


def find_model(folder: Path) -> Path | None:
    """The folder of cameras.txt and images.txt (or .bin), in one of the usual places."""
    for suffix in (".txt", ".bin"):
        for place in PLACES:
            if all((folder / place / f"{name}{suffix}").is_file() for name in ("cameras", "images")):
                return folder / place
    return None


def read_colmap(folder: Path) -> list[Frame]:
    """Frames in the order of their names; images lie in images/, or beside the model.

    Raises:
        ValueError: the model is missing, binary, broken, or has a camera that is no pinhole.
    """
    model = find_model(folder)
    if model is None:
        raise ValueError(f"{folder} has no model of COLMAP: cameras.txt and images.txt are missing")
    if not (model / "images.txt").is_file():
        raise ValueError(f"the model in {model} is binary: run colmap model_converter with --output_type TXT")
    cameras = _cameras(model / "cameras.txt")
    images = folder / "images" if (folder / "images").is_dir() else model
    frames = []
    for words in _images(model / "images.txt"):
        try:
            numbers = np.array(words[1:8], np.float64)
            size, lens = cameras[int(words[8])]
        except (ValueError, KeyError) as error:
            raise ValueError(f"images.txt is broken at {' '.join(words)!r}: check numbers and CAMERA_ID") from error
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
            raise ValueError(f"cameras.txt is broken at {line.strip()!r}") from error
        if model == "SIMPLE_PINHOLE" and len(numbers) == 3:
            numbers = [numbers[0], *numbers]
        elif model != "PINHOLE" or len(numbers) != 4:
            raise ValueError(
                f"cameras.txt has a camera of model {model} with {len(numbers)} numbers: only PINHOLE and "
                "SIMPLE_PINHOLE are read, so undistort the images first (colmap image_undistorter)"
            )
        fx, fy, cx, cy = numbers
        if not np.isfinite(numbers).all() or min(fx, fy) <= 0:
            raise ValueError(f"cameras.txt has a focal length that is not positive: {line.strip()!r}")
        cameras[key] = (size, (fx, fy, cx, cy))
    return cameras


def _images(path: Path) -> list[list[str]]:
    """The ten words of each image's first line; its second line, with points, may be empty."""
    found, points = [], False
    for line in _lines(path):
        if points:
            points = False
            continue
        words = line.split(maxsplit=9)
        if not words or words[0].startswith("#"):
            continue
        if len(words) < 10:
            raise ValueError(f"images.txt is broken at {line.strip()!r}: ten words are expected")
        words[9] = words[9].strip()
        found.append(words)
        points = True
    return found


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path.name} is not text that can be read") from error


def _pose(numbers: Float[np.ndarray, 7], name: str) -> Float[np.ndarray, "4 4"]:
    length = np.linalg.norm(numbers[:4])
    if not np.isfinite(numbers).all() or length < 1e-9:
        raise ValueError(f"the pose of {name} has numbers that are not finite, or a quaternion of 0")
    w, x, y, z = numbers[:4] / length
    turn = np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
    )
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = turn.T @ FLIP, -turn.T @ numbers[4:]
    return pose


def _quaternion(turn: Float[np.ndarray, "3 3"]) -> Float[np.ndarray, 4]:
    """(w, x, y, z) of a rotation: the largest eigenvector of Bar-Itzhack's symmetric matrix (2000)."""
    (a, b, c), (d, e, f), (g, h, i) = turn.tolist()
    matrix = np.array(
        [
            [a + e + i, h - f, c - g, d - b],
            [h - f, a - e - i, b + d, c + g],
            [c - g, b + d, e - a - i, f + h],
            [d - b, c + g, f + h, i - a - e],
        ]
    )
    found = np.linalg.eigh(matrix)[1][:, -1]
    return found if found[0] >= 0 else -found


def write_colmap(capture: Capture, folder: str | Path) -> Path:
    """Write a scene as a model of COLMAP: sparse/0 with cameras, images and no points, and images as PNG in images/.

    The form has no room for the split, alpha and depth.

    Returns:
        The folder sparse/0.

    Raises:
        ValueError: two images would get one name.
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
        numbers = [*_quaternion(turn), *(-turn @ pose[:3, 3])]
        images += [f"{i + 1} {' '.join(repr(float(v)) for v in numbers)} {key} {name}", ""]
    cameras = ["# CAMERA_ID, MODEL, WIDTH, HEIGHT, fx, fy, cx, cy"]
    cameras += [f"{key} PINHOLE {width} {height} {' '.join(map(repr, lens))}" for lens, key in lenses.items()]
    for file, lines in (("cameras", cameras), ("images", images), ("points3D", ["# no points"])):
        (model / f"{file}.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return model
