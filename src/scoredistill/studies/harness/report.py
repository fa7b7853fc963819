"""Parts that the reports of all studies share."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from scoredistill.reports.page import Page
from scoredistill.studies.harness.statistics import Metrics
from scoredistill.studies.harness.tables import Results, Section, failure_rows, head

UNBROKEN = re.compile(" ([±=/]) ")


def opening(page: Page, results: Results, extent: str, claims: Section, metrics: Metrics | None = None) -> None:
    """Begin a report: the command, what was measured, the claims, and what methods and metrics are."""
    if results.get("command"):
        page.command(results["command"])
    page.text(extent)
    add_section(page, claims)
    if results.get("descriptions"):
        page.heading("Methods").key_values(results["descriptions"])
    if metrics:
        page.heading("Metrics").key_values({head(name, metrics): metrics[name].description for name in metrics})


def add_section(page: Page, section: Section) -> None:
    """Add a table with its heading and caption; a section without rows adds nothing."""
    if section.rows:
        if section.title:
            page.heading(section.title)
        add_table(page, section.rows, section.caption)


def add_table(page: Page, rows: Sequence[Mapping[str, object]], caption: str) -> None:
    """Add a table that has more than its first column; no line breaks before or after ± within a cell."""
    if any(len(row) > 1 for row in rows):
        page.table([{key: _unbroken(value) for key, value in row.items()} for row in rows], caption)


def _unbroken(value: object) -> object:
    return UNBROKEN.sub("\u00a0\\1\u00a0", value) if isinstance(value, str) else value


def closing(page: Page, results: Results, out: Path) -> Path:
    """End a report with the failed jobs and the setting, and write it to `out`/report.html."""
    add_section(page, Section("Failed jobs", "", failure_rows(results)))
    facts = {key: results[key] for key in ("date", "version") if key in results}
    facts |= {"seconds of work": results["seconds"]} if "seconds" in results else {}
    setting = {key: _readable(value) for key, value in results.get("setting", {}).items()}
    page.heading("Setting").key_values({**setting, **facts})
    return page.save(out / "report.html")


def _readable(value: Any) -> object:
    if isinstance(value, (list, tuple)):
        return ", ".join(map(str, value))
    return "default" if value is None else value


def image_or_blank(path: Path, width: int = 96) -> Image.Image:
    """An image file as RGB; a white square of that many pixels where there is none."""
    if not path.is_file():
        return Image.new("RGB", (width, width), "white")
    with Image.open(path, formats=("PNG",)) as file:
        return file.convert("RGB")
