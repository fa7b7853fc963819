r"""How studies of methods compare them: paired differences, verdicts, and tables for both of their reports.

With figures a_i and b_i of two methods in the same n cases,

    d = mean (a_i - b_i)        standard error = std (a_i - b_i) / sqrt(n)

and a claim that a is better holds, or fails, where d is beyond two standard errors; nearer to 0 it is within the bars.
Every pair counts as independent.
"""

import math
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar

from PIL import Image

from scoredistill.report import Page
from scoredistill.tasks.edits.markdown import _table as markdown_table
from scoredistill.tasks.edits.paper import Metric, plus_minus, sign_of, tells
from scoredistill.tasks.edits.study import averaged
from scoredistill.tasks.parts import spread, write_json

HOLDS, WITHIN, FAILS, MISSING = "holds", "within the bars", "fails", "not measured"
WORDS = {1: HOLDS, 0: WITHIN, -1: FAILS}
JUDGED = (
    "Numbers are mean differences of the same cases with their standard errors. A claim holds or fails beyond two "
    "standard errors and is within the bars before that; of a chain each link counts, and the worst one decides."
)

Cell = Mapping[str, Any]
Figures = Mapping[str, float]
Row = dict[str, str]
K = TypeVar("K", bound=Hashable)
Metrics = Mapping[str, Metric]


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


def differences(ours: Mapping[Any, Figures], theirs: Mapping[Any, Figures]) -> dict[str, dict[str, float]]:
    """Ours minus theirs in the cases that both have: "mean", "std" (the standard error of the mean) and "n"."""
    both = [(found, theirs[case]) for case, found in ours.items() if case in theirs]
    pairs = [{name: a[name] - b[name] for name in a if name in b} for a, b in both]
    made = {}
    for name, cell in averaged(pairs).items():
        n = sum(name in pair for pair in pairs)
        made[name] = {"mean": cell["mean"], "std": cell["std"] / math.sqrt(n), "n": n}
    return made


def over_cases(found: Sequence[Figures]) -> dict[str, dict[str, float]]:
    """Mean and deviation of every figure over cases; a single case has no deviation."""
    every = averaged(found)
    return every if len(found) > 1 else {name: {"mean": cell["mean"]} for name, cell in every.items()}


def over_seeds(found: Mapping[tuple[str, int], Figures]) -> dict[str, dict[str, float]]:
    """Of figures by (what, seed): the mean of all, and the deviation over seeds of the mean over everything else."""
    every = averaged(list(found.values()))
    seeds = sorted({seed for _, seed in found})
    lines = [averaged([figures for (_, s), figures in found.items() if s == seed]) for seed in seeds]
    deviation = {name: spread([line[name]["mean"] for line in lines if name in line]) for name in every}
    alone = len(seeds) == 1
    return {
        name: {"mean": cell["mean"]} if alone else {"mean": cell["mean"], "std": deviation[name]}
        for name, cell in every.items()
    }


def verdict(cell: Cell | None, better: int) -> str:
    """Whether a paired difference is an improvement; `better` is +1 where more is better and -1 where less is."""
    if cell is None or not tells(cell):
        return MISSING
    return WORDS[sign_of(cell) * better]


def chain(
    paired: Mapping[str, Mapping[str, Cell]], methods: Sequence[str], metric: str, metrics: Metrics, where: str = ""
) -> dict[str, str]:
    """The claim that each method is better than the next one; the worst link's verdict is the claim's.

    Args:
        paired: of "a - b" the differences, as `differences` gives them; either order of a pair will do.
        methods: the best first.
        where: what is added to the claim.
    """
    links = [between(paired, a, b).get(metric) for a, b in pairwise(methods)]
    said = [
        f"{a} - {b} {plus_minus(link, sign=True)} (n = {link['n']})" if link else f"{a} - {b} {MISSING}"
        for (a, b), link in zip(pairwise(methods), links, strict=True)
    ]
    order = (FAILS, MISSING, WITHIN, HOLDS)
    worst = min((verdict(link, metrics[metric].better) for link in links), key=order.index)
    sign = " > " if metrics[metric].better > 0 else " < "
    claim = f"{metrics[metric].title}: {sign.join(methods)}{where}"
    return {"claim": claim, "ours": "; ".join(said), "verdict": worst}


