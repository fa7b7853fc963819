"""What several commands share: how a run is carried out, the live view, options without a value, the last lines."""

import shlex
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields, replace
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args

from tyro.constructors import ConstructorRegistry, PrimitiveConstructorSpec, PrimitiveTypeInfo

from scoredistill.tasks import gallery
from scoredistill.tasks.request import PriorOptions, RunOptions
from scoredistill.tasks.run_config import read_config, result_of

NAMES = 10  # width of the column of names in the last lines
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
            earlier run about the same. preview.png in it shows the result so far.
        config: Directory or config.json of an earlier run, to repeat it; options that are given as well replace its
            own. Or, for a prior that is a single file of weights (.safetensors), a directory or hub name of a model
            with its configuration.
    """

    config: str | None = None
    out: Path | None = None
    progress: bool = True


@dataclass(frozen=True, kw_only=True)
class CommandPlan:
    """Which runs a command makes.

    Attributes:
        preset: draft (quick, for a first look), standard, or best (slow); sets --steps, or --follow of methods with
            few gradients; of edits --sweeps.
        prompts: Several prompts (of edits: instructions) in place of one, each in quotes, or a .txt file with one per
            line; every one gets a run of its own, and all of them one page.
        seeds: Number of runs of each prompt, with successive seeds from --seed on.
        dry_run: Print the settings, the cost and the files of a run, and do nothing.
    """

    preset: Literal["draft", "standard", "best"] = "standard"
    prompts: tuple[str, ...] = ()
    seeds: int = 1
    dry_run: bool = False


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


def cost(counts: Mapping[str, int], seconds: float) -> str:
    """What a run took, for the last line of a command."""
    return f"{counts['rows']} network evaluations (NFE), {seconds:.1f} s"


def ending(
    line: str, out: Path, verdict: str, results: Sequence[Path] = (), next_steps: Sequence[str] = ()
) -> dict[str, Any]:
    """Print the last lines of a run: what it took, where its results are, and what to try next.

    Args:
        line: what was made and what it took.
        out: output directory.
        verdict: on results of prompts that the model was not trained on; else empty.
        results: the files that the run was made for.
        next_steps: commands to try next.

    Returns:
        What --json prints.
    """
    print(f"{line}: {out / 'report.html'}")
    large = [path for path in [out / "enlarged_00.png"] if path.is_file()]
    listed([("result", each) for each in results[:4]] + [("enlarged", each) for each in large] + all_runs(out))
    for step in () if read_config(out.parent) else next_steps:  # not for one of several runs
        print(f"  {'try next':<{NAMES}}{step}")
    if verdict:
        print(f"{verdict}.")
    return answer_of(out, results)


def opened(page: Path) -> dict[str, Any]:
    """Print the last lines of a study: where its report is. Returns what --json prints."""
    print(f"Open {page}")
    listed(all_runs(page.parent))
    return {"out": str(page.parent), "report": str(page)}


def answer_of(out: Path, results: Sequence[Path] = ()) -> dict[str, Any]:
    """What is known of a finished run, for --json: its files, score, cost, time and settings.

    Args:
        out: output directory.
        results: the files that the run was made for.
    """
    config, summary = read_config(out), result_of(out)
    scores = summary.get("clip_sim", [])
    scores = scores if isinstance(scores, list) else [scores]
    return {
        "out": str(out),
        "report": str(out / "report.html"),
        "results": [str(each) for each in results],
        "files": sorted(str(each) for each in out.glob("*") if each.is_file() and not each.name.startswith(".")),
        "score": sum(scores) / len(scores) if scores else None,
        "seed": config.get("request", {}).get("seed"),
        **summary,
        "settings": config.get("request", {}),
        "version": config.get("version"),
    }


def quoted(*words: object) -> str:
    """A command line, quoted for a shell."""
    return shlex.join(["scoredistill", *map(str, words)])


def all_runs(out: Path) -> list[tuple[str, Path]]:
    """The gallery of all runs beside an output directory, brought up to date."""
    with suppress(OSError):
        made = gallery.update(out.parent)
        return [("all runs", made)] if made is not None else []
    return []


def listed(places: Sequence[tuple[str, Path]]) -> None:
    """Print names and places in two columns."""
    for name, place in places:
        print(f"  {name:<{NAMES}}{place}")
