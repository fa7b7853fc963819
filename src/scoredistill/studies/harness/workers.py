"""Worker processes that end at once when the study ends, however it ends.

Ctrl-C reaches every process of a terminal; workers leave it to the study, which stops them. A worker that the system
kills, for want of memory for example, fails its job and is replaced.
"""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from types import TracebackType
from typing import Any, Generic, TypeVar, cast

import torch

J = TypeVar("J")

PATIENCE = 1.0  # seconds that a terminated worker has to end by itself


class Died(RuntimeError):
    """A worker process ended during its job."""


class Workers(Generic[J]):
    """Context manager of processes, with one thread each, that apply a function to jobs.

    Args:
        count: number of processes.
        function: called with each job; both must be picklable.
    """

    def __init__(self, count: int, function: Callable[[J], Any]):
        self.count, self.function = count, function
        self._context = multiprocessing.get_context("spawn")
        self._running: dict[Connection, tuple[BaseProcess, J | None]] = {}

    def map(self, jobs: Sequence[J]) -> Iterator[tuple[J, Any]]:
        """Apply the function to all jobs.

        Yields:
            Each job as it ends, with what the function returned, or the exception that it raised, or `Died`.
        """
        todo = list(reversed(jobs))
        for _ in range(min(self.count, len(todo))):
            self._start()
        while todo or any(job is not None for _, job in self._running.values()):
            for pipe, (process, job) in list(self._running.items()):
                if job is None and todo:
                    job = todo.pop()
                    try:
                        pipe.send(job)
                    except (BrokenPipeError, ConnectionError):  # it died between jobs
                        todo.append(job)
                        del self._running[pipe]
                        pipe.close()
                        process.join(PATIENCE)
                        self._start()
                        continue
                    self._running[pipe] = (process, job)
            busy = [pipe for pipe, (_, job) in self._running.items() if job is not None]
            for ready in wait(busy) if busy else ():  # none if all had died
                pipe = cast(Connection, ready)
                process, job = self._running.pop(pipe)
                assert job is not None
                try:
                    found = pipe.recv()
                    self._running[pipe] = (process, None)
                except (EOFError, OSError):
                    process.join(PATIENCE)
                    found = Died(f"its process ended with exit code {process.exitcode}, perhaps for want of memory")
                    pipe.close()
                    if todo:
                        self._start()
                yield job, found

    def __enter__(self) -> "Workers[J]":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        processes = [process for process, _ in self._running.values()]
        for pipe in self._running:
            pipe.close()  # idle workers end
        for process in processes:
            process.terminate()
        for process in processes:
            process.join(PATIENCE)
            if process.is_alive():
                process.kill()
                process.join(PATIENCE)
        self._running.clear()

    def _start(self) -> None:
        ours, theirs = self._context.Pipe()
        process = self._context.Process(target=_work, args=(theirs, self.function), daemon=True)
        with _without_interrupts():
            process.start()
        theirs.close()
        self._running[ours] = (process, None)


@contextmanager
def _without_interrupts() -> Iterator[None]:
    """Hold Ctrl-C back, from this thread and for good from processes that it starts."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _work(pipe: Connection, function: Callable[[J], Any]) -> None:
    """Do jobs until the study ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    torch.set_num_threads(1)
    if (parent := multiprocessing.parent_process()) is not None:

        def follow() -> None:
            wait([parent.sentinel])
            os._exit(1)

        threading.Thread(target=follow, daemon=True).start()
    while True:
        try:
            job = pipe.recv()
        except (EOFError, OSError):
            return
        try:
            found = function(job)
        except Exception as error:
            found = error
        try:
            pipe.send(found)
        except (BrokenPipeError, ConnectionError):
            return
        except Exception:  # an exception that cannot be pickled
            pipe.send(RuntimeError(f"{type(found).__name__}: {found}"))
