"""A process that runs commands, one after the other, with everything imported beforehand.

A command runs here as it does in a terminal: its output goes to a log, a signal stops it within a step, and what it
keeps then is what it always keeps. A worker that was stopped, or that died, is replaced by a new one.
"""

import gc
import multiprocessing
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection, wait
from pathlib import Path

PATIENCE = 5.0  # seconds that a stopped command has to end by itself
TICK = 0.1  # seconds between two looks at a command that runs
DEVICES = "CUDA_VISIBLE_DEVICES"

Main = Callable[[], None]  # runs the command of sys.argv; ends by SystemExit or returns
Prepare = Callable[[], None]


class Worker:
    """One process.

    Args:
        main: the command line; picklable.
        prepare: imports what commands need; picklable.
        device: index of the GPU that commands see; None for whatever the computer has.
    """

    def __init__(self, main: Main, prepare: Prepare, device: str | None = None):
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_work, args=(theirs, main, prepare, device), daemon=True)
        self._process.start()
        theirs.close()
        self._told: float | None = None

    @property
    def alive(self) -> bool:
        """Whether the process runs and has not been told to end."""
        return self._told is None and self._process.is_alive()

    def run(self, arguments: Sequence[str], log: Path) -> int:
        """Run a command and wait for its end.

        Args:
            arguments: after `scoredistill`.
            log: file for what it prints.

        Returns:
            Its exit code; negative for the number of the signal that ended it.
        """
        try:
            self._pipe.send((list(arguments), str(log)))
            while not self._pipe.poll(TICK):
                if self._told is not None and time.monotonic() - self._told > PATIENCE:
                    self._process.kill()
            return int(self._pipe.recv())
        except (EOFError, OSError):
            self.end()
            code = self._process.exitcode
            return 1 if code is None else code

    def tell(self) -> None:
        """Tell the process to end, and do not wait; a command that runs keeps what can be resumed."""
        self._told = time.monotonic()
        self._process.terminate()

    def end(self) -> None:
        """End the process and wait for it."""
        self.tell()
        self._process.join(PATIENCE)
        if self._process.is_alive():
            self._process.kill()
            self._process.join(PATIENCE)


def _work(pipe: Connection, main: Main, prepare: Prepare, device: str | None) -> None:
    """Run commands until the app ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C in the terminal is for the app, which stops this process
    if device is not None:
        os.environ[DEVICES] = device
    if (parent := multiprocessing.parent_process()) is not None:
        threading.Thread(target=_follow, args=(parent.sentinel,), daemon=True).start()
    prepare()
    while True:
        try:
            arguments, log = pipe.recv()
        except (EOFError, OSError):
            return
        pipe.send(_run(main, arguments, log))
        gc.collect()


def _follow(sentinel: int) -> None:
    """End with the parent, however that ends."""
    wait([sentinel])
    os._exit(1)


def _run(main: Main, arguments: list[str], log: str) -> int:
    """Run one command with its output in a file; its exit code."""
    with open(log, "ab", buffering=0) as file:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        for descriptor in (1, 2):
            os.dup2(file.fileno(), descriptor)
    sys.argv = ["scoredistill", *arguments]
    try:
        main()
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 0 if end.code is None else 1
    except BaseException as error:
        traceback.print_exc()
        words = " ".join(str(error).split())
        print(f"scoredistill: this should not have happened ({type(error).__name__}: {words})", file=sys.stderr)
        return 1
    finally:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
    return 0
