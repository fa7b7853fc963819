"""Reports as single HTML files: text, commands, tables, image grids, comparisons, videos and line charts.

    Page("Fractal").command("scoredistill toy").curves({"MSD": losses}, "Loss", log_y=True).save("report.html")

A report is self-contained: images are embedded, charts are SVG, and nothing is loaded from a network. It supports light
and dark mode and narrow screens, and the same content always gives the same bytes.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from importlib import resources
from pathlib import Path
from typing import Any
from urllib.parse import quote

from scoredistill.files import write_text
from scoredistill.reports.chart import color_of, dash_of, line_chart
from scoredistill.reports.embed import LARGE, ImageLike, image_tag, opened, strip_uri, video_tag

__all__ = ["Card", "Page", "color_of"]

COPY = """
document.querySelectorAll(".command button").forEach(b => b.onclick = () =>
  navigator.clipboard.writeText(b.parentNode.querySelector("code").textContent)
    .then(() => { b.textContent = "Copied"; setTimeout(() => b.textContent = "Copy", 1500); }));
"""
SLIDE = """
document.querySelectorAll(".slider").forEach(box => {
  const input = box.querySelector("input");
  (input.oninput = () => box.style.setProperty("--at", input.value + "%"))();
  box.onpointermove = e => {
    if (e.pointerType !== "mouse" || e.buttons) return;
    const place = box.getBoundingClientRect();
    input.value = 100 * (e.clientX - place.left) / place.width;
    input.oninput();
  };
  box.classList.add("live");
});
"""
SORT = """
document.querySelectorAll("table.data").forEach(table => {
  const body = table.tBodies[0], heads = [...table.tHead.rows[0].cells];
  if (body.rows.length < 3) return;
  const read = text => parseFloat(text.replaceAll(",", "").replace("\u2212", "-"));
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.onclick = () => {
      const down = head.getAttribute("aria-sort") === "ascending", sign = down ? -1 : 1;
      const text = row => row.cells[column].textContent.trim();
      const order = (a, b) => {
        const [x, y] = [text(a), text(b)], [m, n] = [read(x), read(y)];
        if (isNaN(m) || isNaN(n)) return isNaN(m) - isNaN(n) || sign * x.localeCompare(y);
        return sign * (m - n);
      };
      body.append(...[...body.rows].sort(order));
      heads.forEach(each => each.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
    };
  });
  table.classList.add("sortable");
});
"""
SCRUB = """
document.querySelectorAll(".scrubber").forEach(box => {
  const input = box.querySelector("input"), strip = box.querySelector(".strip"), said = box.querySelector("output");
  const names = JSON.parse(box.dataset.names), count = names.length;
  const show = () => {
    strip.style.backgroundPositionX = (count > 1 ? 100 * input.value / (count - 1) : 0) + "%";
    said.textContent = names[input.value];
    input.setAttribute("aria-valuetext", names[input.value]);
  };
  input.oninput = () => { box.classList.add("still"); show(); };
  box.querySelector("button").onclick = () => box.classList.remove("still");
  box.classList.add("ready", "still");  // at the result; Play shows the way to it
  show();
});
"""
PLAY = """
document.querySelectorAll(".videos").forEach(row => {
  const button = row.querySelector("button"), videos = [...row.querySelectorAll("video")], lead = videos[0];
  const place = v => lead.currentTime % v.duration || 0, off = v => Math.abs(v.currentTime - place(v));
  const align = least => videos.forEach(v => {
    if (!v.seeking && Math.min(off(v), v.duration - off(v)) > least) v.currentTime = place(v);
  });
  const start = () => { align(0); videos.forEach(v => v.play().catch(() => {})); };
  const stop = () => { videos.forEach(v => v.pause()); align(0); };
  videos.forEach(v => v.controls = false);
  lead.ontimeupdate = () => lead.paused || align(.05);
  lead.onplay = lead.onpause = () => button.textContent = lead.paused ? "Play" : "Pause";
  button.onclick = () => lead.paused ? start() : stop();
  button.hidden = false;
});
"""


@dataclass(frozen=True)
class Card:
    """An entry of `Page.cards`: a linked image with a title and two lines.

    Attributes:
        title: title, and text alternative of the image.
        note: line below the title.
        place: line below that.
        link: relative address of what the entry is about, quoted as in a URL.
        image: relative address of the image; None for none.
    """

    title: str
    note: str
    place: str
    link: str
    image: str | None = None


class Page:
    """A report to which every call appends an element; all methods but `html` and `save` return the report itself.

    All text is escaped, so it is never interpreted as HTML.

    Args:
        title: heading of the report, and title of the browser tab.
        subtitle: one sentence below the title.
        generator: what made the page, for programs that look at it; empty for nothing.
    """

    def __init__(self, title: str, subtitle: str = "", generator: str = "") -> None:
        self.title = title
        self.subtitle = subtitle
        self.generator = generator
        self._parts: list[str] = []
        self._scripts = [COPY]

    def heading(self, text: str) -> Page:
        """Append a section heading."""
        return self._add(f"<h2>{escape(text)}</h2>")

    def text(self, text: str) -> Page:
        """Append paragraphs, which are separated by blank lines in `text`."""
        return self._add("".join(f"<p>{escape(part.strip())}</p>" for part in text.split("\n\n") if part.strip()))

    def command(self, command: str) -> Page:
        """Append a command that reproduces a result, with a button that copies it."""
        code = re.sub(r"(?<!\S)-\S+", r"<span>\g<0></span>", escape(command))  # no line break within an option
        button = '<button type="button">Copy</button>'
        return self._add(f'<div class="command"><pre><code>{code}</code></pre>{button}</div>')

    def key_values(self, values: Mapping[str, object]) -> Page:
        """Append a list of settings or results, one name and value per line."""
        items = (f"<dt>{escape(str(key))}</dt><dd>{escape(_cell(value))}</dd>" for key, value in values.items())
        return self._add(f"<dl>{''.join(items)}</dl>")

    def table(self, rows: Sequence[Mapping[str, object]], caption: str = "") -> Page:
        """Append a table with one line per row and one column per key, in the order of first appearance.

        Missing keys give empty cells. Numbers, including NumPy scalars and 0-d tensors, are aligned to the right and
        shown with about four significant digits. A click on a column's name sorts by it.
        """
        columns = {key: [_plain(row.get(key, "")) for row in rows] for row in rows for key in row}
        kind = {key: ' class="number"' if _is_numeric(column) else "" for key, column in columns.items()}
        head = "".join(f"<th{kind[key]}>{escape(str(key))}</th>" for key in columns)
        texts = {key: _column(column) for key, column in columns.items()}
        lines = ("".join(f"<td{kind[key]}>{escape(texts[key][i])}</td>" for key in columns) for i in range(len(rows)))
        body = "".join(f"<tr>{line}</tr>" for line in lines)
        self._script(SORT)
        table = f'<table class="data"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'
        return self._figure(f'<div class="scroll">{table}</div>', caption)

    def image_grid(
        self, rows: Mapping[str, Sequence[ImageLike]], columns: Sequence[str], caption: str = "", alt: str = ""
    ) -> Page:
        """Append a grid of images, with a label to the left of each row and above each column.

        Args:
            rows: label -> images, in memory or as paths; GIFs are animated. Rows may differ in length.
            columns: labels; there may be fewer or more than images in a row.
            caption: text below the grid.
            alt: what the images show, for their text alternatives, before their labels.
        """
        width = max([len(columns), *(len(images) for images in rows.values())])
        names = [*columns, *[""] * (width - len(columns))]
        head = f"<thead><tr><th></th>{''.join(f'<th>{escape(name)}</th>' for name in names)}</tr></thead>"
        body = []
        for label, images in rows.items():
            cells = [
                image_tag(image, " ".join(filter(None, (alt, label, name))), LARGE)
                for image, name in zip(images, names, strict=False)
            ]
            cells += [""] * (width - len(cells))
            body.append(f"<tr><th>{escape(label)}</th>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>")
        kind = "image-grid one" if width == 1 == len(rows) else "image-grid"
        image_grid = f'<table class="{kind}">{head if columns else ""}<tbody>{"".join(body)}</tbody></table>'
        return self._figure(f'<div class="scroll">{image_grid}</div>', caption)

    def cards(self, cards: Sequence[Card]) -> Page:
        """Append linked entries with images, side by side. The images are files beside the page, not embedded."""
        made = []
        for card in cards:
            shown = (
                ""
                if card.image is None
                else f'<img src="{escape(card.image)}" alt="{escape(card.title)}" loading="lazy">'
            )
            text = f"<b>{escape(card.title)}</b><span>{escape(card.note)}</span><span>{escape(card.place)}</span>"
            made.append(f'<a href="{escape(card.link)}"><div>{shown}</div>{text}</a>')
        return self._add(f'<div class="cards">{"".join(made)}</div>')

    def figure(self, image: ImageLike, caption: str = "") -> Page:
        """Append one image at its own size, or enlarged if it is small; a GIF is animated."""
        return self._figure(image_tag(image, caption), caption)

    def scrubber(self, video: Path, frames: Sequence[ImageLike], names: Sequence[str], caption: str = "") -> Page:
        """Append an animated image with a slider that stops it at a frame.

        Without JavaScript and in print, the animation alone is shown.

        Args:
            video: a GIF.
            frames: stills of it, of one size, in their order; they are stored small, side by side, as JPEG.
            names: of the frames, shown while one of them is, such as "step 3".
            caption: text below.

        Raises:
            ValueError: if there are not as many names as frames.
        """
        if len(frames) != len(names) or not frames:
            raise ValueError(f"{len(names)} names for {len(frames)} frames: give one per frame")
        strip, ratio = strip_uri(frames)
        listed = escape(json.dumps(list(names)))
        return self._script(SCRUB)._figure(
            f'<div class="scrubber" data-names="{listed}" style="--count: {len(frames)}; --ratio: {ratio:.4f}">'
            f'{image_tag(video, caption)}<div class="strip" style="background-image: url({strip})"></div>'
            f'<div class="controls"><button type="button">Play</button>'
            f'<input type="range" min="0" max="{len(frames) - 1}" value="{len(frames) - 1}" '
            f'aria-label="frame of the animation"><output></output></div></div>',
            caption,
        )

    def files(self, names: Sequence[str]) -> Page:
        """Append relative links to files beside the report."""
        links = "".join(f'<li><a href="{escape(quote(name))}">{escape(name)}</a></li>' for name in names)
        return self._add(f'<ul class="files">{links}</ul>')

    def slider(
        self, before: ImageLike, after: ImageLike, caption: str = "", labels: tuple[str, str] = ("before", "after")
    ) -> Page:
        """Append two superimposed images with a divider that follows the mouse, and moves by touch and arrow keys.

        Without JavaScript, the images are side by side, or one below the other on narrow screens.

        Args:
            before, after: images shown left and right of the divider.
            caption: text below the images.
            labels: names of the two images.

        Raises:
            ValueError: if the images differ in size.
        """
        (width, height), (other_width, other_height) = (opened(image)[1].size for image in (before, after))
        if (width, height) != (other_width, other_height):
            raise ValueError(
                f"images to compare must have one size, not {width}x{height} and {other_width}x{other_height} pixels"
            )
        sides = "".join(
            f'<div class="{side}">{image_tag(image, label)}<span>{escape(label)}</span></div>'
            for side, image, label in zip(("before", "after"), (before, after), labels, strict=True)
        )
        name = escape(f"divider between {labels[0]} and {labels[1]}")
        divider = f'<input type="range" min="0" max="100" step="0.5" value="50" aria-label="{name}">'
        return self._script(SLIDE)._figure(f'<div class="slider">{sides}{divider}</div>', caption)

    def videos(self, videos: Mapping[str, str | Path], caption: str = "") -> Page:
        """Append videos side by side, with a button that plays and pauses them in synchrony.

        Videos are muted and loop with the first one. GIFs always play, independently of the button. Without JavaScript,
        each video has its own controls.

        Args:
            videos: label -> .mp4, .webm or .gif file, which is embedded unchanged.
            caption: text below the videos.

        Raises:
            ValueError: if a file is of another type.
            FileNotFoundError: if a file does not exist.
        """
        cells = "".join(
            f"<div>{video_tag(Path(p), label)}<span>{escape(label)}</span></div>" for label, p in videos.items()
        )
        row = f'<div class="row" style="--videos: {len(videos)}">{cells}</div>'
        if "<video" not in cells:
            return self._figure(row, caption)
        button = '<button type="button" hidden>Play</button>'
        return self._script(PLAY)._figure(f'<div class="videos">{row}{button}</div>', caption)

    def curves(
        self,
        series: Mapping[str, Any],
        title: str = "",
        x_label: str = "",
        y_label: str = "",
        log_y: bool = False,
        log_x: bool = False,
    ) -> Page:
        """Append a line chart of name -> values, or name -> (xs, ys); see `chart.line_chart`."""
        keys = "".join(f"<li>{_swatch(i)}{escape(name)}</li>" for i, name in enumerate(series))
        legend = f'<ul class="legend">{keys}</ul>' if len(series) > 1 else ""
        head = f'<figcaption class="title">{escape(title)}</figcaption>' if title else ""
        return self._figure(head + legend + line_chart(series, x_label, y_label, log_y, log_x))

    def html(self) -> str:
        """The report as HTML text."""
        style = resources.files("scoredistill.reports").joinpath("style.css").read_text(encoding="utf-8")
        subtitle = f"<p>{escape(self.subtitle)}</p>" if self.subtitle else ""
        generator = f'<meta name="generator" content="{escape(self.generator)}">\n' if self.generator else ""
        return (
            '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
            '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
            f"{generator}<title>{escape(self.title)}</title>\n<style>\n{style}</style>\n</head>\n<body>\n"
            f"<header><h1>{escape(self.title)}</h1>{subtitle}</header>\n<main>\n"
            + "\n".join(self._parts)
            + f"\n</main>\n<script>{''.join(self._scripts)}</script>\n</body>\n</html>\n"
        )

    def save(self, path: str | Path) -> Path:
        """Write the report atomically, creating missing directories, and return its path."""
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, self.html())
        return path

    def _add(self, part: str) -> Page:
        self._parts.append(part)
        return self

    def _script(self, script: str) -> Page:
        """Include a script once."""
        self._scripts += [] if script in self._scripts else [script]
        return self

    def _figure(self, content: str, caption: str = "") -> Page:
        below = f"<figcaption>{escape(caption)}</figcaption>" if caption else ""
        return self._add(f"<figure>{content}{below}</figure>")


def _swatch(i: int) -> str:
    line = f'<path d="M1 4H21" stroke="{color_of(i)}" stroke-dasharray="{dash_of(i)}"/>'
    return f'<svg viewBox="0 0 22 8" aria-hidden="true">{line}</svg>'


def _plain(value: Any) -> Any:
    """A Python number from a NumPy scalar or a 0-d tensor; other values unchanged."""
    return value.item() if hasattr(value, "item") and getattr(value, "ndim", None) == 0 else value


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _is_numeric(column: Sequence[Any]) -> bool:
    """Whether a column has numbers and otherwise only empty cells."""
    return all(_is_number(value) or value in ("", None) for value in column) and any(map(_is_number, column))


def _cell(value: Any) -> str:
    """A value as text: floats with four significant digits, large numbers with thousands separators."""
    value = _plain(value)
    if value is None or isinstance(value, bool):
        return {None: "–", True: "yes", False: "no"}[value]
    if isinstance(value, int):
        return f"{value:,}" if abs(value) >= 10_000 else str(value)
    if not isinstance(value, float):
        return str(value)
    return f"{value:,.0f}" if 1e4 <= abs(value) < 1e7 else f"{value:.4g}"


def _column(column: Sequence[Any]) -> list[str]:
    """The cells of a column; floats have the same number of decimals, unless that would hide a value."""
    numbers = [value for value in column if _is_number(value) and math.isfinite(value)]
    sizes = [abs(value) for value in numbers if value != 0]
    mixed = not _is_numeric(column) or not any(isinstance(value, float) for value in numbers)
    if mixed or not sizes or max(sizes) >= 1e4 or max(sizes) / min(sizes) > 1e3 or min(sizes) < 1e-4:
        return [_cell(value) for value in column]
    written = [f"{size:.4g}".partition(".")[2] for size in sizes]
    decimals = min(max(map(len, written)), max(0, 3 - math.floor(math.log10(max(sizes)))))
    decimals = max(decimals, -math.floor(math.log10(min(sizes))))
    return [f"{v:.{decimals}f}" if _is_number(v) and math.isfinite(v) else _cell(v) for v in column]
