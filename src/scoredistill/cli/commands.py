"""All commands by name. Importing this module imports torch, which takes seconds."""

from collections.abc import Callable, Sequence
from inspect import getdoc
from typing import Any

import tyro

from scoredistill.cli.arguments import check, parsed
from scoredistill.cli.completion import Completion, completion
from scoredistill.cli.completion_scripts import script
from scoredistill.cli.defaults import defaults_of
from scoredistill.cli.demo import demo
from scoredistill.cli.doctor import doctor
from scoredistill.cli.edit import edit
from scoredistill.cli.image import image
from scoredistill.cli.manner import QUIET
from scoredistill.cli.method_names import before_texts
from scoredistill.cli.object import object_
from scoredistill.cli.options import registry
from scoredistill.cli.parameters import options, parameters
from scoredistill.cli.prior import prior
from scoredistill.cli.repeat import repeated
from scoredistill.cli.scene import scene
from scoredistill.cli.show import show
from scoredistill.cli.study import bench, toy
from scoredistill.cli.svg import svg
from scoredistill.cli.texture import texture
from scoredistill.cli.ui import ui
from scoredistill.cli.usage import help_of

COMMANDS: dict[str, Any] = {
    "image": image, "object": object_, "edit": edit, "scene": scene, "demo": demo, "toy": toy, "bench": bench,
    "prior": prior,
    "svg": svg, "texture": texture, "ui": ui, "show": show, "doctor": doctor, "completion": completion,
}  # fmt: skip


def dispatch(arguments: Sequence[str]) -> object:
    """Run the command that the arguments name, or print its help.

    Returns:
        What the command returns.

    Raises:
        ValueError: for a wrong command line, in one sentence.
    """
    name, typed = arguments[0], list(arguments[1:])
    function, prog = COMMANDS[name], f"scoredistill {name}"
    known = parameters(function, prog)
    first = list(before_texts(typed))
    texts = typed[len(first) :]
    quiet = [each for each in first if each in QUIET]
    typed = [*(each for each in first if each not in QUIET), *texts]
    asked = {"--help", "-h", "--help-all"} & set(first)
    if asked:
        print(help_of(name, _says(function), known, defaults_of(name, typed), "--help-all" in asked))
        return None
    typed = repeated(name, typed, known)
    check(name, parsed(name, typed, known), known)
    if quiet and "--no-progress" in options(known):
        typed.insert(0, "--no-progress")
    with registry():
        answer = tyro.cli(function, prog=prog, args=typed)
    if isinstance(answer, Completion):
        print(script(answer.shell, {each: parameters(made, each) for each, made in COMMANDS.items()}))
    return answer


def _says(function: Callable[..., Any]) -> str:
    """The description in the docstring of a command."""
    return " ".join((getdoc(function) or "").partition("\nArgs:")[0].split())
