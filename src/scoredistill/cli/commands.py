"""All commands by name. Importing this module imports torch, which takes seconds."""

from collections.abc import Sequence
from typing import Any

import tyro

from scoredistill.cli.demo import demo
from scoredistill.cli.edit import edit
from scoredistill.cli.image import image
from scoredistill.cli.object import object_
from scoredistill.cli.options import registry
from scoredistill.cli.prior import prior
from scoredistill.cli.scene import scene
from scoredistill.cli.study import bench, toy
from scoredistill.cli.svg import svg
from scoredistill.cli.texture import texture
from scoredistill.cli.ui import ui

COMMANDS: dict[str, Any] = {
    "image": image, "object": object_, "edit": edit, "scene": scene, "texture": texture, "demo": demo, "toy": toy,
    "bench": bench, "prior": prior, "svg": svg, "ui": ui,
}  # fmt: skip


def dispatch(arguments: Sequence[str]) -> None:
    """Run the command that the arguments name, or show help."""
    with registry():
        tyro.extras.subcommand_cli_from_dict(
            COMMANDS,
            prog="scoredistill",
            description="Score distillation: a pre-trained diffusion model optimizes anything that renders to images.",
            args=list(arguments) or ["--help"],
        )
