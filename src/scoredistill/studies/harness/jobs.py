"""Named jobs, run side by side; what each measures is written to disk at once, so that a study can be resumed.

    directory = StudyDirectory(out, {"quick": False})
    failed = directory.run(jobs, workers=2)
    found = directory.results()                 # name -> what the job of that name returned

A job is a function called with out=, the directory for images. What it returns is written to OUT/parts/NAME.json. A
setting that matters belongs in the job's name, or in the key of the study: a study with another key takes another
directory.
"""

import itertools
import json
import time
import zlib
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import KW_ONLY, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from tqdm import tqdm

from scoredistill import __version__
from scoredistill.files import DRAFT, remove_drafts, write_json, write_text
from scoredistill.recipe import versioned
from scoredistill.studies.harness.cluster import Cluster, Found, measured, read_part
from scoredistill.studies.harness.shards import Shard
from scoredistill.studies.harness.workers import Died, Workers
from scoredistill.tasks.lock import NAME as LOCK
from scoredistill.tasks.lock import Lock
from scoredistill.tasks.output_paths import check_writable, unwritable
from scoredistill.tasks.run_config import command_line

MARKER = "setting"  # file in parts/ that says what they depend on
SECONDS = "seconds"  # files in parts/ with the time spent
SHARD = ".shard-"  # directories in parts/ of shards that are measured

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
    def version(self) -> str:
        """End of a name that changes with the content of a method of the user's own."""
        return versioned(self.method).removeprefix(self.method)

    @property
    def changes(self) -> list[str]:
        """The settings as parts of a name."""
        return [f"{field}{value}" for field, value in self.settings]


def fingerprint(settings: object) -> str:
    """Eight hexadecimal digits of the settings' `repr`: a name that changes with any of them."""
    return f"{zlib.crc32(repr(settings).encode()):08x}"


