"""Captures: posed images of real or synthetic scenes, read, written and aligned with the axes of the library.

    capture, similarity = normalized(read_capture("folder", size=96))

The formats of nerfstudio (transforms.json), the original NeRF (transforms_train.json) and COLMAP (text or binary) are
read.
"""

from __future__ import annotations

from pathlib import Path

from scoredistill.three_d.capture.colmap import find_model, read_colmap, write_colmap
from scoredistill.three_d.capture.frames import Frame, load, shape
from scoredistill.three_d.capture.scene import Capture, Similarity, normalized
from scoredistill.three_d.capture.transforms import BLENDER, NERFSTUDIO, read_transforms, write_transforms

__all__ = [
    "Capture",
    "Similarity",
    "capture_folder",
    "capture_shape",
    "is_capture",
    "normalized",
    "read_capture",
    "write_colmap",
    "write_transforms",
]

FILES = (NERFSTUDIO, *BLENDER, *(f"{name}.{kind}" for name in ("cameras", "images") for kind in ("txt", "bin")))


def is_capture(path: str | Path) -> bool:
    """Whether a folder holds a posed scene and not just images, or a file describes one; it may still be invalid."""
    folder = capture_folder(path)
    if not folder.is_dir():
        return False
    return any((folder / name).is_file() for name in (NERFSTUDIO, *BLENDER)) or find_model(folder) is not None


def capture_folder(path: str | Path) -> Path:
    """The folder of a scene, which may be given by its transforms.json or a file of its COLMAP model."""
    path = Path(path)
    return path.parent if path.name in FILES and path.is_file() else path


def read_capture(
    folder: str | Path,
    size: int | None = None,
    held_out: int | None = None,
    background: tuple[float, float, float] = (1.0, 1.0, 1.0),
    outside: bool = False,
) -> Capture:
    """Read a posed scene; if a folder has several formats, transforms.json is preferred to COLMAP.

    Photographs are decoded one at a time, and images of several sizes are resized to the most frequent one,
    with a warning. World coordinates are those of the file (see `normalized`). EXIF rotation is ignored, as in COLMAP,
    unless the camera has the aspect ratio of the rotated image.

    Args:
        folder: with transforms.json, transforms_train.json, or COLMAP's cameras and images (.txt or .bin), which may be
            in sparse/0 (or another number), sparse or colmap/sparse/0; or the path of such a file.
        size: shorter side in pixels to which larger images are reduced by area averaging; intrinsics are scaled too.
        held_out: hold out every k-th image for testing, starting with the first; 0 holds out none. By default the split
            of the file, or every 8th image if it has none, as is usual for the LLFF scenes.
        background: RGB in [0, 1] behind transparent images.
        outside: read also images outside the folder, which a scene names by links, by ".." or by absolute paths. By
            default they are refused, because the results would show them.

    Raises:
        ValueError: if the folder has no scene, or it cannot be read; the message says why in one sentence.
    """
    if size is not None and size < 1:
        raise ValueError(f"size must be at least 1, not {size}")
    frames, split = _described(capture_folder(folder), held_out, outside)
    return load(frames, split, size, background)


def capture_shape(
    folder: str | Path, held_out: int | None = None, outside: bool = False
) -> tuple[int, tuple[int, int]]:
    """Number of images for training, and (height, width) of all, without decoding an image.

    Args:
        folder, held_out, outside: see `read_capture`.

    Raises:
        ValueError: as `read_capture`, except for what only decoding an image shows.
    """
    frames, split = _described(capture_folder(folder), held_out, outside)
    return len(frames) - len(split), shape(frames)


def _described(folder: Path, held_out: int | None, outside: bool) -> tuple[list[Frame], tuple[int, ...]]:
    """Frames of a folder, and the indices of those held out."""
    if not folder.is_dir():
        raise ValueError(f"{folder} is not a folder: give one with transforms.json or a COLMAP model")
    if held_out is not None and (held_out < 0 or held_out == 1):
        raise ValueError(f"held_out must be 0, or at least 2 to leave images for training, not {held_out}")
    try:
        if any((folder / name).is_file() for name in (NERFSTUDIO, *BLENDER)):
            frames, split = read_transforms(folder, outside)
        elif find_model(folder) is not None:
            frames, split = read_colmap(folder, outside), None
        else:
            frames, split = [], None
    except (TypeError, KeyError, AttributeError, ArithmeticError, RecursionError) as error:
        raise ValueError(f"the files of the scene in {folder} have values of a wrong type: export it again") from error
    if not frames and find_model(folder) is None and not any((folder / n).is_file() for n in (NERFSTUDIO, *BLENDER)):
        raise ValueError(
            f"{folder} is not a posed scene: it has neither transforms.json nor COLMAP's sparse/0/images.txt"
        )
    if held_out is not None or split is None:
        step = 8 if held_out is None else held_out
        split = tuple(range(0, len(frames), step)) if step else ()
    return frames, split
