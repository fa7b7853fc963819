"""Drawings as SVG: pure paths with absolute coordinates and colors of six digits."""

import math
from collections.abc import Mapping
from pathlib import Path as FilePath
from xml.sax.saxutils import escape, quoteattr

from scoredistill.files import write_text
from scoredistill.media.svg.drawing import Color, Contour, Drawing, Path

DIGITS = 3  # a coordinate is rounded to a thousandth of the canvas or finer
INVISIBLE = 1 / 255  # opacity below which nothing is seen


def to_svg(drawing: Drawing, title: str = "") -> str:
    """SVG of a drawing, with a white background only if there is a path for it.

    Paths that cannot be seen are left out: transparent ones, and those that lie outside the canvas.

    Args:
        drawing: the drawing; the order of its paths is kept.
        title: what it shows.
    """
    width, height = drawing.size
    decimals = max(0, DIGITS - math.floor(math.log10(max(width, height))))
    number = lambda value: _number(value, decimals)
    box = f"0 0 {number(width)} {number(height)}"
    lines = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="{box}">']
    lines += [f"<title>{escape(title)}</title>"] if title else []
    for path in drawing.paths:
        if _visible(path, drawing.size):
            data = "".join(_contour(contour, number) for contour in path.contours)
            parts = " ".join(f"{name}={quoteattr(value)}" for name, value in _style(path, number).items())
            lines.append(f'<path d="{data}"{" " if parts else ""}{parts}/>')
    return "\n".join([*lines, "</svg>"]) + "\n"


def write_svg(drawing: Drawing, path: str | FilePath, title: str = "") -> None:
    """Write a drawing as an SVG file, atomically; see `to_svg`."""
    write_text(path, to_svg(drawing, title))


def _visible(path: Path, size: tuple[float, float]) -> bool:
    """Whether anything of a path may be seen."""
    filled = path.fill is not None and path.fill_opacity > INVISIBLE
    stroked = path.stroke is not None and path.stroke_opacity > INVISIBLE and path.width > 0
    if not (path.contours and (filled or stroked)):
        return False
    margin = path.width / 2 if stroked else 0.0
    low = [min(float(c.points[:, axis].min()) for c in path.contours) - margin for axis in (0, 1)]
    high = [max(float(c.points[:, axis].max()) for c in path.contours) + margin for axis in (0, 1)]
    outside = any(high[axis] <= 0 or low[axis] >= size[axis] for axis in (0, 1))
    return not outside and all(high[axis] > low[axis] for axis in (0, 1))


def _style(path: Path, number) -> Mapping[str, str]:
    style: dict[str, str] = {"fill": "none" if path.fill is None else hexadecimal(path.fill)}
    if path.fill is not None and path.fill_opacity < 1:
        style["fill-opacity"] = _number(path.fill_opacity, 3)
    if path.fill is not None and path.even_odd:
        style["fill-rule"] = "evenodd"
    if path.stroke is not None:
        style |= {"stroke": hexadecimal(path.stroke), "stroke-width": number(path.width), "stroke-linejoin": "round"}
        style |= {} if path.butt else {"stroke-linecap": "round"}
        style |= {"stroke-opacity": _number(path.stroke_opacity, 3)} if path.stroke_opacity < 1 else {}
    return style


def hexadecimal(color: Color) -> str:
    """A color as #rrggbb."""
    return "#" + "".join(f"{round(255 * min(max(value, 0.0), 1.0)):02x}" for value in color)


def _contour(contour: Contour, number) -> str:
    """The path data of a contour."""
    pairs = [f"{number(x)} {number(y)}" for x, y in contour.points.tolist()]
    curves = [f"C{' '.join(pairs[i : i + 3])}" for i in range(1, len(pairs), 3)]
    return f"M{pairs[0]}{''.join(curves)}{'Z' if contour.closed else ''}"


def _number(value: float, decimals: int) -> str:
    """A number without superfluous digits."""
    text = f"{value:.{decimals}f}"
    text = text.rstrip("0").rstrip(".") if "." in text else text
    return "0" if text in ("-0", "") else text
