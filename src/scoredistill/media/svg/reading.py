"""Drawings from SVG: shapes and paths with plain colors, and what groups and transforms do to them.

Whatever cannot be drawn by paths of one color each is refused by its name: text, images, gradients, masks, style
sheets. Entities are refused too, and so are files, paths and nesting without bounds, so that no file makes the reader
use much memory. Joins of strokes are drawn round, whatever the file says.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path as FilePath
from typing import NoReturn
from xml.parsers import expat

import numpy as np
from PIL import ImageColor

from scoredistill.media.svg.drawing import Color, Contour, Drawing, Path, ellipse, line
from scoredistill.media.svg.path_data import contours_of, finite

BYTES, DEPTH, CURVES, REACH = 5_000_000, 64, 20_000, 100.0  # limits: of the file, groups, curves, canvas sizes
SVG = "http://www.w3.org/2000/svg"
SHAPES = ("path", "rect", "circle", "ellipse", "line", "polyline", "polygon")
SKIPPED = (
    "title", "desc", "metadata", "defs", "linearGradient", "radialGradient", "pattern", "clipPath", "mask", "symbol",
    "marker", "filter",
)  # fmt: skip  # with what they contain
INHERITED = (
    "fill", "stroke", "stroke-width", "fill-opacity", "stroke-opacity", "fill-rule", "stroke-linecap", "color",
    "visibility",
)  # fmt: skip
REFUSED = (
    "filter",
    "mask",
    "clip-path",
    "stroke-dasharray",
    "marker-start",
    "marker-mid",
    "marker-end",
    "mix-blend-mode",
    "marker",
    "vector-effect",
    "transform-origin",
)
NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?")
LEAST, MOST = 1e-3, 1e6  # of the sides of a canvas and the widths of strokes
PIXELS = {"": 1.0, "px": 1.0, "in": 96.0, "pt": 96 / 72, "pc": 16.0, "cm": 96 / 2.54, "mm": 96 / 25.4}  # of a unit
SIDE = re.compile(rf"({NUMBER.pattern})(px|in|pt|pc|cm|mm|)")
IMPORTANT = re.compile(r"!\s*important\s*$", re.IGNORECASE)
PLACED = {"x", "y", "width", "height", "viewBox"}
COLOR = re.compile(r"rgba?\((.*?)[,/\s]\s*(\.\d+|\d+\.?\d*)(%?)\s*\)", re.IGNORECASE)
TRANSFORM = re.compile(r"\s*,?\s*(matrix|translate|scale|rotate|skewX|skewY)\s*\(([^)]*)\)")


def read_svg(path: str | FilePath) -> Drawing:
    """Read an SVG file.

    Raises:
        ValueError: if there is no such file, it is no SVG, or it holds what paths of one color cannot draw.
    """
    path = FilePath(path)
    if not path.is_file():
        raise ValueError(f"there is no file {path}: give an SVG file")
    if path.stat().st_size > BYTES:
        raise ValueError(f"{path} has more than {BYTES // 1_000_000} MB: simplify the drawing")
    try:
        return from_svg(path.read_bytes())
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def from_svg(text: str | bytes) -> Drawing:
    """The drawing of SVG text.

    Raises:
        ValueError: in one sentence that says what cannot be read.
    """
    root = _parsed(text)
    if root.name != "svg":
        raise ValueError(f"the root of an SVG is <svg>, not <{root.name}>")
    size, matrix = _canvas(root.attributes)
    _place_percentages(root, size)
    with np.errstate(all="ignore"):  # what is not finite is refused in the end
        try:
            paths = _collected(root, _Style(root.attributes.get("style", "")).over({}), matrix, 1.0)
        except ArithmeticError as error:
            raise ValueError("its numbers are too large or too small: use coordinates near the canvas") from error
    drawing = Drawing(size, tuple(paths))
    _check_size(drawing)
    return drawing


@dataclass
class _Element:
    """An element of SVG; the names of elements in other namespaces begin with a colon."""

    name: str
    attributes: Mapping[str, str]
    children: list["_Element"] = field(default_factory=list)


def _parsed(text: str | bytes) -> _Element:
    """The root element.

    Raises:
        ValueError: if it is not well-formed, has entities or nests too deeply.
    """
    parser = expat.ParserCreate(namespace_separator=" ")
    root = _Element("", {})
    above = [root]

    def start(name: str, attributes: dict[str, str]) -> None:
        if len(above) > DEPTH:
            raise ValueError(f"groups are nested more than {DEPTH} deep: simplify the drawing")
        space, _, local = name.rpartition(" ")
        if local == "style" and space in ("", SVG):
            raise ValueError("it has a <style> sheet, which is not read: save it with presentation attributes")
        made = _Element(local if space in ("", SVG) else f":{local}", attributes)
        above[-1].children.append(made)
        above.append(made)

    def refuse(*_: object) -> NoReturn:
        raise ValueError("it declares XML entities, which are not read: save it without them, as plain SVG")

    def instruct(target: str, _: str) -> None:
        if target == "xml-stylesheet":
            raise ValueError("it has an xml-stylesheet, which is not read: save it with presentation attributes")

    parser.StartElementHandler = start
    parser.ProcessingInstructionHandler = instruct
    parser.EndElementHandler = lambda name: above.pop()
    parser.EntityDeclHandler = refuse
    try:
        parser.Parse(text, True)
    except (expat.ExpatError, LookupError) as error:  # the latter for encodings that do not exist
        raise ValueError(f"it is not well-formed XML ({error}): save it again as plain SVG") from error
    return root.children[0]


def _canvas(attributes: Mapping[str, str]) -> tuple[tuple[float, float], np.ndarray]:
    """Size of the canvas in user units, and the matrix that moves its corner to the origin.

    Raises:
        ValueError: if the SVG does not say how large it is.
    """
    box = _numbers(attributes.get("viewBox", ""))
    if len(box) != 4:
        found = [SIDE.fullmatch(attributes.get(name, "").strip()) for name in ("width", "height")]
        sides = [finite(each[1]) * PIXELS[each[2]] for each in found if each is not None]
        if len(sides) != 2:
            raise ValueError("it does not say how large it is: give <svg> a viewBox")
        box = [0.0, 0.0, *sides]
    if not (box[2] > 0 and box[3] > 0 and all(map(math.isfinite, box))):
        raise ValueError(f"its canvas is empty ({box[2]:g} x {box[3]:g}): give <svg> a viewBox with a size")
    if not (min(box[2:]) >= LEAST and max(box[2:]) <= MOST):
        raise ValueError(
            f"its canvas is {box[2]:g} x {box[3]:g}: give <svg> a viewBox with sides of {LEAST} to {MOST:g}"
        )
    return (box[2], box[3]), np.array([[1, 0, -box[0]], [0, 1, -box[1]], [0, 0, 1.0]])


def _place_percentages(element: _Element, size: tuple[float, float]) -> None:
    """Replace percentages in the places and sizes of rectangles by user units."""
    if element.name == "rect":
        for names, side in ((("x", "width"), size[0]), (("y", "height"), size[1])):
            given = {name: element.attributes.get(name, "").strip() for name in names}
            lengths = {name: _length(text[:-1], name) for name, text in given.items() if text.endswith("%")}
            placed = {name: repr(side * part / 100) for name, part in lengths.items()}
            element.attributes = {**element.attributes, **placed}
    for child in element.children:
        _place_percentages(child, size)


@dataclass(frozen=True)
class _Style:
    """The properties of a style attribute."""

    text: str

    def over(self, attributes: Mapping[str, str]) -> dict[str, str]:
        """Attributes, replaced by the properties of the style."""
        pairs = (part.partition(":") for part in self.text.split(";") if ":" in part)
        return {**attributes, **{name.strip().lower(): IMPORTANT.sub("", value).strip() for name, _, value in pairs}}


def _collected(element: _Element, inherited: Mapping[str, str], matrix: np.ndarray, opacity: float) -> list[Path]:
    """The paths of an element and of what it contains.

    Raises:
        ValueError: if something in it cannot be drawn.
    """
    given = _Style(element.attributes.get("style", "")).over(element.attributes)
    if given.get("display") == "none" or element.name in SKIPPED or element.name.startswith(":"):
        return []
    for name in REFUSED:
        if given.get(name, "none") not in ("none", "normal"):
            raise ValueError(f"it uses {name} ({given[name]}), which paths of one color cannot draw: remove it")
    style = {**inherited, **{name: given[name] for name in INHERITED if given.get(name, "inherit") != "inherit"}}
    matrix = matrix @ _matrix(given.get("transform", ""))
    if not np.abs(matrix).max() <= 1e12:
        raise ValueError("a transform is too large: use coordinates near the canvas")
    own = _fraction(given.get("opacity", "1"), "opacity")
    if element.name in SHAPES:
        made = _shape(element, style, matrix)
        paths = [] if made is None or style.get("visibility", "visible") != "visible" else [made]
    elif element.name in ("g", "svg", "a"):
        if any(child.name == "svg" and PLACED & child.attributes.keys() for child in element.children):
            raise ValueError("it has an <svg> within with a place or size of its own: convert it to a group")
        paths = [path for child in element.children for path in _collected(child, style, matrix, 1.0)]
    else:
        raise ValueError(f"it has a <{element.name}>, which is no path: convert it to paths of one color")
    layers = sum((path.fill is not None) + (path.stroke is not None) for path in paths)
    if own < 1 and layers > 1:
        raise ValueError(f"it makes a group of {layers} layers transparent as a whole: give each its own opacity")
    return [
        replace(path, fill_opacity=own * path.fill_opacity, stroke_opacity=own * path.stroke_opacity) for path in paths
    ]


def _shape(element: _Element, style: Mapping[str, str], matrix: np.ndarray) -> Path | None:
    """The path of a shape; None for an empty one."""
    contours = _contours(element.name, element.attributes)
    if not contours:
        return None
    placed = tuple(Contour(c.points @ matrix[:2, :2].T + matrix[:2, 2], c.closed) for c in contours)
    fill, fill_alpha = _paint(style.get("fill", "black"), style)
    stroke, stroke_alpha = _paint(style.get("stroke", "none"), style)
    width = _length(style.get("stroke-width", "1"), "stroke-width")
    if stroke is not None:
        scales = np.linalg.svd(matrix[:2, :2], compute_uv=False)
        if scales[0] > 1.01 * scales[1]:
            raise ValueError("a transform stretches a stroke: convert the stroke to a path")
        width *= float(scales.mean())
        if width > 0 and not LEAST <= width <= MOST:
            raise ValueError(f"a stroke is {width:g} wide: give it a width of {LEAST} to {MOST:g}")
        if style.get("stroke-linecap") == "square":
            raise ValueError("a stroke has square ends: make them butt or round")
    return Path(
        placed, fill, stroke if width > 0 else None, width,
        fill_alpha * _fraction(style.get("fill-opacity", "1"), "fill-opacity"),
        stroke_alpha * _fraction(style.get("stroke-opacity", "1"), "stroke-opacity"),
        style.get("fill-rule") == "evenodd", style.get("stroke-linecap", "butt") == "butt",
    )  # fmt: skip


def _contours(name: str, attributes: Mapping[str, str]) -> tuple[Contour, ...]:
    """The contours of a shape in its own units; none for an empty one."""
    get = lambda *names: [_length(attributes.get(each, "0"), each) for each in names]
    if name == "path":
        return contours_of(attributes.get("d", ""))
    if name == "line":
        x1, y1, x2, y2 = get("x1", "y1", "x2", "y2")
        return (Contour(line((x1, y1), (x2, y2)), closed=False),)
    if name in ("polyline", "polygon"):
        values = _numbers(attributes.get("points", ""))
        pairs = list(zip(values[::2], values[1::2], strict=False))
        closed = name == "polygon"
        return (Contour(line(*pairs, *pairs[: int(closed)]), closed),) if len(pairs) > 1 else ()
    if name == "rect":
        x, y, width, height = get("x", "y", "width", "height")
        return _rectangle(x, y, width, height, attributes)
    cx, cy = get("cx", "cy")
    rx, ry = get("r", "r") if name == "circle" else get("rx", "ry")
    return (Contour(ellipse((cx, cy), (rx, ry))),) if rx > 0 and ry > 0 else ()


def _rectangle(x: float, y: float, width: float, height: float, attributes: Mapping[str, str]) -> tuple[Contour, ...]:
    """A rectangle, with round corners if it has radii."""
    if width <= 0 or height <= 0:
        return ()
    given = [attributes.get(name, "auto") for name in ("rx", "ry")]
    radii = [_length(a if a != "auto" else b if b != "auto" else "0", "rx") for a, b in (given, given[::-1])]
    rx, ry = min(radii[0], width / 2), min(radii[1], height / 2)
    if rx <= 0 or ry <= 0:
        return (Contour(line((x, y), (x + width, y), (x + width, y + height), (x, y + height), (x, y))),)
    arc = lambda dx, dy: f"a{rx} {ry} 0 0 1 {dx} {dy}"
    across, down = width - 2 * rx, height - 2 * ry
    return contours_of(
        f"M{x + rx} {y}h{across}{arc(rx, ry)}v{down}{arc(-rx, ry)}h{-across}{arc(-rx, -ry)}v{-down}{arc(rx, -ry)}Z"
    )


def _matrix(text: str) -> np.ndarray:
    """The matrix of a transform attribute.

    Raises:
        ValueError: if it is not one.
    """
    made, at = np.eye(3), 0
    text = "" if text.strip() == "none" else text
    while text[at:].strip():
        match = TRANSFORM.match(text, at)
        unit = {"translate": "px", "rotate": "deg", "skewX": "deg", "skewY": "deg"}.get(match[1], "") if match else ""
        values = _numbers(match[2].replace(unit, " ") if unit else match[2]) if match else []
        if match is None or len(values) not in {"matrix": (6,), "rotate": (1, 3)}.get(match[1], (1, 2)):
            raise ValueError(f"the transform {text[at : at + 40]!r} cannot be read: use matrix(a b c d e f)")
        made, at = made @ _step(match[1], values), match.end()
    return made


def _step(kind: str, values: list[float]) -> np.ndarray:
    """The matrix of one transform."""
    a, *rest = values
    if kind == "matrix":
        return np.array([values[0::2], values[1::2], [0, 0, 1]])
    if kind == "translate":
        return np.array([[1, 0, a], [0, 1, rest[0] if rest else 0], [0, 0, 1.0]])
    if kind == "scale":
        return np.diag([a, rest[0] if rest else a, 1.0])
    angle = math.radians(a)
    if kind == "rotate":
        x, y = rest or (0.0, 0.0)
        turn = np.array([[math.cos(angle), -math.sin(angle), 0], [math.sin(angle), math.cos(angle), 0], [0, 0, 1]])
        return _step("translate", [x, y]) @ turn @ _step("translate", [-x, -y])
    slant = np.eye(3)
    slant[(0, 1) if kind == "skewX" else (1, 0)] = math.tan(angle)
    return slant


def _paint(text: str, style: Mapping[str, str]) -> tuple[Color | None, float]:
    """Color and opacity of a paint.

    Raises:
        ValueError: if it is no plain color.
    """
    text = style.get("color", "black") if text.lower() == "currentcolor" else text.strip()
    if text.lower() in ("none", "transparent"):
        return None, 1.0
    try:
        text = re.sub(r"\s+icc-color\(.*\)$", "", text)
        match = COLOR.fullmatch(text)
        if match and len(re.split(r"[\s,]+", match[1].strip(" ,/"))) == 3:
            parts = ",".join(re.split(r"[\s,]+", match[1].strip(" ,/")))
            red, green, blue = ImageColor.getrgb(f"rgb({parts})")[:3]
            opacity = min(float(match[2]) / (100 if match[3] else 1), 1.0)
            return (red / 255, green / 255, blue / 255), opacity
        red, green, blue, *alpha = ImageColor.getrgb(text)
    except ValueError:
        raise ValueError(
            f"the color {text!r} is no plain color: use #rrggbb instead of gradients and patterns"
        ) from None
    return (red / 255, green / 255, blue / 255), alpha[0] / 255 if alpha else 1.0


def _numbers(text: str) -> list[float]:
    """The numbers in a text.

    Raises:
        ValueError: if one is infinite, or there is something else.
    """
    if NUMBER.sub(" ", text).replace(",", " ").strip():
        raise ValueError(f"{text[:40]!r} is no list of numbers: give numbers without units")
    return [finite(each) for each in NUMBER.findall(text)]


def _length(text: str, name: str) -> float:
    """A length in user units.

    Raises:
        ValueError: if it has another unit.
    """
    match = NUMBER.fullmatch(text.strip().removesuffix("px").strip())
    if match is None or not math.isfinite(float(match[0])):
        raise ValueError(f"{name} {text!r} is no number: give it in user units, without a unit")
    return float(match[0])


def _fraction(text: str, name: str) -> float:
    """An opacity, as a number or in percent."""
    part = 0.01 if text.strip().endswith("%") else 1.0
    return min(max(part * _length(text.strip().removesuffix("%"), name), 0.0), 1.0)


def _check_size(drawing: Drawing) -> None:
    """Refuse drawings without paths, of too many curves or with points far from the canvas.

    Raises:
        ValueError: in one sentence.
    """
    contours = [contour for path in drawing.paths for contour in path.contours]
    if not contours:
        raise ValueError("it has no paths: give an SVG that shows something")
    if (count := sum(len(contour.points) // 3 for contour in contours)) > CURVES:
        raise ValueError(f"it has {count} curves, more than {CURVES}: simplify the drawing")
    reach = max(float(np.abs(contour.points).max()) for contour in contours)
    if not reach <= REACH * max(drawing.size):
        raise ValueError(f"a point lies at {reach:g}, more than {REACH:g} canvas sizes away: remove it")
