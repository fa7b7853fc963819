"""Ctrl-C, `kill` and a closed terminal end a command within two seconds, whatever it computes.

Python acts on a signal between two of its own instructions, and a call of a compiled library can take long. A thread
that the signal wakes ends the process if the command has not ended by itself. Nothing is lost by it: files are replaced
atomically, worker processes end with the command, and locks of directories end with the process.
"""

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType

PATIENCE = 1.5  # seconds for a command to end by itself
ENDING = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name))


class Terminated(KeyboardInterrupt):
    """The command was told to end by a signal other than Ctrl-C; its argument is the number of the signal."""

    @property
    def code(self) -> int:
        """The exit code that shells expect."""
        return 128 + int(self.args[0])


def _end(number: int, frame: FrameType | None) -> None:
    raise Terminated(number)


@contextmanager
def prompt(last_words: Callable[[], str], patience: float = PATIENCE) -> Iterator[None]:
    """End the process soon after a signal that asks for it; only in the main thread, else do nothing.

    Args:
        last_words: what to print if the command does not end by itself.
        patience: seconds that it has.
    """
    if threading.current_thread() is not threading.main_thread() or os.name == "nt":
        yield
        return
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    before = {number: signal.getsignal(number) for number in ENDING}
    for number in ENDING:
        if before[number] == signal.SIG_DFL:  # a signal that is ignored, as by nohup, stays so
            signal.signal(number, _end)
    woken = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    ended = threading.Event()

    def watch() -> None:
        number = 0
        while number not in (signal.SIGINT, *ENDING):
            received = os.read(reader, 1)
            if not received:  # the command has ended
                return
            number = received[0]
        if not ended.wait(patience):
            with suppress(OSError, ValueError):
                print(last_words(), file=sys.stderr, flush=True)
            os._exit(128 + number)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        signal.set_wakeup_fd(woken)
        for number in ENDING:
            signal.signal(number, before[number])
        os.close(writer)
        thread.join()
        os.close(reader)
