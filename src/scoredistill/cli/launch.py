"""A command as one of the processes that `torchrun` or `accelerate launch` starts, see `scoredistill.ranks`.

Only rank 0 prints. What ends a job is said once: by rank 0 if it knows, else by the rank where it happened.
"""

import os
import time
from collections.abc import Sequence
from contextlib import ExitStack, redirect_stderr, redirect_stdout, suppress
from types import TracebackType
from typing import Any

JOINT = ("image", "object", "svg", "edit")  # commands that several processes carry out together
BRIEF = 0.5  # seconds that rank 0 has to say what is wrong


class Launch:
    """Context manager in which a command runs: joins the other processes, and leaves them after success.

    Without other processes it does nothing.

    Args:
        arguments: of the command line.

    Attributes:
        rank, size: number of this process and of all, from the environment.

    Raises:
        ValueError: when entered, if the command does not run in several processes, or the environment is incomplete.
    """

    def __init__(self, arguments: Sequence[str]):
        self.command = arguments[0] if arguments else ""
        self.size = _number("WORLD_SIZE", 1)
        self.rank = _number("RANK", 0) if self.size > 1 else 0
        self._store: Any = None
        self._silence = ExitStack()

    def __enter__(self) -> "Launch":
        if self.size == 1:
            return self
        os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # warnings about lost connections, which we put in words
        if self.rank > 0:
            nothing = self._silence.enter_context(open(os.devnull, "w", encoding="utf-8"))
            self._silence.enter_context(redirect_stdout(nothing))
            self._silence.enter_context(redirect_stderr(nothing))
        try:
            if self.command not in JOINT:
                raise ValueError(
                    f"{self.command or 'this'} does not run in several processes together, only {', '.join(JOINT)} do: "
                    "start it once, and divide a study by --shard"
                )
            from scoredistill.ranks import join

            self._store = join()
        except BaseException:
            self._silence.close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._silence.close()
        if self._store is not None and kind is None:
            from scoredistill.ranks import leave

            leave()

    def lost(self, error: BaseException) -> bool:
        """Whether an error is that another rank has ended."""
        if self.size == 1:
            return False
        from scoredistill.ranks import Lost

        return isinstance(error, Lost)

    def prefix(self, lost: bool) -> str | None:
        """What stands before a sentence that ends the command; None if another rank says it.

        Args:
            lost: whether the sentence is that another rank has ended.
        """
        if self.size == 1:
            return ""
        if self._store is None:
            return "" if self.rank == 0 else None
        with suppress(RuntimeError):  # the store may have ended with another rank
            if lost:
                return "" if self._store.add("lost", 1) == 1 else None
            if self.rank == 0:
                self._store.set("said", "")
                time.sleep(2 * BRIEF)  # until the others have read it, as the store may end with this process
                return ""
            if not self._said():
                return f"rank {self.rank}: "
            return None
        return "" if self.rank == 0 else f"rank {self.rank}: "

    def _said(self) -> bool:
        """Whether rank 0 says what is wrong."""
        until = time.monotonic() + BRIEF
        while not self._store.check(["said"]):
            if time.monotonic() > until:
                return False
            time.sleep(BRIEF / 20)
        return True


def _number(name: str, default: int) -> int:
    """A number in the environment.

    Raises:
        ValueError: if it is none.
    """
    said = os.environ.get(name, str(default))
    if not said.strip().isdigit():
        raise ValueError(f"the environment variable {name} must be a number, not {said!r}: unset it")
    return int(said)