class StudyDirectory:
    """The output directory of a study, created if missing; one process at a time uses it, until `release`.

    Processes that measure different shards use it together. What was measured is never removed: a directory of a study
    with another key or version is refused.

    Args:
        out: its path.
        key: what all jobs depend on, besides the version of scoredistill.
        shard: the share of the jobs that this process measures; all by default.

    Attributes:
        images: the directory for images.

    Raises:
        ValueError: if `out` is a file, cannot be written, is in use, or holds something else than this study.
    """

    def __init__(self, out: Path, key: Mapping[str, Any], shard: Shard | None = None):
        self.out, self.folder, self.images, self.shard = out, out / "parts", out / "images", shard
        check_writable(out)
        check_place(out, key)
        self._lock = Lock(out, command_line())
        try:
            out.mkdir(parents=True, exist_ok=True)
            if shard is None:
                self._lock.acquire()
            else:
                self._lock.check()
        except OSError as error:
            raise unwritable(out, error) from error
        try:
            check_place(out, key)  # again, now that no other process writes
            for folder in (self.folder, self.images):
                folder.mkdir(exist_ok=True)
            if shard is None:
                self._check_shards()
                for folder in (out, self.folder, self.images, out / "scenes"):
                    remove_drafts(folder)
            if not (self.folder / MARKER).is_file():
                write_text(self.folder / MARKER, _identity(key), durable=True)
            if shard is not None:  # after the marker, which says that the directory is that of a study
                self._own.mkdir(exist_ok=True)
                self._lock = Lock(self._own, command_line())
                self._lock.take_over()  # one that was started again on another machine
                Lock(out).check()  # again, now that a process that takes it sees the shard
        except OSError as error:
            self.release()
            raise unwritable(out, error) from error
        except BaseException:
            self.release()
            raise

    def release(self) -> None:
        """Let other processes use the directory."""
        self._lock.release()

    @property
    def _own(self) -> Path:
        """The directory of the shard, with its lock."""
        return self.folder / (SHARD if self.shard is None else f"{SHARD}{self.shard.number}-of-{self.shard.count}")

    def _check_shards(self) -> None:
        """Refuse to use the directory while shards are measured in it, and remove what they left.

        Raises:
            ValueError: naming the process that measures one.
        """
        for folder in self.folder.glob(f"{SHARD}*-of-*"):
            Lock(folder).check()
            (folder / LOCK).unlink(missing_ok=True)
            with suppress(OSError):
                folder.rmdir()

    def missing(self, jobs: Sequence[Job]) -> list[Job]:
        """The jobs that are not finished."""
        return [job for job in jobs if not (self.folder / f"{job.name}.json").is_file()]

    def run(
        self, jobs: Sequence[Job], workers: int = 1, progress: bool = True, after: Callable[[], None] | None = None,
        cluster: Cluster | None = None,
    ) -> dict[str, str]:  # fmt: skip
        """Run the jobs that are not finished; a method that diverges is a result, not the end of the study.

        Args:
            workers: processes, each with one thread; with 1, all jobs run in this process. With a cluster, its tasks.
            progress: show a progress bar.
            after: called after every job.
            cluster: where the jobs run instead of here.

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
                with closing(self._results(todo, workers, cluster)) as results:  # stops the workers at an interrupt
                    for name, found in results:
                        if isinstance(found, Exception):
                            failed[name] = f"{type(found).__name__}: {found}"
                        elif cluster is None:  # tasks of a cluster have written it
                            write_json(self.folder / f"{name}.json", found)
                        bar.update(by_name[name].cost)
                        bar.set_postfix_str(name[:40])
                        if after is not None:
                            after()
            finally:
                kept = self.folder / f"{SECONDS}{'' if self.shard is None else f'-{self._own.name}'}"
                write_text(kept, str(_seconds(kept) + time.perf_counter() - started))
        for name, error in failed.items():
            if by_name[name].required:
                raise ValueError(f"{name}, which the other measurements need, failed: {error}")
        return failed

    def results(self) -> dict[str, dict[str, Any]]:
        """The name of each finished job -> what it returned.

        Raises:
            ValueError: naming a file that is damaged.
        """
        return {
            path.stem: read_part(path) for path in sorted(self.folder.glob("*.json")) if not path.name.startswith(".")
        }

    @property
    def seconds(self) -> float:
        """Time spent measuring, in this run and earlier ones, those of shards added up."""
        return sum(map(_seconds, self.folder.glob(f"{SECONDS}*")))

    def _results(self, todo: Sequence[Job], workers: int, cluster: Cluster | None) -> Generator[Found]:
        if cluster is not None:
            return measured(todo, _guarded, self.images, self.folder, workers, cluster)
        return _results(todo, self.images, workers)


def _seconds(file: Path) -> float:
    """The number in a file; 0 without one."""
    with suppress(OSError, ValueError):
        return float(file.read_text())
    return 0.0


def check_place(out: Path, key: Mapping[str, Any]) -> None:
    """Refuse a directory that holds something else than the study with this key; reads only.

    Raises:
        ValueError: saying what else it holds.
    """
    for name in ("parts", "images", "scenes"):
        if (out / name).is_symlink():
            raise ValueError(f"{out / name} is a symbolic link: remove it, or give another directory for --out")
    marker = out / "parts" / MARKER
    if not marker.is_file():
        if not _is_begun(out):
            raise ValueError(f"{out} holds other files: give a new directory, or an earlier study's, for --out")
        return
    try:
        before = dict(json.loads(marker.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise ValueError(f"{marker} is damaged: give another directory for --out") from error
    if different := _different(before, json.loads(_identity(key))):
        raise ValueError(
            f"{out} holds a study with another {', '.join(different)}: give another directory for --out to keep both"
        )


def place(base: Path, key: Mapping[str, Any]) -> Path:
    """The directory of a study that is given none: the base, or base-2, ... if others lie there.

    Args:
        base: for example runs/toy.
        key: what all jobs of the study depend on.
    """
    for number in itertools.count(1):
        path = base if number == 1 else base.with_name(f"{base.name}-{number}")
        if not path.exists():
            break
        with suppress(ValueError):
            check_place(path, key)
            break
    return path


def _is_begun(out: Path) -> bool:
    """Whether a directory holds nothing but what a study that was killed at once left."""
    if not out.exists():
        return True
    if not out.is_dir():
        return False
    kept = [each for each in out.iterdir() if each.name != LOCK and not each.name.startswith(DRAFT)]
    empty = lambda folder: all(each.name.startswith(DRAFT) for each in folder.iterdir())
    return all(each.name in ("parts", "images") and each.is_dir() and empty(each) for each in kept)


def _identity(key: Mapping[str, Any]) -> str:
    return json.dumps({**key, "version": __version__})


def _different(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """The names of the values that differ, those of nested mappings by their own names."""
    names: list[str] = []
    for name in {**before, **now}:
        one, other = before.get(name), now.get(name)
        if isinstance(one, dict) and isinstance(other, dict):
            names += _different(one, other)
        elif one != other:
            names.append(name)
    return names


def _results(todo: Sequence[Job], images: Path, workers: int) -> Generator[Found]:
    if workers == 1:
        for job in todo:
            yield _guarded(job, images)
        return
    with Workers(min(workers, len(todo)), partial(_guarded, out=images)) as pool:
        for job, found in pool.map(todo):
            if isinstance(found, Died):
                yield job.name, found
            elif isinstance(found, BaseException):
                raise found
            else:
                yield found


def _guarded(job: Job, out: Path) -> tuple[str, dict[str, Any] | Exception]:
    try:
        return job.name, job.function(out=out)
    except (FloatingPointError, ValueError) as error:
        return job.name, error
