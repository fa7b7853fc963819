"""The queue of runs: one worker per device, first come, first served."""

import re
import threading
import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

from scoredistill.ui.calls import Call
from scoredistill.ui.worker import Main, Prepare, Worker

TAIL = 4096  # bytes of a log that are read for the progress
MESSAGES = 2**20  # bytes of a log that are read for messages
SAYS = "scoredistill: "  # begins what a command says to its user on standard error
BAR = re.compile(r"([^\r\n:|]*):\s+\d+%\|[^|]*\|\s*(\d+)/(\d+) \[([\d:]+)<([\d:?]+)")  # of tqdm
KEPT = 200  # jobs that are remembered


class State(Enum):
    """What has become of a job."""

    QUEUED = "waiting"
    RUNNING = "running"
    FINISHED = "finished"
    FAILED = "failed"
    STOPPED = "stopped"


ENDED = (State.FINISHED, State.FAILED, State.STOPPED)


@dataclass(frozen=True)
class Progress:
    """How far a run is.

    Attributes:
        what: the part of the work, as the command calls it.
        done, of: steps or frames.
        left: seconds until this part ends; None if not known yet.
    """

    what: str
    done: int
    of: int
    left: float | None

    @property
    def fraction(self) -> float:
        """In [0, 1]."""
        return self.done / max(1, self.of)


@dataclass(eq=False)
class Job:
    """One run that was asked for in the app.

    Attributes:
        call: what is run.
        log: file with what the command prints.
        state: what has become of it.
        begun, ended: times in seconds since 1970; None before.
    """

    call: Call
    log: Path
    state: State = State.QUEUED
    begun: float | None = None
    ended: float | None = None
    made: float = field(default_factory=time.time)

    @property
    def seconds(self) -> float:
        """Wall time of the command so far."""
        return 0.0 if self.begun is None else (self.ended or time.time()) - self.begun

    def progress(self) -> Progress | None:
        """How far the command is, as its progress bar says; None before there is one."""
        text, written = _tail(self.log, TAIL)
        found = list(BAR.finditer(text))
        if not found:
            return None
        what, done, of, _, left = found[-1].groups()
        seconds = None if "?" in left else max(0.0, _seconds(left) - (time.time() - written))
        return Progress(what.strip(), int(done), int(of), seconds)

    def messages(self) -> list[str]:
        """What the command said to its user: warnings, and last the reason if it failed."""
        text, _ = _tail(self.log, MESSAGES)
        lines = (line.rpartition("\r")[2] for line in text.splitlines())
        return list(dict.fromkeys(line[len(SAYS) :] for line in lines if line.startswith(SAYS)))


class Queue:
    """Runs jobs, one at a time on each device.

    Args:
        main, prepare: of workers.
        logs: directory for what commands print.
        devices: names of GPUs, one worker each; None stands for whatever the computer has.
    """

    def __init__(self, main: Main, prepare: Prepare, logs: Path, devices: Sequence[str | None] = (None,)):
        self._main, self._prepare, self._logs = main, prepare, logs
        self._jobs: deque[Job] = deque(maxlen=KEPT)
        self._waiting: deque[Job] = deque()
        self._workers: dict[Job, Worker | None] = {}
        self._changed = threading.Condition()
        self._closed = False
        self._threads = [threading.Thread(target=self._serve, args=(each,), daemon=True) for each in devices]
        for thread in self._threads:
            thread.start()

    def submit(self, call: Call) -> Job:
        """Add a run at the end of the queue."""
        with self._changed:
            job = Job(call, self._logs / f"{time.time_ns()}.log")
            self._jobs.append(job)
            self._waiting.append(job)
            self._changed.notify()
        return job

    def ahead(self, job: Job) -> int:
        """Number of jobs that come before a waiting one."""
        with self._changed:
            running = len(self._workers)
            return running + self._waiting.index(job) if job in self._waiting else 0

    def stop(self, job: Job) -> None:
        """Stop a job at once; what it keeps can be resumed. A job that has ended stays as it is."""
        with self._changed:
            if job in self._waiting:
                self._waiting.remove(job)
            elif job not in self._workers:
                return
            job.state, job.ended = State.STOPPED, time.time()
            if job in self._workers:
                if (worker := self._workers[job]) is not None:
                    worker.tell()
                return
        with suppress(OSError):
            job.call.out.rmdir()

    @property
    def jobs(self) -> list[Job]:
        """The last jobs, in the order in which they were asked for."""
        with self._changed:
            return list(self._jobs)

    def latest(self) -> Job | None:
        """The job that runs, or else the last one that was asked for."""
        jobs = self.jobs
        running = [job for job in jobs if job.state is State.RUNNING]
        return next(reversed(running or jobs), None)

    def close(self) -> None:
        """Stop everything."""
        with self._changed:
            self._closed = True
            jobs = [*self._waiting, *self._workers]
            self._changed.notify_all()
        for job in jobs:
            self.stop(job)
        for thread in self._threads:
            thread.join()

    def _serve(self, device: str | None) -> None:
        """Run jobs on a device until the queue is closed."""
        worker: Worker | None = None
        while not self._closed:
            if worker is not None and not worker.alive:
                worker.end()
                worker = None
            with suppress(Exception):  # of a process that cannot be started: tried again for the next job
                worker = worker or Worker(self._main, self._prepare, device)
            job = self._next(worker)
            if job is None:
                continue
            code = 1
            try:
                arguments = job.call.arguments()
                worker = worker or self._given(job, device)
                code = worker.run(arguments, job.log)
            except Exception as error:
                _say(job.log, f"this run cannot be started ({type(error).__name__}: {error})")
            self._finish(job, code)
        if worker is not None:
            worker.end()

    def _given(self, job: Job, device: str | None) -> Worker:
        """A new worker for a job that has none yet."""
        worker = Worker(self._main, self._prepare, device)
        with self._changed:
            self._workers[job] = worker
            if job.state is not State.RUNNING:  # stopped meanwhile
                worker.tell()
        return worker

    def _next(self, worker: Worker | None) -> Job | None:
        """Wait for a job and hand it to a worker; None when there is something else to do."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closed)
            if self._closed or (worker is not None and not worker.alive):
                return None
            job = self._waiting.popleft()
            job.state, job.begun = State.RUNNING, time.time()
            self._workers[job] = worker
            return job

    def _finish(self, job: Job, code: int) -> None:
        with self._changed:
            del self._workers[job]
            if job.state is State.RUNNING:
                job.state, job.ended = State.FAILED if code else State.FINISHED, time.time()
        with suppress(OSError):  # a directory in which nothing was written
            job.call.out.rmdir()


def _tail(path: Path, size: int) -> tuple[str, float]:
    """The end of a text file, and when it was written; "" if there is none."""
    try:
        with path.open("rb") as file:
            length = file.seek(0, 2)
            file.seek(max(0, length - size))
            return file.read().decode("utf-8", errors="replace"), path.stat().st_mtime
    except OSError:
        return "", 0.0


def _say(log: Path, what: str) -> None:
    """Add a message for the user to a log."""
    with suppress(OSError), log.open("a", encoding="utf-8") as file:
        file.write(f"\n{SAYS}{' '.join(what.split())}\n")


def _seconds(clock: str) -> float:
    """Seconds of a time like 1:02:03."""
    total = 0.0
    for part in clock.split(":"):
        total = 60 * total + float(part)
    return total
