"""What the experiments on toy sets share: seeds, command-line options, the results file, and tables in Markdown."""

import argparse
from pathlib import Path
from typing import Any

from scoredistill import __version__
from scoredistill.files import write_json

DATE, SEEDS = "2026-11-21", (0, 1, 2, 3)
OUT = "docs/results/toy"


def option_parser(description: str | None, quick: str) -> argparse.ArgumentParser:
    """A parser with the options --out and --quick.

    Args:
        description: what --help says, its line breaks kept.
        quick: what --help says about --quick.
    """
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path(OUT))
    parser.add_argument("--quick", action="store_true", help=quick)
    return parser


def heading(script: str, quick: bool) -> dict[str, Any]:
    """The first entries of a results file: command, seeds, date and version."""
    command = f"python experiments/{script} --out {OUT}" + (" --quick" if quick else "")
    return {"command": command, "seeds": list(SEEDS), "date": DATE, "version": __version__}


def write(report: dict[str, Any], path: Path) -> None:
    """Write results as JSON; the directory is created if missing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, report)


def table(head: list[str], rows: list[list[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(row) + " |" for row in lines) + "\n"
