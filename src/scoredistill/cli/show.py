"""The command `show`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tyro.conf import Positional

from scoredistill.cli.columns import rows
from scoredistill.cli.options import answer_of, quoted
from scoredistill.media.provenance import read_chunk
from scoredistill.tasks.gallery import score
from scoredistill.tasks.run_config import provenance, read_config, result_of

NAMES = 10  # width of the column of names
LONGEST = 2000  # characters of a value


def show(run: Positional[Path]) -> dict[str, Any]:
    """Show how a result was made: command, prompt, method, seed, version, score and cost.

    Args:
        run: A PNG file of a run, wherever it is; or any other file in the output directory of a run, or the directory.
    """
    if not run.exists():
        raise ValueError(f"there is no {run}: give a file of a run, or its output directory")
    folder = run if run.is_dir() else run.parent
    made = read_chunk(run) if run.suffix.lower() == ".png" else {}
    config = read_config(folder)
    if made and made.get("command") != provenance(config).get("command"):
        config = {}  # of another run than the file
    if not made and not config:
        what = "holds no run" if run.is_dir() else "does not say how it was made, and no run is beside it"
        raise ValueError(f"{run} {what}: give a PNG file that scoredistill wrote, or the output directory of a run")
    made = made or provenance(config)
    lines = [
        (_clean(name), _clean(made[name]))
        for name in ("command", *sorted(set(made) - {"command", "version"}))
        if name in made
    ]
    print("\n".join(rows([*lines, ("version", _clean(made.get("version", "unknown")))], NAMES)))
    summary = result_of(folder) if config else {}
    if config:
        print("\n".join(rows(_result(folder, config, summary), NAMES)))
    return {**made, **({"run": answer_of(folder)} if config else {})}


def _result(folder: Path, config: Mapping[str, Any], summary: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What became of a run, and how to repeat it."""
    value, command = score(summary), str(config.get("command", ""))
    lines = [] if value is None else [("score", f"{value:.1f} CLIP similarity")]
    cost = [f"{summary['rows']} network evaluations (NFE)"] if "rows" in summary else []
    cost += [f"{summary['seconds']} s"] if "seconds" in summary else []
    lines += [("cost", ", ".join(cost))] if cost else []
    pages = [folder / name for name in ("report.html", "index.html") if (folder / name).is_file()]
    lines += [("report", str(page)) for page in pages[:1]]
    lines += [] if summary else [("state", f"not finished; the command with --out {folder} --resume continues it")]
    lines += [("repeat", quoted("--config", folder))] if command else []
    return [(name, _clean(line)) for name, line in lines]


def _clean(value: object) -> str:
    """A value without the control characters that a stranger's file could send to the terminal."""
    text = str(value)[:LONGEST]
    return "".join(letter if letter.isprintable() else " " for letter in text)
