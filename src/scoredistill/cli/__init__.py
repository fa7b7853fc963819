"""The command line. Each command is a function in a file of its own; its --help is made of docstrings.

Invalid input ends with one sentence and exit code 2, before any work; interrupted runs can be resumed.
"""

import os
import sys
import warnings
from collections.abc import Sequence
from typing import Any

import tyro

from scoredistill import __version__
from scoredistill.cli.interrupts import PATIENCE, Terminated, prompt

TRAINING = 600.0  # seconds for an interrupted training to write what it learned


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of `scoredistill`."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")  # its advice on torchvision does not concern users
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if arguments == ["--version"]:
        print(f"scoredistill {__version__}")
        return
    try:
        patience = TRAINING if arguments[:2] == ["prior", "train"] else PATIENCE
        with prompt(lambda: f"scoredistill: {_interrupted(arguments)}", patience), warnings.catch_warnings():
            warnings.showwarning = _warn  # type: ignore[assignment]
            _dispatch(arguments)
    except KeyboardInterrupt as end:
        _stop(_interrupted(arguments), end.code if isinstance(end, Terminated) else 130)
    except BrokenPipeError:
        sys.exit(1)
    except (ValueError, FloatingPointError, OSError, ImportError) as error:
        if os.environ.get("SCOREDISTILL_TRACEBACK"):
            raise
        _stop(" ".join(str(error).split()), 2 if isinstance(error, ValueError) else 1)
    except RuntimeError as error:
        if type(error).__name__ != "OutOfMemoryError":
            raise
        _stop(
            "the device is out of memory: use fewer --particles or --views, --image latents, a smaller --size, "
            "--max-rows, --window, --offload model or --dtype float16",
            1,
        )


def _interrupted(arguments: Sequence[str]) -> str:
    """What an interrupted command says."""
    same, resumed = "the same command continues", "the same command with --resume continues"
    again = {"image": resumed, "object": resumed, "edit": resumed, "toy": same, "bench": same}
    hint = again.get(arguments[0] if arguments else "")
    return f"interrupted; finished work is kept, and {hint}" if hint else "interrupted"


def _warn(message: Warning | str, *_: Any) -> None:
    """Show a warning as one sentence, without the line of source that raised it."""
    print(f"scoredistill: {message}", file=sys.stderr)


def _dispatch(arguments: list[str]) -> None:
    if arguments[:2] == ["prior", "train"]:
        from scoredistill.training.command import main as train

        train(arguments[2:])
        return
    # late, because the commands import torch, which takes seconds: --version does not need it
    from scoredistill.cli.demo import demo
    from scoredistill.cli.edit import edit
    from scoredistill.cli.image import image
    from scoredistill.cli.object import object_
    from scoredistill.cli.options import registry
    from scoredistill.cli.prior import prior
    from scoredistill.cli.scene import scene
    from scoredistill.cli.study import bench, toy

    commands: dict[str, Any] = {"image": image, "object": object_, "edit": edit, "scene": scene}
    commands |= {"demo": demo, "toy": toy, "bench": bench, "prior": prior}
    with registry():
        tyro.extras.subcommand_cli_from_dict(
            commands,
            prog="scoredistill",
            description="Score distillation: a pre-trained diffusion model optimizes anything that renders to images.",
            args=arguments or ["--help"],
        )


def _stop(sentence: str, code: int) -> None:
    print(f"scoredistill: {sentence}", file=sys.stderr)
    sys.exit(code)
