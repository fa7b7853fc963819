"""Writing files so that a reader, or a later run, sees the old file or the new one and never half of it."""

import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def atomic(path: str | Path) -> Iterator[Path]:
    """A draft beside `path` to write to; it replaces `path` when the block ends, and is removed if the block fails.

    The draft keeps the suffix of `path`, so that writers which choose the format by it work:

        with atomic("image.png") as draft:
            image.save(draft)
    """
    path = Path(path)
    draft = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
    try:
        yield draft
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def write_text(path: str | Path, text: str) -> None:
    """Write a text file (UTF-8) atomically."""
    with atomic(path) as draft:
        draft.write_text(text, encoding="utf-8")


def write_json(path: str | Path, value: Mapping[str, Any], indent: int = 1) -> None:
    """Write a JSON object atomically, with a newline at the end."""
    write_text(path, json.dumps(value, indent=indent) + "\n")


def slug(text: str, longest: int = 60) -> str:
    """A text as part of a file name: lower-case letters, digits and single underscores; may be empty."""
    return re.sub(r"[\W_]+", "_", text.lower())[:longest].strip("_")
