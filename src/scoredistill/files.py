"""Atomic writes, so that readers and later runs see either the old file or the new one; file names from text."""

import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def atomic(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`, which replaces `path` when the block ends and is removed if it fails.

    The temporary file keeps the suffix of `path`, for writers that choose the format by it:

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
    """Turn a text into a part of a file name: lower-case letters, digits and single underscores.

    Args:
        text: any text.
        longest: maximum length of the result, which may be empty.
    """
    return re.sub(r"[\W_]+", "_", text.lower())[:longest].strip("_")
