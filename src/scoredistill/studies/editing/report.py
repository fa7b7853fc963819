"""The report of the study of edits: claims and verdicts first, then figures, curves, images and videos."""

import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

from PIL import Image

from scoredistill.reports.page import Page
from scoredistill.studies.editing.claims import KINDS, METRICS, REFERENCES, claims, equal_cost, paper_rows
from scoredistill.studies.editing.tables import (
    COST,
    EDIT,
    JUDGED,
    METHODS,
    NEIGHBORS,
    NOT_COMPARABLE,
    PARTS,
    Row,
    extent,
    failure_rows,
    head,
    metric_rows,
    ordered,
    paired_rows,
    sweep_rows,
    tradeoff_rows,
)
from scoredistill.studies.harness.setting import slug
from scoredistill.studies.harness.statistics import known

SLIDERS, COLUMNS, VIDEOS = 3, 4, 12  # at most: comparisons, images beside each other in an image grid, videos
THUMBNAIL, LARGEST = 320, 1024  # pixels: width of an image in an image grid, and in a comparison
VIDEOED = ("source", "csd", "per_frame", "windows", "truth")
TRADED = ("source", "consistency", "truth_psnr")  # against direction
SWEPT = ("consistency", "seam", "warp_error", "direction")
NAMED = ("kernel", "flow")  # sweeps over names, which have no place on an axis
SCALED = (
    "The same edits with the change of their latents scaled to the length of the true one, so that none looks better "
    "for having changed less."
)
LOGARITHMIC = 8  # ratio of the ends of an axis from which on it is so


def report(results: Mapping[str, Any], out: Path) -> Path:
    """Write report.html into the folder `out`, whose folder images/ holds images and videos; what is not there is
    left out."""
    page = Page("Edits", "CSD-Edit and its alternatives where the true edit is known")
    page.text(
        "Each method edits the same images and clips by the same instructions, at about equal network rows. Is an "
        "edit that is coupled across windows or frames more coherent than others of the same strength?"
    )
    if results.get("command"):
        page.command(results["command"])
    page.text(extent(results))
    page.heading("Claims").table(_unbroken(claims(results)), JUDGED)
    if costs := [said for part in PARTS for said in equal_cost(results, part)]:
        page.text(f"How alike edits were in cost and size, by means of methods: {'; '.join(costs)}.")
    if results.get("says"):
        page.heading("Methods").key_values(results["says"])
    page.heading("Figures").key_values({head(name): metric.says for name, metric in METRICS.items()})
    folder = out / "images"
    _part(page, results, "images")
    _tradeoff(page, results.get("tradeoff", {}))
    _sweeps(page, results.get("sweeps", {}))
    _sliders(page, results, folder)
    _image_grid(page, results, folder)
    _part(page, results, "videos")
    _videos(page, results, folder)
    page.heading("The paper's numbers for video").table(paper_rows(results), NOT_COMPARABLE)
    _cost(page, results)
    if results.get("failed"):
        page.heading("What broke down").table(failure_rows(results))
    rest = {key: results[key] for key in ("date", "version") if key in results}
    rest |= {"seconds of work": results["seconds"]} if "seconds" in results else {}
    page.heading("Setting").key_values({**{k: _said(v) for k, v in results.get("setting", {}).items()}, **rest})
    return page.save(out / "report.html")


def _part(page: Page, results: Mapping[str, Any], part: str) -> None:
    """Figures of images or of videos, and csd against each method."""
    things = "images" if part == "images" else "clips"
    deviation = f"± is the standard deviation over {things} and instructions."
    error = f"csd minus each method on the same {things} and instructions; ± is the standard error of the mean. Better "
    error += "and worse: csd is, by more than two standard errors."
    for kind, equal in KINDS.items():
        found, paired = results.get(f"{part}{kind}", {}), results.get(f"paired{kind}", {}).get(part, {})
        if found or paired:
            page.heading(f"{PARTS[part]}{' at equal ' if equal else ''}{', '.join(equal)}")
            page.text(SCALED if equal else "")
        _table(page, metric_rows(found, EDIT), f"The edit itself. {deviation}")
        _table(page, metric_rows(found, NEIGHBORS), f"How well neighbors fit together. {deviation}")
        _table(page, paired_rows(paired, EDIT), error)
        _table(page, paired_rows(paired, NEIGHBORS), error)


def _cost(page: Page, results: Mapping[str, Any]) -> None:
    """What an edit cost."""
    made = {part: metric_rows(results.get(part, {}), COST) for part in PARTS}
    if any(made.values()):
        page.heading("Cost")
    for part, rows in made.items():
        _table(page, rows, f"{PARTS[part]}: an edit. Seconds compare only within this run.")


