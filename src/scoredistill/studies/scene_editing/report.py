"""The report of the study of edited scenes: claims first, then videos, figures, scenes, views and cost."""

from collections.abc import Mapping
from itertools import product
from pathlib import Path
from typing import Any

from PIL import Image

from scoredistill.reports.page import Page
from scoredistill.studies.harness.claims import JUDGED
from scoredistill.studies.harness.report import add_section, add_setting, opened, opening
from scoredistill.studies.harness.setting import slug
from scoredistill.studies.harness.tables import Section, difference_rows, figure_rows, line_of, markdown
from scoredistill.studies.harness.turntables import SIDE
from scoredistill.studies.scene_editing.claims import (
    COST,
    JUDGES,
    METRICS,
    NOT_COMPARABLE,
    claims,
    paper_rows,
    smallest,
)
from scoredistill.studies.scene_editing.jobs import VIDEOED

CURVES = ("truth_psnr", "consistency", "view_distance", "direction")
LOOK = 1  # the view that is shown as an image
SWEEP = (
    "csd where so many views are edited and the field is fitted to no others; each as often, so the rows of the "
    "network go with the views. ± is the deviation over scenes."
)
RESULTS = (
    "On 12 novel views; ± is the deviation over scenes and instructions (and seeds). source: the fit, unedited. truth: "
    "true edits of true images through the editor's autoencoder, each view by itself."
)


def report(results: Mapping[str, Any], out: Path) -> Path:
    """Write report.html into the folder `out`, whose folder images/ holds videos and strips of views."""
    page = Page("Scenes", "Edits of posed scenes where the true edit is known from all sides")
    page.text(
        "A field is fitted to photographs of a scene, once. Each method edits them and fits the field to its edits, at "
        "equal network rows. Whose scene is most like the true edit, seen from new sides?"
    )
    parts, folder = sections(results), out / "images"
    opening(page, results, extent(results), parts[0], METRICS)
    _videos(page, results, folder)
    _images(page, results, folder)
    for section in parts[1:]:
        add_section(page, section)
        if section.title == "Edited views":
            _curves(page, results)
    page.heading("Usual settings of an edit").key_values(
        {k: v for k, v in results["usual"].items() if k != "instruction"}
    )
    add_setting(page, results)
    return page.save(out / "report.html")


def tables(results: Mapping[str, Any]) -> str:
    """tables.md."""
    return markdown("Tables of the study of edited scenes", results, extent(results), sections(results))


def extent(results: Mapping[str, Any]) -> str:
    """How much was measured."""
    setting = results["setting"]
    quick = " This was a quick run, which settles nothing." if setting["quick"] else ""
    counts = f"{len(setting['scenes'])} scenes and {len(setting['instructions'])} instructions"
    return f"Measured on {counts}, {setting['seeds']} seeds, {setting['views']} photographs a scene.{quick}"


def sections(results: Mapping[str, Any]) -> list[Section]:
    """All tables, the claims first."""
    paired = (
        "Of the same scene and instruction; ± is the standard error of the mean, every pair counted as independent."
    )
    each = [
        (title, {name: _present(found) for name, found in results[key].items()}, says)
        for title, key, says in (
            ("By scene", "by_scene", "± is the deviation over instructions."),
            ("By instruction", "by_instruction", "± is the deviation over scenes."),
            ("By scene and instruction", "by_both", "± is the deviation over seeds."),
        )
    ]
    made = [
        Section("Claims", JUDGED, claims(results)),
        Section("Results", RESULTS, figure_rows(results["methods"], JUDGES, METRICS, "method")),
        Section("Differences", paired, difference_rows(results["paired"], JUDGES, METRICS)),
        Section(
            "Cost", "Seconds compare only within this run.", figure_rows(results["methods"], COST, METRICS, "method")
        ),
        Section("Fits", "PSNR of the fields before any edit, dB.", _fits(results)),
    ]
    for title, tables_of, says in each:
        for i, (name, found) in enumerate(tables_of.items()):
            rows = figure_rows(found, JUDGES, METRICS, "method")
            made.append(Section(title if i == 0 else "", f"{name}. {says}", rows))
    if points := results.get("sweep"):
        lines = {f"{p['views']}": {k: v for k, v in p.items() if k != "views"} for p in points}
        rows = figure_rows(lines, (*JUDGES, *COST), METRICS, "edited views")
        made.append(Section("Edited views", f"{smallest(results)} {SWEEP}", rows))
    made.append(Section("The paper's numbers", NOT_COMPARABLE, paper_rows(results)))
    return [section for section in made if section.rows]


def _present(found: Mapping[str, Any]) -> dict[str, Any]:
    return {method: figures for method, figures in found.items() if figures}


def _fits(results: Mapping[str, Any]) -> list[dict[str, str]]:
    titles = {"fit_psnr": "held-out photographs", "novel_psnr": "novel views"}
    return [
        {"scene": scene, **{titles.get(k, k): f"{v:.1f}" for k, v in figures.items()}}
        for scene, figures in results["fits"].items()
    ]


def _curves(page: Page, results: Mapping[str, Any]) -> None:
    for metric in CURVES:
        line = line_of(results["sweep"], "views", metric)
        if len(line[0]) > 1:
            title = METRICS[metric].title
            page.curves({"csd": line}, f"{title} against edited views", "views", title, log_x=True)


def _videos(page: Page, results: Mapping[str, Any], folder: Path) -> None:
    """Turntables of a scene before and after."""
    rows: dict[str, list[Any]] = {}
    for text, scene in product(results["setting"]["instructions"], results["setting"]["scenes"]):
        files = [folder / f"source-{scene}.gif", *(folder / f"{m}-{scene}-{slug(text)}.gif" for m in VIDEOED)]
        if any(file.is_file() for file in files[1:]):
            rows[f"{scene}: {text}"] = [file if file.is_file() else opened(file) for file in files]
    if rows:
        page.heading("Turntables").image_grid(rows, ("fit", *VIDEOED), "Seed 0.")


def _images(page: Page, results: Mapping[str, Any], folder: Path) -> None:
    """One novel view of everything, a row for each scene and instruction."""
    names = ("source", "truth", *results["setting"]["methods"])
    rows = {}
    for text, scene in product(results["setting"]["instructions"], results["setting"]["scenes"]):
        files = [folder / f"{name}-{scene}-{slug(text)}.png" for name in names]
        if any(file.is_file() for file in files):
            rows[f"{scene}: {text}"] = [_view(file) for file in files]
    if rows:
        page.heading("One view of each").image_grid(
            rows, names, "A novel view; truth is shown through the autoencoder."
        )


def _view(file: Path) -> Image.Image:
    """One image of a strip."""
    return opened(file, (LOOK + 1) * SIDE).crop((LOOK * SIDE, 0, (LOOK + 1) * SIDE, SIDE))
