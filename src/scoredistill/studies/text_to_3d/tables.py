"""Tables of the text-to-3D study, for the report and for tables.md."""

from collections.abc import Mapping
from typing import Any

from scoredistill.studies.harness.claims import clustered_rule
from scoredistill.studies.harness.statistics import is_number, scaled
from scoredistill.studies.harness.tables import (
    Results,
    Row,
    Section,
    Tables,
    difference_rows,
    metric_rows,
    quick_note,
    seeds_note,
)
from scoredistill.studies.text_to_3d.claims import COLLABORATIVE, COST, MEAN_SHIFT, METRICS, QUALITY, claims

VIEWS = "Views per step"
RESULTS = (
    "Means over prompts and seeds; ± is the standard deviation over seeds of the mean over prompts. ddim: ordinary "
    "samples, four of each prompt, which are images and show one side only."
)
DIFFERENCES = "Of the same prompt and seed; ± is the standard error of the mean, clustered by prompt."
SWEEP = (
    "Steps are chosen so that views x steps, and with it the number of network evaluations, stay the same. Means over "
    "two prompts, one seed (± is the standard deviation over prompts): a trend, not a verdict."
)
NOT_COMPARABLE = (
    "The published numbers are from other CLIP models on other prompts and priors: the values cannot be compared, at "
    "most the order of methods. CLIP color and geometry are those of Collaborative Score Distillation (30 prompts), "
    "CLIP-SIM in 2-D is that of Score Distillation via Mean Shift; ours are of views in 3-D."
)


def extent(results: Results) -> str:
    """How much was measured."""
    setting = results["setting"]
    seeds = f"{setting['seeds']} seeds{seeds_note(setting)} each"
    return f"Measured on {len(setting['prompts'])} prompts, {seeds}.{quick_note(setting)}"


def claims_section(results: Results) -> Section:
    """The claims with our numbers and verdicts."""
    return Section("Claims", clustered_rule("prompt"), claims(results))


def sections(results: Results) -> list[Section]:
    """All tables, the claims first."""
    found = {**({"ddim": results["ddim"]} if results["ddim"] else {}), **results["methods"]}
    return [
        claims_section(results),
        Section("Results", RESULTS, metric_rows(found, QUALITY, METRICS)),
        Section("Differences", DIFFERENCES, difference_rows(results["paired"], QUALITY, METRICS)),
        Section("Cost", "Seconds compare only within this run.", metric_rows(found, COST, METRICS)),
        Section("Settings of each method", "", [_plain(m, recipe) for m, recipe in results["recipes"].items()]),
        *_by_prompt(results),
        *_sweep(results),
        Section("Published numbers", NOT_COMPARABLE, published_rows(results)),
    ]


def _plain(method: str, settings: Mapping[str, Any]) -> Row:
    return {"method": method, **{name: str(value) for name, value in settings.items()}}


def _by_prompt(results: Results) -> list[Section]:
    return [
        Section(
            "By prompt" if i == 0 else "",
            f"{prompt}; ± is the standard deviation over seeds.",
            metric_rows(found, QUALITY, METRICS),
        )
        for i, (prompt, found) in enumerate(results["by_prompt"].items())
    ]


def _sweep(results: Results) -> list[Section]:
    made = []
    for i, (method, points) in enumerate(results.get("sweep", {}).items()):
        lines = {f"{point['views']}": {k: v for k, v in point.items() if k != "views"} for point in points}
        rows = metric_rows(lines, (*QUALITY, "rows", "seconds"), METRICS, "views per step")
        made.append(Section(VIEWS if i == 0 else "", f"{method}, by views per step. {SWEEP}", rows))
    return made


def published_rows(results: Results) -> list[Row]:
    """The published numbers beside ours, in their units."""
    rows: list[Row] = []
    for method in dict.fromkeys([*COLLABORATIVE, *MEAN_SHIFT, *results["methods"]]):
        if method in COLLABORATIVE:
            color, geometry, fid = COLLABORATIVE[method]
            given = {"CLIP color": f"{color:.3f}", "CLIP geometry": f"{geometry:.3f}", "FID": f"{fid:.1f}"}
            rows.append({"method": method, "from": "CSD, 3-D", **given})
        if method in MEAN_SHIFT:
            rows.append({"method": method, "from": "mean shift, 2-D", "CLIP-SIM": f"{MEAN_SHIFT[method]:.1f}"})
        if found := results["methods"].get(method):
            names = {"CLIP color": "clip_sim", "CLIP geometry": "clip_geometry"}
            ours: Row = {title: scaled(found.get(name), 100) for title, name in names.items()}
            mean = found.get("clip_sim", {}).get("mean")
            rows.append(
                {"method": method, "from": "ours", **ours, "CLIP-SIM": f"{mean:.1f}" if is_number(mean) else ""}
            )
    return rows


tables = Tables("Tables of the text-to-3D study", extent, sections)
