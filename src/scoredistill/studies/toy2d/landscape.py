r"""The landscape that a method's gradients climb: https://arxiv.org/abs/2502.15989, Fig. 3.

Gradients f sampled on a grid belong to the height phi whose slopes are nearest to them,

    phi = argmin sum over edges (phi_end - phi_start - h (f_start + f_end) / 2)^2,

where an edge joins two neighboring nodes of the grid, h apart, and f is its component along the edge. The normal
equations are Poisson's equation with Neumann borders, div grad phi = div f; its discrete operator is diagonal under the
cosine transform (the Fourier transform of the mirrored grid), so the minimum is found exactly. Where f is a gradient,
phi is its potential up to O(h^2) and a constant. For the mean shift it is s log p_s, s the variance of the kernel.

Particles end at the peaks of phi. A ridge that crosses the grid at an angle looks like a string of peaks, up to
c h^2 / 8 high for a curvature c across it, so phi is interpolated before its peaks are counted, and low ones are left
out. A peak is off the distribution if the density stays below a level all around it.

Orientation, throughout: [row, column] = [y, x], row 0 at the lowest y, column 0 at the lowest x; a field's last axis is
(d/dx, d/dy). An image shows row 0 at its bottom.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from scoredistill.datasets.toy2d import density_level
from scoredistill.priors import GaussianMixture

PROMINENCE = 1e-4
FINER = 4  # interpolated nodes per node of the grid, along an axis
DISC = 512  # points per disc, each a fifth of a percent of its area
CHUNK = 2048  # points evaluated at a time; memory grows with points times components


@dataclass(frozen=True)
class Landscape:
    """Heights that a field climbs, and where they have peaks.

    Attributes:
        field: ascent directions at the nodes of the grid, (d/dx, d/dy).
        phi: heights, mean zero; the field is their gradient in the least-squares sense.
        peaks: points (x, y), the highest first.
        off: which peaks are off the distribution.
        extent: half the side of the square [-extent, extent]^2 that the grid covers.
    """

    field: Float[Tensor, "side side 2"]
    phi: Float[Tensor, "side side"]
    peaks: Float[Tensor, "k 2"]
    off: Bool[Tensor, " k"]
    extent: float


def landscape(
    field_fn: Callable[[Tensor], Tensor],
    mixture: GaussianMixture,
    side: int = 80,
    extent: float = 1.5,
    level: float | None = None,
    prominence: float = PROMINENCE,
) -> Landscape:
    """The landscape of a field over [-extent, extent]^2.

    Args:
        field_fn: maps points [n, 2] to ascent directions [n, 2] (minus an estimator's grad); called once, in float64.
        mixture: the distribution that peaks should lie on.
        side: nodes per axis, at least 3.
        level: log density of the distribution's border; by default 1 % of its samples lie below. A peak within half a
            spacing of the grid counts as on it.
        prominence: smallest height of a peak above its saddle, see `peaks`. A field that is an average over noise
            needs more, or the same noise at all points.

    Raises:
        ValueError: the field is not finite, or an argument is out of range.
    """
    field = field_fn(grid_points(side, extent)).to(torch.float64).reshape(side, side, 2)
    spacing = 2 * extent / (side - 1)
    phi = integrate(field, spacing)
    nodes = torch.linspace(-1, 1, FINER * (side - 1) + 1, dtype=phi.dtype, device=phi.device)
    found = peaks(interpolated(phi, nodes), extent, prominence)
    level = density_level(mixture) if level is None else level
    return Landscape(field, phi, found, off_distribution(found, mixture, level, spacing / 2), extent)


def grid_points(side: int = 80, extent: float = 1.5) -> Float[Tensor, "n 2"]:
    """Nodes (x, y) of a grid over [-extent, extent]^2, borders included, float64, [side^2, 2].

    Row by row from the lowest y, x running fastest: point row * side + column is (x_column, y_row), and
    `reshape(side, side, 2)` has the orientation of this module. Neighbors are 2 extent / (side - 1) apart.
    """
    if side < 3 or not extent > 0:
        raise ValueError(f"a grid needs side >= 3 and extent > 0, not {side} and {extent}")
    axis = torch.linspace(-extent, extent, side, dtype=torch.float64)
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    return torch.stack([x, y], -1).reshape(-1, 2)


def integrate(field: Float[Tensor, "rows columns 2"], spacing: float) -> Float[Tensor, "rows columns"]:
    """Heights phi, mean zero, whose slopes along the grid's edges are nearest to the field's; exact and O(n log n).

    Args:
        field: (d/dx, d/dy) at the nodes.
        spacing: distance h of neighboring nodes, the same along both axes.

    Raises:
        ValueError: the field is not finite, has fewer than 2 nodes along an axis, or spacing is not positive.
    """
    rows, columns = field.shape[:2]
    if min(rows, columns) < 2 or not spacing > 0:
        raise ValueError(f"expected 2 nodes per axis and a positive spacing, got {rows} x {columns} and {spacing}")
    if not bool(torch.isfinite(field).all()):
        raise ValueError("the field has nan or infinite entries: leave out the points where it is not defined")
    along_x = spacing * (field[:, 1:, 0] + field[:, :-1, 0]) / 2
    along_y = spacing * (field[1:, :, 1] + field[:-1, :, 1]) / 2
    zero = (1, 1)  # no edge leaves the grid
    outflow = torch.nn.functional.pad(along_x, zero).diff(dim=1)
    outflow = outflow + torch.nn.functional.pad(along_y.mT, zero).diff(dim=1).mT
    mirrored = torch.cat([outflow, outflow.flip(1)], 1)
    mirrored = torch.cat([mirrored, mirrored.flip(0)], 0)
    k_y, k_x = (torch.arange(n, dtype=field.dtype, device=field.device) for n in (2 * rows, columns + 1))
    laplacian = 2 * (math.pi * k_y / rows).cos()[:, None] + 2 * (math.pi * k_x / columns).cos() - 4
    laplacian[0, 0] = torch.inf  # the constant is free: zero
    return torch.fft.irfft2(torch.fft.rfft2(mirrored) / laplacian, s=mirrored.shape)[:rows, :columns]


def interpolated(phi: Float[Tensor, "side side"], at: Float[Tensor, " m"]) -> Float[Tensor, "m m"]:
    """phi on another grid, by cubic convolution: third order, through the nodes, exact for parabolas.

    Keys 1981, https://doi.org/10.1109/TASSP.1981.1163711. Beyond the border phi goes on as a parabola.

    Args:
        at: coordinates along both axes, -1 at the first node and 1 at the last, within [-1, 1].
    """
    side = len(phi)
    if side < 3 or not bool((at.abs() <= 1).all()):
        raise ValueError(
            f"expected at least 3 x 3 heights and coordinates within [-1, 1], got {side} x {side} and {at}"
        )
    position = (at.to(phi) + 1) / 2 * (side - 1)
    start = position.floor().long().clamp(0, side - 2)
    u = (position - start)[:, None]
    powers = torch.cat([torch.ones_like(u), u, u**2, u**3], 1)
    keys = phi.new_tensor([[0, 2, 0, 0], [-1, 0, 1, 0], [2, -5, 4, -1], [-1, 3, -3, 1]]) / 2
    weights = phi.new_zeros(len(at), side + 2).scatter(1, start[:, None] + torch.arange(4).to(start), powers @ keys)
    beyond = phi.new_tensor([3.0, -3.0, 1.0])
    weights[:, 1:4] += weights[:, :1] * beyond
    weights[:, -4:-1] += weights[:, -1:] * beyond.flip(0)
    inside = weights[:, 1:-1]
    return inside @ phi @ inside.mT


def peaks(phi: Float[Tensor, "side side"], extent: float = 1.5, prominence: float = PROMINENCE) -> Float[Tensor, "k 2"]:
    """Local maxima among the eight neighbors, as points (x, y), the highest first.

    A plateau (nodes of exactly one height) counts once. A maximum at the border is no peak, because heights beyond are
    unknown. Positions are refined by a quadratic through the 3 x 3 nodes around.

    Args:
        prominence: smallest height above the saddle towards higher ground, relative to the range of phi, >= 0.
    """
    if min(phi.shape) < 3 or not prominence >= 0 or not extent > 0:
        raise ValueError(
            f"expected at least 3 x 3 heights, prominence >= 0 and extent > 0, "
            f"got {list(phi.shape)}, {prominence} and {extent}"
        )
    last = len(phi) - 1
    found = []
    for summit in _summits(phi, prominence * float(phi.max() - phi.min())):
        plateau = _plateau(phi, summit)
        if bool(((plateau == 0) | (plateau == last)).any()):
            continue
        middle = plateau[(plateau - plateau.double().mean(0)).square().sum(1).argmin()]
        found.append(_refined(phi, *middle.tolist()))
    if not found:
        return phi.new_zeros(0, 2)
    return (2 * torch.stack(found) / last - 1) * extent


def off_distribution(
    points: Float[Tensor, "k 2"], mixture: GaussianMixture, level: float, slack: float
) -> Bool[Tensor, " k"]:
    """Whether the log density stays below `level` everywhere within `slack` of a point.

    Args:
        level: natural logarithm of a density, such as `density_level(mixture)`.
        slack: radius >= 0 in the units of the points. Half a spacing is what a grid resolves.
    """
    if not slack >= 0:
        raise ValueError(f"slack must not be negative, not {slack}")
    n = torch.arange(DISC, dtype=points.dtype, device=points.device)
    radius, angle = slack * (n / (DISC - 1)).sqrt(), n * math.pi * (3 - math.sqrt(5))  # evenly, the center included
    disc = torch.stack([radius * angle.cos(), radius * angle.sin()], 1)
    near = (points[:, None] + disc).reshape(-1, 2).to(mixture.means)
    if not len(near):
        return torch.zeros(0, dtype=torch.bool, device=points.device)
    heights = torch.cat([mixture.log_prob(part) for part in near.split(CHUNK)])
    return (heights.reshape(-1, DISC).amax(1) < level).to(points.device)


def _summits(phi: Tensor, floor: float) -> list[int]:
    """Flat indices of the maxima more than `floor` above their saddles, from high to low.

    Nodes are visited from high to low, as by a sinking water level: each node joins the islands it touches, and where
    islands meet, the lower summits end, their prominence being their height above the water level.
    """
    columns = phi.shape[1]
    heights = phi.detach().flatten().tolist()
    island: dict[int, int] = {}
    kept = []

    def summit_of(i: int) -> int:
        while island[i] != i:
            island[i] = i = island[island[i]]
        return i

    for i in phi.detach().flatten().argsort(descending=True, stable=True).tolist():
        column = i % columns
        around = [i + r * columns + c for r in (-1, 0, 1) for c in (-1, 0, 1) if 0 <= column + c < columns]
        touched = sorted({summit_of(j) for j in around if j in island}, key=lambda j: -heights[j])
        island[i] = touched[0] if touched else i
        for lower in touched[1:]:
            island[lower] = touched[0]
            if heights[lower] - heights[i] > floor:
                kept.append(lower)
    highest = int(phi.argmax())
    return sorted([*kept, summit_of(highest)], key=lambda j: -heights[j])


def _plateau(phi: Tensor, summit: int) -> Tensor:
    """(row, column) of the nodes of exactly the summit's height that hang together with it, [n, 2]."""
    level = phi == phi.flatten()[summit]
    reached = torch.zeros_like(level)
    reached.view(-1)[summit] = True
    while True:
        grown = torch.nn.functional.max_pool2d(reached[None, None].float(), 3, 1, 1)[0, 0].bool() & level
        if torch.equal(grown, reached):
            return reached.nonzero()
        reached = grown


def _refined(phi: Tensor, row: int, column: int) -> Tensor:
    """(column, row) of the maximum of the quadratic around a node; the node itself where it has none within a step."""
    p = phi[row - 1 : row + 2, column - 1 : column + 2]
    slope = torch.stack([p[1, 2] - p[1, 0], p[2, 1] - p[0, 1]]) / 2
    cross = (p[2, 2] + p[0, 0] - p[0, 2] - p[2, 0]) / 4
    xx, yy = p[1, 2] + p[1, 0] - 2 * p[1, 1], p[2, 1] + p[0, 1] - 2 * p[1, 1]
    determinant = xx * yy - cross**2
    node = phi.new_tensor([column, row])
    if not (xx < 0 and determinant > 0):
        return node
    step = torch.stack([cross * slope[1] - yy * slope[0], cross * slope[0] - xx * slope[1]]) / determinant
    return node + step if bool((step.abs() <= 1).all()) else node
