"""What several commands share: how a run is carried out, the live view, and how options without a value are shown."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Union, get_args

from tyro.constructors import ConstructorRegistry, PrimitiveConstructorSpec, PrimitiveTypeInfo

from scoredistill.tasks.request import PriorOptions, RunOptions

AUTO = "auto"  # how --help shows None, the default of the method, the prior or the source


@dataclass(frozen=True, kw_only=True)
class CommandPrior(PriorOptions):
    """How the prior is loaded."""

    dtype: str | None = None
    device: str | None = None
    config: str | None = None


@dataclass(frozen=True, kw_only=True)
class CommandRun(CommandPrior, RunOptions):
    """How the run is carried out.

    Attributes:
        out: Output directory; by default runs/ followed by what the command is about, and by a number if there is an
            earlier run about the same. preview.png in it shows the
            result so far.
    """

    out: Path | None = None
    progress: bool = True


@dataclass(frozen=True, kw_only=True)
class LiveView:
    """Live view in a browser.

    Attributes:
        view: Watch and turn the scene in a browser during the run, and afterwards until Ctrl-C.
        port: Port of the page.
    """

    view: bool = False
    port: int = 8080

    @property
    def page(self) -> int | None:
        """The port of the page; None without a live view.

        Raises:
            ValueError: if a port is given without a live view.
        """
        if not self.view:
            refuse("a run without --view", port=None if self.port == LiveView.port else self.port)
        return self.port if self.view else None


def values(*parts: Any) -> dict[str, Any]:
    """The fields of dataclasses, by name, as keyword arguments of a task's function."""
    return {field.name: getattr(part, field.name) for part in parts for field in fields(part)}


def given(parts: Iterable[Any]) -> list[str]:
    """The names of the fields of dataclasses whose values are not the defaults."""
    return [field.name for part in parts for field in fields(part) if getattr(part, field.name) != field.default]


def registry() -> ConstructorRegistry:
    """How tyro reads and shows options that may be None: as "auto"."""
    made = ConstructorRegistry()
    made.primitive_rule(_optional)
    return made


def _optional(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec[Any] | None:
    """The rule for a type or None; None for other types."""
    kinds = [kind for kind in get_args(info.type) if kind is not NoneType]
    if info.type_origin not in (Union, UnionType) or len(kinds) != 1 or NoneType not in get_args(info.type):
        return None
    spec = ConstructorRegistry.get_primitive_spec(PrimitiveTypeInfo.make(kinds[0], info.markers))
    if not isinstance(spec, PrimitiveConstructorSpec):
        return None
    return replace(
        spec,
        instance_from_str=lambda texts: None if texts == [AUTO] else spec.instance_from_str(texts),
        is_instance=lambda value: value is None or spec.is_instance(value),
        str_from_instance=lambda value: [AUTO] if value is None else spec.str_from_instance(value),
        choices=None if spec.choices is None else (*spec.choices, AUTO),
    )


def refuse(what: str, **options: object) -> None:
    """Refuse options that have no effect on what a command does.

    Args:
        what: the action, for the message, such as "scene list".
        **options: given value of each option, or its default.

    Raises:
        ValueError: naming those that are neither None, False nor empty.
    """
    if names := [f"--{name.replace('_', '-')}" for name, value in options.items() if value not in (None, False, "")]:
        raise ValueError(f"{what} has no {', '.join(names)}: leave {'it' if len(names) == 1 else 'them'} out")


def ending(line: str, out: Path, verdict: str) -> None:
    """Print the last line of a command, with the place of the report, and a verdict if there is one."""
    print(f"{line}: {out / 'report.html'}")
    if verdict:
        print(f"{verdict}.")


def cost(counts: Mapping[str, int], seconds: float) -> str:
    """What a run took, for the last line of a command."""
    return f"{counts['rows']} network evaluations (NFE), {seconds:.1f} s"
