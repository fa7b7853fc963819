"""Files that a scene names, as they lie on this computer."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from pathlib import Path, PurePosixPath, PureWindowsPath


def located(written: str, *folders: Path, suffixes: Sequence[str] = ()) -> Path:
    """The file that a scene names, also by a path of Windows, or by an absolute path of another computer.

    Where no file has exactly that name, one that differs in upper and lower case or in the composition of its letters
    (as Windows and macOS allow) is taken.

    Args:
        written: the name in the file of the scene, relative to one of the folders or absolute.
        folders: where to look, in this order.
        suffixes: that may be missing from the name.

    Returns:
        The path of the first file found; without any, that in the first folder.
    """
    plain = written.replace("\\", "/")
    names = [written, plain]
    if PureWindowsPath(written).anchor or plain.startswith("/"):  # PureWindowsPath splits at both kinds of slash
        parts = PureWindowsPath(written).parts[1:]
        names += ["/".join(parts[k:]) for k in range(len(parts))]
    for name in names:
        for folder in folders:
            for suffix in ("", *suffixes):
                if (path := folder / (name + suffix)).is_file():
                    return path
    for name in names[1:]:
        for folder in folders:
            for suffix in ("", *suffixes):
                if (similar := _similar(folder, name + suffix)) is not None:
                    return similar
    return folders[0] / plain


def _similar(folder: Path, name: str) -> Path | None:
    """The file below a folder whose name differs in case or composition only; None if there is none."""
    parts = PurePosixPath(name).parts
    if not parts or PurePosixPath(name).is_absolute():
        return None
    here = folder
    for part in parts:
        if part == ".." or (here / part).exists():
            here = here / part
            continue
        try:
            alike = sorted(path for path in here.iterdir() if _folded(path.name) == _folded(part))
        except OSError:
            return None
        if not alike:
            return None
        here = alike[0]
    return here if here.is_file() else None


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()
