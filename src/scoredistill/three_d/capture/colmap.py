r"""COLMAP models: cameras and images, as .txt or .bin (https://colmap.github.io/format.html).

COLMAP stores the transform from world to camera as a quaternion (w, x, y, z) and a translation t, for a camera with x
right, y down and looking along +z. With F = diag(1, -1, -1), the pose in our convention (`camera`) is

    rotation = R(q)^T F,        eye = -R(q)^T t.

Both conventions measure pixels from the upper left corner of the image, with the center of the first at (1/2, 1/2).
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float

from scoredistill.files import read_text, write_text
from scoredistill.three_d.capture.distortion import Distortion
from scoredistill.three_d.capture.found import located
from scoredistill.three_d.capture.frames import Frame
from scoredistill.three_d.capture.scene import Capture
from scoredistill.three_d.capture.transforms import write_images
from scoredistill.three_d.rotations import matrix_to_quaternion, quaternion_to_matrix

PLACES = ("", "sparse/*", "sparse", "colmap/sparse/*", "colmap/sparse", "[0-9]*")
BESIDE = 2  # folders above that of the model (scene/colmap/sparse/0) that may hold images/
FLIP = np.diag([1.0, -1.0, -1.0])
MODELS = (  # by MODEL_ID, with the names of their parameters
    ("SIMPLE_PINHOLE", "f cx cy"),
    ("PINHOLE", "fx fy cx cy"),
    ("SIMPLE_RADIAL", "f cx cy k1"),
    ("RADIAL", "f cx cy k1 k2"),
    ("OPENCV", "fx fy cx cy k1 k2 p1 p2"),
    ("OPENCV_FISHEYE", "fx fy cx cy k1 k2 k3 k4"),
    ("FULL_OPENCV", "fx fy cx cy k1 k2 p1 p2 k3 k4 k5 k6"),
    ("FOV", "fx fy cx cy omega"),
    ("SIMPLE_RADIAL_FISHEYE", "f cx cy k1"),
    ("RADIAL_FISHEYE", "f cx cy k1 k2"),
    ("THIN_PRISM_FISHEYE", "fx fy cx cy k1 k2 p1 p2 k3 k4 sx1 sy1"),
    ("RAD_TAN_THIN_PRISM_FISHEYE", "fx fy cx cy k0 k1 k2 k3 k4 k5 p0 p1 s0 s1 s2 s3"),
)
PARAMETERS = {name: parameters.split() for name, parameters in MODELS}
Camera = tuple[tuple[int, int], tuple[float, float, float, float], Distortion]
"""(width, height), fx, fy, cx, cy, and distortion."""
Listed = tuple[list[float], int, str]
"""Quaternion and translation (seven numbers), CAMERA_ID and name of an image."""


def find_model(folder: Path) -> Path | None:
    """The folder with cameras.txt and images.txt (or .bin), in one of the usual places; None if there is none.

    Of several numbered models (sparse/0, sparse/1), that with the longest list of images and points.
    """
    for suffix in (".txt", ".bin"):
        for place in PLACES:
            found = sorted(folder.glob(place)) if place else [folder]
            found = [m for m in found if all((m / f"{name}{suffix}").is_file() for name in ("cameras", "images"))]
            if found:
                return max(found, key=lambda model: (model / f"images{suffix}").stat().st_size)
    return None


def read_colmap(folder: Path, outside: bool = False) -> list[Frame]:
    """Frames sorted by name; the images are in images/, in the folder, or beside the model.

    Raises:
        ValueError: if the model is missing or invalid, or a lens is of a kind that is not undistorted.
    """
    model = find_model(folder)
    if model is None:
        raise ValueError(f"{folder} has no COLMAP model: cameras.txt and images.txt are missing")
    suffix = ".txt" if (model / "images.txt").is_file() and (model / "cameras.txt").is_file() else ".bin"
    if suffix == ".txt":
        cameras, listed = _cameras(model / "cameras.txt"), _images(model / "images.txt")
    else:
        cameras, listed = _binary_cameras(model / "cameras.bin"), _binary_images(model / "images.bin")
    around = dict.fromkeys((folder.absolute(), *model.absolute().parents[: BESIDE + 1], model.absolute()))
    places = [*(place / "images" for place in around), *list(around)[:1], model]
    frames = []
    for numbers, key, name in listed:
        if key not in cameras:
            raise ValueError(
                f"images{suffix} is invalid at {name!r}: cameras{suffix} has no camera with CAMERA_ID {key}"
            )
        size, lens, distortion = cameras[key]
        path, pose = located(name, *places, outside=outside), _pose(np.array(numbers), name)
        frames.append(Frame(name.replace("\\", "/"), path, pose, lens, size, distortion=distortion))
    return sorted(frames, key=lambda frame: frame.name)


def _cameras(path: Path) -> dict[int, Camera]:
    """Cameras by CAMERA_ID."""
    cameras = {}
    for line in _lines(path):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        try:
            key, size, numbers = int(words[0]), (int(words[2]), int(words[3])), [float(w) for w in words[4:]]
        except (ValueError, IndexError) as error:
            raise ValueError(
                f"cameras.txt is invalid at {line.strip()!r}: expected CAMERA_ID, MODEL, WIDTH, HEIGHT and numbers"
            ) from error
        cameras[key] = _camera(words[1], size, numbers, path.name)
    return cameras


def _camera(model: str, size: tuple[int, int], numbers: list[float], source: str) -> Camera:
    """A camera of a model of `Distortion`, or of any other whose distortion is 0."""
    names = PARAMETERS.get(model)
    if names is None or len(names) != len(numbers):
        raise ValueError(
            f"{source} has a camera of model {model} with {len(numbers)} numbers: use a model of COLMAP's, with all "
            "of its numbers"
        )
    if not np.isfinite(numbers).all():
        raise ValueError(f"{source} has a camera of model {model} with numbers that are not finite: export it again")
    lens = dict(zip(names, numbers, strict=True))
    if min(size) < 1:
        raise ValueError(f"{source} has a camera of {size[0]}x{size[1]} pixels: export the model again")
    fx, fy = lens.pop("fx", lens.get("f", 0.0)), lens.pop("fy", lens.get("f", 0.0))
    cx, cy = lens.pop("cx"), lens.pop("cy")
    lens.pop("f", None)
    if min(fx, fy) <= 0:
        raise ValueError(f"{source} has a focal length that is not positive in a camera of model {model}: correct it")
    if "FISHEYE" in model or lens.get("omega"):  # a fisheye lens is no pinhole camera, even with all numbers 0
        raise ValueError(
            f"{source} has a distorted camera of model {model}, which is not undistorted here: undistort the "
            "images first (colmap image_undistorter)"
        )
    lens.pop("omega", None)
    return size, (fx, fy, cx, cy), Distortion(**lens)


def _images(path: Path) -> list[Listed]:
    """The images of the list; the line of points after each may be empty or missing."""
    found: list[Listed] = []
    points = False
    for line in _lines(path):
        words = line.split(maxsplit=9)
        if points and _is_points(line):
            points = False
            continue
        if not words or words[0].startswith("#"):
            continue
        if len(words) < 10:
            raise ValueError(f"images.txt is invalid at {line.strip()!r}: expected ten words")
        try:
            found.append(([float(word) for word in words[1:8]], int(words[8]), words[9].strip()))
        except ValueError as error:
            raise ValueError(f"images.txt is invalid at {line.strip()!r}: check the numbers and CAMERA_ID") from error
        points = True
    return found


def _is_points(line: str) -> bool:
    """Whether a line has only numbers, three per point: a line of an image has a name, and ten words if that is one."""
    words = line.split()
    try:
        return len([float(word) for word in words]) % 3 == 0
    except ValueError:
        return False


def _binary_cameras(path: Path) -> dict[int, Camera]:
    """Cameras by CAMERA_ID."""
    file, cameras = _Binary(path), {}
    for _ in range(file.take("<Q")[0]):
        key, model, width, height = file.take("<iiQQ")
        if not 0 <= model < len(MODELS):
            raise ValueError(f"{path.name} has a camera of the unknown model {model}: use a model of COLMAP's")
        name, names = MODELS[model]
        numbers = file.take(f"<{len(names.split())}d")
        cameras[key] = _camera(name, (width, height), list(numbers), path.name)
    return cameras


def _binary_images(path: Path) -> list[Listed]:
    file, found = _Binary(path), []
    for _ in range(file.take("<Q")[0]):
        _, *numbers, key = file.take("<i7di")
        name = file.text()
        file.skip(24 * file.take("<Q")[0])  # points: x, y and POINT3D_ID, 8 bytes each
        found.append((numbers, key, name))
    return found


class _Binary:
    """Reads a binary file from its beginning; every method moves on."""

    def __init__(self, path: Path):
        self.name, self.at = path.name, 0
        try:
            self.raw = path.read_bytes()
        except OSError as error:
            raise ValueError(f"{path.name} cannot be read: change its permissions or export the model again") from error

    def take(self, layout: str) -> tuple[Any, ...]:
        """The next values, of a layout of `struct`."""
        start = self.at
        self.skip(struct.calcsize(layout))
        return struct.unpack_from(layout, self.raw, start)

    def text(self) -> str:
        """The next text, which ends with a zero byte."""
        start, end = self.at, self.raw.find(b"\0", self.at)
        self.skip(max(0, end - start) + 1 if end >= 0 else len(self.raw) + 1)
        return self.raw[start:end].decode("utf-8", "surrogateescape")

    def skip(self, count: int) -> None:
        """Leave out some bytes.

        Raises:
            ValueError: if the file has fewer.
        """
        self.at += count
        if self.at > len(self.raw):
            raise ValueError(f"{self.name} is truncated: export the model again")


def _lines(path: Path) -> list[str]:
    try:
        return read_text(path).splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path.name} cannot be read as text: export the model again") from error


def _pose(numbers: Float[np.ndarray, " 7"], name: str) -> Float[np.ndarray, "4 4"]:
    if not np.isfinite(numbers).all() or np.linalg.norm(numbers[:4]) < 1e-9:
        raise ValueError(
            f"the pose of {name} has numbers that are not finite, or a quaternion of 0: export the model again"
        )
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
