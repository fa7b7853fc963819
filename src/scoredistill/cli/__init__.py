"""The command line. Each command is a function in a file of its own; its --help is made of docstrings.

Exit codes: 0 done; 1 failed during the work (disk, memory, a missing package); 2 wrong input, said in one sentence
before any work; 130 interrupted (143, 129: ended by another signal). Interrupted runs can be resumed.
"""

import os
import re
import sys
import time
import warnings
from collections.abc import Sequence
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

from scoredistill import __version__
from scoredistill.cli.command_names import check_command
from scoredistill.cli.interrupts import PATIENCE, Terminated, prompt
from scoredistill.cli.launch import Launch
from scoredistill.cli.manner import Manner
from scoredistill.cli.method_names import before_texts, check_method
from scoredistill.files import FULL

TRAINING = 600.0  # seconds for an interrupted training to write what it learned
CLOSING = 15.0  # seconds for the web app to stop what runs

NO_MEMORY = re.compile("OutOfMemoryError|not enough memory|can't allocate memory|Cannot allocate memory")
CHECKPOINT = re.compile(r"checkpoint|^\.groups$|^before\.safetensors$")  # names of what a run can be resumed from
LONGEST = 1000  # characters of a message
HELP = ("--help", "-h", "--help-all")
SLOW = {
    "image": "starting: PyTorch and the model load in some seconds",
    "object": "starting: PyTorch and the model load in some seconds",
    "edit": "starting: PyTorch and the model load in some seconds",
    "demo": "starting: eight small runs, a few minutes",
}  # what is printed before torch is imported, which takes seconds


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of `scoredistill`."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")  # its advice on torchvision does not concern users
    typed = arguments is None
    manner, words = Manner.of(sys.argv[1:] if arguments is None else arguments)
    if words == ["--version"]:
        print(f"scoredistill {__version__}")
        return
    start = time.time()
    try:
        words = _named(words)
        launch = Launch(words)
    except ValueError as error:
        _stop(str(error), 2)
    try:
        patience = TRAINING if words[:2] == ["prior", "train"] else PATIENCE
        patience = CLOSING if words[:1] == ["ui"] else patience
        with prompt(lambda: f"scoredistill: {_interrupted(words, start)}", patience), warnings.catch_warnings():
            warnings.showwarning = _warn  # type: ignore[assignment]
            with launch:
                check_command(words)
                check_method(words)
                if (
                    typed
                    and manner.plain
                    and not set(HELP) & set(before_texts(words))
                    and words[:1]
                    and words[0] in SLOW
                ):
                    print(SLOW[words[0]], flush=True)
                with manner.speaking():
                    answer = _dispatch(_said(words, manner))
                manner.answer(" ".join(words[:1]), answer, start)
    except KeyboardInterrupt as end:
        code = end.code if isinstance(end, Terminated) else 130
        said = _interrupted(words, start) if launch.rank == 0 else None
        if typed:
            _leave(said, code)
        _stop(said, code)
    except BrokenPipeError:
        sys.exit(1)
    except (ValueError, FloatingPointError, OSError, ImportError, RuntimeError, MemoryError) as error:
        if os.environ.get("SCOREDISTILL_TRACEBACK") or (sentence := _sentence(error)) is None:
            raise
        code, lost = 2 if isinstance(error, ValueError) else 1, launch.lost(error)
        if lost:
            sentence = f"{sentence}: {_interrupted(words, start).partition('; ')[2] or 'give the command again'}"
        if launch.rank == 0:
            manner.fail(" ".join(words[:1]), sentence, code)
        _end(launch, sentence, code, lost)


def _named(arguments: Sequence[str]) -> list[str]:
    """The arguments with the name of the command: `scoredistill --config RUN` repeats a run, whatever made it.

    Raises:
        ValueError: if there is no such run.
    """
    first = arguments[0].partition("=") if arguments else ("", "", "")
    if first[0] != "--config":
        return list(arguments)
    place = first[2] or " ".join(arguments[1:2])
    from scoredistill.cli.repeat import command_of, run_of

    command = command_of(config) if (config := run_of(place)) else ""
    if not command:
        raise ValueError(
            f"{place or '--config'} holds no run: give --config the directory of a run, or its config.json"
        )
    return [command, *arguments]


