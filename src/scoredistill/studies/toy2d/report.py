"""The report of the two-dimensional study: published numbers, ours and the verdict side by side, with images."""

from collections.abc import Mapping
from pathlib import Path

from scoredistill.reports.page import Page
from scoredistill.studies.harness.report import add_table, closing, opening
from scoredistill.studies.harness.setting import seeded
from scoredistill.studies.harness.tables import Results
from scoredistill.studies.toy2d.tables import (
    description,
    extent,
    gradient_sections,
    in_short,
    landscape_section,
    ranked,
    ranking_section,
    sample_sections,
)

COLUMNS = 4  # images in a row
EFFICIENCY = (
    "Log efficiency is ln(|g|^2 / (MSE x batch rows)). As published, the MSE is taken about the estimator's own mean, "
    "so a wrong gradient without noise is infinitely efficient; against the true mean shift it is not. Bias is "
    "relative to the true mean shift; that of SDS after the best step size. The published SDS values are ours minus "
    "about ln 1000."
)
LANDSCAPES = (
    "The height whose gradient the method climbs: its field on a grid, integrated by a Poisson equation. Rings are "
    "peaks on the distribution, red crosses peaks off it (within half a spacing of the grid no point has a density "
    "above the level that 1 % of samples fall below)."
)
PRODUCT = (
    "Around the black point x: samples of p(y) N(x; y, s I), by the ancestral sampler (blue) and the product sampler "
    "(green). Red: the target of the exact mean shift. Violet: the published recipe, which is one point."
)


def report(results: Results, out: Path) -> Path:
    """Write report.html from the results and the images in `out`/images."""
    page = Page("Score distillation in the plane", "Every estimator on distributions whose scores are known exactly")
    images = out / "images"
    opening(page, results, extent(results), in_short(results))
    _samples(page, results, images)
    _gradients(page, results)
    _landscapes(page, results, images)
    _guided(page, results, images)
    _product(page, results, images)
    _ranking(page, results, images)
    return closing(page, results, out)


def _samples(page: Page, results: Results, images: Path) -> None:
    sections = sample_sections(results)
    if not sections:
        return
    methods = dict.fromkeys(m for kinds in results["table2"].values() for found in kinds.values() for m in found)
    page.heading("Samples (Table 2)").key_values({method: description(results, method) for method in methods})
    for (name, kind), section in sections.items():
        shown = {m: images / f"{_seeded(results, f'{name}-{kind}-{m}')}.png" for m in results["table2"][name][kind]}
        _image_grid(page, f"{name}, {kind}", shown)
        add_table(page, section.rows, f"{name}, {kind} denoiser")


def _gradients(page: Page, results: Results) -> None:
    sections = gradient_sections(results)
    if sections:
        page.heading("Gradients (Table 1, and the bias that it hides)").text(EFFICIENCY)
    for (name, kind, lam), section in sections.items():
        add_table(page, section.rows, f"{name}, {kind} denoiser, lambda {lam}")


def _landscapes(page: Page, results: Results, images: Path) -> None:
    if not results["landscape"]:
        return
    page.heading("Landscapes (Figure 3)").text(LANDSCAPES)
    for name, methods in results["landscape"].items():
        _image_grid(page, name, {m: images / f"{_seeded(results, f'landscape-{name}-{m}')}.png" for m in methods})
    add_table(page, landscape_section(results).rows, "")


def _guided(page: Page, results: Results, images: Path) -> None:
    if not results["guided"]:
        return
    page.heading("One class of two, guidance 4 (Figure 1)")
    _image_grid(
        page, "two-class fractal", {m: images / f"{_seeded(results, f'guided-{m}')}.png" for m in results["guided"]}
    )
    names = ("nll", "precision", "recall")
    page.table([{"method": m, **{name: found[name] for name in names}} for m, found in results["guided"].items()])


def _product(page: Page, results: Results, images: Path) -> None:
    if not results["product"]:
        return
    page.heading("The product density (Figure 2, bottom row)").text(PRODUCT)
    for name in results["setting"]["sets"]:
        stems = {f"lambda {lam}": _seeded(results, f"product-{name}-{lam}") for lam in (1.0, 0.316, 0.1)}
        _image_grid(page, name, {label: images / f"{stem}.png" for label, stem in stems.items()})


def _ranking(page: Page, results: Results, images: Path) -> None:
    if not results["ranking"]:
        return
    rows = results["setting"]["scale"]["rows"]
    page.heading("All methods at equal NFE").text(
        f"One class of the two-class fractal at guidance 4, about {rows} network evaluations per particle for every "
        "method (a mean shift that needs 20 takes smaller steps), learning rates decaying to 0. Sorted by NLL. Bias "
        "and standard deviation of the gradient are relative to the guided mean shift at lambda .316, after the best "
        "step size."
    )
    add_table(page, ranking_section(results).rows, "")
    files = {m: images / f"{_seeded(results, f'zoo-{m}')}.gif" for m in ranked(results)}
    shown = {m: path if path.is_file() else path.with_suffix(".png") for m, path in files.items()}
    _image_grid(page, f"best NLL first; seed {results['setting'].get('seed', 0)}", shown)


def _seeded(results: Results, stem: str) -> str:
    """The stem of an image of the first seed, which is 0 in results of older versions."""
    return seeded(stem, results["setting"].get("seed", 0))


def _image_grid(page: Page, caption: str, files: Mapping[str, Path]) -> None:
    """The images that exist, in rows of COLUMNS, each below its name."""
    found = [(name, path) for name, path in files.items() if path.is_file()]
    for i in range(0, len(found), COLUMNS):
        part = found[i : i + COLUMNS]
        last = i + COLUMNS >= len(found)
        page.image_grid({"": [path for _, path in part]}, [name for name, _ in part], caption if last else "")
