"""Carried here by the move."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from PIL import Image

from scoredistill.reports.page import Page
from scoredistill.studies.harness.jobs import write_json
from scoredistill.studies.harness.tables import Section


def add_section(page: Page, section: Section) -> None:
    """A section on a page: its title, its table, and what it says below."""
    if section.title:
        page.heading(section.title)
    if section.rows:
        page.table(
            [{k: v.replace(" ± ", "\u00a0±\u00a0") for k, v in row.items()} for row in section.rows], section.says
        )


def add_setting(page: Page, results: Mapping[str, Any]) -> None:
    """The end of a page: what broke down, and what was asked for."""
    if results.get("failed"):
        page.heading("What broke down").table([{"job": j, "error": said} for j, said in results["failed"].items()])
    said = {k: ", ".join(map(str, v)) if isinstance(v, (list, tuple)) else v for k, v in results["setting"].items()}
    rest = {"date": results["date"], "version": results["version"], "seconds of work": results["seconds"]}
    page.heading("Setting").key_values({**said, **rest})


def published(
    results: Mapping[str, Any],
    out: Path,
    tables: Callable[[Mapping[str, Any]], str],
    report: Callable[[Mapping[str, Any], Path], Path],
) -> Path:
    """Write results.json, tables.md and the report; the last is returned."""
    write_json(out / "results.json", results)
    (out / "tables.md").write_text(tables(results))
    return report(results, out)


def opening(page: Page, results: Mapping[str, Any], says: str, claims: Section, metrics: Mapping[str, Any]) -> None:
    """How reports begin: the command, what was measured, the claims, and what methods and figures are."""
    page.command(results["command"]).text(says)
    add_section(page, claims)
    page.heading("Methods").key_values(results["says"])
    page.heading("Figures").key_values({metric.title: metric.says for metric in metrics.values()})


def opened(path: Path, width: int = 96) -> Image.Image:
    """An image file as RGB; an empty image where there is none."""
    if not path.is_file():
        return Image.new("RGB", (width, width), "white")
    with Image.open(path) as file:
        return file.convert("RGB")
