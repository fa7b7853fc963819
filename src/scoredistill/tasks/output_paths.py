"""Where results go: output directories of commands without --out, and what cannot be one."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from scoredistill.files import DRAFT, FULL, slug
from scoredistill.ranks import Ranks
from scoredistill.tasks.lock import NAME as LOCK
from scoredistill.tasks.run_config import differences, read_config

RUNS = Path("runs")  # where the command line puts output directories


def is_vacant(path: Path) -> bool:
    """Whether a path is missing, or a directory with nothing but what a killed process left before it began."""
    return not path.exists() or all(p.name == LOCK or p.name.startswith(DRAFT) for p in path.iterdir())


def unwritable(path: Path, error: OSError) -> ValueError:
    """What is said when an output directory cannot be written."""
    advice = "free some space, or " if error.errno in FULL else ""
    return ValueError(f"cannot write to {path}: {error.strerror or error}; {advice}give another directory for --out")


def check_writable(path: Path) -> None:
    """Refuse a directory that cannot be written or created.

    Raises:
        ValueError: in one sentence.
    """
    if path.exists() and not path.is_dir():
        raise ValueError(f"{path} is a file: give a directory for --out")
    above = path
    while not above.exists() and above != above.parent:
        above = above.parent
    if not above.is_dir():
        raise ValueError(f"cannot write to {path}: {above} is a file; give another directory for --out")
    if not os.access(above, os.W_OK | os.X_OK):
        raise ValueError(f"cannot write to {path}: no permission to write in {above}; give another directory for --out")


@contextmanager
def reserved(
    given: Path | None, text: str, fallback: str, suffix: str = "", resume: bool = False,
    request: Mapping[str, Any] | None = None,
) -> Iterator[Path]:  # fmt: skip
    """The output directory of a command, held from now on, so that another command without --out takes another one.

    It is removed again if nothing is written.

    Args:
        given: --out.
        text, fallback, suffix, resume, request: see `default_out`.
    """
    ranks = Ranks.here()
    path, made = ranks.first(lambda: _reserve(given, text, fallback, suffix, resume, request))
    try:
        yield path
    finally:
        with suppress(OSError):
            for each in made if ranks.leads else ():
                each.rmdir()


def _reserve(
    given: Path | None, text: str, fallback: str, suffix: str, resume: bool, request: Mapping[str, Any] | None
) -> tuple[Path, list[Path]]:
    """The output directory, and the directories that were created for it, from the inside out."""
    made: list[Path] = []
    path = given
    while path is None:
        path = default_out(text, fallback, suffix, resume, request)
        if not resume:
            try:
                made = [each for each in (path, *path.parents) if not each.exists()]
                path.mkdir(parents=True)
            except FileExistsError:
                path = None
            except OSError:
                made = []  # the run says why
    return path, made


def default_out(
    text: str, fallback: str, suffix: str = "", resume: bool = False, request: Mapping[str, Any] | None = None,
    root: Path | None = None,
) -> Path:  # fmt: skip
    """The output directory of a command without --out: one that does not exist, so that no earlier run is replaced.

    The second run about the same is numbered: runs/an_owl-csd, runs/an_owl-csd-2.

    Args:
        text: what the run is about, such as its prompt.
        fallback: used if no letter of the text can stand in a file name.
        suffix: what follows, such as the method.
        resume: an existing directory instead: the last one of an unfinished run with the same settings, else the last
            unfinished one, else the last.
        request: the settings as far as they are given, to find the run to resume.
        root: directory of all runs; runs by default.
    """
    name = f"{slug(text) or fallback}{suffix}"
    existing: list[Path] = []
    while os.path.lexists(path := (root or RUNS) / (name if not existing else f"{name}-{len(existing) + 1}")):
        existing.append(path)
    if not resume or not existing:
        return path
    unfinished = [each for each in existing if not (each / "result.json").is_file()]
    same = [each for each in unfinished if (config := read_config(each)) and not differences(config, request or {})]
    return (same or unfinished or existing)[-1]
