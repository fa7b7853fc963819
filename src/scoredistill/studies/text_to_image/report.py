"""The report of the study of images: claims and verdicts first, then each block's figures, curves and images."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from PIL import Image

from scoredistill.media.images import grid
from scoredistill.reports.page import Page
from scoredistill.studies.text_to_image.gather import Seen
from scoredistill.studies.text_to_image.tables import (
    Row,
    bandwidth_rows,
    block_rows,
    claim_rows,
    failure_rows,
    gradient_rows,
    sds_rows,
)

NEAR = (
    "FID",
    "paper FID",
    "pooled FID",
    "FID (EfficientNet)",
    "FID (Inception)",
    "CLIP-SIM",
    "paper CLIP-SIM",
    "distance",
)
VARIED = ("KID", "precision", "recall", "coverage", "diversity")
SPENT = ("NFE", "calls", "seconds")
TRUTH = "DDIM samples (truth)"
SHOWN = {"fid": "FID to the DDIM samples", "clip_sim": "CLIP-SIM"}
ENLARGED = 2  # of image grid.png
Image_grid = Mapping[str, Sequence[Image.Image]]


def report(results: Mapping[str, Any], seen: Seen, out: Path) -> Path:
    """Write report.html, and image grid.png with the first block's images; the figures of the probes lie in images/."""
    page = Page("Score distillation to images", "Every method against the prior's own DDIM samples")
    page.command(results["command"])
    _metrics(page, results["setting"])
    page.heading("Claims").table(
        [{key: _unbroken(value) for key, value in row.items()} for row in claim_rows(results)],
        "By the means alone. Bars overlap where two figures are no further apart than their standard deviations.",
    )
    for i, (name, block) in enumerate(results.get("blocks", {}).items()):
        image_grid = _image_grid(seen, block)
        _block(page, name, block, image_grid, seen.world.prompts, first=i == 0)
        if i == 0 and image_grid:
            _image_grid_file(image_grid, seen.world.prompts, out / "image_grid.png")
    _bandwidths(page, results, out / "images")
    _gradients(page, results)
    if results.get("failed"):
        page.heading("What broke down").table(failure_rows(results))
    rest = {key: results[key] for key in ("date", "version")} | {"seconds of work": results["seconds"]}
    page.heading("Setting").key_values({**{k: _said(v) for k, v in results["setting"].items()}, **rest})
    return page.save(out / "report.html")


def _metrics(page: Page, setting: Mapping[str, Any]) -> None:
    """What the figures are."""
    page.text(
        f"A set is one image of each of the {len(setting['prompts'])} prompts; there are {setting['seeds']} of them, "
        "where a block does not say otherwise. FID, KID and CLIP-SIM are means over sets, and ± is the standard "
        "deviation over them; with one set there is none. For precision, recall, coverage and diversity ± is over "
        "prompts, for the distance over images."
    )
    page.text(
        f"The truth is {setting['references']} DDIM samples of each prompt. FID: Fréchet distance of a set to all of "
        "them, lower is better; of few images it comes out too large, so pooled FID takes all sets at once. It is "
        "computed in the judge's features and not in Inception's: only its order can be compared with the paper's. "
        "KID: kernel distance, times 1000. CLIP-SIM: 100 times the cosine of image and text, again by this judge."
    )
    page.text(
        "Precision: share of images that lie among the DDIM samples of their prompt. Recall: share of the samples "
        "that lie among the images. Coverage: share of the samples with an image nearby. Diversity: mean distance "
        "of two images of a prompt. One image of a prompt has no recall and no diversity. Distance: root mean "
        "square difference of a latent from the nearest sample. NFE: rows that the network computed for an image; "
        "calls: how often it was called, per image."
    )


def _block(
    page: Page, name: str, block: Mapping[str, Any], image_grid: Image_grid, prompts: Sequence[str], first: bool
) -> None:
    """One block: tables, curves and images."""
    setting, methods = block["setting"], block["methods"]
    rows = "each its own number of rows" if setting["rows"] is None else f"about {setting['rows']} rows for an image"
    page.heading(f"{name}: {setting['says']}")
    page.text(f"Image: {setting['image']}; {setting['images']} image(s) of each prompt; {rows}.")
    found = block_rows(block, paper=first)
    paper = " The paper's figures are those of Stable Diffusion (Table 3)." if first else ""
    page.table(_columns(found, NEAR), f"Distances to the samples, and similarity to the text.{paper}")
    page.table(_columns(found, VARIED), "Kernel distance, and how the images spread among the samples.")
    reached = {row["method"]: row for row in sds_rows(block)}
    spent = [
        {**row, **_settings(methods[m]), **reached.get(m, {})}
        for m, row in zip(methods, _columns(found, SPENT), strict=True)
    ]
    said = " Rows to SDS's FID: after these the FID is at or below the one that SDS ends with." if reached else ""
    page.table(spent, f"Cost of an image, and settings.{said}")
    _curves(page, block)
    if image_grid:
        page.image_grid(image_grid, prompts, "The first image of each prompt.")


