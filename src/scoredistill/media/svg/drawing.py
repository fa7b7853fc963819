"""Vector drawings: paths of cubic Bezier curves with fill and stroke, from the back to the front."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

Color = tuple[float, float, float]  # red, green and blue in [0, 1]
Points = Float64[np.ndarray, "m 2"]
WHITE: Color = (1.0, 1.0, 1.0)


@dataclass(frozen=True, eq=False)
class Contour:
    """A chain of cubic curves.

    Attributes:
        points: control points (x, y), [3 n + 1, 2] for n curves; the last of a curve is the first of the next. The last
            point of a closed contour equals its first.
        closed: whether the end is joined to the start.
    """

    points: Points
    closed: bool = True

    def __post_init__(self) -> None:
        if len(self.points) < 4 or len(self.points) % 3 != 1:
            raise ValueError(f"a contour of n curves has 3 n + 1 points, not {len(self.points)}")


@dataclass(frozen=True, eq=False)
class Path:
    """Contours that are filled, stroked or both, the stroke over the fill.

    Attributes:
        contours: its contours; open ones are closed by a straight line for the fill.
        fill, stroke: colors; None for none.
        width: of the stroke, in the units of the drawing.
        fill_opacity, stroke_opacity: in [0, 1].
        even_odd: whether the fill follows the even-odd rule instead of the nonzero rule.
        butt: whether open contours end straight instead of round. Joins are round.
    """

    contours: tuple[Contour, ...]
    fill: Color | None = None
    stroke: Color | None = None
    width: float = 1.0
    fill_opacity: float = 1.0
    stroke_opacity: float = 1.0
    even_odd: bool = False
    butt: bool = False


@dataclass(frozen=True, eq=False)
class Drawing:
    """Paths on a white canvas.

    Attributes:
        size: (width, height) of the canvas in its own units.
        paths: from the back to the front.
    """

    size: tuple[float, float]
    paths: tuple[Path, ...]


def line(*points: tuple[float, float]) -> Points:
    """The control points of straight lines through points."""
    corners = np.asarray(points, dtype=np.float64)
    parts = np.arange(1, 4)[None, :, None] / 3
    steps = corners[:-1, None] + parts * (corners[1:, None] - corners[:-1, None])
    return np.concatenate([corners[:1], steps.reshape(-1, 2)])


KAPPA = 4 * (2**0.5 - 1) / 3  # of a cubic quarter of a circle


def ellipse(center: tuple[float, float], radii: tuple[float, float]) -> Points:
    """The control points of an ellipse in four curves, off by at most .03 % of the radius."""
    k = KAPPA
    unit = [
        (1, 0),
        (1, k),
        (k, 1),
        (0, 1),
        (-k, 1),
        (-1, k),
        (-1, 0),
        (-1, -k),
        (-k, -1),
        (0, -1),
        (k, -1),
        (1, -k),
        (1, 0),
    ]
    return np.asarray(center, dtype=np.float64) + np.asarray(unit, dtype=np.float64) * np.asarray(
        radii, dtype=np.float64
    )