def _sentence(error: BaseException) -> str | None:
    """What is said about an error of the user's input or of the machine; None for errors of the program."""
    if isinstance(error, MemoryError) or NO_MEMORY.search(f"{type(error).__name__} {error}"):
        return (
            "the device is out of memory: use fewer --particles or --views, --image latents, a smaller --size, "
            "--max-rows, --window, --offload model or --dtype float16"
        )
    if isinstance(error, OSError) and error.errno in FULL:
        return "the disk is full: free some space and give the command again, with --resume if it has it"
    if isinstance(error, RuntimeError):
        return None
    return " ".join(str(error).split())[:LONGEST]


def _said(arguments: list[str], manner: Manner) -> list[str]:
    """The arguments, with --quiet behind the name of the command if it is to show no progress, but for training."""
    if not manner.quiet or not arguments or arguments[:2] == ["prior", "train"]:
        return arguments
    return [*arguments[:1], "--quiet", *arguments[1:]]


def _interrupted(arguments: Sequence[str], start: float) -> str:
    """What an interrupted command says, which began at a time in seconds since 1970."""
    same, resumed = "the same command continues", "the same command with --resume continues"
    again = {"toy": same, "bench": same}.get(arguments[0]) if arguments else None
    if arguments[:1] in (["image"], ["object"], ["texture"], ["edit"], ["svg"]) and _resumable(arguments, start):
        again = resumed
        if "--overwrite" in arguments:
            again = "the same command with --resume in place of --overwrite continues"
    return f"interrupted; finished work is kept, and {again}" if again else "interrupted"


def _resumable(arguments: Sequence[str], start: float) -> bool:
    """Whether a run has written a checkpoint since a time, in seconds since 1970, in its output directory."""
    arguments = before_texts(arguments)
    given = [after for before, after in pairwise(arguments) if before == "--out"]
    given += [each.partition("=")[2] for each in arguments if each.startswith("--out=")]
    folders = [Path(given[-1])] if given else list(Path("runs").glob("*/"))
    folders += [inner for folder in folders for inner in folder.glob("*/")]  # of several prompts or seeds
    try:
        inside = [path for folder in folders if folder.is_dir() for path in folder.iterdir()]
        return any(CHECKPOINT.search(path.name) and path.stat().st_mtime >= start - 1 for path in inside)
    except OSError:
        return False


def _warn(message: Warning | str, *_: Any) -> None:
    """Show a warning as one sentence, without the line of source that raised it."""
    print(f"scoredistill: {message}", file=sys.stderr)


def _dispatch(arguments: list[str]) -> object:
    """Run a command and return what it answers; without one, show all."""
    if arguments[:2] == ["prior", "train"]:
        from scoredistill.training.command import main as train

        train(arguments[2:])
        return None
    if not arguments or arguments[0] in HELP:
        from scoredistill.cli.overview import overview

        print(overview())
        return None
    # late, because the commands import torch, which takes seconds: --version does not need it, and Ctrl-C is caught
    from scoredistill.cli.commands import dispatch

    return dispatch(arguments)


def _end(launch: Launch, sentence: str, code: int, lost: bool = False) -> None:
    """Say what is wrong, unless another process of the job does, and end."""
    prefix = launch.prefix(lost)
    said = None if prefix is None else f"{prefix}{sentence}"
    if launch.size > 1:  # connections to lost processes would be waited for
        _leave(said, code)
    _stop(said, code)


def _leave(sentence: str | None, code: int) -> None:
    """End the process now: without what Python does before, which takes a second once torch is imported."""
    with suppress(OSError, ValueError):
        if sentence is not None:
            print(f"scoredistill: {sentence}", file=sys.stderr)
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
    os._exit(code)


def _stop(sentence: str | None, code: int) -> None:
    if sentence is not None:
        print(f"scoredistill: {sentence}", file=sys.stderr)
    sys.exit(code)