def _settings(found: Mapping[str, Any]) -> Row:
    return {"steps": round(found["steps"]), "guidance": found["guidance"], "learning rate": f"{found['lr']:g}"}


def _columns(rows: Sequence[Row], names: Sequence[str]) -> list[Row]:
    """Each method with some of its cells, where no line breaks before a deviation."""
    return [{"method": row["method"], **{k: _unbroken(row[k]) for k in names if k in row}} for row in rows]


def _unbroken(value: object) -> object:
    return value.replace(" ± ", "\u00a0±\u00a0") if isinstance(value, str) else value


def _curves(page: Page, block: Mapping[str, Any]) -> None:
    """Figures against network rows; DDIM, which has no course, as a level."""
    curves = {m: c for m, c in block.get("curves", {}).items() if c["nfe"]}
    if not curves:
        return
    every = [rows for c in curves.values() for rows in c["nfe"]]
    for key, title in SHOWN.items():
        series: dict[str, tuple[Sequence[float], Sequence[float]]] = {m: (c["nfe"], c[key]) for m, c in curves.items()}
        if "ddim" in block["methods"] and "ddim" not in series:
            series["ddim (level)"] = ([min(every), max(every)], [block["methods"]["ddim"][key]["mean"]] * 2)
        page.curves(series, title, "network rows for an image", title.split()[0], log_x=True)


def _image_grid(seen: Seen, block: Mapping[str, Any]) -> dict[str, list[Image.Image]]:
    """The first image of each prompt by each method, below the truth; a method without any image is left out."""
    stems = {TRUTH: "reference"} | block["files"]
    found = {label: seen.images(stem) for label, stem in stems.items()}
    return {
        label: [Image.fromarray(made[p][0]) if p in made else Image.new("RGBA", (64, 64)) for p in seen.world.prompts]
        for label, made in found.items()
        if made
    }


def _image_grid_file(image_grid: Image_grid, prompts: Sequence[str], path: Path) -> None:
    """An image grid as one image, each part under its method's name; the truth under its prompt."""
    parts, labels = [], []
    for method, images in image_grid.items():
        for prompt, image in zip(prompts, images, strict=True):
            size = (ENLARGED * image.width, ENLARGED * image.height)
            parts.append(image.resize(size, Image.Resampling.LANCZOS))
            labels.append(f"DDIM: {prompt}" if method == TRUTH else method)
    grid(parts, columns=len(prompts), pad=4, labels=labels).save(path)


def _bandwidths(page: Page, results: Mapping[str, Any], images: Path) -> None:
    """What y looks like at several bandwidths, with how far apart they are."""
    for i, (prompt, found) in enumerate(results.get("bandwidths", {}).items()):
        if i == 0:
            page.heading("Bandwidths")
            page.text(
                "Samples y of p(y) N(x; y, s I) around an image x, for several bandwidths s. Apart: root mean square "
                "distance of two seeds' y; away: of y from x; both relative to that of two DDIM samples of the prompt. "
                "Follows x: how far y moves with x along the run, the noise being the same; 0 if it does not heed x. "
                "With a wide bandwidth y is any sample of the prior, with a narrow one it is x."
            )
        path, states = images / found["image"], ", ".join(f"{state:.0%}" for state in found["states"])
        if path.is_file():
            widths = ", ".join(f"{width:g}" for width in found["bandwidths"])
            page.figure(path, f"{prompt}: x, then y for s = {widths} (top to bottom), at {states} of a run.")
        page.table(bandwidth_rows(found), f"{prompt}: columns are parts of the run, rows are s.")


def _gradients(page: Page, results: Mapping[str, Any]) -> None:
    """How noisy each method's gradient is, and its histograms."""
    for i, (prompt, found) in enumerate(results.get("gradients", {}).items()):
        if i == 0:
            page.heading("Gradients")
            page.text(
                "Draws of each method's gradient at one x and one noise-to-signal ratio r. Spread: standard deviation "
                "of a draw over the length of the mean. Cosine: of that mean with the one-call mean shift. Rows: of "
                "the network for a draw. Histograms: entries of the draws, in units of the root mean square of the "
                "mean; those beyond the ends are left out."
            )
        page.table(gradient_rows(found), prompt)
        middles = [(a + b) / 2 for a, b in pairwise(found["bins"])]
        for k, level in enumerate(found["levels"]):
            series = {method: (middles, cells[k]["histogram"]) for method, cells in found["methods"].items()}
            page.curves(series, f"{prompt}, r = {level:g}", "entry / RMS of the mean", "share")


def _said(value: Any) -> object:
    """A setting for readers; yes and no are the page's to say."""
    if isinstance(value, (list, tuple)):
        return ", ".join(map(str, value))
    return "default" if value is None else value
