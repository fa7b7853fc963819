"""Files that a scene names, as they lie on this computer."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Sequence
from pathlib import Path, PurePosixPath, PureWindowsPath


def located(written: str, *folders: Path, suffixes: Sequence[str] = (), outside: bool = False) -> Path:
    """The file that a scene names, also by a path of Windows, or by an absolute path of another computer.

    Where no file has exactly that name, one that differs in upper and lower case or in the composition of its letters
    (as Windows and macOS allow) is taken.

    Args:
        written: the name in the file of the scene, relative to one of the folders or absolute.
        folders: where to look, in this order.
        suffixes: that may be missing from the name.
        outside: whether a file may lie outside the folders, by its name or because it is a link.

    Returns:
        The path of the first file found; without any, that in the first folder.

    Raises:
        ValueError: if the only such file lies outside the folders, or no file can have that name.
    """
    if "\0" in written:
        raise ValueError(f"the name {written[:100]!r} in the file of the scene is none that a file can have")
    found = _found(written, folders, suffixes)
    inside = [path for path in found if outside or _within(path, folders)]
    if found and not inside:
        raise ValueError(
            f"{written[:200]!r} in the file of the scene leads out of its folder: copy the image into it, or trust the "
            "scene (--outside, outside=True)"
        )
    return inside[0] if inside else folders[0] / written.replace("\\", "/")


def _within(path: Path, folders: Sequence[Path]) -> bool:
    """Whether a file lies in one of the folders after all links are followed; images/ must not itself be a link."""
    roots = [each.parent.resolve() / each.name if each.name == "images" else each.resolve() for each in folders]
    return any(path.resolve().is_relative_to(root) for root in roots)


def _found(written: str, folders: Sequence[Path], suffixes: Sequence[str]) -> list[Path]:
    """The files of that name, or without any, the first of a similar name."""
    plain = written.replace("\\", "/")
    names = [written, plain]
    if PureWindowsPath(written).anchor or plain.startswith("/"):  # PureWindowsPath splits at both kinds of slash
        parts = PureWindowsPath(written).parts[1:]
        names += ["/".join(parts[k:]) for k in range(len(parts))]
    places = [folder / (name + suffix) for name in names for folder in folders for suffix in ("", *suffixes)]
    if found := [path for path in places if os.path.isfile(path)]:  # unlike Path.is_file, False for too long names
        return found
    for name in names[1:]:
        for folder in folders:
            for suffix in ("", *suffixes):
                if (similar := _similar(folder, name + suffix)) is not None:
                    return [similar]
    return []


def _similar(folder: Path, name: str) -> Path | None:
    """The file below a folder whose name differs in case or composition only; None if there is none."""
    parts = PurePosixPath(name).parts
    if not parts or PurePosixPath(name).is_absolute():
        return None
    here = folder
    for part in parts:
        if part == ".." or os.path.exists(here / part):
            here = here / part
            continue
        try:
            alike = sorted(path for path in here.iterdir() if _folded(path.name) == _folded(part))
        except OSError:
            return None
        if not alike:
            return None
        here = alike[0]
    return here if os.path.isfile(here) else None


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()
