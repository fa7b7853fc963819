"""Tables of the scene-editing study, for the report and for tables.md."""

from collections.abc import Mapping
from typing import Any

from scoredistill.studies.harness.claims import clustered_rule
from scoredistill.studies.harness.statistics import scaled
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
from scoredistill.studies.scene_editing.claims import COST, METRICS, PUBLISHED, QUALITY, claims

VIEWS = "Edited views"
RESULTS = (
    "On 12 novel views; ± is the standard deviation over scenes and instructions (and seeds). source: the fit before "
    "the edit. truth: reference edits of true images through the editor's autoencoder, each view by itself."
)
DIFFERENCES = "Of the same scene and instruction; ± is the standard error of the mean, clustered by scene."
SWEEP = (
    "csd where that many views are edited and the scene is fitted to no others; each view is edited equally often, so "
    "the network evaluations grow with the views. ± is the standard deviation over scenes."
)
NOT_COMPARABLE = (
    "The published numbers are from another CLIP model and LPIPS on real scenes, with InstructPix2Pix as the editor: "
    "the values cannot be compared, at most the order of methods."
)
NAMES = {"one_view": "Instruct-NeRF2NeRF", "csd": "CSD-Edit"}


def extent(results: Results) -> str:
    """How much was measured."""
    setting = results["setting"]
    counts = f"{len(setting['scenes'])} scenes and {len(setting['instructions'])} instructions"
    photographs = f"{setting['views']} photographs of each scene"
    return f"Measured on {counts}, {setting['seeds']} seeds{seeds_note(setting)}, {photographs}.{quick_note(setting)}"


def claims_section(results: Results) -> Section:
    """The claims with our numbers and verdicts."""
    return Section("Claims", clustered_rule("scene"), claims(results))


def sections(results: Results) -> list[Section]:
    """All tables, the claims first."""
    return [
        claims_section(results),
        Section("Results", RESULTS, metric_rows(results["methods"], QUALITY, METRICS)),
        Section("Differences", DIFFERENCES, difference_rows(results["paired"], QUALITY, METRICS)),
        Section("Cost", "Seconds compare only within this run.", metric_rows(results["methods"], COST, METRICS)),
        Section("Fits", "PSNR of the fitted scenes before any edit, dB.", _fits(results)),
        *_parts("By scene", results["by_scene"], "± is the standard deviation over instructions."),
        *_parts("By instruction", results["by_instruction"], "± is the standard deviation over scenes."),
        *_parts("By scene and instruction", results["by_both"], "± is the standard deviation over seeds."),
        *_sweep(results),
        Section("Published numbers", NOT_COMPARABLE, published_rows(results)),
    ]


def _parts(title: str, parts: Mapping[str, Any], caption: str) -> list[Section]:
    return [
        Section(title if i == 0 else "", f"{name}. {caption}", metric_rows(found, QUALITY, METRICS))
        for i, (name, found) in enumerate(parts.items())
    ]


def _fits(results: Results) -> list[Row]:
    titles = {"fit_psnr": "held-out photographs", "novel_psnr": "novel views"}
    return [
        {"scene": scene, **{titles.get(k, k): f"{v:.1f}" for k, v in measured.items()}}
        for scene, measured in results["fits"].items()
    ]


def _sweep(results: Results) -> list[Section]:
    if not (points := results.get("sweep")):
        return []
    lines = {f"{point['views']}": {k: v for k, v in point.items() if k != "views"} for point in points}
    rows = metric_rows(lines, (*QUALITY, *COST), METRICS, "edited views")
    return [Section(VIEWS, f"{sufficient(results)} {SWEEP}", rows)]


def sufficient(results: Results) -> str:
    """How many views are sufficient, as a sentence."""
    said = [f"{METRICS[m].title}: {n if n else 'not measured'}" for m, n in results["sufficient_views"].items()]
    return f"Smallest number of views within one standard error of the best number, by {'; by '.join(said)}."


def published_rows(results: Results) -> list[Row]:
    """The published numbers, then ours in the same units."""
    scales = {"direction": ("direction", 100), "consistency": ("consistency", 100)}
    scales["distance of neighbors"] = ("view_distance", 1)
    rows: list[Row] = [
        {"method": method, "from": "publication", **{name: f"{v:.3f}" for name, v in zip(scales, values, strict=True)}}
        for method, values in PUBLISHED.items()
    ]
    for method, found in results["methods"].items():
        ours = {title: scaled(found.get(metric), scale) for title, (metric, scale) in scales.items()}
        rows.append({"method": NAMES.get(method, method), "from": "ours", **ours})
    return rows


tables = Tables("Tables of the scene-editing study", extent, sections)
