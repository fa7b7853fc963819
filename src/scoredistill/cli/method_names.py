"""A wrong `--method` is refused before torch is imported, which takes seconds.

The names are read from the sources of the recipes, where they are listed once.
"""

import ast
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path

from scoredistill.suggest import did_you_mean

OTHERS = {
    "ddim": "samples by DDIM, for comparison",
    "one_view": "scenes: one view after the other is edited by DDIM (Instruct-NeRF2NeRF)",
    "trace": "paths of a traced sample, not optimized",
}  # what methods without a recipe do
TASKS = Path(__file__).parents[1] / "tasks"
SOURCES: dict[str, tuple[tuple[str, str], ...]] = {
    "image": (("image_generation/recipes.py", "RECIPES"), ("image_generation/request.py", "METHODS")),
    "edit": (("image_editing/recipes.py", "EDIT_RECIPES"), ("scene_editing/recipes.py", "ONE_VIEW")),
    "svg": (("vector_graphics/recipes.py", "VECTOR_RECIPES"), ("vector_graphics/request.py", "METHODS")),
    "object": (("object_generation/recipes.py", "OBJECT_RECIPES"),),
}
"""Command -> file of `tasks` and name of a dictionary, a tuple or a text in it."""


def check_method(arguments: Sequence[str]) -> None:
    """Refuse a command line whose `--method` no kind of source of the command has; files are read by the command.

    Raises:
        ValueError: naming all methods.
    """
    if not arguments or arguments[0] not in SOURCES:
        return
    arguments = before_texts(arguments)
    given = [each.partition("=")[2] for each in arguments if each.startswith("--method=")]
    given += [arguments[at + 1] for at, each in enumerate(arguments[:-1]) if each == "--method"]
    if not given:
        return
    known = names_of(arguments[0])
    for name in given:
        if name not in known and ".py" not in name:
            near = did_you_mean(name, known)
            raise ValueError(
                f"unknown method {name!r}: use one of {', '.join(known)}, or your own as FILE.py:NAME{near}"
            )


def before_texts(arguments: Sequence[str]) -> Sequence[str]:
    """The arguments before --, behind which are texts, whatever they look like."""
    return arguments[: arguments.index("--")] if "--" in arguments else arguments


def names_of(command: str) -> list[str]:
    """The names of the methods of a command, for any kind of source."""
    return [name for file, variable in SOURCES[command] for name in _names(TASKS / file, variable)]


def _names(file: Path, variable: str) -> list[str]:
    """The texts that are keys of a dictionary, elements of a tuple, or the value itself, of a variable of a module."""
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        if not isinstance(node, (ast.Assign, ast.AnnAssign)):
            continue
        targets, value = node.targets if isinstance(node, ast.Assign) else [node.target], node.value
        if any(isinstance(target, ast.Name) and target.id == variable for target in targets):
            parts = (
                value.keys if isinstance(value, ast.Dict) else value.elts if isinstance(value, ast.Tuple) else [value]
            )
            return [part.value for part in parts if isinstance(part, ast.Constant) and isinstance(part.value, str)]
    return []


def descriptions(command: str) -> dict[str, str]:
    """What each method of a command does, in a few words, by its name."""
    said = dict(OTHERS)
    for file, variable in SOURCES[command]:
        table = getattr(import_module(f"scoredistill.tasks.{file.removesuffix('.py').replace('/', '.')}"), variable)
        if isinstance(table, Mapping):
            said |= {name: getattr(recipe, "says", "") for name, recipe in table.items()}
    return {name: said.get(name, "") for name in names_of(command)}
