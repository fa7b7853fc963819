"""The report of the text-to-3D study: claims first, then turntables, metrics, prompts, views and cost."""

from itertools import product
from pathlib import Path

from scoredistill.files import slug
from scoredistill.reports.page import Page
from scoredistill.studies.harness.report import add_section, closing, image_or_blank, opening
from scoredistill.studies.harness.tables import Results, points_of
from scoredistill.studies.text_to_3d.claims import METRICS
from scoredistill.studies.text_to_3d.tables import VIEWS, claims_section, extent, sections

QUESTION = (
    "Each method makes the same objects from the same prompts and seeds. Which objects look most like their prompts, "
    "from all sides?"
)
CURVES = ("clip_sim", "clip_geometry", "view_consistency", "view_distance")


def report(results: Results, out: Path) -> Path:
    """Write report.html from the results and the turntables and strips of views in `out`/images."""
    page = Page("Text to 3-D", "Estimators in three dimensions, each at its own settings and equal NFE").text(QUESTION)
    opening(page, results, extent(results), claims_section(results), METRICS)
    _turntables(page, results, out / "images")
    for section in sections(results)[1:]:
        add_section(page, section)
        if section.title == VIEWS:
            _curves(page, results)
    _strips(page, results, out / "images")
    return closing(page, results, out)


def _curves(page: Page, results: Results) -> None:
    for metric in CURVES:
        lines = {m: points_of(points, "views", metric) for m, points in results["sweep"].items()}
        if any(len(xs) > 1 for xs, _ in lines.values()):
            title = METRICS[metric].title
            page.curves(lines, f"{title} against views per step", "views", title, log_x=True)


def _turntables(page: Page, results: Results, folder: Path) -> None:
    """An image grid of turntables: a row per method, a column per prompt."""
    prompts, methods, seed = results["setting"]["prompts"], results["setting"]["methods"], first_seed(results)
    files = {m: [folder / f"{slug(m)}-{slug(p)}-s{seed}.gif" for p in prompts] for m in methods}
    rows = {
        method: [path if path.is_file() else image_or_blank(path) for path in paths]
        for method, paths in files.items()
        if any(path.is_file() for path in paths)
    }
    if rows:
        page.heading("Turntables").image_grid(rows, prompts, f"Seed {seed}; each begins with its front.")


def first_seed(results: Results) -> int:
    """The first seed; 0 in results of older versions."""
    return int(results["setting"].get("seed", 0))


def _strips(page: Page, results: Results, folder: Path) -> None:
    """Twelve views of each object, and the ordinary samples."""
    setting = results["setting"]
    page.heading("Views")
    for prompt in setting["prompts"]:
        first = first_seed(results)
        runs = product(setting["methods"], range(first, first + setting["seeds"]))
        names = {"ddim": f"ddim-{slug(prompt)}"}
        names |= {f"{m}, seed {s}": f"{slug(m)}-{slug(prompt)}-s{s}" for m, s in runs}
        rows = {label: [folder / f"{n}.png"] for label, n in names.items() if (folder / f"{n}.png").is_file()}
        if rows:
            page.image_grid(rows, (), f"{prompt}: twelve views at equal steps, the front first.")
