"""The tables of the study of edits, for both reports: as rows, and as Markdown where a page cannot be opened."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from scoredistill.studies.editing.claims import KINDS, METRICS, REFERENCES, claims, equal_cost, paper_rows
from scoredistill.studies.harness.statistics import plus_minus, sign_of, tells
from scoredistill.studies.harness.tables import _table

METHODS = ("csd", "csd_full", "csd_paper", "uncoupled", "common_noise", "random_noise", "per_frame", "crops", "windows")
EDIT = ("direction", "source", "truth_psnr")
NEIGHBORS = ("seam", "consistency", "neighbor_distance", "style", "warp_error")
COST = ("rows", "update", "seconds")
TITLES = {"source": "source (unchanged)", "truth": "truth (through the autoencoder)"}
PARTS = {"images": "Images", "videos": "Videos"}
NOT_COMPARABLE = (
    "The paper's figures are judged by OpenCLIP bigG and LPIPS on its own videos, ours by another CLIP and another "
    "perceptual distance on other videos: the values cannot be compared, at most the order of methods."
)
JUDGED = (
    "A difference is csd minus the method on the same image (or clip) and instruction; ± is the standard error of "
    "its mean, every pair counted as independent. A claim holds or fails beyond two standard errors. A gain that is "
    "paid by directional similarity, or a loss that buys it, is not at equal direction and gives no verdict."
)

Row = dict[str, str]


def markdown(results: Mapping[str, Any]) -> str:
    """Claims, figures, paired differences, trade-offs, sweeps, the paper's numbers, cost and failures."""
    said = [f"`{results['command']}`"] if results.get("command") else []
    said += [f"{key} {results[key]}" for key in ("date", "version") if results.get(key)]
    parts = ["# Tables of the study of edits", ", ".join(said), extent(results), "## Claims", JUDGED]
    parts += [_table(claims(results))]
    for part, title in PARTS.items():
        for kind, equal in KINDS.items():
            at = f" at equal {', '.join(equal)}" if equal else ""
            if rows := metric_rows(results.get(f"{part}{kind}", {}), EDIT + NEIGHBORS):
                parts += [f"## {title}{at}", "± is the standard deviation.", _table(rows)]
            if rows := paired_rows(results.get(f"paired{kind}", {}).get(part, {}), EDIT + NEIGHBORS):
                parts += [f"## {title}{at}: csd minus a method", _table(rows)]
    if rows := tradeoff_rows(results.get("tradeoff", {})):
        parts += ["## Trade-off", _table(rows)]
    for name, points in results.get("sweeps", {}).items():
        parts += [f"## Sweep: {name}", _table(sweep_rows(points))]
    parts += ["## The paper's numbers for video", NOT_COMPARABLE, _table(paper_rows(results))]
    for part, title in PARTS.items():
        if rows := metric_rows(results.get(part, {}), COST):
            parts += [f"## Cost: {title.lower()}", ", ".join(equal_cost(results, part)), _table(rows)]
    if results.get("says"):
        parts += ["## Methods", _table([{"method": method, "is": text} for method, text in results["says"].items()])]
    if results.get("failed"):
        parts += ["## What broke down", _table(failure_rows(results))]
    return "\n\n".join(part for part in parts if part) + "\n"


def extent(results: Mapping[str, Any]) -> str:
    """How much was measured, beside what the claims ask for."""
    setting = results.get("setting", {})
    counts = [f"{len(setting[key])} {key}" for key in ("images", "clips", "instructions") if setting.get(key)]
    quick = " This was a quick run, which settles nothing." if setting.get("quick") else ""
    measured = f"Measured on {', '.join(counts)}. " if counts else ""
    return f"{measured}The claims ask for at least 8 images and 4 instructions.{quick}"


def metric_rows(found: Mapping[str, Mapping[str, Any]], metrics: Sequence[str]) -> list[Row]:
    """One line per method that has any of these figures, the references first; a figure that nobody has is left out."""
    rows = []
    for method in ordered(found):
        cells = {head(m): plus_minus(found[method].get(m)) for m in metrics if any(m in f for f in found.values())}
        if any(cells.values()):
            rows.append({"method": TITLES.get(method, method), **cells})
    return rows


def paired_rows(paired: Mapping[str, Mapping[str, Any]], metrics: Sequence[str]) -> list[Row]:
    """One line per method: csd minus it, and whether csd is better or worse by more than two standard errors."""
    rows = []
    for method in ordered(paired):
        found = paired[method]
        cells = {head(m): _compared(found.get(m), m) for m in metrics if any(m in f for f in paired.values())}
        count = max((cell.get("n", 0) for cell in found.values()), default=0)
        rows.append({"csd minus": method, **cells, "n": str(count)})
    return rows


def tradeoff_rows(tradeoff: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[Row]:
    """One line per method and text scale."""
    every = [point for points in tradeoff.values() for point in points]
    metrics = [m for m in METRICS if any(m in point for point in every)]
    return [
        {
            "method": method,
            "text scale": f"{point['text_scale']:g}" if "text_scale" in point else "",
            **{head(m): plus_minus(point.get(m)) for m in metrics},
        }
        for method in ordered(tradeoff)
        for point in tradeoff[method]
    ]


def sweep_rows(points: Sequence[Mapping[str, Any]]) -> list[Row]:
    """One line per value of what was varied."""
    metrics = [m for m in METRICS if any(m in point for point in points)]
    return [
        {"value": str(point.get("label") or _value(point)), **{head(m): plus_minus(point.get(m)) for m in metrics}}
        for point in points
    ]


def failure_rows(results: Mapping[str, Any]) -> list[Row]:
    """What went wrong, by job."""
    return [{"job": job, "error": said} for job, said in results["failed"].items()]


def ordered(methods: Iterable[str]) -> list[str]:
    """References, then methods in a fixed order, then any others as they come."""
    order = {method: i for i, method in enumerate((*REFERENCES, *METHODS))}
    return sorted(methods, key=lambda method: order.get(method, len(order)))


def head(metric: str) -> str:
    """A figure's title with an arrow to where it is better."""
    return f"{METRICS[metric].title}{ {1: ' ↑', 0: '', -1: ' ↓'}[METRICS[metric].better] }"


def _compared(cell: Mapping[str, Any] | None, metric: str) -> str:
    if not cell or not tells(cell):
        return plus_minus(cell, sign=True)
    verdict = {1: " better", 0: "", -1: " worse"}[sign_of(cell) * METRICS[metric].better]
    return plus_minus(cell, sign=True) + verdict


def _value(point: Mapping[str, Any]) -> object:
    value = point.get("value", "")
    return f"{value:g}" if isinstance(value, float) else value
