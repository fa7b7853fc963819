"""Line charts as inline SVG, with the standard library and NumPy only.

Colors of text and grid come from the style sheet of the report (classes `chart`, `grid`, `axis`, `name`, `series`), so
charts support light and dark mode. Series colors are those of Okabe and Ito (2008), which remain distinct under the
common color vision deficiencies.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import numpy as np

PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8C8C8C")
DASHES = ("none", "7 4", "2 3", "9 3 2 3")

WIDTH, HEIGHT = 760.0, 340.0
LEFT, RIGHT, TOP, BOTTOM = 74.0, 34.0, 40.0, 52.0
HUGE = 1e200  # larger values count as not finite, because the arithmetic of an axis would overflow

Line = tuple[np.ndarray, np.ndarray]


def color_of(i: int) -> str:
    """Hex color of the i-th series, from a repeating palette of seven colors."""
    return PALETTE[i % len(PALETTE)]


def dash_of(i: int) -> str:
    """SVG dash pattern of the i-th series: solid for the first seven, then another per repetition of the palette."""
    return DASHES[i // len(PALETTE) % len(DASHES)]


def line_chart(
    series: Mapping[str, Any], x_label: str = "", y_label: str = "", log_y: bool = False, log_x: bool = False
) -> str:
    """The SVG text of a line chart.

    Args:
        series: name -> values, or name -> tuple (xs, ys) of two sequences of one length. Values that are not finite,
            and values <= 0 on a logarithmic axis, interrupt the line. Long series are thinned to at most 400 points,
            which include all extremes.
        x_label, y_label: names of the axes.
        log_y, log_x: use logarithmic axes.

    Raises:
        ValueError: if xs and ys differ in length.
    """
    lines = [_read(name, values, log_y, log_x) for name, values in series.items()]
    x_axis = _Axis.of([xs for xs, _ in lines], LEFT, WIDTH - RIGHT, log=log_x)
    y_axis = _Axis.of([ys for _, ys in lines], HEIGHT - BOTTOM, TOP, log=log_y, pad=0.05)
    parts = _frame(x_axis, y_axis, x_label, y_label)
    for i, (name, line) in enumerate(zip(series, lines, strict=True)):
        parts.append(_draw(name, *thin(*line), x_axis, y_axis, i))
    if not any(np.isfinite(ys).any() for _, ys in lines):
        parts.append(f'<text x="{(LEFT + WIDTH) / 2}" y="{HEIGHT / 2}" text-anchor="middle">no finite values</text>')
    label = escape(f"{y_label or 'values'} over {x_label or 'index'}: {', '.join(series)}")
    box = f"0 0 {WIDTH:g} {HEIGHT:g}"
    return f'<svg class="chart" viewBox="{box}" role="img" aria-label="{label}">{"".join(parts)}</svg>'


def thin(xs: np.ndarray, ys: np.ndarray, limit: int = 400) -> Line:
    """At most `limit` points of a series: both ends, and the minimum, maximum and first gap of each of its parts."""
    if len(ys) <= limit:
        return xs, ys
    keep = {0, len(ys) - 1}
    finite = np.isfinite(ys)
    for stretch in np.array_split(np.arange(len(ys)), (limit - 2) // 3):
        there = stretch[finite[stretch]]
        if there.size:
            keep |= {int(there[ys[there].argmin()]), int(there[ys[there].argmax()])}
        if there.size < stretch.size:
            keep.add(int(stretch[~finite[stretch]][0]))
    index = sorted(keep)
    return xs[index], ys[index]


def ticks(low: float, high: float, count: int = 6, log: bool = False) -> list[tuple[float, str]]:
    """Round values in [low, high] with labels; powers of ten if a logarithmic axis spans enough of them."""
    if log:
        decades = range(math.ceil(math.log10(low)), math.floor(math.log10(high)) + 1)
        stride = max(1, math.ceil(len(decades) / (count + 1)))
        if len(decades) >= 3:
            return [(10.0**k, _power(k)) for k in decades[::stride]]
        fine = [m * 10.0**k for k in range(decades.start - 1, decades.stop + 1) for m in (1, 2, 5)]
        fine = [value for value in fine if low <= value <= high]
        if len(fine) >= 3:
            return [(value, f"{value:g}") for value in fine]
    rough = (high - low) / count
    size = 10.0 ** math.floor(math.log10(rough))
    step = next(m * size for m in (1, 2, 5, 10) if m * size >= rough * 0.999)
    values = [k * step for k in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]
    decimals = max(0, -math.floor(math.log10(step) + 1e-9))
    plain = step >= 1e-4 and max(abs(low), abs(high)) < 1e6
    return [(value, f"{value:,.{decimals}f}" if plain else f"{value:.6g}") for value in values]


class _Axis:
    """An axis, which maps values to pixels."""

    def __init__(self, low: float, high: float, start: float, end: float, log: bool) -> None:
        self.low, self.high, self.start, self.end, self.log = low, high, start, end, log

    @classmethod
    def of(cls, data: Sequence[np.ndarray], start: float, end: float, log: bool = False, pad: float = 0.0) -> _Axis:
        """The axis of all finite values, extended by the fraction `pad` of its length; constant data get a margin."""
        values = np.concatenate([*data, np.empty(0)])
        values = values[np.isfinite(values)]
        if not values.size:
            values = np.array([1.0, 10.0] if log else [0.0, 1.0])
        low, high = (float(v) for v in ((np.log10(values)) if log else values)[[values.argmin(), values.argmax()]])
        if high - low <= 1e-9 * max(abs(low), abs(high)):
            room = 0.5 if log or low == 0 else 0.1 * abs(low)
            low, high = low - room, high + room
        room = pad * (high - low)
        low, high = low - room, high + room
        return cls(10**low, 10**high, start, end, log) if log else cls(low, high, start, end, log)

    def __call__(self, value: Any) -> Any:
        """Pixel position of a value or an array of values; nan for gaps."""
        scale = np.log10 if self.log else np.asarray
        low, high = scale(self.low), scale(self.high)
        return self.start + (scale(value) - low) / (high - low) * (self.end - self.start)

    def ticks(self) -> list[tuple[float, str]]:
        """Values of the ticks with their labels."""
        return ticks(self.low, self.high, log=self.log)


def _read(name: str, values: Any, log_y: bool, log_x: bool) -> Line:
    """A series as float arrays (xs, ys), with nan in ys for gaps."""
    if isinstance(values, tuple) and len(values) == 2 and all(np.ndim(v) == 1 for v in values):
        xs, ys = (np.array(v, dtype=float) for v in values)
    else:
        ys = np.array(values, dtype=float).reshape(-1)
        xs = np.arange(len(ys), dtype=float)
    if len(xs) != len(ys):
        raise ValueError(f"series {name!r} has {len(xs)} xs but {len(ys)} ys: they must be equal in number")
    with np.errstate(invalid="ignore"):
        xs = np.where((np.abs(xs) < HUGE) & ((xs > 1 / HUGE) | (not log_x)), xs, np.nan)
        shown = (np.abs(ys) < HUGE) & np.isfinite(xs) & ((ys > 1 / HUGE) | (not log_y))
    return xs, np.where(shown, ys, np.nan)


def _frame(x_axis: _Axis, y_axis: _Axis, x_label: str, y_label: str) -> list[str]:
    """Grid lines, tick labels and axis names."""
    bottom, right = HEIGHT - BOTTOM, WIDTH - RIGHT
    parts = []
    for value, label in y_axis.ticks():
        y = y_axis(value)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text x="{LEFT - 9}" y="{y:.1f}" dy=".34em" text-anchor="end">{label}</text>')
    for value, label in x_axis.ticks():
        x = x_axis(value)
        parts.append(f'<line class="axis" x1="{x:.1f}" x2="{x:.1f}" y1="{bottom}" y2="{bottom + 4}"/>')
        parts.append(f'<text x="{x:.1f}" y="{bottom + 8}" dy=".85em" text-anchor="middle">{label}</text>')
    parts.append(f'<line class="axis" x1="{LEFT}" x2="{right}" y1="{bottom}" y2="{bottom}"/>')
    parts.append(f'<text class="name" x="0" y="{TOP - 18}">{escape(y_label)}</text>')
    parts.append(f'<text class="name" x="{right}" y="{HEIGHT - 4}" text-anchor="end">{escape(x_label)}</text>')
    return parts


def _draw(name: str, xs: np.ndarray, ys: np.ndarray, x_axis: _Axis, y_axis: _Axis, i: int) -> str:
    """The SVG of one series: a path that is interrupted by gaps, and dots for isolated points."""
    finite = np.isfinite(ys)
    runs = [run for run in np.split(np.arange(len(ys)), np.flatnonzero(~finite)) if finite[run].any()]
    path, dots = [], []
    for run in runs:
        run = run[finite[run]]
        points = [f"{x:.1f},{y:.1f}" for x, y in zip(x_axis(xs[run]), y_axis(ys[run]), strict=True)]
        if len(points) > 1:
            path.append("M" + "L".join(points))
        else:
            x, y = points[0].split(",")
            dots.append(f'<circle cx="{x}" cy="{y}" r="3.5"/>')
    color = color_of(i)
    drawn = f'<path d="{"".join(path)}" stroke="{color}" stroke-dasharray="{dash_of(i)}"/>' if path else ""
    return f'<g class="series" fill="{color}"><title>{escape(name)}</title>{drawn}{"".join(dots)}</g>'


def _power(k: int) -> str:
    return f"{10.0**k:g}" if -2 <= k <= 3 else "10" + str(k).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
