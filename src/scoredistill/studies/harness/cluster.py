"""Jobs of a study on a cluster, by submitit: Slurm, processes of this machine, or this process for debugging.

The jobs are divided into as many tasks as there are workers, of one array. A task writes what it measures at once, so
that nothing is lost if it, or the command that waits for it, ends; a task that Slurm preempts, or that reaches its time
limit, is queued again and measures the rest.

Processes of this machine are better started by `workers`, which keeps them for many jobs: each of submitit's imports
PyTorch anew, does not report its progress, and takes no further jobs when it is done.
"""

import json
import math
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from scoredistill.files import write_json
from scoredistill.optional import require
from scoredistill.studies.harness.shards import Shard
from scoredistill.studies.harness.workers import Died

CLUSTERS = ("slurm", "local", "debug")
LOGS = ".tasks"  # directory in parts/ with the logs of tasks
PAUSE = 0.2  # seconds between looks at what is finished
MINUTES = {"slurm": 240, "local": 7 * 24 * 60, "debug": 240}  # time limit of a task

Found = tuple[str, dict[str, Any] | Exception]
Guarded = Callable[[Any, Path], Found]


@dataclass(frozen=True)
class Cluster:
    """Where submitit runs the jobs of a study.

    Args:
        name: a name of `CLUSTERS`.
        options: parameters of submitit's executor as NAME=VALUE, for example timeout_min=60, slurm_partition=gpu,
            gpus_per_node=1.

    Raises:
        ValueError: for an unknown name, or an option without a value.
        MissingExtra: if submitit is not installed.
    """

    name: str
    options: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.name not in CLUSTERS:
            raise ValueError(f"unknown executor {self.name!r}: use one of {', '.join(CLUSTERS)}")
        if wrong := [option for option in self.options if not option.partition("=")[2]]:
            raise ValueError(f"an executor's option is NAME=VALUE, such as timeout_min=60, not {wrong[0]!r}")
        require("submitit", "cluster", "an executor")

    @property
    def parameters(self) -> dict[str, Any]:
        """The parameters of submitit's executor; numbers as numbers."""
        given = dict(option.split("=", 1) for option in self.options)
        return {
            "name": "scoredistill",
            "timeout_min": MINUTES[self.name],
            "cpus_per_task": 1,
            **{name: _value(text) for name, text in given.items()},
        }

    def executor(self, folder: Path) -> Any:
        """The executor of submitit, with its logs in a folder.

        Raises:
            ValueError: if it does not run here or does not know a parameter.
        """
        submitit = require("submitit", "cluster", "an executor")
        try:
            made = submitit.AutoExecutor(folder=folder, cluster=self.name)
            made.update_parameters(**self.parameters)
        except (RuntimeError, NameError, ValueError, TypeError, AssertionError) as error:
            reason = " ".join(str(error).split())[:300]
            raise ValueError(f"submitit cannot start an executor {self.name!r}: {reason}") from error
        return made


def _value(text: str) -> int | float | str:
    """A number only if it is written as Python writes it: 007 or 1_0 may be names."""
    kind: type[int] | type[float]
    for kind in (int, float):
        with suppress(ValueError):
            if str(number := kind(text)) == text and math.isfinite(number):
                return number
    return text


def read_part(path: Path) -> dict[str, Any]:
    """What a finished job returned.

    Raises:
        ValueError: if the file is damaged, saying what to do.
    """
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path} is damaged: delete it, and the same command measures it again") from error


@dataclass(frozen=True)
class Task:
    """What a task of the cluster does: measure its jobs one after the other, and write each at once.

    Args:
        guarded: runs a job and returns its name and what was found, or the error.
        images: the directory for images.
        parts: the directory of what was measured.
        threads: of PyTorch.
    """

    guarded: Guarded
    images: Path
    parts: Path
    threads: int = 1

    def __call__(self, jobs: Sequence[Any]) -> dict[str, dict[str, Any] | Exception]:
        """The name of each job -> what was found, or the error."""
        before = torch.get_num_threads()
        torch.set_num_threads(self.threads)
        try:
            return {job.name: self._measured(job) for job in jobs}
        finally:  # the executor debug runs in the process of the study
            torch.set_num_threads(before)

    def checkpoint(self, jobs: Sequence[Any]) -> Any:
        """What submitit queues when the task is preempted: the same task, which finds what is finished."""
        return require("submitit", "cluster", "an executor").helpers.DelayedSubmission(self, jobs)

    def _measured(self, job: Any) -> dict[str, Any] | Exception:
        part = self.parts / f"{job.name}.json"
        if part.is_file():
            return read_part(part)
        try:
            _, found = self.guarded(job, self.images)
        except Exception as error:
            found = Died(f"{type(error).__name__}: {error}")
        if not isinstance(found, Exception):
            write_json(part, found)
        return found


def measured(
    jobs: Sequence[Any], guarded: Guarded, images: Path, parts: Path, tasks: int, cluster: Cluster
) -> Generator[Found]:
    """Run jobs on a cluster; tasks that have not ended are canceled when the generator is closed.

    Args:
        jobs: the jobs.
        guarded, images, parts: see `Task`.
        tasks: number of tasks at once.
        cluster: where.

    Yields:
        The name of each job as it is finished, with what was found, or the error.
    """
    if not jobs:
        return
    task = Task(guarded, images, parts, int(cluster.parameters["cpus_per_task"]))
    shares = [Shard(k + 1, tasks).of(jobs) for k in range(tasks)]
    shares = [share for share in shares if share]
    running = dict(enumerate(cluster.executor(parts / LOGS).map_array(task, shares)))
    left = {job.name for job in jobs}
    try:
        while left:
            ended = {k: _outcome(each) for k, each in running.items() if each.done()}
            for name in sorted(left):
                if (part := parts / f"{name}.json").is_file():
                    left.discard(name)
                    yield name, read_part(part)
            for k, found in ended.items():
                del running[k]
                for job in shares[k]:
                    if job.name in left:
                        left.discard(job.name)
                        yield job.name, found if isinstance(found, Died) else found[job.name]
            if left:
                time.sleep(PAUSE)
    finally:
        for each in running.values():
            each.cancel(check=False)


def _outcome(task: Any) -> Mapping[str, dict[str, Any] | Exception] | Died:
    """What a task that has ended returned."""
    try:
        return dict(task.results()[0])
    except Exception as error:  # as submitit tells it: with its log
        return Died(f"its task ended: {' '.join(str(error).split())[:300]}")
