"""PLY files: every variant of the format gives the same numbers, and broken files are refused."""

import itertools
import struct

import numpy as np
import pytest
import torch

from scoredistill.three_d import ply
from scoredistill.three_d.splatting import Gaussians, read_ply, write_ply

FORMATS = {"ascii": "", "binary_little_endian": "<", "binary_big_endian": ">"}
LETTERS = {"char": "b", "uchar": "B", "short": "h", "ushort": "H", "int": "i", "uint": "I", "float": "f", "double": "d"}
LONG = {"char": "int8", "uchar": "uint8", "short": "int16", "int": "int32", "float": "float32", "double": "float64"}


def encoded(form, elements, newline="\n", comments=("comment a b",)):
    """A file; elements are (name, [(property, type or (type of count, type))], rows)."""
    lines, body = ["ply", *comments, f"format {form} 1.0"], b""
    for name, properties, rows in elements:
        lines.append(f"element {name} {len(rows)}")
        for each, kind in properties:
            lines.append(
                f"property {kind} {each}" if isinstance(kind, str) else f"property list {' '.join(kind)} {each}"
            )
        for row in rows:
            words = []
            for (_, kind), value in zip(properties, row, strict=True):
                pairs = (
                    [(kind, value)]
                    if isinstance(kind, str)
                    else [(kind[0], len(value)), *((kind[1], v) for v in value)]
                )
                words += pairs
            if form == "ascii":
                body += " ".join(repr(v) for _, v in words).encode() + newline.encode()
            else:
                body += b"".join(struct.pack(FORMATS[form] + LETTERS[k], v) for k, v in words)
    return newline.join([*lines, "obj_info nothing", "end_header", ""]).encode() + body


MESH = [
    ("vertex", [("x", "float"), ("quality", "uchar"), ("y", "double")], [(0.5, 200, -1e-3), (2.0, 10, 7.25)]),
    ("empty", [("a", "int"), ("b", ("uchar", "int"))], []),
    ("even", [("flag", "char"), ("which", ("uchar", "int"))], [(-1, (1, 2, 3)), (5, (4, 5, 6))]),
    ("uneven", [("which", ("ushort", "short")), ("last", "uint"), ("more", ("int", "float"))],
     [((1, 2, 3), 9, ()), ((), 4000000000, (0.5,)), ((-7,), 1, (1.5, 2.5))]),
    ("nothing", [("none", ("uchar", "int"))], [((),), ((),)]),
]  # fmt: skip


@pytest.mark.parametrize(("form", "newline"), itertools.product(FORMATS, ["\n", "\r\n", "\r"]))
def test_all_formats_are_the_same(tmp_path, form, newline):
    (tmp_path / "a.ply").write_bytes(encoded(form, MESH, newline))
    found = ply.read(tmp_path / "a.ply")
    assert found.comments == ("a b",)
    assert list(found.elements) == ["vertex", "empty", "even", "uneven", "nothing"]
    vertex, even, uneven = (found.elements[name] for name in ("vertex", "even", "uneven"))
    assert vertex["x"].tolist() == [0.5, 2.0]
    assert vertex["y"].tolist() == [-1e-3, 7.25]
    assert (vertex["quality"].tolist(), vertex["quality"].dtype) == ([200, 10], np.uint8)
    assert even["flag"].tolist() == [-1, 5]
    assert (even["which"].lengths.tolist(), even["which"].values.tolist()) == ([3, 3], [1, 2, 3, 4, 5, 6])
    assert (uneven["which"].lengths.tolist(), uneven["which"].values.tolist()) == ([3, 0, 1], [1, 2, 3, -7])
    assert uneven["last"].tolist() == [9, 4000000000, 1]
    assert (uneven["more"].lengths.tolist(), uneven["more"].values.tolist()) == ([0, 1, 2], [0.5, 1.5, 2.5])
    assert found.elements["nothing"]["none"].lengths.tolist() == [0, 0]
    assert len(found.elements["empty"]["b"].values) == 0


