"""The positional arguments and options of a command, read from the parser that is made of its function."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import tyro

from scoredistill.cli.options import AUTO, registry

DEFAULT = re.compile(
    r"\s*\((default: (?P<default>.*?)|required|optional|repeatable|sets: [^()]*|unset)\)\s*$", re.DOTALL
)
WHOLE, REAL = re.compile(r"[+-]?\d+"), re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?|[+-]?(inf|nan)", re.IGNORECASE)


@dataclass(frozen=True)
class Parameter:
    """A positional argument or an option.

    Attributes:
        flags: names of an option, such as ("--wrap", "--no-wrap"); empty for a positional argument.
        metavar: what stands for its value, such as "INT".
        least, most: how many values it takes; `most` is None for any number.
        choices: values that it takes; empty if these are not listed.
        says: description.
        default: default as the command line takes it; empty if there is none.
        group: heading of its group.
        required: whether it must be given.
    """

    flags: tuple[str, ...]
    metavar: str
    least: int
    most: int | None
    choices: tuple[str, ...]
    says: str
    default: str
    group: str
    required: bool

    @property
    def name(self) -> str:
        """The name of the option without dashes, or of the positional argument in lower case."""
        return self.flags[0].lstrip("-") if self.flags else self.metavar.lower()

    def fault(self, value: str) -> str:
        """What is wrong with a value, as a phrase; empty if nothing is."""
        kind = self.metavar.upper()
        if value == AUTO and not self.choices:
            return ""
        if self.choices:
            return "" if value in self.choices else "is none of its values"
        if "FLOAT" in kind and not REAL.fullmatch(value):
            return "takes a number"
        if "INT" in kind and "FLOAT" not in kind and not WHOLE.fullmatch(value):
            return "takes a whole number"
        return ""


def parameters(function: Callable[..., Any], prog: str) -> tuple[Parameter, ...]:
    """The parameters of a command, in the order in which they are declared, without --help.

    Args:
        function: the function of the command.
        prog: how the command is called, such as "scoredistill image".
    """
    with registry():
        parser = tyro.extras.get_parser(function, prog=prog)
    made = []
    for group in parser._action_groups:
        for action in group._group_actions:
            if action.dest != "help" and "--help" not in action.option_strings and "-h" not in action.option_strings:
                made.append(_parameter(action, group.title or ""))
    return tuple(made)


def positionals(known: Sequence[Parameter]) -> list[Parameter]:
    """The positional arguments among parameters."""
    return [each for each in known if not each.flags]


def options(known: Sequence[Parameter]) -> dict[str, Parameter]:
    """The options among parameters, by every flag."""
    return {flag: each for each in known for flag in each.flags}


def _parameter(action: Any, group: str) -> Parameter:
    flag = action.nargs == 0
    text = _plain(action.help)
    default = found.group("default") or "" if (found := DEFAULT.search(text)) else ""
    least = 0 if flag or action.nargs in ("*", "?") else 1 if action.nargs is None else int(action.nargs)
    most = None if action.nargs == "*" else 1 if action.nargs in (None, "?") else int(action.nargs)
    return Parameter(
        tuple(action.option_strings),
        "" if flag else _metavar(action),
        least,
        most,
        tuple(map(str, action.choices or ())),
        " ".join(DEFAULT.sub("", text).split()),
        default.strip("'"),
        " ".join(str(group).split()).removesuffix(" options"),
        bool(action.required) or (not action.option_strings and least > 0),
    )


def _metavar(action: Any) -> str:
    """What stands for the value of an option, or the name of a positional argument."""
    if not action.option_strings:
        return str(action.dest).rpartition(".")[2].upper()
    text = _plain(action.metavar or action.dest)
    several = re.fullmatch(r"\[(\w+) \[\1 \.\.\.\]\]", text)
    return f"{several[1]} ..." if several else text


def _plain(text: object) -> str:
    """A help text without codes for colors."""
    made = text() if callable(text) else text
    return re.sub(r"\x1b\[[0-9;]*m", "", "" if made is None else str(made))
