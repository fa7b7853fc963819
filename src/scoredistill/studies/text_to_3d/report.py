"""The report of the study of things from text: claims first, then turntables, figures, prompts, views and cost."""

from collections.abc import Mapping
from itertools import product
from pathlib import Path
from typing import Any

from scoredistill.reports.page import Page
from scoredistill.studies.harness.claims import JUDGED
from scoredistill.studies.harness.report import add_section, add_setting, opened, opening
from scoredistill.studies.harness.setting import slug
from scoredistill.studies.harness.tables import Section, difference_rows, figure_rows, line_of, markdown
from scoredistill.studies.text_to_3d.claims import COST, JUDGES, METRICS, NOT_COMPARABLE, claims, paper_rows

CURVES = ("clip_sim", "clip_geometry", "view_consistency", "view_distance")
SWEEP = (
    "Steps are chosen so that views x steps, and with it the rows of the network, stay the same. Means over two "
    "prompts, one seed (± is the deviation over prompts): a trend, not a verdict."
)
RESULTS = (
    "Means over prompts and seeds; ± is the deviation over seeds of the mean over prompts. ddim: ordinary samples, "
    "four of each prompt, which are images and have one side alone."
)


def report(results: Mapping[str, Any], out: Path) -> Path:
    """Write report.html into the folder `out`, whose folder images/ holds turntables and strips of views."""
    page = Page("Things from text", "Estimators in three dimensions, each at its own settings and equal rows")
    page.text(
        "Each method makes the same things with the same seeds. Which of them look most like their prompts, from all "
        "sides?"
    )
    parts = sections(results)
    opening(page, results, extent(results), parts[0], METRICS)
    _turntables(page, results, out / "images")
    for section in parts[1:]:
        add_section(page, section)
        if section.title == "Views of a step":
            _curves(page, results)
    _strips(page, results, out / "images")
    add_setting(page, results)
    return page.save(out / "report.html")


def tables(results: Mapping[str, Any]) -> str:
    """tables.md."""
    return markdown("Tables of the study of things from text", results, extent(results), sections(results))


def extent(results: Mapping[str, Any]) -> str:
    """How much was measured."""
    setting = results["setting"]
    quick = " This was a quick run, which settles nothing." if setting["quick"] else ""
    return f"Measured on {len(setting['prompts'])} prompts, {setting['seeds']} seeds each.{quick}"


def sections(results: Mapping[str, Any]) -> list[Section]:
    """All tables, the claims first."""
    found = {**({"ddim": results["ddim"]} if results["ddim"] else {}), **results["methods"]}
    made = [
        Section("Claims", JUDGED, claims(results)),
        Section("Results", RESULTS, figure_rows(found, JUDGES, METRICS, "method")),
        Section(
            "Differences",
            "Of the same prompt and seed; ± is the standard error of the mean, every pair counted as independent.",
            difference_rows(results["paired"], JUDGES, METRICS),
        ),
        Section("Cost", "Seconds compare only within this run.", figure_rows(found, COST, METRICS, "method")),
        Section("Own settings", "", [_plain(m, line) for m, line in results["recipes"].items()]),
    ]
    for i, (prompt, each) in enumerate(results["by_prompt"].items()):
        says = f"{prompt}; ± is the deviation over seeds."
        made.append(Section("By prompt" if i == 0 else "", says, figure_rows(each, JUDGES, METRICS, "method")))
    for i, (method, points) in enumerate(results.get("sweep", {}).items()):
        lines = {f"{point['views']}": {k: v for k, v in point.items() if k != "views"} for point in points}
        says = f"{method}, by views of a step. {SWEEP}"
        rows = figure_rows(lines, (*JUDGES, "rows", "seconds"), METRICS, "views of a step")
        made.append(Section("Views of a step" if i == 0 else "", says, rows))
    made.append(Section("The papers' numbers", NOT_COMPARABLE, paper_rows(results)))
    return [section for section in made if section.rows]


def _plain(method: str, settings: Mapping[str, Any]) -> dict[str, str]:
    return {"method": method, **{name: str(value) for name, value in settings.items()}}


def _curves(page: Page, results: Mapping[str, Any]) -> None:
    for metric in CURVES:
        lines = {m: line_of(points, "views", metric) for m, points in results["sweep"].items()}
        if any(len(xs) > 1 for xs, _ in lines.values()):
            title = METRICS[metric].title
            page.curves(lines, f"{title} against views of a step", "views", title, log_x=True)


def _turntables(page: Page, results: Mapping[str, Any], folder: Path) -> None:
    """The image grid of things that turn: a row per method, a column per prompt."""
    prompts, methods = results["setting"]["prompts"], results["setting"]["methods"]
    files = {m: [folder / f"{slug(m)}-{slug(p)}-s0.gif" for p in prompts] for m in methods}
    rows = {m: [path if path.is_file() else opened(path) for path in paths] for m, paths in files.items()}
    rows = {m: images for m, images in rows.items() if any(isinstance(p, Path) for p in images)}
    if rows:
        page.heading("Turntables").image_grid(rows, prompts, "Seed 0; each begins with its front.")


def _strips(page: Page, results: Mapping[str, Any], folder: Path) -> None:
    """Twelve views of each thing, and the ordinary samples."""
    setting = results["setting"]
    page.heading("Views")
    for prompt in setting["prompts"]:
        runs = product(setting["methods"], range(setting["seeds"]))
        names = {f"{m}, seed {s}": f"{slug(m)}-{slug(prompt)}-s{s}" for m, s in runs}
        names = {"ddim": f"ddim-{slug(prompt)}", **names}
        rows = {label: [folder / f"{n}.png"] for label, n in names.items() if (folder / f"{n}.png").is_file()}
        if rows:
            page.image_grid(rows, (), f"{prompt}: twelve views at equal steps, the front first.")
