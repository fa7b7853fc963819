"""Carried here by the move."""

import os
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from scoredistill.media.images import grid
from scoredistill.tasks.object_generation.run import ELEVATION, FOV, RADIUS
from scoredistill.three_d.scenes.base import Scene
from scoredistill.three_d.turntable import write_turntable

SIDE, FRAMES = 96, 24  # pixels and images of a turntable


def strip(images: Sequence[Image.Image]) -> Image.Image:
    """Views beside each other, SIDE pixels high."""
    return grid([image.resize((SIDE, SIDE), Image.Resampling.LANCZOS) for image in images], columns=len(images), pad=0)


def video(scene: Scene, path: Path, elevation: float = ELEVATION, radius: float = RADIUS, fov: float = FOV) -> Path:
    """A turntable as a GIF that appears whole or not at all."""
    draft = path.with_name(f".{os.getpid()}.{path.name}")
    device = next(scene.parameters()).device
    write_turntable(
        scene.render, draft, seconds=FRAMES / 12, fps=12, size=SIDE, elevation=elevation, radius=radius, fov=fov,
        device=device,
    )  # fmt: skip
    draft.replace(path)
    return path
