"""PLY files of any kind, as tables of numbers (http://paulbourke.net/dataformats/ply).

All variants of the format are read: ascii, binary_little_endian and binary_big_endian; any elements, with properties of
any type and in any order, lists included; comments and obj_info; lines that end as on Linux, Windows or old Macs.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int, Num

TYPES = {
    "char": "i1", "uchar": "u1", "short": "i2", "ushort": "u2", "int": "i4", "uint": "u4", "float": "f4",
    "double": "f8", "int8": "i1", "uint8": "u1", "int16": "i2", "uint16": "u2", "int32": "i4", "uint32": "u4",
    "float32": "f4", "float64": "f8",
}  # fmt: skip
FORMATS = {"ascii": "", "binary_little_endian": "<", "binary_big_endian": ">"}


@dataclass(frozen=True)
class Lists:
    """A property whose values are lists of numbers, one after the other.

    Args:
        lengths: of the lists, [n].
        values: of all lists, [sum of the lengths].
    """

    lengths: Int[np.ndarray, " n"]
    values: Num[np.ndarray, " m"]


Table = dict[str, np.ndarray | Lists]
"""Values of an element by the names of its properties."""


@dataclass(frozen=True)
class Ply:
    """The content of a file.

    Args:
        elements: tables by the names of the elements.
        comments: of the header, in order.
    """

    elements: dict[str, Table]
    comments: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Property:
    name: str
    kind: str  # type of the values, in numpy's letters
    counts: str | None = None  # type of the length of a list


@dataclass(frozen=True)
class _Element:
    name: str
    count: int
    properties: list[_Property]


def read(path: str | PathLike[str]) -> Ply:
    """Read a file; numbers keep their types.

    Raises:
        ValueError: if it cannot be read, is no PLY file, or is truncated or otherwise invalid.
    """
    path = Path(path)
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise ValueError(f"{path} cannot be read: check its name and permissions") from error
    start = re.match(rb"(?:\xef\xbb\xbf)?ply[ \t]*(\r\n|\n|\r)", raw)
    end = start and re.search(rb"[\r\n]end_header[ \t]*(?:" + start[1] + rb"|\r\n|$)", raw)
    if not start or not end:
        raise ValueError(f"{path} is not a PLY file: it must begin with the lines ply and format, and have end_header")
    order, elements, comments = _header(raw[start.end() : end.start()].decode("latin-1"), path.name)
    body = _Body(raw, end.end(), order, path.name)
    return Ply({element.name: body.table(element) for element in elements}, comments)


def _header(text: str, name: str) -> tuple[str, list[_Element], tuple[str, ...]]:
    """Byte order ("" for text), elements and comments."""
    order: str | None = None
    elements: list[_Element] = []
    comments: list[str] = []
    for line in re.split(r"\r\n|\n|\r", text):
        words = line.split()
        try:
            match words:
                case [] | ["obj_info", *_]:
                    pass
                case ["comment", *_]:
                    comments.append(line.strip()[len("comment") :].strip())
                case ["format", kind, "1.0"]:
                    order = FORMATS[kind]
                case ["element", element, count] if int(count) >= 0 and element not in {e.name for e in elements}:
                    elements.append(_Element(element, int(count), []))
                case ["property", "list", counts, kind, each] if TYPES[counts][0] != "f":
                    _add(elements[-1], _Property(each, TYPES[kind], TYPES[counts]))
                case ["property", kind, each]:
                    _add(elements[-1], _Property(each, TYPES[kind]))
                case _:
                    raise ValueError(line)
        except (ValueError, KeyError, IndexError) as error:
            raise ValueError(f"the header of {name} is invalid at {line.strip()!r}: export the file again") from error
    if order is None:
        raise ValueError(f"the header of {name} has no line format, as binary_little_endian 1.0: export the file again")
    return order, elements, tuple(comments)


def _add(element: _Element, new: _Property) -> None:
    if new.name in {each.name for each in element.properties}:
        raise ValueError(new.name)
    element.properties.append(new)


class _Body:
    """Reads the tables of a file one after the other."""

    def __init__(self, raw: bytes, at: int, order: str, name: str):
        self.raw, self.at, self.order, self.name = raw, at, order, name
        self.numbers = None if order else self._numbers(raw[at:])
        if not order:
            self.at = 0  # counts numbers instead of bytes

    def table(self, element: _Element) -> Table:
        """The next table, with rows of one layout at once: lists mostly have one length."""
        if not element.properties or not element.count:
            return {p.name: _empty(p) for p in element.properties}
        lists = [p for p in element.properties if p.counts]
        lengths = self._lengths(element.properties) if lists else {}
        rows = self._rows(element, lengths)
        if rows is None:
            return self._uneven(element)
        made: Table = {}
        for p in element.properties:
            values = rows[p.name] if p.counts is None or lengths[p.name] else np.zeros((element.count, 0), p.kind)
            kept = np.ascontiguousarray(values).astype(p.kind)
            counts = np.full(element.count, lengths.get(p.name, 0))
            made[p.name] = kept if p.counts is None else Lists(counts, kept.reshape(-1))
        return made

    def _rows(self, element: _Element, lengths: dict[str, int]) -> np.ndarray | None:
        """All rows as a structured array; None if their lists have other lengths than those of the first row."""
        layout: list[tuple[str, str, tuple[int, ...]]] = []
        for p in element.properties:
            if p.counts:
                layout.append((_count(p), self.order + p.counts if self.order else "f8", (1,)))
            if p.counts is None or lengths[p.name]:
                shape = () if p.counts is None else (lengths[p.name],)
                layout.append((p.name, self.order + p.kind if self.order else "f8", shape))
        dtype = np.dtype(layout)
        whole = self.numbers.view(np.uint8) if self.numbers is not None else np.frombuffer(self.raw, np.uint8)
        start = self.at * 8 if self.numbers is not None else self.at
        size = element.count * dtype.itemsize
        if start + size > len(whole):
            if lengths:
                return None
            raise self._truncated()
        rows = whole[start : start + size].view(dtype)
        if any((rows[_count(p)] != lengths[p.name]).any() for p in element.properties if p.counts):
            return None
        self.at += size // 8 if self.numbers is not None else size
        return rows

    def _lengths(self, properties: list[_Property]) -> dict[str, int]:
        """Lengths of the lists of the next row, which is not consumed."""
        before, found = self.at, {}
        for p in properties:
            if p.counts:
                found[p.name] = self._length(p.counts)
            self._take(p.kind, found.get(p.name, 1))
        self.at = before
        return found

    def _uneven(self, element: _Element) -> Table:
        """Rows one by one."""
        parts: dict[str, list[np.ndarray]] = {p.name: [] for p in element.properties}
        for _ in range(element.count):
            for p in element.properties:
                parts[p.name].append(self._take(p.kind, self._length(p.counts) if p.counts else 1))
        made: Table = {}
        for p in element.properties:
            values = np.concatenate(parts[p.name])
            counts = np.array([len(part) for part in parts[p.name]])
            made[p.name] = values if p.counts is None else Lists(counts, values)
        return made

    def _length(self, kind: str) -> int:
        length = int(self._take(kind, 1)[0])
        if length < 0:
            raise ValueError(f"{self.name} has a list of negative length: export the file again")
        return length

    def _take(self, kind: str, count: int) -> np.ndarray:
        if self.numbers is not None:
            taken = self.numbers[self.at : self.at + count]
            self.at += count
            if len(taken) < count:
                raise self._truncated()
            return taken.astype(kind)
        dtype = np.dtype(self.order + kind)
        if self.at + count * dtype.itemsize > len(self.raw):
            raise self._truncated()
        taken = np.frombuffer(self.raw, dtype, count, self.at)
        self.at += count * dtype.itemsize
        return taken.astype(kind)

    def _numbers(self, text: bytes) -> Float[np.ndarray, " n"]:
        try:
            return np.array(text.split(), np.float64) if len(text) < 2**20 else _parsed(text)
        except ValueError as error:
            raise ValueError(f"{self.name} has values that are not numbers: export the file again") from error

    def _truncated(self) -> ValueError:
        return ValueError(f"{self.name} is truncated: save or download it again")


def _parsed(text: bytes) -> Float[np.ndarray, " n"]:
    """Numbers of a long text, line by line in parts, because words need many times the memory of numbers."""
    lines = text.splitlines()
    parts = [lines[start : start + 4096] for start in range(0, len(lines), 4096)]
    return np.concatenate([np.array(b" ".join(part).split(), np.float64) for part in parts])


def _empty(p: _Property) -> np.ndarray | Lists:
    values = np.zeros(0, p.kind)
    return values if p.counts is None else Lists(np.zeros(0, np.int64), values)


def _count(p: _Property) -> str:
    return f"{p.name} (count)"  # no name of a property has a space
