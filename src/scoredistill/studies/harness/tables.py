"""Markdown tables."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from scoredistill.studies.harness.claims import FAILS, HOLDS, Cell, verdict
from scoredistill.studies.harness.statistics import Metrics, Row, plus_minus


@dataclass(frozen=True)
class Section:
    """A table of a report.

    Attributes:
        title: of it; empty where it belongs to the one before.
        says: what a reader must know to read it.
        rows: its lines.
    """

    title: str
    says: str
    rows: Sequence[Mapping[str, str]]


def head(metric: str, metrics: Metrics) -> str:
    """A figure's title with an arrow to where it is better."""
    return f"{metrics[metric].title}{ {1: ' ↑', 0: '', -1: ' ↓'}[metrics[metric].better] }"


def figure_rows(found: Mapping[str, Mapping[str, Cell]], names: Iterable[str], metrics: Metrics, of: str) -> list[Row]:
    """One line per method; a figure that nobody has is left out. `of` is the head of the first column."""
    shown = [name for name in names if any(name in figures for figures in found.values())]
    return [
        {of: method, **{head(name, metrics): plus_minus(figures.get(name)) for name in shown}}
        for method, figures in found.items()
        if figures
    ]


def difference_rows(paired: Mapping[str, Mapping[str, Cell]], names: Iterable[str], metrics: Metrics) -> list[Row]:
    """One line per pair of methods: the difference, and "better" or "worse" beyond two standard errors."""
    shown = [name for name in names if any(name in figures for figures in paired.values())]
    return [
        {
            "difference": pair,
            **{head(name, metrics): _judged(figures.get(name), metrics[name].better) for name in shown},
            "n": str(max(cell["n"] for cell in figures.values())),
        }
        for pair, figures in paired.items()
        if figures
    ]


def _judged(cell: Cell | None, better: int) -> str:
    word = {HOLDS: " better", FAILS: " worse"}.get(verdict(cell, better), "") if better else ""
    return plus_minus(cell, sign=True) + word


def markdown(title: str, results: Mapping[str, Any], extent: str, sections: Sequence[Section]) -> str:
    """The tables of a study where a page cannot be opened."""
    said = [f"`{results['command']}`"] if results.get("command") else []
    said += [f"{key} {results[key]}" for key in ("date", "version") if results.get(key)]
    parts = [f"# {title}", ", ".join(said), extent]
    for section in sections:
        parts += [f"## {section.title}" if section.title else "", section.says, _table(section.rows)]
    return "\n\n".join(part for part in parts if part) + "\n"


def line_of(points: Iterable[Mapping[str, Any]], x: str, metric: str) -> tuple[list[float], list[float]]:
    """Places and means of the points that have both, for a curve."""
    pairs = [(float(p[x]), float(p[metric]["mean"])) for p in points if metric in p]
    return [pair[0] for pair in pairs], [pair[1] for pair in pairs]


def _table(rows: Sequence[Mapping[str, str]]) -> str:
    """Columns in the order of first appearance; a missing cell stays empty."""
    names = list(dict.fromkeys(key for row in rows for key in row))
    lines = [names, ["---"] * len(names), *[[_cell(row.get(key, "")) for key in names] for row in rows]]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) if names else ""


def _cell(text: str) -> str:
    """A cell's text, which must hold neither a bar nor the end of a line."""
    return text.replace("|", "\\|").replace("\n", " ")
