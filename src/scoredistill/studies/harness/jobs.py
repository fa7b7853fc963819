"""Studies as named jobs: run side by side, what each finds kept on disk at once, so a stopped study goes on.

    parts = Parts(out, {"quick": False})
    failed = parts.measure(jobs, workers=2)
    found = parts.read()                        # name -> what the job of that name returned

A job is a function called with out=, the folder for images. What it returns is written to OUT/parts/NAME.json. A
setting that matters belongs in the job's name, or in the key of the study: with another key all is measured anew.
"""

import json
import math
import multiprocessing
import multiprocessing.connection
import os
import shutil
import statistics
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from scoredistill import __version__

BAR = "{l_bar}{bar}| {elapsed}<{remaining}{postfix}"  # without the count, whose unit is nothing to a reader


@dataclass(frozen=True)
class Job:
    """One measurement.

    Attributes:
        name: of its file.
        function: called with out=, from any process.
        cost: how long it takes beside the others, in any unit; the progress bar counts it.
    """

    name: str
    function: Callable[..., dict[str, Any]]
    cost: float = 1.0


class Parts:
    """The folder of a study. Making the object opens it.

    Args:
        out: the study's folder; made if missing.
        key: what all parts depend on, besides the version.

    Raises:
        ValueError: if `out` is a file, cannot be written, or holds something else.
    """

    def __init__(self, out: Path, key: Mapping[str, Any]):
        if out.exists() and not out.is_dir():
            raise ValueError(f"{out} is a file: give a folder for --out")
        self.out, self.folder, self.images = out, out / "parts", out / "images"
        marker, text = self.folder / "setting", json.dumps({**key, "version": __version__})
        if out.is_dir() and any(out.iterdir()) and not marker.is_file():
            raise ValueError(f"{out} holds other files: give a new folder, or an earlier study's, for --out")
        if marker.is_file() and marker.read_text() != text:
            shutil.rmtree(self.folder)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self.images.mkdir(exist_ok=True)
            marker.write_text(text)
        except OSError as error:
            raise ValueError(f"cannot write to {out}: {error.strerror}") from error

    def missing(self, jobs: Sequence[Job]) -> list[Job]:
        """The jobs that are not finished."""
        return [job for job in jobs if not (self.folder / f"{job.name}.json").is_file()]

    def measure(
        self, jobs: Sequence[Job], workers: int = 1, progress: bool = True, after: Callable[[str], None] | None = None
    ) -> dict[str, str]:
        """Run what is missing; a method that breaks down is a finding, not the end of the study.

        Args:
            workers: processes; each computes with one thread. One runs everything here.
            after: called with the name of every finished job.

        Returns:
            What went wrong, by the job's name. Such jobs are tried again next time.
        """
        todo, failed, started = self.missing(jobs), {}, time.perf_counter()
        costs = {job.name: job.cost for job in todo}
        form = "{l_bar}{bar}| {elapsed}<{remaining}{postfix}"
        with tqdm(
            total=sum(costs.values()), desc="measuring", disable=not progress, leave=False, bar_format=form
        ) as bar:
            try:
                for name, found in _run(todo, self.images, workers):
                    if isinstance(found, Exception):
                        failed[name] = f"{type(found).__name__}: {found}"
                    else:
                        write_json(self.folder / f"{name}.json", found)
                    bar.update(costs[name])
                    bar.set_postfix_str(name[:40])
                    if after is not None:
                        after(name)
            finally:
                (self.folder / "seconds").write_text(str(self.seconds + time.perf_counter() - started))
        return failed

    def read(self) -> dict[str, dict[str, Any]]:
        """All that is finished, by name."""
        return {path.stem: json.loads(path.read_text()) for path in sorted(self.folder.glob("*.json"))}

    @property
    def seconds(self) -> float:
        """Spent measuring, in this call and earlier ones."""
        path = self.folder / "seconds"
        return float(path.read_text()) if path.is_file() else 0.0


def averaged(found: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The mean of each number over seeds, with "std" and "seeds"."""
    names = {name: [f[name] for f in found] for name, value in found[0].items() if isinstance(value, (int, float))}
    means = {name: statistics.fmean(v) for name, v in names.items()}
    return {**means, "std": {name: spread(v) for name, v in names.items()}, "seeds": len(found)}


def spread(values: Sequence[float]) -> float:
    """Standard deviation of a sample; 0 for a single value and where one is infinite."""
    return statistics.stdev(values) if len(values) > 1 and all(map(math.isfinite, values)) else 0.0


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Readers see the old file or the new one, never half of it."""
    draft = path.with_name(f".{path.name}.part")
    draft.write_text(json.dumps(value, indent=1) + "\n")
    draft.replace(path)


def _run(todo: Sequence[Job], images: Path, workers: int) -> Iterator[tuple[str, Any]]:
    if workers == 1:
        for job in todo:
            yield _guarded(job, images)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context, initializer=_begin) as pool:
        try:
            for done in as_completed([pool.submit(_guarded, job, images) for job in todo]):
                yield done.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _begin() -> None:
    """A worker computes with one thread, and ends when the study is killed instead of working on for nobody."""
    torch.set_num_threads(1)
    if (parent := multiprocessing.parent_process()) is not None:

        def follow() -> None:
            multiprocessing.connection.wait([parent.sentinel])
            os._exit(1)

        threading.Thread(target=follow, daemon=True).start()


def _guarded(job: Job, images: Path) -> tuple[str, Any]:
    try:
        return job.name, job.function(out=images)
    except (FloatingPointError, ValueError) as error:
        return job.name, error
