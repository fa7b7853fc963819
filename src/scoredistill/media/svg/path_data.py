"""The path data of SVG, M L H V C S Q T A Z in both cases, as contours of cubic curves.

Reference: Scalable Vector Graphics 2, Chapter 9, https://www.w3.org/TR/SVG2/paths.html; its notes on elliptical arcs,
https://www.w3.org/TR/SVG2/implnote.html#ArcImplementationNotes.
"""

import cmath
import math
import re

import numpy as np

from scoredistill.media.svg.drawing import Contour

TOKEN = re.compile(r"\s*,?\s*([MmLlHhVvCcSsQqTtAaZz]|[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)")
FLAG = re.compile(r"\s*,?\s*([01])")
ARGUMENTS = {"M": 2, "L": 2, "H": 1, "V": 1, "C": 6, "S": 4, "Q": 4, "T": 2, "A": 7, "Z": 0}


def contours_of(data: str) -> tuple[Contour, ...]:
    """The contours of path data.

    Raises:
        ValueError: if it is not path data, saying where.
    """
    pen = _Pen()
    for command, values in _commands(data):
        pen.draw(command, values)
    return pen.finished()


def finite(text: str) -> float:
    """A number of a text.

    Raises:
        ValueError: if it is infinite.
    """
    if not math.isfinite(value := float(text)):
        raise ValueError(f"the number {text[:40]} is too large: use coordinates near the canvas")
    return value


def _commands(data: str) -> list[tuple[str, list[float]]]:
    """Commands with their numbers; repeated numbers repeat the command.

    Raises:
        ValueError: if it is not path data.
    """
    found: list[tuple[str, list[float]]] = []
    at, command = 0, ""
    values: list[float] = []
    end = len(data.rstrip())
    while at < end:
        flag = command in "Aa" and len(values) in (3, 4) and command != ""
        match = (FLAG if flag else TOKEN).match(data, at)
        if match is None or (not found and not command and match[1] not in "Mm"):
            raise ValueError(
                f"the path data cannot be read at {data[at : at + 20]!r}: it begins with M and has only numbers and "
                "letters of paths"
            )
        at, token = match.end(), match[1]
        if token.isalpha():
            if values:
                raise ValueError(f"the path command {command} lacks numbers before {data[at - 1 : at + 19]!r}")
            command, values = token, []
            if command in "Zz":
                found.append((command, []))
            continue
        if command in "Zz":
            raise ValueError(f"the path has numbers behind Z, at {token!r}")
        values.append(finite(token))
        if len(values) == ARGUMENTS[command.upper()]:
            found.append((command, values))
            values = []
            command = {"M": "L", "m": "l"}.get(command, command)
    if values:
        raise ValueError(f"the path command {command} lacks numbers at the end")
    return found


class _Pen:
    """Draws commands; positions are complex numbers."""

    def __init__(self) -> None:
        self.done: list[Contour] = []
        self.points: list[complex] = []
        self.at = self.start = 0j
        self.control: tuple[str, complex] = ("", 0j)  # kind of the last curve and its last control point

    def draw(self, command: str, values: list[float]) -> None:
        """Draw one command."""
        kind, origin = command.upper(), self.at if command.islower() else 0j
        if kind == "M":
            self._end(closed=False)
            self.at = self.start = origin + complex(*values)
            self.control = ("", 0j)
            return
        if kind == "Z":
            if self.at != self.start:
                self._line(self.start)
            self._end(closed=True)
            self.at, self.control = self.start, ("", 0j)
            return
        points = [origin + complex(*values[i : i + 2]) for i in range(len(values) % 2, len(values) - 1, 2)]
        self.control = self._curve(kind, values, points, origin)

    def _curve(self, kind: str, values: list[float], points: list[complex], origin: complex) -> tuple[str, complex]:
        """Draw a line or a curve; returns what the next smooth curve continues."""
        last, control = self.control
        reflected = 2 * self.at - control
        if kind == "L":
            self._line(points[0])
        elif kind == "H":
            self._line(complex(origin.real + values[0], self.at.imag))
        elif kind == "V":
            self._line(complex(self.at.real, origin.imag + values[0]))
        elif kind == "C":
            self._cubic(*points)
            return "cubic", points[1]
        elif kind == "S":
            self._cubic(reflected if last == "cubic" else self.at, *points)
            return "cubic", points[0]
        elif kind in "QT":
            middle = points[0] if kind == "Q" else reflected if last == "quadratic" else self.at
            end = points[-1]
            self._cubic(self.at + (middle - self.at) * 2 / 3, end + (middle - end) * 2 / 3, end)
            return "quadratic", middle
        else:
            rx, ry, turn, large, sweep = values[:5]
            self._arc(rx, ry, turn, large != 0, sweep != 0, points[-1])
        return "", 0j

    def _cubic(self, first: complex, second: complex, end: complex) -> None:
        self.points = self.points or [self.at]
        self.points += [first, second, end]
        self.at = end

    def _line(self, end: complex) -> None:
        step = end - self.at
        self._cubic(self.at + step / 3, self.at + step * 2 / 3, end)

    def _arc(self, rx: float, ry: float, turn: float, large: bool, sweep: bool, end: complex) -> None:
        """An elliptical arc, as cubic curves of at most a quarter turn each."""
        rx, ry, start = abs(rx), abs(ry), self.at
        if start == end:
            return
        if rx == 0 or ry == 0:
            self._line(end)
            return
        along = cmath.exp(1j * math.radians(turn))
        half = (start - end) / 2 / along
        x, y = half.real / rx, half.imag / ry
        size = math.hypot(x, y)
        if not (1e-9 < size < math.inf):  # as good as straight, or radii that cannot be scaled
            self._line(end)
            return
        rx, ry, x, y = (rx * size, ry * size, x / size, y / size) if size > 1 else (rx, ry, x, y)
        apart = x * x + y * y
        height = math.sqrt(max(0.0, 1 / apart - 1)) * (-1 if large == sweep else 1)
        center = complex(height * y, -height * x)  # on the circle of radius 1
        first, last = cmath.phase(complex(x, y) - center), cmath.phase(complex(-x, -y) - center)
        span = (last - first) % (2 * math.pi)
        span = span if sweep else span - 2 * math.pi
        place = lambda z: (start + end) / 2 + along * complex(rx * (z + center).real, ry * (z + center).imag)
        parts = max(1, math.ceil(abs(span) / (math.pi / 2) - 1e-9))
        step = span / parts
        k = 4 / 3 * math.tan(step / 4)
        for i in range(parts):
            a, b = cmath.exp(1j * (first + i * step)), cmath.exp(1j * (first + (i + 1) * step))
            self._cubic(place(a * (1 + 1j * k)), place(b * (1 - 1j * k)), end if i + 1 == parts else place(b))

    def _end(self, closed: bool) -> None:
        if self.points:
            z = np.asarray(self.points)
            self.done.append(Contour(np.stack([z.real, z.imag], 1), closed))
        self.points = []

    def finished(self) -> tuple[Contour, ...]:
        """All contours."""
        self._end(closed=False)
        return tuple(self.done)
