"""The report of the study of collaboration."""

from pathlib import Path

from scoredistill.reports.page import Page
from scoredistill.studies.collaboration.claims import METRICS
from scoredistill.studies.collaboration.tables import extent, sections
from scoredistill.studies.harness.report import add_section, closing, image_or_blank, opening
from scoredistill.studies.harness.setting import seeded
from scoredistill.studies.harness.tables import Results

SHOWN = ("crops", "windows", "uncoupled", "common_noise", "csd_whole_8", "csd_means_8", "target_affine_8")


def report(results: Results, out: Path) -> Path:
    """Write `out`/report.html."""
    first, *others = sections(results)
    page = Page("When collaboration matters")
    opening(page, results, extent(results), first, METRICS)
    _panorama(page, results, out / "images")
    _images(page, results, out / "images")
    for section in others:
        add_section(page, section)
    return closing(page, results, out)


def _panorama(page: Page, results: Results, folder: Path) -> None:
    """One photograph, edited by the main methods."""
    rows: dict[str, list[Path]] = {}
    seed = results["setting"]["seed"]
    for method, hues in results["panorama"].items():
        if (file := folder / f"{seeded(f'panorama-{method}', seed)}.png").is_file():
            rows[f"{results['titles'][method]}: {hues} {'color' if hues == 1 else 'colors'}"] = [file]
    if rows:
        rows = {"source": [folder / f"{seeded('panorama-source', seed)}.png"], **rows}
        page.heading("One color").image_grid(
            rows, ("",), 'A photograph edited by "make it one color", with six answers.'
        )


def _images(page: Page, results: Results, folder: Path) -> None:
    """The first runs of the main methods, a row for each kind of answers and arrangement."""
    methods = [method for method in SHOWN if method in results["setting"]["methods"]]
    rows = {}
    for part in results["parts"]:
        names = [f"{part.replace(', ', '-')}-{method}" for method in methods]
        files = [folder / f"{seeded(name, results['setting']['seed'])}.png" for name in names]
        if any(file.is_file() for file in files):
            rows[part] = [file if file.is_file() else image_or_blank(file) for file in files]
    if rows:
        titles = [results["titles"][method] for method in methods]
        page.heading("Edits").image_grid(
            rows, titles, "Four runs below each other; each shows eight windows or frames."
        )
