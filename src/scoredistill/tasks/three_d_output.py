"""Mesh, splats and turntable of a scene."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from PIL import Image

from scoredistill.three_d.turntable import write_turntables

if TYPE_CHECKING:
    pass


VIDEO_SIZE, VIDEO_FPS, VIDEO_SECONDS = 128, 16, 3


LEVELS = (0.5, 0.2, 0.05)  # opacities at which a mesh is tried, one after the other


def large(view: Image.Image) -> Image.Image:
    """A small view enlarged."""
    factor = max(1, round(128 / max(view.size)))
    return view.resize((view.width * factor, view.height * factor), Image.Resampling.LANCZOS)


def videos_of(render: Any, path: Path, device: torch.device, elevation: float = 15.0) -> list[Path]:
    """Videos of one turn, path.mp4 if that can be written here, and path.gif; every frame is rendered once."""
    from importlib.util import find_spec

    kinds = ("mp4", "gif") if find_spec("av") else ("gif",)
    return write_turntables(
        render, [path.with_suffix(f".{kind}") for kind in kinds], VIDEO_SECONDS, VIDEO_FPS, VIDEO_SIZE, elevation,
        device=device,
    )  # fmt: skip
