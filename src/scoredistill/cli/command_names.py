"""The names of the commands and what they do, read from the sources without importing them, which takes seconds."""

import ast
from collections.abc import Sequence
from pathlib import Path

from scoredistill.suggest import did_you_mean

ROOT = Path(__file__).parents[1]
COMMANDS = Path(__file__).with_name("commands.py")


def summaries() -> dict[str, str]:
    """The first sentence of every command's docstring, by its name, in the order of `commands.COMMANDS`."""
    tree = ast.parse(COMMANDS.read_text(encoding="utf-8"))
    places = {
        alias.asname or alias.name: (node.module or "", alias.name)
        for node in tree.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    table = next(
        node.value
        for node in tree.body
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.target.id == "COMMANDS"
    )
    if not isinstance(table, ast.Dict):
        raise TypeError("COMMANDS must be written as a dictionary")
    pairs = zip(table.keys, table.values, strict=True)
    return {
        key.value: _summary(*places.get(value.id, ("", "")))
        for key, value in pairs
        if isinstance(key, ast.Constant) and isinstance(key.value, str) and isinstance(value, ast.Name)
    }


def check_command(arguments: Sequence[str]) -> None:
    """Refuse a command that does not exist.

    Raises:
        ValueError: naming the nearest command.
    """
    if not arguments or arguments[0].startswith("-"):
        return
    known = summaries()
    if arguments[0] not in known:
        near = did_you_mean(arguments[0], known)
        raise ValueError(f"unknown command {arguments[0]!r}{near}: see scoredistill --help for all commands")


def _summary(module: str, function: str) -> str:
    """The first paragraph of the docstring of a function of this package, on one line."""
    file = ROOT.joinpath(*module.split(".")[1:]).with_suffix(".py")
    if not module or not file.is_file():
        return ""
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef) and node.name == function:
            return " ".join((ast.get_docstring(node) or "").partition("\n\n")[0].split())
    return ""
