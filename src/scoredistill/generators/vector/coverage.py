r"""Exact coverage of pixels by polygons, with exact gradients.

The mean winding number of a closed polygon over the pixel (i, j) is a sum over its edges,

    W(i, j) = sum_edges  int_{rows of j} clamp(i + 1 - x(y), 0, 1) dy,

with y along the edge and dy signed: what an edge at x(y) leaves of the pixel to its right. The integral of a straight
edge is a polynomial in each pixel, so W is exact, and so are its gradients with respect to the vertices. Coverage is

    nonzero     min(|W|, 1)
    even-odd    the distance of W to the nearest even number

which is exact in all pixels in which the winding number takes no two values of opposite sign.

Edges are cut into pieces of at most one pixel in both directions. A piece touches two rows and two columns, and what it
adds to W changes there only, so that differences of W along a row are scattered and summed up in the end. Memory is
that of the pieces, as many as pixels on the outlines, and of the coverage itself. The number of pieces is the only
number that is read from the device.
"""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


def coverage(
    edges: Float[Tensor, "e 2 2"],
    owner: Int[Tensor, " e"],
    polygons: int,
    size: tuple[int, int],
    even_odd: Bool[Tensor, " p"] | None = None,
) -> Float[Tensor, "p h w"]:
    """Coverage of pixels by closed polygons, in [0, 1].

    Args:
        edges: (start, end) of each edge, (x, y) in pixels; those of a polygon form closed curves, in any order.
        owner: the polygon that each edge belongs to.
        polygons: number of polygons.
        size: (height, width) in pixels.
        even_odd: which polygons are filled by the even-odd rule; none by default.
    """
    winding = windings(edges, owner, polygons, size)
    covered = winding.abs()
    filled = covered.clamp(max=1)
    if even_odd is None:
        return filled
    folded = 1 - (covered - 2 * (covered / 2).floor() - 1).abs()
    return torch.where(even_odd[:, None, None], folded, filled)


def windings(
    edges: Float[Tensor, "e 2 2"], owner: Int[Tensor, " e"], polygons: int, size: tuple[int, int]
) -> Float[Tensor, "p h w"]:
    """Mean winding number of closed polygons over each pixel; see `coverage`."""
    height, width = size
    start, end, owner = _pieces(edges, owner, height)
    column = torch.minimum(start[:, 0], end[:, 0]).detach().floor()
    first = torch.minimum(start[:, 1], end[:, 1]).detach().floor()
    rows = torch.stack([first, first + 1])
    tall, left, right = _in_rows(start, end, rows, column)
    changes = torch.stack([left, right - left, tall - right])  # of W at the piece's first column and the next two
    inside = (rows >= 0) & (rows < height)
    place = owner * height + rows.clamp(0, height - 1).long()
    columns = torch.stack([(column + k).clamp(0, width) for k in range(3)]).long()
    index = place * (width + 1) + columns[:, None]
    sums = edges.new_zeros(polygons * height * (width + 1))
    sums = sums.index_add(0, index.flatten(), torch.where(inside, changes, 0).flatten())
    return sums.view(polygons, height, width + 1)[:, :, :width].cumsum(2)


def _pieces(
    edges: Float[Tensor, "e 2 2"], owner: Int[Tensor, " e"], height: int
) -> tuple[Float[Tensor, "t 2"], Float[Tensor, "t 2"], Int[Tensor, " t"]]:
    """Start, end and owner of pieces of at most one pixel; what is more than a row above or below is left out."""
    start, step = edges[:, 0], edges[:, 1] - edges[:, 0]
    with torch.no_grad():
        slope = torch.where(step[:, 1] == 0, 1, step[:, 1])
        low, high = ((-1 - start[:, 1]) / slope).clamp(0, 1), ((height + 1 - start[:, 1]) / slope).clamp(0, 1)
        low, high = torch.minimum(low, high), torch.maximum(low, high)
        count = ((high - low) * step.abs().amax(1)).ceil()
        count = torch.where((step[:, 1] != 0) & (high > low), count.clamp(min=1), 0).long()
        which = torch.repeat_interleave(count)
        number = torch.arange(len(which), device=edges.device) - (count.cumsum(0) - count)[which]
        length = ((high - low) / count.clamp(min=1))[which]
        begin = low[which] + number * length
    start, step = start[which], step[which]
    return start + begin[:, None] * step, start + (begin + length)[:, None] * step, owner[which]


def _in_rows(
    start: Float[Tensor, "t 2"], end: Float[Tensor, "t 2"], rows: Float[Tensor, "2 t"], column: Float[Tensor, " t"]
) -> tuple[Float[Tensor, "2 t"], Float[Tensor, "2 t"], Float[Tensor, "2 t"]]:
    """What pieces add to W in two rows: to the right of their two columns, and in each of these."""
    top, bottom = (torch.minimum(torch.maximum(p[:, 1], rows), rows + 1) for p in (start, end))
    tall = bottom - top
    rise = end[:, 1] - start[:, 1]
    slope = (end[:, 0] - start[:, 0]) / torch.where(rise == 0, 1, rise)
    a, b = (start[:, 0] + (y - start[:, 1]) * slope - (column + 1) for y in (top, bottom))
    above = _mean_positive(a, b)
    return tall, tall * (above - (a + b) / 2), tall * (1 - above)


def _mean_positive(a: Float[Tensor, "2 t"], b: Float[Tensor, "2 t"]) -> Float[Tensor, "2 t"]:
    """Mean of max(v, 0) for v uniform between a and b."""
    p, q = a.clamp(min=0), b.clamp(min=0)
    apart = a * b < 0
    between = torch.maximum(p, q).square() / (2 * torch.where(apart, (a - b).abs(), 1))
    return torch.where(apart, between, (p + q) / 2)
