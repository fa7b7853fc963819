"""The report of the editing study: claims first, then metrics, curves, images and videos.

Any part of the results, and any image, may be missing.
"""

from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

from PIL import Image

from scoredistill.files import slug
from scoredistill.reports.page import Page
from scoredistill.studies.editing.claims import KINDS, METRICS, REFERENCES, bounds_note, equal_cost, paired_of
from scoredistill.studies.editing.tables import (
    COST,
    DEVIATION,
    EDIT,
    METHODS,
    NEIGHBORS,
    PARTS,
    claims_section,
    extent,
    ordered,
    paired_rows,
    published_section,
    rows_of,
    sweep_rows,
    tradeoff_rows,
)
from scoredistill.studies.harness.report import add_section, add_table, closing, opening
from scoredistill.studies.harness.setting import seeded
from scoredistill.studies.harness.statistics import is_number
from scoredistill.studies.harness.tables import Results, points_of

QUESTION = (
    "Each method edits the same images and clips by the same instructions, at about equal NFE. Is an edit that is "
    "coupled across windows or frames more coherent than others of the same strength?"
)
SLIDERS, COLUMNS, VIDEOS = 3, 4, 12  # at most: comparisons, columns of an image grid, videos
THUMBNAIL, LARGEST = 320, 1024  # pixels: width of an image in an image grid, and in a comparison
SHOWN_VIDEOS = ("source", "csd", "per_frame", "windows", "truth")
TRADED = ("source", "consistency", "truth_psnr")  # against direction
SWEPT = ("consistency", "seam", "warp_error", "direction")
NAMED = ("kernel", "flow")  # sweeps over names, which have no position on an axis
SCALED = (
    "The same edits with the change of their latents scaled to the length of the reference edit's, so that no method "
    "gains by changing less."
)
LOGARITHMIC = 8  # ratio of the ends of an axis from which on it is logarithmic


def report(results: Results, out: Path) -> Path:
    """Write report.html from the results and the images and videos in `out`/images."""
    page = Page("Editing", "CSD-Edit and its alternatives where the reference edit is known").text(QUESTION)
    opening(page, results, extent(results), claims_section(results), METRICS)
    if costs := [said for part in PARTS for said in equal_cost(results, part)]:
        page.text(f"How similar the edits are in cost and size, by means of methods: {'; '.join(costs)}.")
    folder = out / "images"
    _part(page, results, "images")
    _tradeoff(page, results.get("tradeoff", {}))
    _sweeps(page, results.get("sweeps", {}))
    _sliders(page, results, folder)
    _image_grid(page, results, folder)
    _part(page, results, "videos")
    _videos(page, results, folder)
    add_section(page, published_section(results))
    _cost(page, results)
    return closing(page, results, out)


def _part(page: Page, results: Results, part: str) -> None:
    """Metrics of images or of videos, and csd against each method."""
    subjects = "images" if part == "images" else "clips"
    deviation = f"± is the standard deviation over {subjects} and instructions."
    error = (
        f"csd minus each method on the same {subjects} and instructions; ± is the standard error of the mean, "
        f"clustered by {subjects}. Better and worse: csd is, significantly.{bounds_note(results)}"
    )
    for kind, equal in KINDS.items():
        found, paired = results.get(f"{part}{kind}", {}), paired_of(results, part, kind)
        if found or paired:
            page.heading(f"{PARTS[part]}{' at equal ' if equal else ''}{', '.join(equal)}")
            page.text(SCALED if equal else "")
        add_table(page, rows_of(found, EDIT), f"The edit itself. {deviation}")
        add_table(page, rows_of(found, NEIGHBORS), f"How well neighbors fit together. {deviation}")
        add_table(page, paired_rows(paired, EDIT), error)
        add_table(page, paired_rows(paired, NEIGHBORS), error)


def _cost(page: Page, results: Results) -> None:
    """The cost of an edit."""
    made = {part: rows_of(results.get(part, {}), COST) for part in PARTS}
    if any(made.values()):
        page.heading("Cost")
    for part, rows in made.items():
        add_table(page, rows, f"{PARTS[part]}: one edit. Seconds compare only within this run.")


