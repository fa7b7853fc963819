"""Photographs that ship inside scikit-image and scikit-learn, as square crops of 64x64 pixels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from scoredistill.optional import package_folder

TRAIN = ("astronaut.png", "brick.png", "camera.png", "coffee.png", "grass.png", "gravel.png",
         "hubble_deep_field.jpg", "motorcycle_left.png", "rocket.jpg", "china.jpg")  # fmt: skip
HELD_OUT = ("chelsea.png", "flower.jpg")
SOURCES = (("skimage", "data"), ("sklearn", "datasets/images"))  # package, folder of images inside it


def folders() -> list[Path]:
    """The image folders of scikit-image and scikit-learn.

    Raises:
        MissingExtra: if one of the packages is not installed.
    """
    return [package_folder(package, "train", "training on photographs") / inside for package, inside in SOURCES]


def load(names: tuple[str, ...]) -> list[Image.Image]:
    """The named photographs, as RGB images."""
    paths = [folder / name for name in names for folder in folders() if (folder / name).exists()]
    return [Image.open(path, formats=("JPEG", "PNG")).convert("RGB") for path in paths]


def crops(names: tuple[str, ...], n: int, size: int = 64, seed: int = 0) -> UInt8[NDArray, "n s s 3"]:
    """Random square crops of all scales, from `size` pixels to the whole shorter side, resized to `size`.

    Args:
        names: file names, such as `TRAIN` or `HELD_OUT`; crops are taken from them in turn.
        n: number of crops.
        size: side of the crops, in pixels.
        seed: of positions and scales, which are log-uniform.
    """
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
    """Images of bytes as floats in [0, 1], channels first."""
    return torch.from_numpy(np.ascontiguousarray(pixels)).permute(0, 3, 1, 2).float() / 255
