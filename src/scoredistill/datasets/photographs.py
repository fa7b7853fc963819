"""Photographs that ship inside scikit-image and scikit-learn, as 64x64 crops."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

TRAIN = ("astronaut.png", "brick.png", "camera.png", "coffee.png", "grass.png", "gravel.png",
         "hubble_deep_field.jpg", "motorcycle_left.png", "rocket.jpg", "china.jpg")  # fmt: skip
HELD_OUT = ("chelsea.png", "flower.jpg")


def folders() -> list[Path]:
    """Where the two packages keep their images.

    Raises:
        SystemExit: one of them is not installed.
    """
    found = []
    for package, inside in (("skimage", "data"), ("sklearn", "datasets/images")):
        spec = find_spec(package)
        if spec is None or spec.origin is None:
            raise SystemExit("The photographs need scikit-image and scikit-learn: pip install 'scoredistill[train]'.")
        found.append(Path(spec.origin).parent / inside)
    return found


def load(names: tuple[str, ...]) -> list[Image.Image]:
    """The named photographs, RGB."""
    paths = [folder / name for name in names for folder in folders() if (folder / name).exists()]
    return [Image.open(path).convert("RGB") for path in paths]


def crops(names: tuple[str, ...], n: int, size: int = 64, seed: int = 0) -> UInt8[NDArray, "n s s 3"]:
    """`n` random square crops of all scales, from `size` pixels to the whole shorter side, resized to `size`."""
    rng = np.random.default_rng(seed)
    images = load(names)
    result = np.empty((n, size, size, 3), np.uint8)
    for index in range(n):
        image = images[index % len(images)]
        shorter = min(image.size)
        side = int(np.exp(rng.uniform(np.log(min(size, shorter)), np.log(shorter))))
        left, top = (int(rng.integers(0, length - side + 1)) for length in image.size)
        box = (left, top, left + side, top + side)
        result[index] = np.asarray(image.resize((size, size), Image.Resampling.LANCZOS, box=box))
    return result


def as_images(pixels: UInt8[NDArray, "n h w 3"]) -> Float[Tensor, "n 3 h w"]:
    """Bytes -> floats in [0, 1], channels first."""
    return torch.from_numpy(np.ascontiguousarray(pixels)).permute(0, 3, 1, 2).float() / 255
