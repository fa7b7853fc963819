"""`--dry-run`: what a command would do, without doing it."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from scoredistill.cli.columns import rows
from scoredistill.cli.options import CommandRun
from scoredistill.cli.runs import Job, about
from scoredistill.tasks.expected_cost import expected_cost
from scoredistill.tasks.image_generation.request import Settings
from scoredistill.tasks.object_generation.request import ObjectSettings
from scoredistill.tasks.output_paths import check_writable, default_out

EVERY = ("config.json", "metrics.jsonl", "preview.png", "result.json", "report.html")
IMAGE_FILES = (*EVERY, "video.gif", "image_00.png, ...", "enlarged_00.png, ... of small images")
OBJECT_FILES = (
    *(*EVERY, "video.gif", "turntable.mp4", "turntable.gif", "sheet.png", "mesh.glb or splats.ply"),
    "scene.safetensors",
)
EDIT_FILES = (*EVERY, "source.png", "edited.png")
LENGTHS = ("steps", "sweeps", "rounds")  # settings that say how long a run is
NAMES = 22  # width of the column of names


def planned(jobs: Sequence[Job], run: CommandRun, files: Sequence[str]) -> dict[str, Any]:
    """Print what would be done: settings, cost, files.

    Args:
        jobs: the runs.
        run: how they would be carried out, and where.
        files: names of the files of a run.

    Returns:
        What --json prints.

    Raises:
        ValueError: for impossible settings, and for an output directory that cannot be written.
    """
    settings = [job.request.complete() for job in jobs]
    first = jobs[0]
    out = run.out or default_out(about(jobs), first.fallback, first.suffix)
    check_writable(out)
    costs = [_cost(each) for each in settings]
    total = None if None in costs else {n: sum(c[n] for c in costs if c) for n in ("rows", "calls")}
    shown = asdict(settings[0])
    if len(jobs) > 1:
        shown = {name: value for name, value in shown.items() if name not in ("prompt", "instruction", "seed")}
        shown["runs"] = ", ".join(f"{job.text!r} seed {job.request.seed}" for job in jobs)
    print(f"would make {len(jobs)} run{'s' if len(jobs) > 1 else ''} in {out}; nothing is done")
    print("\n".join(rows([(name, _shown(value)) for name, value in shown.items() if value not in ("", ())], NAMES)))
    said = "not known before the run" if total is None else f"{total['rows']} in {total['calls']} calls of the network"
    print("\n".join(rows([("network evaluations", said), ("files", ", ".join(files))], NAMES)))
    return {
        "dry_run": True,
        "out": str(out),
        "runs": len(jobs),
        "steps": sum(next((getattr(each, n) for n in LENGTHS if hasattr(each, n)), 0) for each in settings),
        **(total or {"rows": None, "calls": None}),
        "files": list(files),
        "settings": [asdict(each) for each in settings],
    }


def _cost(settings: object) -> dict[str, int] | None:
    """Network evaluations and calls; None if they are not known before the run."""
    return expected_cost(settings) if isinstance(settings, (Settings, ObjectSettings)) else None


def _shown(value: object) -> str:
    if isinstance(value, (tuple, list)):
        return " ".join(map(str, value))
    return f"{value:g}" if isinstance(value, float) else str(value)
