"""The report of the text-to-image study: claims first, then the metrics, curves and images of each block."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from PIL import Image

from scoredistill.files import atomic
from scoredistill.media.images import grid
from scoredistill.reports.page import Page
from scoredistill.studies.harness.report import add_table, closing, opening
from scoredistill.studies.harness.tables import Results, Row
from scoredistill.studies.text_to_image.gather import images_of
from scoredistill.studies.text_to_image.tables import (
    bandwidth_rows,
    block_rows,
    claims_section,
    gradient_rows,
    mmd_note,
    sds_rows,
)

QUALITY = (
    "FID",
    "published FID",
    "pooled FID",
    "FID (EfficientNet)",
    "FID (Inception)",
    "CLIP-SIM",
    "published CLIP-SIM",
    "distance",
)
VARIETY = ("MMD", "precision", "recall", "coverage", "diversity")
COST = ("NFE", "calls", "seconds")
TRUTH = "DDIM samples (truth)"
CURVES = {"fid": "FID to the DDIM samples", "clip_sim": "CLIP-SIM"}
ENLARGED = 2  # of image_grid.png

BANDWIDTHS = (
    "Samples y of p(y) N(x; y, s I) around an image x, for several bandwidths s. Apart: root mean square distance of "
    "two seeds' y; away: of y from x; both relative to that of two DDIM samples of the prompt. Follows x: how far y "
    "moves with x along the run, with the same noise; 0 if it does not depend on x. With a large bandwidth y is any "
    "sample of the prior, with a small one it is x."
)
GRADIENTS = (
    "Draws of each method's gradient at one x and one noise-to-signal ratio r. Spread: standard deviation of a draw "
    "over the length of the mean. Cosine: of that mean with the one-call mean shift. Batch rows: of the network for a "
    "draw. Histograms: entries of the draws, in units of the root mean square of the mean; those beyond the ends are "
    "left out."
)

ImageGrid = Mapping[str, Sequence[Image.Image]]


def report(results: Results, out: Path) -> Path:
    """Write report.html, and image_grid.png with the first block's images, from the results and `out`/images."""
    page = Page("Text to image", "Every method against the prior's own DDIM samples")
    prompts = results["setting"]["prompts"]
    opening(page, results, extent(results), claims_section(results))
    for i, (name, block) in enumerate(results.get("blocks", {}).items()):
        shown = _images(out / "images", prompts, block)
        _block(page, name, block, first=i == 0)
        if shown:
            page.image_grid(shown, prompts, "The first image of each prompt.")
        if i == 0 and shown:
            _save(shown, prompts, out / "image_grid.png")
    _bandwidths(page, results, out / "images")
    _gradients(page, results)
    return closing(page, results, out)


def extent(results: Results) -> str:
    """How much was measured, and what the metrics are."""
    setting = results["setting"]
    return (
        f"A set is one image of each of the {len(setting['prompts'])} prompts; there are {setting['seeds']} sets, "
        "where a block does not say otherwise. FID and CLIP-SIM are means over sets, and ± is the standard deviation "
        "over them; with one set there is none. For MMD, precision, recall, coverage and diversity ± is over prompts, "
        "for the distance over images.\n\n"
        f"The ground truth is {setting['references']} DDIM samples of each prompt. FID: Fréchet distance of a set to "
        "all of them, lower is better; it is biased upwards for few images, so pooled FID takes all sets at once. It "
        "is computed in the features of CLIP and not of Inception: only its order can be compared with the published "
        f"one. {mmd_note(results)} CLIP-SIM: 100 times the cosine of image and text, by the same CLIP.\n\n"
        "Precision: fraction of images that lie among the DDIM samples of their prompt. Recall: fraction of the "
        "samples that lie among the images. Coverage: fraction of the samples with an image nearby. Diversity: mean "
        "distance of two images of a prompt. One image of a prompt has no MMD, recall or diversity. Distance: root "
        "mean square difference of a latent from the nearest sample. NFE: network evaluations (batch rows) for an "
        "image; calls: how often the network was called, per image."
    )