def _tradeoff(page: Page, tradeoff: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
    """What a stronger edit costs: one line per method, one point per text scale."""
    if not any(tradeoff.values()):
        return
    page.heading("Trade-off")
    page.text(
        "One line per method, one point per text scale (see the table): of two methods at the same direction, the "
        "higher one is better."
    )
    for metric in TRADED:
        lines = {m: points_of(tradeoff[m], "direction", metric) for m in ordered(tradeoff)}
        if series := {m: line for m, line in lines.items() if line[0]}:
            page.curves(series, f"{_name(metric)} against direction", "direction", METRICS[metric].title)
    add_table(page, tradeoff_rows(tradeoff), DEVIATION)


def _sweeps(page: Page, sweeps: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
    """The effect of the settings of csd."""
    for i, (name, points) in enumerate((name, points) for name, points in sweeps.items() if points):
        if i == 0:
            page.heading("Sweeps")
            page.text("Settings of csd, varied one at a time.")
        places = [point["value"] for point in points if is_number(point.get("value"))]
        if name not in NAMED and len(set(places)) > 1:
            log_x = min(places) > 0 and max(places) / min(places) >= LOGARITHMIC
            line = sorted((p for p in points if is_number(p.get("value"))), key=lambda p: p["value"])
            for metric in SWEPT:
                xs, ys = points_of(line, "value", metric)
                if len(xs) > 1:
                    title = f"{_name(metric)} against {name}"
                    page.curves({"csd": (xs, ys)}, title, name, METRICS[metric].title, log_x=log_x)
        add_table(page, sweep_rows(points), f"{_capital(name)}. {DEVIATION}")


def _sliders(page: Page, results: Results, folder: Path) -> None:
    """Some images before and after csd, with different instructions if there are several."""
    shown = 0
    for name, text in _diagonally(results, "images"):
        before, after = folder / f"source-{name}.png", folder / f"{_stem(results, 'csd', name, text)}.png"
        if shown == SLIDERS or not (before.is_file() and after.is_file()):
            continue
        images = [_reduced(path, LARGEST) for path in (before, after)]
        if shown == 0:
            page.heading("Before and after")
        if images[0].size == images[1].size:
            page.slider(images[0], images[1], f"{name}: {text}", ("source", "csd"))
        else:
            page.text(f"{name}: {text}. The edit and its source differ in size, so they cannot be compared.")
        shown += 1


def _image_grid(page: Page, results: Results, folder: Path) -> None:
    """For each instruction a row per method, below source and truth."""
    setting, shown = results.get("setting", {}), 0
    names = setting.get("images", ())[:COLUMNS]
    methods = [m for m in ordered({*METHODS, *results.get("images", {})}) if m not in REFERENCES]
    for text in setting.get("instructions", ()):
        files = {m: [folder / f"{_stem(results, m, name, text)}.png" for name in names] for m in ("truth", *methods)}
        files = {m: paths for m, paths in files.items() if any(path.is_file() for path in paths)}
        if not files:
            continue
        if shown == 0:
            page.heading("Images by instruction")
        files = {"source": [folder / f"source-{name}.png" for name in names], **files}
        page.image_grid({m: [_thumbnail(path) for path in paths] for m, paths in files.items()}, names, text)
        shown += 1


def _videos(page: Page, results: Results, folder: Path) -> None:
    """Videos of a clip and an instruction side by side, up to VIDEOS videos."""
    left, shown = VIDEOS, 0
    for clip, text in _diagonally(results, "clips"):
        files = {m: folder / f"{_stem(results, m, clip, text)}.mp4" for m in SHOWN_VIDEOS} | {
            "source": folder / f"source-{clip}.mp4"
        }
        files = {m: path for m, path in files.items() if path.is_file()}
        if not files.keys() - set(REFERENCES) or len(files) > left:
            continue
        if shown == 0:
            page.heading("Videos by instruction")
        page.videos(files, f"{clip}: {text}")
        left, shown = left - len(files), shown + 1


def _stem(results: Results, method: str, subject: str, text: str) -> str:
    """The file name of an edit with the first seed, or of a reference edit."""
    seed = 0 if method in REFERENCES else results.get("setting", {}).get("seed", 0)
    return seeded(f"{method}-{subject}-{slug(text)}", seed)


def _diagonally(results: Results, subjects: str) -> list[tuple[str, str]]:
    """All pairs of a subject and an instruction, so that the first pairs differ in both."""
    setting = results.get("setting", {})
    names, texts = setting.get(subjects, ()), setting.get("instructions", ())
    pairs = sorted(product(range(len(names)), range(len(texts))), key=lambda pair: (pair[1] - pair[0]) % len(texts))
    return [(names[i], texts[j]) for i, j in pairs]


def _reduced(path: Path, width: int) -> Image.Image:
    """An image, reduced to at most that many pixels in width."""
    with Image.open(path, formats=("PNG",)) as file:
        image = file.convert("RGB")
    height = max(1, round(image.height * width / image.width))
    return image if image.width <= width else image.resize((width, height), Image.Resampling.LANCZOS)


def _thumbnail(path: Path) -> Image.Image:
    """A small image of 256 colors, which halves its size in bytes; an empty one for a missing file."""
    if not path.is_file():
        return Image.new("RGBA", (64, 64))
    image = _reduced(path, THUMBNAIL)
    return image.quantize(palette=image.quantize(256), dither=Image.Dither.FLOYDSTEINBERG)


def _name(metric: str) -> str:
    """A metric's title without its unit."""
    return _capital(METRICS[metric].title.partition(",")[0])


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
