"""Views of 3-D scenes in reports: strips of views as images, and turntables as GIFs."""

from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from scoredistill.files import atomic
from scoredistill.media.images import grid
from scoredistill.tasks.object_generation.run import ELEVATION, FOV, RADIUS
from scoredistill.three_d.scenes.base import Scene
from scoredistill.three_d.turntable import write_turntable

SIDE = 96  # pixels: height and width of a view
FRAMES, FPS = 24, 12  # frames of a turntable, and frames per second


def save_strip(images: Sequence[Image.Image], path: Path) -> None:
    """Write views side by side as one image, each SIDE pixels high and wide."""
    views = [image.resize((SIDE, SIDE), Image.Resampling.LANCZOS) for image in images]
    with atomic(path) as draft:
        grid(views, columns=len(views), pad=0).save(draft)


def view_of(strip: Image.Image, k: int) -> Image.Image:
    """The k-th view of a strip."""
    return strip.crop((k * SIDE, 0, (k + 1) * SIDE, SIDE))


def save_turntable(
    scene: Scene, path: Path, elevation: float = ELEVATION, radius: float = RADIUS, fov: float = FOV
) -> None:
    """Write a turntable of a scene as a GIF; elevation and field of view in degrees."""
    device = next(scene.parameters()).device
    with atomic(path) as draft:
        write_turntable(
            scene.render, draft, seconds=FRAMES / FPS, fps=FPS, size=SIDE, elevation=elevation, radius=radius, fov=fov,
            device=device,
        )  # fmt: skip