@pytest.mark.parametrize("form", FORMATS)
def test_other_names_of_types_marks_and_long_texts(tmp_path, form):
    data = encoded(form, [("vertex", [(k, k) for k in LONG], [(-1, 250, -300, 70000, 0.5, 1e-9)] * 3)])
    head, tail = data.split(b"end_header\n")
    for old, new in LONG.items():
        head = head.replace(f"property {old} ".encode(), f"property  {new}\t".encode())
    mark = b"\xef\xbb\xbf" if form == "ascii" else b""
    (tmp_path / "a.ply").write_bytes(mark + head + b"end_header\n" + tail)
    found = ply.read(tmp_path / "a.ply").elements["vertex"]
    assert [found[k].tolist()[2] for k in LONG] == [-1, 250, -300, 70000, 0.5, 1e-9]


@pytest.mark.parametrize(("form", "kind", "newline"), itertools.product(FORMATS, ["float", "double"], ["\n", "\r\n"]))
@pytest.mark.parametrize("degree", [0, 1])
def test_gaussians_are_read_from_every_format(tmp_path, form, kind, newline, degree, rng):
    """With the properties in reverse order, others between them, and faces."""
    shapes = ((5, 3), (5, 3), (5, 4), (5,), (5, (degree + 1) ** 2, 3))
    some = Gaussians(*(torch.randn(shape, generator=rng) for shape in shapes))
    write_ply(tmp_path / "a.ply", some)
    table = ply.read(tmp_path / "a.ply").elements["vertex"]
    names = [*reversed(table), "red", "label"]
    kinds = [*[kind] * len(table), "uchar", "int"]
    columns = [*(table[name].tolist() for name in reversed(table)), [255] * 5, [-3] * 5]
    rows = list(zip(*columns, strict=True))
    face = ("face", [("vertex_indices", ("uchar", "int"))], [((0, 1, 2),)])
    data = encoded(
        form,
        [("camera", [("id", "uchar")], [(1,)]), ("vertex", list(zip(names, kinds, strict=True)), rows), face],
        newline,
    )
    (tmp_path / "b.ply").write_bytes(data)
    back = read_ply(tmp_path / "b.ply")
    for name in Gaussians.__dataclass_fields__:
        torch.testing.assert_close(getattr(back, name), getattr(some, name), rtol=1e-6, atol=1e-7)


GOOD = encoded("binary_little_endian", MESH[:1])


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"", "is not a PLY file"),
        (b"solid stl", "is not a PLY file"),
        (b"ply\nformat ascii 1.0\n", "is not a PLY file"),
        (GOOD[:-1], "is truncated"),
        (GOOD.replace(b"vertex 2", b"vertex 1000000000000000000"), "is truncated"),
        (GOOD.replace(b"vertex 2", b"vertex -2"), "invalid at 'element vertex -2'"),
        (GOOD.replace(b"format binary_little_endian 1.0\n", b""), "no line format"),
        (GOOD.replace(b"little", b"middle"), "invalid at 'format binary_middle_endian 1.0'"),
        (GOOD.replace(b"uchar", b"half"), "invalid at 'property half quality'"),
        (GOOD.replace(b"uchar quality", b"uchar x"), "invalid at 'property uchar x'"),
        (GOOD.replace(b"element vertex 2\n", b""), "invalid at 'property float x'"),
        (encoded("ascii", MESH).replace(b"0.5", b"half", 1), "values that are not numbers"),
        (encoded("ascii", MESH)[:-12], "is truncated"),
        (encoded("ascii", MESH[3:4]).replace(b" 9 0\n", b" 9 -1\n"), "list of negative length"),
        (encoded("binary_big_endian", MESH[:4])[:-3], "is truncated"),
    ],
)  # fmt: skip
def test_broken_files_are_refused(tmp_path, data, sentence):
    (tmp_path / "a.ply").write_bytes(data)
    with pytest.raises(ValueError, match=sentence):
        ply.read(tmp_path / "a.ply")
    with pytest.raises(ValueError, match="cannot be read"):
        ply.read(tmp_path / "none.ply")


def test_long_texts_are_parsed_in_parts():
    numbers = np.arange(10000) / 8
    text = "\n".join(f"{a} {b}" for a, b in numbers.reshape(-1, 2).tolist()).encode()
    assert ply._parsed(text).tolist() == numbers.tolist()
