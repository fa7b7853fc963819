"""Named jobs, run side by side; what each measures is written to disk at once, so that a study can be resumed.

    directory = StudyDirectory(out, {"quick": False})
    failed = directory.run(jobs, workers=2)
    found = directory.results()                 # name -> what the job of that name returned

A job is a function called with out=, the directory for images. What it returns is written to OUT/parts/NAME.json. A
setting that matters belongs in the job's name, or in the key of the study: with another key everything is measured
again.
"""

import json
import multiprocessing
import multiprocessing.connection
import os
import shutil
import threading
import time
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from scoredistill import __version__
from scoredistill.files import write_json

PROGRESS = "{l_bar}{bar}| {elapsed}<{remaining}{postfix}"  # without the count, whose unit means nothing to a reader


@dataclass(frozen=True)
class Job:
    """One measurement.

    Attributes:
        name: the name of its file.
        function: called with out=, in any process; returns what JSON can hold.
        cost: expected time relative to the other jobs, for the progress bar.
        required: whether the study stops if the job fails.
    """

    name: str
    function: Callable[..., dict[str, Any]]
    cost: float = 1.0
    required: bool = False


@dataclass(frozen=True)
class Case:
    """One run of a method; a study adds what the method is applied to.

    Args:
        method: name of the method.
        seed: seed of the run.
        settings: other fields of the task's request, as pairs.
    """

    method: str
    _: KW_ONLY
    seed: int = 0
    settings: tuple[tuple[str, Any], ...] = ()

    @property
    def changes(self) -> list[str]:
        """The settings as parts of a name."""
        return [f"{field}{value}" for field, value in self.settings]


def fingerprint(settings: object) -> str:
    """Eight hexadecimal digits of the settings' `repr`: a name that changes with any of them."""
    return f"{zlib.crc32(repr(settings).encode()):08x}"


class StudyDirectory:
    """The output directory of a study, created if missing.

    Args:
        out: its path.
        key: what all jobs depend on, besides the version of scoredistill.

    Attributes:
        images: the directory for images.

    Raises:
        ValueError: if `out` is a file, cannot be written, or holds something else than a study.
    """

    def __init__(self, out: Path, key: Mapping[str, Any]):
        if out.exists() and not out.is_dir():
            raise ValueError(f"{out} is a file: give a directory for --out")
        self.out, self.folder, self.images = out, out / "parts", out / "images"
        marker, text = self.folder / "setting", json.dumps({**key, "version": __version__})
        if out.is_dir() and any(out.iterdir()) and not marker.is_file():
            raise ValueError(f"{out} holds other files: give a new directory, or an earlier study's, for --out")
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

    def run(
        self, jobs: Sequence[Job], workers: int = 1, progress: bool = True, after: Callable[[], None] | None = None
    ) -> dict[str, str]:
        """Run the jobs that are not finished; a method that diverges is a result, not the end of the study.

        Args:
            workers: processes, each with one thread; with 1, all jobs run in this process.
            progress: show a progress bar.
            after: called after every job.

        Returns:
            The error of each failed job, by name. Such jobs are tried again next time.

        Raises:
            ValueError: if a required job fails.
        """
        todo, failed, started = self.missing(jobs), {}, time.perf_counter()
        by_name = {job.name: job for job in todo}
        total = sum(job.cost for job in todo)
        with tqdm(total=total, desc="measuring", disable=not progress, leave=False, bar_format=PROGRESS) as bar:
            try:
                for name, found in _results(todo, self.images, workers):
                    if isinstance(found, Exception):
                        failed[name] = f"{type(found).__name__}: {found}"
                    else:
                        write_json(self.folder / f"{name}.json", found)
                    bar.update(by_name[name].cost)
                    bar.set_postfix_str(name[:40])
                    if after is not None:
                        after()
            finally:
                (self.folder / "seconds").write_text(str(self.seconds + time.perf_counter() - started))
        for name, error in failed.items():
            if by_name[name].required:
                raise ValueError(f"{name}, which the other measurements need, failed: {error}")
        return failed

    def results(self) -> dict[str, dict[str, Any]]:
        """The name of each finished job -> what it returned."""
        return {path.stem: json.loads(path.read_text()) for path in sorted(self.folder.glob("*.json"))}

    @property
    def seconds(self) -> float:
        """Time spent measuring, in this run and earlier ones."""
        path = self.folder / "seconds"
        return float(path.read_text()) if path.is_file() else 0.0


def _results(todo: Sequence[Job], images: Path, workers: int) -> Iterator[tuple[str, dict[str, Any] | Exception]]:
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
    """Make a worker compute with one thread, and end when the study is killed."""
    torch.set_num_threads(1)
    if (parent := multiprocessing.parent_process()) is not None:

        def follow() -> None:
            multiprocessing.connection.wait([parent.sentinel])
            os._exit(1)

        threading.Thread(target=follow, daemon=True).start()


def _guarded(job: Job, images: Path) -> tuple[str, dict[str, Any] | Exception]:
    try:
        return job.name, job.function(out=images)
    except (FloatingPointError, ValueError) as error:
        return job.name, error