def _tradeoff(page: Page, tradeoff: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
    """What more of the edit costs: one line per method, one point per text scale."""
    if not any(tradeoff.values()):
        return
    page.heading("Trade-off")
    page.text(
        "One line per method, one point per text scale (the table tells which): of two methods at the same direction "
        "the higher one is better."
    )
    for metric in TRADED:
        lines = {m: _line(tradeoff[m], "direction", metric) for m in ordered(tradeoff)}
        if series := {m: line for m, line in lines.items() if line[0]}:
            page.curves(series, f"{_name(metric)} against direction", "direction", METRICS[metric].title)
    _table(page, tradeoff_rows(tradeoff), "± is the standard deviation.")


def _sweeps(page: Page, sweeps: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
    """What a setting of csd changes."""
    for i, (name, points) in enumerate((name, points) for name, points in sweeps.items() if points):
        if i == 0:
            page.heading("Sweeps")
            page.text("Settings of csd, varied one at a time.")
        places = [point["value"] for point in points if known(point.get("value"))]
        if name not in NAMED and len(set(places)) > 1:
            log_x = min(places) > 0 and max(places) / min(places) >= LOGARITHMIC
            line = sorted((p for p in points if known(p.get("value"))), key=lambda p: p["value"])
            for metric in SWEPT:
                xs, ys = _line(line, "value", metric)
                if len(xs) > 1:
                    title = f"{_name(metric)} against {name}"
                    page.curves({"csd": (xs, ys)}, title, name, METRICS[metric].title, log_x=log_x)
        _table(page, sweep_rows(points), f"{_capital(name)}. ± is the standard deviation.")


def _line(points: Iterable[Mapping[str, Any]], x: str, y: str) -> tuple[list[float], list[float]]:
    """Means of two figures at the points that have both; a plain number is its own mean."""
    pairs = [[p[k]["mean"] if isinstance(p[k], Mapping) else p[k] for k in (x, y)] for p in points if x in p and y in p]
    pairs = [pair for pair in pairs if all(map(known, pair))]
    return [pair[0] for pair in pairs], [pair[1] for pair in pairs]


def _sliders(page: Page, results: Mapping[str, Any], folder: Path) -> None:
    """A few images before and after csd, each with another instruction if there are several."""
    shown = 0
    for name, text in _diagonally(results, "images"):
        before, after = folder / f"source-{name}.png", folder / f"csd-{name}-{slug(text)}.png"
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


def _image_grid(page: Page, results: Mapping[str, Any], folder: Path) -> None:
    """For each instruction a row per method, below source and truth."""
    setting, shown = results.get("setting", {}), 0
    names = setting.get("images", ())[:COLUMNS]
    methods = [m for m in ordered({*METHODS, *results.get("images", {})}) if m not in REFERENCES]
    for text in setting.get("instructions", ()):
        files = {m: [folder / f"{m}-{name}-{slug(text)}.png" for name in names] for m in ("truth", *methods)}
        files = {m: paths for m, paths in files.items() if any(path.is_file() for path in paths)}
        if not files:
            continue
        if shown == 0:
            page.heading("Images by instruction")
        files = {"source": [folder / f"source-{name}.png" for name in names], **files}
        page.image_grid({m: [_thumbnail(path) for path in paths] for m, paths in files.items()}, names, text)
        shown += 1


def _videos(page: Page, results: Mapping[str, Any], folder: Path) -> None:
    """Videos of a clip and an instruction beside each other, as many rows as there may be videos."""
    left, shown = VIDEOS, 0
    for clip, text in _diagonally(results, "clips"):
        files = {m: folder / f"{m}-{clip}-{slug(text)}.mp4" for m in VIDEOED} | {
            "source": folder / f"source-{clip}.mp4"
        }
        files = {m: path for m, path in files.items() if path.is_file()}
        if not files.keys() - set(REFERENCES) or len(files) > left:
            continue
        if shown == 0:
            page.heading("Videos")
        page.videos(files, f"{clip}: {text}")
        left, shown = left - len(files), shown + 1


def _diagonally(results: Mapping[str, Any], things: str) -> list[tuple[str, str]]:
    """All pairs of a thing and an instruction, so that the first ones differ in both."""
    setting = results.get("setting", {})
    names, texts = setting.get(things, ()), setting.get("instructions", ())
    pairs = sorted(product(range(len(names)), range(len(texts))), key=lambda pair: (pair[1] - pair[0]) % len(texts))
    return [(names[i], texts[j]) for i, j in pairs]


def _reduced(path: Path, width: int) -> Image.Image:
    """An image, no wider than that many pixels."""
    with Image.open(path) as file:
        image = file.convert("RGB")
    height = max(1, round(image.height * width / image.width))
    return image if image.width <= width else image.resize((width, height), Image.Resampling.LANCZOS)


def _thumbnail(path: Path) -> Image.Image:
    """A small image of 256 colors, which takes half the bytes; an empty one for a missing file."""
    if not path.is_file():
        return Image.new("RGBA", (64, 64))
    image = _reduced(path, THUMBNAIL)
    return image.quantize(palette=image.quantize(256), dither=Image.Dither.FLOYDSTEINBERG)


def _table(page: Page, rows: Sequence[Row], caption: str) -> None:
    """A table that has more than its first column."""
    if any(len(row) > 1 for row in rows):
        page.table(_unbroken(rows), caption)


def _unbroken(rows: Sequence[Mapping[str, str]]) -> list[Row]:
    """No line breaks beside these signs."""
    return [{key: re.sub(" ([±=]) ", "\u00a0\\1\u00a0", text) for key, text in row.items()} for row in rows]


def _name(metric: str) -> str:
    """A figure's title without its unit."""
    return _capital(METRICS[metric].title.partition(",")[0])


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _said(value: Any) -> object:
    """A setting for readers; yes and no are the page's to say."""
    if isinstance(value, (list, tuple)):
        return ", ".join(map(str, value))
    return "default" if value is None else value
