"""Scoredistill scene."""

from pathlib import Path
from typing import Literal

from tyro.conf import Positional


def scene(
    action: Positional[Literal["list", "make"]],
    name: Positional[str] = "",
    out: Path | None = None,
    views: int = 40,
    held_out: int = 8,
    size: int = 64,
    elevation: tuple[float, float] = (-5.0, 60.0),
    seed: int = 0,
) -> None:
    """Photographs of small scenes with known cameras, in the form of transforms.json, to edit or to try things on.

    Args:
        action: list (the names), or make.
        name: Of the scene to make, for example toys.
        out: Folder for images, masks, depths and transforms.json, runs/scene-NAME by default.
        views: Images to fit to.
        held_out: Further images, to judge by.
        size: Height and width of the images in pixels.
        elevation: Lowest and highest elevation of the cameras, degrees.
        seed: Of the places of the cameras.
    """
    from scoredistill.datasets import synthetic_scenes as studio

    if action == "list":
        print("\n".join(studio.SCENES))
        return
    if not name:
        raise ValueError(f"say which scene to make: one of {', '.join(studio.SCENES)}")
    out = out or Path("runs") / f"scene-{name}"
    studio.make(name, out, views, held_out, size, elevation, seed)
    print(f"{views + held_out} views of {name}: {out / 'transforms.json'}")
