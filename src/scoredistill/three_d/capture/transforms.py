"""Captures in transforms.json: the format of nerfstudio, and that of the original NeRF (Blender).

Poses map camera coordinates to the world, with x right, y up and looking along -z: the convention of `camera`. The
original format describes the lens by one angle and has one file per part of the split.

`alpha_path` of a frame is our own key: a grayscale image of the opacity. `mask_path` is that of nerfstudio: an image
that is 0 where the frame shall not be trained on. So is `depth_file_path`: depths along the optical axis in 1/1000
world units, as a 16-bit image or an array (.npy).

As in nerfstudio, `k4` alone is the coefficient of r^8; with `k5`, `k6` or the model FULL_OPENCV it is that of OpenCV's
denominator (`distortion`). Without `w` and `h`, the lens refers to the image as it is on disk.

Keys that have no effect here are named in a warning, except for those that change nothing (`HARMLESS`).
"""

from __future__ import annotations

import json
import math
import posixpath
import warnings
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import numpy as np
from PIL import Image

from scoredistill.files import atomic, read_text, write_json
from scoredistill.media.images import to_pil
from scoredistill.three_d.capture.distortion import Distortion
from scoredistill.three_d.capture.found import located
from scoredistill.three_d.capture.frames import DEPTH_UNITS, Frame
from scoredistill.three_d.capture.pixels import opened
from scoredistill.three_d.capture.scene import Capture

NERFSTUDIO = "transforms.json"
BLENDER = ("transforms_train.json", "transforms_val.json", "transforms_test.json")
DISTORTION = tuple(field.name for field in fields(Distortion) if field.name != "r8")
PERSPECTIVE = ("PINHOLE", "SIMPLE_PINHOLE", "OPENCV", "SIMPLE_RADIAL", "RADIAL", "FULL_OPENCV")
"""Camera models that are pinhole cameras if their distortion is 0."""
SUFFIXES = (".png", ".jpg", ".jpeg", ".PNG", ".JPG", ".JPEG", ".webp")  # missing from names in the original format
USED = (
    "frames", "file_path", "transform_matrix", "camera_model", "fl_x", "fl_y", "cx", "cy", "w", "h", "camera_angle_x",
    "camera_angle_y", "alpha_path", "depth_file_path", "mask_path", "train_filenames", "val_filenames",
    "test_filenames", "is_fisheye", *DISTORTION,
)  # fmt: skip
HARMLESS = (
    "aabb_scale", "applied_scale", "applied_transform", "auto_orient_and_center", "colmap_im_id", "frame_id", "name",
    "height", "id", "image_id", "intrinsic_matrix", "offset", "orientation_override", "ply_file_path", "rotation",
    "scale", "sharpness", "timestamp", "width", "world_to_scene",
)  # fmt: skip
"""Keys that describe how a file was made, or a world that is aligned anew in any case (`normalized`)."""
LARGEST = 65535 / DEPTH_UNITS  # depth in world units


def read_transforms(folder: Path, outside: bool = False) -> tuple[list[Frame], tuple[int, ...] | None]:
    """Frames of a folder, and the indices of those that its files hold out (None if they have no split).

    Raises:
        ValueError: if a file cannot be read, lacks a required key, or describes lenses of another kind.
    """
    if (folder / NERFSTUDIO).is_file():
        content = _json(folder / NERFSTUDIO)
        _tell_unused(content, NERFSTUDIO)
        frames = [_frame(folder, content, entry, i, NERFSTUDIO, outside) for i, entry in enumerate(content["frames"])]
        paths = [_normal(entry["file_path"]) for entry in content["frames"]]
        return frames, _split(content, paths)
    frames, kept = [], []
    for name in BLENDER:
        if not (folder / name).is_file():
            continue
        content = _json(folder / name)
        _tell_unused(content, name)
        for i, entry in enumerate(content["frames"]):
            if name != BLENDER[0]:
                kept.append(len(frames))
            frames.append(_frame(folder, content, entry, i, name, outside))
    if len(kept) == len(frames):
        raise ValueError(f"{folder} has no frames for training: {BLENDER[0]} is missing or empty")
    return frames, tuple(kept) or None


def _json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(read_text(path))
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"{path.name} cannot be read as JSON: {str(error)[:200]}") from error
    if not isinstance(content, dict) or not isinstance(content.get("frames"), list):
        raise ValueError(f"{path.name} has no list frames: give one entry per image")
    for entry in content["frames"]:
        if not isinstance(entry, dict) or not isinstance(entry.get("file_path"), str) or not entry["file_path"].strip():
            raise ValueError(f"{path.name} has a frame without file_path: name the image of every frame")
    return content


