"""Text for terminals: two columns, wrapped lines, first sentences."""

import shutil
import textwrap
from collections.abc import Sequence

INDENT, NARROWEST, WIDEST = 2, 60, 110  # columns


def width() -> int:
    """Width of the terminal, at most what reads well."""
    return max(NARROWEST, min(WIDEST, shutil.get_terminal_size((100, 24)).columns))


def wrapped(text: str, indent: int = 0) -> list[str]:
    """A text as lines, all but the first of which are indented."""
    return textwrap.wrap(text, width(), subsequent_indent=" " * indent, break_long_words=False, break_on_hyphens=False)


def rows(pairs: Sequence[tuple[str, str]], first: int) -> list[str]:
    """Two columns; what is too wide for the first one stands on a line of its own.

    Args:
        pairs: the texts of every row.
        first: width of the first column.
    """
    lines, margin = [], " " * (INDENT + first)
    for name, text in pairs:
        parts = textwrap.wrap(text, width() - len(margin), break_long_words=False, break_on_hyphens=False) or [""]
        head = f"{' ' * INDENT}{name}"
        if len(name) < first:
            head = f"{head:<{len(margin)}}{parts.pop(0)}".rstrip()
        lines += [head, *(f"{margin}{part}" for part in parts)]
    return lines


def first_sentence(text: str) -> str:
    """The text up to the end of its first sentence; periods in brackets and in names of files end none."""
    depth = 0
    for at, letter in enumerate(text):
        depth += (letter in "([") - (letter in ")]")
        if depth <= 0 and letter in ".;" and text[at + 1 : at + 2] in ("", " "):
            return f"{text[:at]}."
    return text
