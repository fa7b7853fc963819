"""Atomic writes, so that readers see either the old file or the new one; text of any encoding; names from text."""

import codecs
import errno
import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

MARKS = (  # that of UTF-32 begins with that of UTF-16
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
FULL = (errno.ENOSPC, errno.EDQUOT)  # errors of a full disk
DRAFT = ".draft-"  # how names of unfinished files and folders begin
LONGEST_DRAFT = 60  # characters of a name in the name of its draft


@contextmanager
def atomic(path: str | Path, durable: bool = False) -> Iterator[Path]:
    """Yield a temporary path beside `path`, which replaces `path` when the block ends and is removed if it fails.

    The temporary file is called .draft-... and keeps the suffix of `path`, for writers that choose the format by it:

        with atomic("image.png") as draft:
            image.save(draft)

    Args:
        path: the file to write.
        durable: wait until the content has reached the disk before it replaces the old one, so that neither a full disk
            nor a power cut leaves an empty file.
    """
    path = Path(path)
    draft = path.with_name(f"{DRAFT}{os.getpid()}-{path.stem[:LONGEST_DRAFT]}{path.suffix}")
    try:
        yield draft
        if durable:
            with draft.open("rb+") as written:
                os.fsync(written.fileno())
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def remove_drafts(folder: str | Path) -> None:
    """Remove the drafts that killed processes left in a directory; links are removed, not followed.

    The caller must know that no other process writes in the directory.
    """
    for draft in Path(folder).glob(f"{DRAFT}*"):
        if draft.is_dir() and not draft.is_symlink():
            shutil.rmtree(draft, ignore_errors=True)
        else:
            draft.unlink(missing_ok=True)


def read_text(path: str | Path) -> str:
    """Read a text file in UTF-8, or in the UTF-16 or UTF-32 that its byte-order mark names; the mark is removed.

    Raises:
        ValueError: if the bytes are not text in that encoding (a `UnicodeDecodeError`).
    """
    raw = Path(path).read_bytes()
    for mark, encoding in MARKS:
        if raw.startswith(mark):
            return raw[len(mark) :].decode(encoding)
    return raw.decode("utf-8")


def write_text(path: str | Path, text: str, durable: bool = False) -> None:
    """Write a text file (UTF-8) atomically, see `atomic`."""
    with atomic(path, durable) as draft:
        draft.write_text(text, encoding="utf-8")


def write_json(path: str | Path, value: Mapping[str, Any], indent: int = 1) -> None:
    """Write a JSON object atomically and durably, with a newline at the end."""
    write_text(path, json.dumps(value, indent=indent) + "\n", durable=True)


def slug(text: str, longest: int = 60) -> str:
    """Turn a text into a part of a file name: lower-case letters, digits and single underscores.

    Args:
        text: any text.
        longest: maximum length of the result, which may be empty, in characters; three times as many bytes of UTF-8.
    """
    short = re.sub(r"[\W_]+", "_", text.lower())[:longest]
    return short.encode()[: 3 * longest].decode(errors="ignore").strip("_")