def _tell_unused(content: dict[str, Any], name: str) -> None:
    """Warn of keys with a value that have no effect, and might be expected to have one."""
    known = {*USED, *HARMLESS}
    objects = (content, *content["frames"])
    unused = sorted({key for each in objects for key, value in each.items() if key not in known and value})
    if unused:
        warnings.warn(f"{name} has keys that have no effect: {', '.join(unused)}", stacklevel=5)


def _frame(
    folder: Path, content: dict[str, Any], entry: dict[str, Any], index: int, source: str, outside: bool = False
) -> Frame:
    where = f"frame {index} of {source}"
    both = {**content, **entry}
    model = both.get("camera_model") or "PINHOLE"
    if both.get("is_fisheye") or model not in PERSPECTIVE:
        what = "is_fisheye" if both.get("is_fisheye") else model
        raise ValueError(
            f"{where} has a lens of a kind that is not undistorted here ({what}): undistort the images first (colmap "
            "image_undistorter)"
        )
    path = located(entry["file_path"], folder, suffixes=SUFFIXES, outside=outside)
    try:
        pose = np.array(entry.get("transform_matrix"), np.float64)
        lens, size = _intrinsics(both, path)
        bent = {key: float(both[key]) for key in DISTORTION if both.get(key)}
    except (TypeError, ValueError, KeyError, OverflowError) as error:
        if str(error).startswith(path.name):
            raise
        raise ValueError(
            f"{where} needs numbers in transform_matrix, in fl_x or camera_angle_x, in w and h, and in k1 and the like"
        ) from error
    if pose.shape not in ((3, 4), (4, 4)):
        raise ValueError(f"{where} needs a transform_matrix of 4x4 numbers")
    if len(pose) == 4 and np.abs(pose[3] - [0, 0, 0, 1]).max() > 1e-3:
        raise ValueError(
            f"{where} has a transform_matrix whose last row is not 0 0 0 1: the translation is its last column"
        )
    pose = np.concatenate([pose[:3], [[0.0, 0.0, 0.0, 1.0]]])
    if "k4" in bent and model != "FULL_OPENCV" and not {"k5", "k6"} & set(bent):
        bent["r8"] = bent.pop("k4")
    extra = {
        key: located(str(entry[name]), folder, outside=outside)
        for key, name in (("alpha", "alpha_path"), ("depth", "depth_file_path"), ("mask", "mask_path"))
        if entry.get(name)
    }
    name = _name(folder, entry["file_path"], path)
    return Frame(name, path, pose, lens, size, **extra, distortion=Distortion(**bent))


def _intrinsics(both: dict[str, Any], path: Path) -> tuple[tuple[float, float, float, float], tuple[int, int]]:
    """The lens of a frame, and the (width, height) to which it refers: that of the image, where the file names none."""
    if both.get("w") is not None and both.get("h") is not None:
        width, height = int(float(both["w"])), int(float(both["h"]))
    elif path.is_file():
        with opened(path) as image:
            width, height = image.size
    else:
        width, height = 1, 1  # a missing image is refused together with the others
    keys = ("fl_x", "fl_y", "cx", "cy", "camera_angle_x", "camera_angle_y")
    known = {key: float(both[key]) for key in keys if both.get(key) is not None}
    if "fl_x" not in known and "fl_y" not in known:
        for axis, side in (("x", width), ("y", height)):
            if (angle := known.get(f"camera_angle_{axis}")) is not None:
                if not 0 < angle < math.pi:
                    raise ValueError("camera_angle_x must be between 0 and pi")
                known[f"fl_{axis}"] = side / 2 / math.tan(angle / 2)
    fx = known["fl_x"] if "fl_x" in known else known["fl_y"]
    fy = known.get("fl_y", fx)
    cx, cy = known.get("cx", width / 2), known.get("cy", height / 2)
    if not all(math.isfinite(v) for v in (fx, fy, cx, cy)) or min(fx, fy) <= 0 or min(width, height) < 1:
        raise ValueError("focal lengths and sizes must be positive")
    return (fx, fy, cx, cy), (width, height)