def _block(page: Page, name: str, block: Mapping[str, Any], first: bool) -> None:
    """The tables and curves of one block."""
    setting, methods = block["setting"], block["methods"]
    nfe = "each method with its own NFE" if setting["rows"] is None else f"about {setting['rows']} NFE for an image"
    page.heading(f"{name}: {setting['description']}")
    page.text(f"Image: {setting['image']}; {setting['images']} image(s) of each prompt; {nfe}.")
    found = block_rows(block, published=first)
    published = " The published numbers are those of Stable Diffusion (Table 3)." if first else ""
    add_table(page, _columns(found, QUALITY), f"Distances to the samples, and similarity to the text.{published}")
    add_table(page, _columns(found, VARIETY), "How the images are distributed among the samples.")
    reached = {row["method"]: row for row in sds_rows(block)}
    spent = [
        {**row, **_settings(methods[m]), **reached.get(m, {})}
        for m, row in zip(methods, _columns(found, COST), strict=True)
    ]
    said = " NFE to SDS's FID: the NFE after which the FID is at or below SDS's final one." if reached else ""
    add_table(page, spent, f"Cost of an image, and settings.{said}")
    _curves(page, block)


def _settings(found: Mapping[str, Any]) -> Row:
    return {"steps": round(found["steps"]), "guidance": found["guidance"], "learning rate": f"{found['lr']:g}"}


def _columns(rows: Sequence[Row], names: Sequence[str]) -> list[Row]:
    """Each method with some of its cells."""
    return [{"method": row["method"], **{name: row[name] for name in names if name in row}} for row in rows]


def _curves(page: Page, block: Mapping[str, Any]) -> None:
    """Metrics against NFE; DDIM, which has no curve, as a level."""
    curves = {m: c for m, c in block.get("curves", {}).items() if c["nfe"]}
    if not curves:
        return
    every = [nfe for c in curves.values() for nfe in c["nfe"]]
    for key, title in CURVES.items():
        series: dict[str, tuple[Sequence[float], Sequence[float]]] = {m: (c["nfe"], c[key]) for m, c in curves.items()}
        if "ddim" in block["methods"] and "ddim" not in series:
            series["ddim (level)"] = ([min(every), max(every)], [block["methods"]["ddim"][key]["mean"]] * 2)
        page.curves(series, title, "NFE for an image", title.split()[0], log_x=True)


def _images(folder: Path, prompts: Sequence[str], block: Mapping[str, Any]) -> dict[str, list[Image.Image]]:
    """The first image of each prompt by each method, below the ground truth; a method without images is left out."""
    stems = {TRUTH: "reference"} | block["files"]
    found = {label: images_of(prompts, folder, stem) for label, stem in stems.items()}
    return {
        label: [Image.fromarray(made[p][0]) if p in made else Image.new("RGBA", (64, 64)) for p in prompts]
        for label, made in found.items()
        if made
    }


def _save(shown: ImageGrid, prompts: Sequence[str], path: Path) -> None:
    """Write an image grid as one image, each part above its method's name; the truth above its prompt."""
    parts, labels = [], []
    for method, images in shown.items():
        for prompt, image in zip(prompts, images, strict=True):
            size = (ENLARGED * image.width, ENLARGED * image.height)
            parts.append(image.resize(size, Image.Resampling.LANCZOS))
            labels.append(f"DDIM: {prompt}" if method == TRUTH else method)
    with atomic(path) as draft:
        grid(parts, columns=len(prompts), pad=4, labels=labels).save(draft)


def _bandwidths(page: Page, results: Results, images: Path) -> None:
    """Samples y at several bandwidths, and how far apart they are."""
    for i, (prompt, found) in enumerate(results.get("bandwidths", {}).items()):
        if i == 0:
            page.heading("Bandwidths").text(BANDWIDTHS)
        path, states = images / found["image"], ", ".join(f"{state:.0%}" for state in found["states"])
        if path.is_file():
            widths = ", ".join(f"{width:g}" for width in found["bandwidths"])
            page.figure(path, f"{prompt}: x, then y for s = {widths} (top to bottom), at {states} of a run.")
        add_table(page, bandwidth_rows(found), f"{prompt}: columns are parts of the run, rows are s.")


def _gradients(page: Page, results: Results) -> None:
    """How noisy each method's gradient is, and its histograms."""
    for i, (prompt, found) in enumerate(results.get("gradients", {}).items()):
        if i == 0:
            page.heading("Gradients").text(GRADIENTS)
        add_table(page, gradient_rows(found), prompt)
        middles = [(a + b) / 2 for a, b in pairwise(found["bins"])]
        for k, level in enumerate(found["levels"]):
            series = {method: (middles, cells[k]["histogram"]) for method, cells in found["methods"].items()}
            page.curves(series, f"{prompt}, r = {level:g}", "entry / RMS of the mean", "fraction")
