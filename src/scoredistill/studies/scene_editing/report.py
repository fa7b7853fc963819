"""The report of the scene-editing study: claims first, then turntables, metrics, scenes, views and cost."""

from itertools import product
from pathlib import Path

from PIL import Image

from scoredistill.files import slug
from scoredistill.reports.page import Page
from scoredistill.studies.harness.report import add_section, closing, image_or_blank, opening
from scoredistill.studies.harness.setting import seeded
from scoredistill.studies.harness.tables import Results, points_of
from scoredistill.studies.harness.turntables import SIDE, view_of
from scoredistill.studies.scene_editing.claims import METRICS
from scoredistill.studies.scene_editing.jobs import REFERENCES, TURNTABLES
from scoredistill.studies.scene_editing.tables import VIEWS, claims_section, extent, sections

QUESTION = (
    "A scene is fitted to its photographs once. Each method edits the photographs and fits the scene to its edits, at "
    "equal NFE. Whose scene is most like the reference edit, seen from new sides?"
)
CURVES = ("truth_psnr", "consistency", "view_distance", "direction")
SHOWN_VIEW = 1  # the view of a strip that is shown


def report(results: Results, out: Path) -> Path:
    """Write report.html from the results and the turntables and strips of views in `out`/images."""
    page = Page("Scene editing", "Edits of posed scenes whose ground truth is known from all sides").text(QUESTION)
    opening(page, results, extent(results), claims_section(results), METRICS)
    _turntables(page, results, out / "images")
    _images(page, results, out / "images")
    for section in sections(results)[1:]:
        add_section(page, section)
        if section.title == VIEWS:
            _curves(page, results)
    page.heading("Default settings of an edit").key_values(
        {k: v for k, v in results["default_settings"].items() if k != "instruction"}
    )
    return closing(page, results, out)


def _curves(page: Page, results: Results) -> None:
    for metric in CURVES:
        line = points_of(results["sweep"], "views", metric)
        if len(line[0]) > 1:
            title = METRICS[metric].title
            page.curves({"csd": line}, f"{title} against edited views", "views", title, log_x=True)


def _turntables(page: Page, results: Results, folder: Path) -> None:
    """Turntables of each scene before and after its edits."""
    rows: dict[str, list[Image.Image | Path]] = {}
    seed = results["setting"].get("seed", 0)
    for text, scene in product(results["setting"]["instructions"], results["setting"]["scenes"]):
        stems = [seeded(f"{m}-{scene}-{slug(text)}", seed) for m in TURNTABLES]
        files = [folder / f"source-{scene}.gif", *(folder / f"{stem}.gif" for stem in stems)]
        if any(file.is_file() for file in files[1:]):
            rows[f"{scene}: {text}"] = [file if file.is_file() else image_or_blank(file) for file in files]
    if rows:
        page.heading("Turntables").image_grid(rows, ("fit", *TURNTABLES), f"Seed {seed}.")


def _images(page: Page, results: Results, folder: Path) -> None:
    """One novel view by every method, a row for each scene and instruction."""
    names = (*REFERENCES, *results["setting"]["methods"])
    seeds = {name: 0 if name in REFERENCES else results["setting"].get("seed", 0) for name in names}
    rows = {}
    for text, scene in product(results["setting"]["instructions"], results["setting"]["scenes"]):
        files = [folder / f"{seeded(f'{name}-{scene}-{slug(text)}', seeds[name])}.png" for name in names]
        if any(file.is_file() for file in files):
            strips = [image_or_blank(file, (SHOWN_VIEW + 1) * SIDE) for file in files]
            rows[f"{scene}: {text}"] = [view_of(strip, SHOWN_VIEW) for strip in strips]
    if rows:
        page.heading("One view of each edit").image_grid(
            rows, names, "A novel view; truth is shown through the autoencoder."
        )
