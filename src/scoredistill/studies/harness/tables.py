"""Tables of a study as rows, for the report, and as Markdown, for readers who cannot open the report."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from scoredistill.studies.harness.claims import FAILS, HOLDS, verdict
from scoredistill.studies.harness.statistics import Cell, Metrics, digits, is_number, plus_minus

QUICK = " This was a quick run, from which no conclusion can be drawn."

MARKUP = re.compile(r"[\\`|*]|\](?=[\[(:])")  # what Markdown reads as more than text; ] ends the text of a link

Results = Mapping[str, Any]
"""results.json: at least "setting", "command", "date", "version", "seconds" and "failed"."""

Row = dict[str, object]
"""One line of a table: the head of each column -> its cell."""


@dataclass(frozen=True)
class Section:
    """A table with its heading.

    Attributes:
        title: the heading; empty if the table belongs to the section before.
        caption: what a reader must know to read the table.
        rows: the lines, which may differ in their columns.
    """

    title: str
    caption: str
    rows: Sequence[Mapping[str, object]]


@dataclass(frozen=True)
class Tables:
    """All tables of a study: calling it with the results gives tables.md.

    Attributes:
        title: its heading.
        extent: how much was measured, from the results.
        sections: the tables, from the results.
    """

    title: str
    extent: Callable[[Results], str]
    sections: Callable[[Results], Sequence[Section]]

    def __call__(self, results: Results) -> str:
        """The text of tables.md."""
        return markdown(self.title, results, self.extent(results), self.sections(results))


def quick_note(setting: Mapping[str, Any]) -> str:
    """A warning after a quick run, to follow another sentence; otherwise empty."""
    return QUICK if setting.get("quick") else ""


def seeds_note(setting: Mapping[str, Any]) -> str:
    """Which seeds there are, if the first is not 0, to follow their number; results of older versions begin with 0."""
    first = setting.get("seed", 0)
    return f" from {first}" if first else ""


def head(metric: str, metrics: Metrics) -> str:
    """A metric's title with an arrow to where it is better."""
    return f"{metrics[metric].title}{ {1: ' ↑', 0: '', -1: ' ↓'}[metrics[metric].better] }"


def metric_rows(
    found: Mapping[str, Mapping[str, Cell]], names: Iterable[str], metrics: Metrics, of: str = "method"
) -> list[Row]:
    """One line per method that has any of the metrics; a metric that no method has is left out.

    Args:
        found: method -> metric -> mean and deviation.
        names: the metrics to show.
        of: the head of the first column.
    """
    shown = [name for name in names if any(name in measured for measured in found.values())]
    rows = {
        method: {head(name, metrics): plus_minus(measured.get(name)) for name in shown}
        for method, measured in found.items()
    }
    return [{of: method, **cells} for method, cells in rows.items() if any(cells.values())]


def difference_rows(
    paired: Mapping[str, Mapping[str, Cell]], names: Iterable[str], metrics: Metrics, of: str = "difference"
) -> list[Row]:
    """One line per pair of methods: the difference, and "better" or "worse" where it is significant."""
    shown = [name for name in names if any(name in measured for measured in paired.values())]
    return [
        {
            of: pair,
            **{head(name, metrics): _compared(measured.get(name), metrics[name].better) for name in shown},
            "n": str(max(cell.get("n", 0) for cell in measured.values())),
            **_clusters(measured),
        }
        for pair, measured in paired.items()
        if measured
    ]


def _clusters(measured: Mapping[str, Cell]) -> Row:
    """The number of clusters, if standard errors are clustered."""
    found = [cell["clusters"] for cell in measured.values() if "clusters" in cell]
    return {"clusters": str(max(found))} if found else {}


def _compared(cell: Cell | None, better: int) -> str:
    word = {HOLDS: " better", FAILS: " worse"}.get(verdict(cell, better), "") if better else ""
    return plus_minus(cell, sign=True) + word


def failure_rows(results: Results) -> list[Row]:
    """The errors of the jobs that failed, by name."""
    return [{"job": job, "error": error} for job, error in results.get("failed", {}).items()]


def markdown(title: str, results: Results, extent: str, sections: Sequence[Section]) -> str:
    """All tables of a study, headed by its command, date and version and by what was measured."""
    said = [_code(str(results["command"]))] if results.get("command") else []
    said += [f"{key} {escaped(str(results[key]))}" for key in ("date", "version") if results.get(key)]
    parts = [f"# {title}", ", ".join(said), extent]
    for section in [*sections, Section("Failed jobs", "", failure_rows(results))]:
        if section.rows:
            parts += [f"## {section.title}" if section.title else "", section.caption, table(section.rows)]
    return "\n\n".join(part for part in parts if part) + "\n"


def table(rows: Sequence[Mapping[str, object]]) -> str:
    """A Markdown table: columns in the order of first appearance; a missing cell stays empty."""
    names = list(dict.fromkeys(key for row in rows for key in row))
    lines = [
        [escaped(name) for name in names],
        ["---"] * len(names),
        *[[_cell(row.get(key, "")) for key in names] for row in rows],
    ]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) if names else ""


def _cell(value: object) -> str:
    """The text of a cell; a number has three digits."""
    return escaped(digits(value) if isinstance(value, float) else str(value))


def escaped(text: str) -> str:
    """Text that Markdown shows as it is, in one line: no cell ends and no element, link or code begins in it."""
    text = MARKUP.sub(r"\\\g<0>", " ".join(text.splitlines()))
    return re.sub(r"<(?=[a-zA-Z/!?])", "&lt;", re.sub(r"&(?=#?\w+;)", "&amp;", text))


def _code(text: str) -> str:
    """Text as code, in a fence longer than any in it."""
    text = " ".join(text.splitlines())
    fence = "`" * (1 + max((len(run) for run in re.findall("`+", text)), default=0))
    return f"{fence}{text}{fence}" if len(fence) == 1 else f"{fence} {text} {fence}"


def points_of(points: Iterable[Mapping[str, Any]], x: str, y: str) -> tuple[list[float], list[float]]:
    """The values (xs, ys) of two quantities at the points that have both, for a curve; of a mean and deviation the
    mean."""
    found = [[_mean(point[key]) for key in (x, y)] for point in points if x in point and y in point]
    pairs = [(a, b) for a, b in found if a is not None and b is not None]
    return [a for a, _ in pairs], [b for _, b in pairs]


def _mean(value: object) -> float | None:
    number = value["mean"] if isinstance(value, Mapping) else value
    return float(number) if is_number(number) else None