def between(paired: Mapping[str, Mapping[str, Cell]], a: str, b: str) -> dict[str, Cell]:
    """a - b, also where b - a was written down."""
    if f"{a} - {b}" in paired:
        return dict(paired[f"{a} - {b}"])
    turned = paired.get(f"{b} - {a}", {})
    return {name: {**cell, "mean": -cell["mean"]} for name, cell in turned.items()}


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
        parts += [f"## {section.title}" if section.title else "", section.says, markdown_table(section.rows)]
    return "\n\n".join(part for part in parts if part) + "\n"


def add_section(page: Page, section: Section) -> None:
    """A section on a page: its title, its table, and what it says below."""
    if section.title:
        page.heading(section.title)
    if section.rows:
        page.table(
            [{k: v.replace(" ± ", "\u00a0±\u00a0") for k, v in row.items()} for row in section.rows], section.says
        )


def add_setting(page: Page, results: Mapping[str, Any]) -> None:
    """The end of a page: what broke down, and what was asked for."""
    if results.get("failed"):
        page.heading("What broke down").table([{"job": j, "error": said} for j, said in results["failed"].items()])
    said = {k: ", ".join(map(str, v)) if isinstance(v, (list, tuple)) else v for k, v in results["setting"].items()}
    rest = {"date": results["date"], "version": results["version"], "seconds of work": results["seconds"]}
    page.heading("Setting").key_values({**said, **rest})


def line_of(points: Iterable[Mapping[str, Any]], x: str, metric: str) -> tuple[list[float], list[float]]:
    """Places and means of the points that have both, for a curve."""
    pairs = [(float(p[x]), float(p[metric]["mean"])) for p in points if metric in p]
    return [pair[0] for pair in pairs], [pair[1] for pair in pairs]


def published(
    results: Mapping[str, Any],
    out: Path,
    tables: Callable[[Mapping[str, Any]], str],
    report: Callable[[Mapping[str, Any], Path], Path],
) -> Path:
    """Write results.json, tables.md and the report; the last is returned."""
    write_json(out / "results.json", results)
    (out / "tables.md").write_text(tables(results))
    return report(results, out)


def opening(page: Page, results: Mapping[str, Any], says: str, claims: Section, metrics: Mapping[str, Any]) -> None:
    """How reports begin: the command, what was measured, the claims, and what methods and figures are."""
    page.command(results["command"]).text(says)
    add_section(page, claims)
    page.heading("Methods").key_values(results["says"])
    page.heading("Figures").key_values({metric.title: metric.says for metric in metrics.values()})


def opened(path: Path, width: int = 96) -> Image.Image:
    """A picture file as RGB; an empty picture where there is none."""
    if not path.is_file():
        return Image.new("RGB", (width, width), "white")
    with Image.open(path) as file:
        return file.convert("RGB")


def figures_of(parts: Mapping[str, Mapping[str, Any]], names: Mapping[K, str]) -> dict[K, Figures]:
    """The figures of the cases that are measured, by case."""
    return {case: parts[name] for case, name in names.items() if name in parts}


def refuse(what: str, given: Sequence[str], known: Iterable[str]) -> None:
    """Complain of names that do not exist or are given twice.

    Raises:
        ValueError: in one sentence.
    """
    known = list(known)
    if unknown := [name for name in given if name not in known]:
        raise ValueError(f"unknown {what} {', '.join(unknown)}: use any of {', '.join(known)}")
    if len(set(given)) < len(given):
        raise ValueError(f"a {what} is named twice: give each once")
