"""Small ICC profiles for tests of color management."""

import struct


def s15(x):
    return struct.pack(">i", round(x * 65536))


def linear_profile(space=b"RGB ", name="linear sRGB"):
    """A profile with the primaries of sRGB, or gray, and linear transfer, under a name that says sRGB."""
    desc = b"desc" + bytes(4) + struct.pack(">I", len(name) + 1) + name.encode() + b"\0" + bytes(78)
    xyz = lambda *values: b"XYZ " + bytes(4) + b"".join(map(s15, values))
    tags = {b"desc": desc, b"cprt": b"text" + bytes(4) + b"none\0", b"wtpt": xyz(0.9642, 1, 0.8249)}
    curve = b"curv" + bytes(4) + struct.pack(">I", 0)
    if space == b"GRAY":
        tags[b"kTRC"] = curve
    else:
        columns = ((0.43607, 0.22249, 0.01392), (0.38515, 0.71687, 0.09708), (0.14307, 0.06061, 0.7141))
        for letter, column in zip("rgb", columns, strict=True):
            tags[f"{letter}XYZ".encode()], tags[f"{letter}TRC".encode()] = xyz(*column), curve
    index, body, at = struct.pack(">I", len(tags)), b"", 132 + 12 * len(tags)
    for tag, data in tags.items():
        data += bytes(-len(data) % 4)
        index += tag + struct.pack(">2I", at + len(body), len(data))
        body += data
    head = struct.pack(">I4sI4s4s4s12s4s", at + len(body), b"", 0x02400000, b"mntr", space, b"XYZ ", bytes(12), b"acsp")
    head += bytes(68 - len(head)) + s15(0.9642) + s15(1) + s15(0.8249)
    return head + bytes(128 - len(head)) + index + body
