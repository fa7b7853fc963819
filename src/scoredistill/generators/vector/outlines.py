r"""Outlines of filled and stroked Bezier curves as polygons.

A cubic curve with control points p_0 ... p_3 is B(t) = sum_k C(3, k) t^k (1 - t)^(3 - k) p_k. It is flattened at equal
steps of t, whose chords are off by at most |B''| / (8 n^2).

The outline of a stroke of half width h is p + h n on one side of the curve and p - h n on the other, with the normal n
turning at corners (round joins) and at open ends (round caps, or straight butt ends). Where the curve bends more
sharply than 1 / h the outline crosses itself; its winding number, the number of minima minus the number of maxima of
the distance to the curve, is nevertheless at least 1 all over the stroke and 0 outside.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

ROUND = 8  # chords of a round join or cap
TURN = 3  # chords of the turn between two chords of a curve, which is sharp only near cusps
TOLERANCE = 0.1  # largest distance in pixels between a curve as large as the canvas and its chords


def chords(side: int) -> int:
    """Number of chords per curve for a canvas of `side` pixels: enough for curves as large as the canvas."""
    return math.ceil(math.sqrt(6 * side / (8 * TOLERANCE)))


def flattened(curves: Float[Tensor, "c 4 2"], n: int) -> Float[Tensor, "c m 2"]:
    """The n + 1 vertices of curves in n chords; the ends are the control points themselves."""
    t = torch.linspace(0, 1, n + 1, dtype=curves.dtype, device=curves.device)
    weights = torch.stack([math.comb(3, k) * t**k * (1 - t) ** (3 - k) for k in range(4)], 1)
    return weights @ curves


def fill_edges(curves: Float[Tensor, "c 4 2"], n: int) -> Float[Tensor, "c n 2 2"]:
    """Edges of closed curves in n chords."""
    points = flattened(curves, n)
    return torch.stack([points[:, :-1], points[:, 1:]], 2)


@dataclass(frozen=True, eq=False)
class Strokes:
    """How the curves of strokes are joined.

    Attributes:
        following: index of the curve that begins where each curve ends, [c]; itself at open ends.
        first, last: which curves are the first or the last of an open contour, [c].
        butt: which curves have butt ends instead of round ones, [c].
    """

    following: Int[Tensor, " c"]
    first: Bool[Tensor, " c"]
    last: Bool[Tensor, " c"]
    butt: Bool[Tensor, " c"]


def stroke_edges(
    curves: Float[Tensor, "c 4 2"], half: Float[Tensor, " c"], how: Strokes, n: int
) -> Float[Tensor, "c k 2 2"]:
    """Edges of the outlines of strokes, by curve.

    Args:
        curves: control points in pixels.
        half: half of the width of each curve in pixels.
        how: joins and ends.
        n: chords per curve.

    Returns:
        The edges of each curve: both sides, its joins to the following curve, and its caps.
    """
    points = flattened(curves, n)
    across = _normals(points)
    offset = half[:, None, None] * across
    start, end = points[:, :-1], points[:, 1:]
    left, right = torch.stack([start + offset, end + offset], 2), torch.stack([end - offset, start - offset], 2)
    wide = half[:, None, None, None]
    turns = wide * _turns(across)
    corner = end[:, :-1].repeat_interleave(TURN, 1)[:, :, None]
    sides = torch.cat([left, right, corner + turns, corner - turns.flip(2)], 1)
    at_end, at_start = _ends(across, how)
    return torch.cat([sides, points[:, -1, None, None] + wide * at_end, points[:, 0, None, None] + wide * at_start], 1)


def _normals(points: Float[Tensor, "c m 2"]) -> Float[Tensor, "c n 2"]:
    """Unit normals of the chords, the directions turned by a quarter; 0 for chords of length 0."""
    step = points[:, 1:] - points[:, :-1]
    tiny = torch.finfo(step.dtype).eps ** 2
    unit = step * (step.square().sum(-1, keepdim=True) + tiny).rsqrt()
    return torch.stack([-unit[..., 1], unit[..., 0]], -1)


def _ends(across: Float[Tensor, "c n 2"], how: Strokes) -> tuple[Float[Tensor, "c k 2 2"], Float[Tensor, "c j 2 2"]]:
    """Joins to the following curves, or caps, at the end and at the start of curves.

    They are edges around the origin, for a stroke of half width 1.
    """
    first, last = across[:, 0], across[:, -1]
    following = first[how.following]
    join = _arc(last, following, _angle(last, following), ROUND)
    back = -join.flip(1).flip(2)  # on the other side, against the direction of the curve
    half_turn = torch.full_like(last[:, 0], -math.pi)
    cap, begin = _arc(last, -last, half_turn, ROUND), _arc(-first, first, half_turn, ROUND)
    butt, is_first, is_last = (mask[:, None, None, None] for mask in (how.butt, how.first, how.last))
    cap = torch.where(butt, _straight(last, -last), cap)
    begin = torch.where(butt, _straight(-first, first), begin)
    at_end = torch.cat([torch.where(is_last, cap, join), torch.where(is_last, 0, back)], 1)
    return at_end, torch.where(is_first, begin, 0)


def _angle(before: Float[Tensor, "c 2"], after: Float[Tensor, "c 2"]) -> Float[Tensor, " c"]:
    """Signed angle between unit vectors, in (-pi, pi]; 0 if one is 0."""
    dot = (before * after).sum(1)
    cross = before[:, 0] * after[:, 1] - before[:, 1] * after[:, 0]
    return torch.atan2(cross, torch.where((dot == 0) & (cross == 0), 1, dot))


def _turns(across: Float[Tensor, "c n 2"]) -> Float[Tensor, "c k 2 2"]:
    """The turns of the normal between the chords of curves, as edges around the origin."""
    before, after = across[:, :-1].flatten(0, 1), across[:, 1:].flatten(0, 1)
    made = _arc(before, after, _angle(before, after), TURN)
    return made.reshape(len(across), -1, 2, 2)


def _arc(
    start: Float[Tensor, "c 2"], end: Float[Tensor, "c 2"], angle: Float[Tensor, " c"], n: int
) -> Float[Tensor, "c {n} 2 2"]:
    """The n chords of an arc around the origin by a signed angle; it ends exactly at `end`."""
    part = torch.arange(1, n, dtype=start.dtype, device=start.device) / n * angle[:, None]
    cos, sin = part.cos(), part.sin()
    x, y = start[:, :1], start[:, 1:]
    inner = torch.stack([cos * x - sin * y, sin * x + cos * y], -1)
    points = torch.cat([start[:, None], inner, end[:, None]], 1)
    return torch.stack([points[:, :-1], points[:, 1:]], 2)


def _straight(start: Float[Tensor, "c 2"], end: Float[Tensor, "c 2"]) -> Float[Tensor, "c r 2 2"]:
    """The line between two points in as many chords as an arc has."""
    part = torch.linspace(0, 1, ROUND + 1, dtype=start.dtype, device=start.device)[:, None]
    points = torch.lerp(start[:, None], end[:, None], part)
    return torch.stack([points[:, :-1], points[:, 1:]], 2)
