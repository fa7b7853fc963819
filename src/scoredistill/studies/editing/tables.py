"""Tables of the editing study, for the report and for tables.md. Any part of the results may be missing."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from scoredistill.studies.editing.claims import (
    KINDS,
    METRICS,
    PUBLISHED,
    REFERENCES,
    bounds_note,
    claims,
    equal_cost,
    paired_of,
)
from scoredistill.studies.harness.statistics import plus_minus, scaled
from scoredistill.studies.harness.tables import (
    Results,
    Row,
    Section,
    Tables,
    difference_rows,
    head,
    metric_rows,
    quick_note,
    seeds_note,
)

METHODS = ("csd", "csd_full", "csd_paper", "uncoupled", "common_noise", "random_noise", "per_frame", "crops", "windows")
EDIT = ("direction", "source", "truth_psnr")
NEIGHBORS = ("seam", "consistency", "neighbor_distance", "style", "warp_error")
COST = ("rows", "update", "seconds")
TITLES = {"source": "source (unchanged)", "truth": "truth (through the autoencoder)"}
PARTS = {"images": "Images", "videos": "Videos"}
DEVIATION = "± is the standard deviation."
NOT_COMPARABLE = (
    "The published numbers are from OpenCLIP bigG and LPIPS on other videos, ours from another CLIP model and another "
    "perceptual distance: the values cannot be compared, at most the order of methods."
)
RULE = (
    "A difference is csd minus the method on the same image (or clip) and instruction; ± is the standard error of "
    "its mean, clustered by image (or clip), because edits of one image are not independent. A claim holds or fails "
    "where the difference exceeds two standard errors, or Student's quantile (97.5 %) times the standard error where "
    "there are so few images that this is more. A gain that costs directional similarity, or a loss that buys it, is "
    "not at equal direction and gives no verdict."
)


def extent(results: Results) -> str:
    """How much was measured, beside what the claims need."""
    setting = results.get("setting", {})
    counts = [f"{len(setting[key])} {key}" for key in ("images", "clips", "instructions") if setting.get(key)]
    seeds = f", {setting['seeds']} seeds{seeds_note(setting)}" if setting.get("seed") else ""
    measured = f"Measured on {', '.join(counts)}{seeds}. " if counts else ""
    return f"{measured}The claims need at least 8 images and 4 instructions.{quick_note(setting)}"


def claims_section(results: Results) -> Section:
    """The claims with our numbers and verdicts."""
    return Section("Claims", RULE + bounds_note(results), claims(results))


def sections(results: Results) -> list[Section]:
    """All tables: claims, metrics, paired differences, trade-off, sweeps, published numbers and cost."""
    made = [claims_section(results)]
    for part, title in PARTS.items():
        for kind, equal in KINDS.items():
            title_at = f"{title} at equal {', '.join(equal)}" if equal else title
            made.append(Section(title_at, DEVIATION, rows_of(results.get(f"{part}{kind}", {}), EDIT + NEIGHBORS)))
            paired = paired_of(results, part, kind)
            made.append(Section(f"{title_at}: csd minus a method", "", paired_rows(paired, EDIT + NEIGHBORS)))
    made.append(Section("Trade-off", "", tradeoff_rows(results.get("tradeoff", {}))))
    made += [Section(f"Sweep: {name}", "", sweep_rows(points)) for name, points in results.get("sweeps", {}).items()]
    made.append(published_section(results))
    for part, title in PARTS.items():
        caption, rows = ", ".join(equal_cost(results, part)), rows_of(results.get(part, {}), COST)
        made.append(Section(f"Cost: {title.lower()}", caption, rows))
    descriptions = results.get("descriptions", {})
    return [*made, Section("Methods", "", [{"method": m, "description": text} for m, text in descriptions.items()])]


def rows_of(found: Mapping[str, Mapping[str, Any]], metrics: Sequence[str]) -> list[Row]:
    """One line per method that has any of the metrics, the references first."""
    return metric_rows({TITLES.get(method, method): found[method] for method in ordered(found)}, metrics, METRICS)


def paired_rows(paired: Mapping[str, Mapping[str, Any]], metrics: Sequence[str]) -> list[Row]:
    """One line per method: csd minus it, and whether csd is significantly better or worse."""
    return difference_rows({method: paired[method] for method in ordered(paired)}, metrics, METRICS, "csd minus")


def tradeoff_rows(tradeoff: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[Row]:
    """One line per method and text scale."""
    metrics = _measured([point for points in tradeoff.values() for point in points])
    return [
        {
            "method": method,
            "text scale": f"{point['text_scale']:g}" if "text_scale" in point else "",
            **{head(m, METRICS): plus_minus(point.get(m)) for m in metrics},
        }
        for method in ordered(tradeoff)
        for point in tradeoff[method]
    ]


def sweep_rows(points: Sequence[Mapping[str, Any]]) -> list[Row]:
    """One line per value of the setting that varies."""
    metrics = _measured(points)
    return [
        {
            "value": str(point.get("label") or _value(point)),
            **{head(m, METRICS): plus_minus(point.get(m)) for m in metrics},
        }
        for point in points
    ]


def _measured(points: Sequence[Mapping[str, Any]]) -> list[str]:
    return [metric for metric in METRICS if any(metric in point for point in points)]


def _value(point: Mapping[str, Any]) -> object:
    value = point.get("value", "")
    return f"{value:g}" if isinstance(value, float) else value


def published_section(results: Results) -> Section:
    """The published numbers for video, then ours in the same units; ours are of another CLIP and another distance."""
    scales = {"direction": ("direction", 100), "consistency": ("consistency", 100)}
    scales["distance of neighbors"] = ("neighbor_distance", 1)
    rows: list[Row] = [
        {"method": method, "from": "publication", **{name: f"{v:.3f}" for name, v in zip(scales, values, strict=True)}}
        for method, values in PUBLISHED.items()
    ]
    for method, found in results.get("videos", {}).items():
        if method not in REFERENCES:
            ours = {title: scaled(found.get(metric), scale) for title, (metric, scale) in scales.items()}
            rows.append({"method": method, "from": "ours", **ours})
    return Section("Published numbers for video", NOT_COMPARABLE, rows)


def ordered(methods: Iterable[str]) -> list[str]:
    """References, then methods in a fixed order, then any others in their given order."""
    order = {method: i for i, method in enumerate((*REFERENCES, *METHODS))}
    return sorted(methods, key=lambda method: order.get(method, len(order)))


tables = Tables("Tables of the editing study", extent, sections)