def _name(folder: Path, written: str, path: Path) -> str:
    """The name in the file without leading "./" and "images/", with the suffix of the image."""
    if PureWindowsPath(written).anchor and path.is_relative_to(folder):
        written = path.relative_to(folder).as_posix()
    whole = PureWindowsPath(written)  # splits at both kinds of slash
    parts = [part for part in whole.parts if part not in (".", "..", whole.anchor)]
    if len(parts) > 1 and parts[0] == "images":
        parts = parts[1:]
    return "/".join([*parts[:-1], PureWindowsPath(path.name).name])


def _normal(written: object) -> str:
    """A name in one spelling, to compare names with each other."""
    return posixpath.normpath(str(written).replace("\\", "/"))


def _split(content: dict[str, Any], paths: Sequence[str]) -> tuple[int, ...] | None:
    """Indices outside `train_filenames`, or those in the lists for validation and testing if there is none."""
    lists = {key: content.get(f"{key}_filenames") for key in ("train", "val", "test")}
    if not any(lists.values()):
        return None
    named = {key: {_normal(name) for name in names or ()} for key, names in lists.items()}
    unknown = sorted(set.union(*named.values()) - set(paths))
    if unknown:
        raise ValueError(f"the split of {NERFSTUDIO} names {unknown[0]}, which is not one of its frames")
    if named["train"]:
        return tuple(i for i, path in enumerate(paths) if path not in named["train"])
    return tuple(i for i, path in enumerate(paths) if path in named["val"] | named["test"])


def write_transforms(capture: Capture, folder: str | Path) -> Path:
    """Write a capture in the format of nerfstudio, with its split.

    Writes transforms.json, images/NAME.png and, if they are known, masks/NAME.png (alpha, 8 bits) and depth/NAME.png
    (16 bits in 1/1000 world units, 0 where it is not known) and train_masks/NAME.png. Files of the same name are
    replaced.

    Returns:
        The path of transforms.json.

    Raises:
        ValueError: if two images would get the same name, or a depth exceeds 65.535.
    """
    folder = Path(folder)
    if capture.depth is not None and float(capture.depth.max()) > LARGEST:
        raise ValueError(f"depths above {LARGEST} do not fit into 16 bits: normalize the capture first")
    names = write_images(capture, folder, ".png")
    height, width = capture.cameras.size
    frames = []
    for i, name in enumerate(names):
        entry: dict[str, Any] = {"file_path": f"images/{name}"}
        if capture.alpha is not None:
            entry["alpha_path"] = f"masks/{name}"
            _save((capture.alpha[i, 0].clamp(0, 1) * 255).round().numpy().astype(np.uint8), folder / "masks" / name)
        if capture.mask is not None:
            entry["mask_path"] = f"train_masks/{name}"
            _save((capture.mask[i, 0] * 255).numpy().astype(np.uint8), folder / "train_masks" / name)
        if capture.depth is not None:
            entry["depth_file_path"] = f"depth/{name}"
            _save((capture.depth[i, 0] * DEPTH_UNITS).round().numpy().astype(np.uint16), folder / "depth" / name)
        values = (*capture.cameras.focal[i].tolist(), *capture.cameras.center[i].tolist())
        entry |= dict(zip(("fl_x", "fl_y", "cx", "cy"), values, strict=True))
        frames.append({**entry, "transform_matrix": capture.cameras.poses[i].tolist()})
    content: dict[str, Any] = {"camera_model": "OPENCV", "w": width, "h": height, "frames": frames}
    if capture.held_out:
        kept = [f"images/{names[i]}" for i in capture.held_out]
        content["train_filenames"] = [f"images/{names[i]}" for i in capture.training]
        content["val_filenames"], content["test_filenames"] = kept, kept
    path = folder / NERFSTUDIO
    write_json(path, content)
    return path


def write_images(capture: Capture, folder: Path, suffix: str) -> list[str]:
    """Write the images to folder/images and return their names there.

    Raises:
        ValueError: if two images would get the same name, or a name leads out of the folder.
    """
    names = [PurePosixPath(name).with_suffix(suffix).as_posix() for name in capture.names]
    if len(set(names)) < len(names):
        raise ValueError(f"two images would be named {max(names, key=names.count)}: rename one of them")
    if any(PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts for name in names):
        raise ValueError("names of images must be relative and stay within the folder of the scene")
    for name, image in zip(names, to_pil(capture.images), strict=True):
        path = folder / "images" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic(path) as draft:
            image.save(draft)
    return names


def _save(values: np.ndarray, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic(path) as draft:
        Image.fromarray(values).save(draft)
