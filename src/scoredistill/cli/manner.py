"""What a command prints: lines for people, nothing with --quiet, or one JSON object with --json."""

import io
import json
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext, redirect_stdout
from dataclasses import dataclass
from typing import Any

QUIET, JSON = ("--quiet", "-q"), ("--json",)


@dataclass(frozen=True)
class Manner:
    """How a command speaks.

    Attributes:
        quiet: print errors and warnings only.
        json: print one JSON object on standard output (docs/command_line.md), and the rest on standard error.
    """

    quiet: bool = False
    json: bool = False

    @classmethod
    def of(cls, arguments: Sequence[str]) -> tuple["Manner", list[str]]:
        """The manner that a command line asks for, and the arguments without it."""
        words = list(arguments)
        end = words.index("--") if "--" in words else len(words)
        asked, rest = words[:end], words[end:]
        made = cls(any(each in QUIET for each in asked), any(each in JSON for each in asked))
        return made, [*(each for each in asked if each not in (*QUIET, *JSON)), *rest]

    @property
    def plain(self) -> bool:
        """Whether people read along."""
        return not (self.quiet or self.json)

    def speaking(self) -> AbstractContextManager[Any]:
        """Send what a command prints to where it belongs."""
        if self.plain:
            return nullcontext()
        return redirect_stdout(io.StringIO() if self.quiet else sys.stderr)

    def answer(self, command: str, content: object, start: float) -> None:
        """Print what a command returned, if JSON is asked for.

        Args:
            command: name of the command.
            content: a mapping; of commands that return something else, only name and time are printed.
            start: when it began, in seconds since 1970.
        """
        if self.json:
            made = content if isinstance(content, Mapping) else {}
            seconds = {} if "seconds" in made else {"seconds": round(time.time() - start, 2)}
            print(json.dumps({"command": command, **made, **seconds}, default=str))

    def fail(self, command: str, sentence: str, code: int) -> None:
        """Print an error, if JSON is asked for."""
        if self.json:
            print(json.dumps({"command": command, "error": sentence, "exit_code": code}))
