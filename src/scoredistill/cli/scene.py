"""The command `scene`."""

from pathlib import Path
from typing import Literal

from tyro.conf import Positional

from scoredistill.cli.options import refuse
from scoredistill.tasks.output_paths import RUNS

VIEWS, HELD_OUT, SIZE, ELEVATION = 40, 8, 64, (-5.0, 60.0)


def scene(
    action: Positional[Literal["list", "make"]],
    name: Positional[str] = "",
    out: Path | None = None,
    views: int = VIEWS,
    held_out: int = HELD_OUT,
    size: int = SIZE,
    elevation: tuple[float, float] = ELEVATION,
    seed: int = 0,
) -> None:
    """Render photographs of small synthetic scenes with known cameras, as transforms.json, to edit or experiment with.

    Args:
        action: list (print the names of the scenes) or make.
        name: Name of the scene to make, for example toys.
        out: Output directory for images, masks, depths and transforms.json; runs/scene-NAME by default.
        views: Number of images to fit to.
        held_out: Number of further images, for evaluation.
        size: Height and width of the images in pixels.
        elevation: Lowest and highest elevation of the cameras in degrees.
        seed: Seed of the camera positions.
    """
    from scoredistill.datasets import synthetic_scenes

    if action == "list":
        usual = {"views": (views, VIEWS), "held_out": (held_out, HELD_OUT), "size": (size, SIZE),
                 "elevation": (elevation, ELEVATION)}  # fmt: skip
        changed = {option: given for option, (given, default) in usual.items() if given != default}
        refuse("scene list", out=out, seed=seed or None, **changed)
        print("\n".join(synthetic_scenes.SCENES))
        return
    if not name:
        raise ValueError(f"say which scene to make: one of {', '.join(synthetic_scenes.SCENES)}")
    out = out or RUNS / f"scene-{name}"
    synthetic_scenes.make(name, out, views, held_out, size, elevation, seed)
    print(f"{views + held_out} views of {name}: {out / 'transforms.json'}")
