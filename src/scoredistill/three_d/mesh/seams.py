r"""Seams of a UV layout: where they are, how a texture crosses them, and how visible they are.

Bilinear interpolation near the border of a UV chart mixes texels inside the chart with texels outside, its gutter. On
the surface the chart goes on beyond a seam, in another chart. `Atlas` therefore gives a gutter texel the color of the
surface point where it would lie if the neighboring triangle were unfolded into the plane of its own: with the common
edge AB, a point

    A + s (B - A) + h n,    n the normal of AB in the plane of the triangle, pointing out of it,

becomes A + s (B - A) + h m, with m the same normal in the plane of the neighbor, pointing into it. There it is
interpolated from the texels of the other chart. So both sides of a seam share texels, the map from texels to the
texture is linear and fixed, and colors that change over a few texels cross seams as they cross any other line. (Noise
from texel to texel does not: the texels next to a seam are not evenly spaced across it.)
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import grid_sample, normalize

from scoredistill.three_d.mesh.texture import TexturedMesh, nearest, rasterize

GUTTER = 3.0  # texels around a UV chart that belong to it
SAME = 1e-6  # coordinates whose difference is below this fraction of the mesh are equal
FLAT = 1e-12  # areas below this are those of degenerate triangles


@dataclass(frozen=True)
class Edges:
    """Edges of the surface that two triangles share, one row each.

    Attributes:
        face: the two triangles, [e, 2].
        side: index of the corner opposite to the edge in each triangle, [e, 2].
        flipped: whether the second triangle goes along the edge in the direction of the first, as neighbors of
            different orientation do, [e].
        seam: whether the texture coordinates at the two sides differ, [e].
    """

    face: Int[Tensor, "e 2"]
    side: Int[Tensor, "e 2"]
    flipped: Bool[Tensor, " e"]
    seam: Bool[Tensor, " e"]

    @classmethod
    def of(cls, model: TexturedMesh) -> Edges:
        """The edges of a mesh; vertices at one place count as one, and of three triangles at an edge two are taken."""
        faces = model.mesh.faces
        joined = places(model.mesh.vertices)[faces]
        start, end = joined[:, [1, 2, 0]].flatten(), joined[:, [2, 0, 1]].flatten()  # edge k is opposite to corner k
        key = torch.stack([torch.minimum(start, end), torch.maximum(start, end)], 1)
        _, name = key.unique(dim=0, return_inverse=True)
        order = name.argsort(stable=True)
        pair = (name[order][1:] == name[order][:-1]).nonzero()[:, 0]
        first = torch.ones(len(pair), dtype=torch.bool)
        first[1:] = name[order][pair[1:]] != name[order][pair[:-1]]  # once per edge
        one, other = order[pair[first]], order[pair[first] + 1]
        flipped = start[one] == start[other]
        uv = model.uv[faces]
        ends = lambda half: torch.stack([uv[half // 3, (half + 1) % 3], uv[half // 3, (half + 2) % 3]], 1)
        there = torch.where(flipped[:, None, None], ends(other), ends(other).flip(1))
        seam = (ends(one) - there).abs().amax((1, 2)) > SAME
        return cls(torch.stack([one // 3, other // 3], 1), torch.stack([one % 3, other % 3], 1), flipped, seam)


def places(vertices: Float[Tensor, "v 3"]) -> Int[Tensor, " v"]:
    """The number of each vertex's place, equal for vertices at one place."""
    extent = float((vertices.amax(0) - vertices.amin(0)).max()) or 1.0
    rounded = ((vertices - vertices.amin(0)) / (SAME * extent)).round().long()
    return rounded.unique(dim=0, return_inverse=True)[1]


@dataclass(frozen=True)
class Atlas:
    """How the texture of a mesh is made of independent texels: those inside UV charts are free, all others follow.

    Attributes:
        size: side of the texture in texels.
        row, column: of each free texel, [p].
        face: the triangle in which each free texel lies, [p].
        point: its place on the surface, [p, 3].
        source: free texels from which each gutter texel is interpolated, [g, 4].
        weight: of each of them, [g, 4]; the weights of a texel sum to 1.
        order: for each texel of the texture, its number among free texels followed by gutter texels, [s, s].
    """

    size: int
    row: Int[Tensor, " p"]
    column: Int[Tensor, " p"]
    face: Int[Tensor, " p"]
    point: Float[Tensor, "p 3"]
    source: Int[Tensor, "g 4"]
    weight: Float[Tensor, "g 4"]
    order: Int[Tensor, "s s"]

    @classmethod
    def of(cls, model: TexturedMesh, size: int) -> Atlas:
        """The atlas of a mesh.

        Args:
            model: the mesh with its texture coordinates.
            size: side of the texture in texels.

        Raises:
            MissingExtra: if SciPy is not installed.
        """
        owner, corner = rasterize(model.layout(size), size, GUTTER)
        near = owner >= 0
        inside = near & (corner >= 0).all(-1)
        across = _across(model, owner, corner, (near & ~inside).nonzero(), inside, size)
        free = inside.clone()
        free[across.stays[:, 0], across.stays[:, 1]] = True  # a gutter with nothing beyond it has texels of its own
        number = torch.full((size, size), -1)
        number[free] = torch.arange(int(free.sum()))
        gutter = across.moved
        number[gutter[:, 0], gutter[:, 1]] = int(free.sum()) + torch.arange(len(gutter))
        rows, columns = nearest(number >= 0)
        row, column = free.nonzero().unbind(1)
        face = owner[free]
        on = corner[free].clamp(min=0)
        on = on / on.sum(-1, keepdim=True)
        point = (on[..., None] * model.mesh.vertices[model.mesh.faces[face]]).sum(1)
        source = torch.where(across.weight > 0, number[across.rows, across.columns], 0)
        return cls(size, row, column, face, point, source, across.weight, number[rows, columns])

    def assembled(self, texels: Float[Tensor, "c p"]) -> Float[Tensor, "c s s"]:
        """The texture of free texels, linear in them."""
        gutter = (texels[:, self.source] * self.weight.to(texels)).sum(-1)
        return torch.cat([texels, gutter], 1)[:, self.order]

    def taken(self, texture: Float[Tensor, "c h w"]) -> Float[Tensor, "c p"]:
        """The values of a texture of any size at the free texels."""
        place = torch.stack([self.column, self.row], -1)[None, None].to(texture) + 0.5
        return grid_sample(texture[None], place / self.size * 2 - 1, padding_mode="border", align_corners=False)[
            0, :, 0
        ]

    def to(self, device: torch.device | str) -> Atlas:
        """The same atlas on another device."""
        return Atlas(self.size, *(getattr(self, name).to(device) for name in list(self.__annotations__)[1:]))


@dataclass(frozen=True)
class _Across:
    """Gutter texels that lie across a seam, as (row, column) with their four sources, and those that stay."""

    moved: Int[Tensor, "g 2"]
    rows: Int[Tensor, "g 4"]
    columns: Int[Tensor, "g 4"]
    weight: Float[Tensor, "g 4"]
    stays: Int[Tensor, "k 2"]


def _across(model: TexturedMesh, owner: Tensor, corner: Tensor, gutter: Tensor, inside: Tensor, size: int) -> _Across:
    """Where gutter texels lie on the other side of their seams."""
    edges = Edges.of(model)
    beyond = torch.full((len(model.mesh.faces), 3, 2), -1)  # the neighbor across each side of a triangle, and its side
    for here, there in ((0, 1), (1, 0)):
        beyond[edges.face[:, here], edges.side[:, here]] = torch.stack([edges.face[:, there], edges.side[:, there]], 1)
    face, parts = owner[gutter[:, 0], gutter[:, 1]], corner[gutter[:, 0], gutter[:, 1]].double()
    side = parts.argmin(-1)
    other, their = beyond[face, side].unbind(1)
    known = other >= 0
    place = _unfolded(model, face[known], side[known], parts[known], other[known], their[known])
    uv = (place[..., None] * model.uv[model.mesh.faces[other[known]]].double()).sum(1)
    where = torch.stack([1 - uv[:, 1], uv[:, 0]], 1) * size - 0.5  # (row, column)
    base = where.floor()
    rest = where - base
    steps = torch.tensor([[0, 0], [0, 1], [1, 0], [1, 1]])
    cells = (base[:, None] + steps).long()
    weight = torch.where(steps == 1, rest[:, None], 1 - rest[:, None]).prod(-1)
    valid = ((cells >= 0) & (cells < size)).all(-1)
    cells = cells.clamp(0, size - 1)
    weight = weight * (valid & inside[cells[..., 0], cells[..., 1]])
    found = weight.sum(-1) > 1e-3
    weight = (weight / weight.sum(-1, keepdim=True).clamp(min=1e-3))[found]
    moved = torch.zeros(len(gutter), dtype=torch.bool)
    moved[known.nonzero()[:, 0][found]] = True
    return _Across(gutter[moved], cells[found][..., 0], cells[found][..., 1], weight.float(), gutter[~moved])


def _unfolded(
    model: TexturedMesh, face: Tensor, side: Tensor, parts: Tensor, other: Tensor, their: Tensor
) -> Float[Tensor, "k 3"]:
    """Barycentric coordinates in neighbors of points given by those in their triangles, beyond the common edge."""
    corners = model.mesh.vertices.double()[model.mesh.faces]
    row = torch.arange(len(face))
    own, across = corners[face], corners[other]
    a, b = own[row, (side + 1) % 3], own[row, (side + 2) % 3]
    point = (parts[..., None] * own).sum(1)
    along = normalize(b - a, dim=-1)
    upright = lambda v: v - (v * along).sum(-1, keepdim=True) * along
    inwards = upright(own[row, side] - a)
    height = -(upright(point - a) * normalize(inwards, dim=-1)).sum(-1, keepdim=True)
    target = upright(across[row, their] - a)
    moved = a + ((point - a) * along).sum(-1, keepdim=True) * along + height * normalize(target, dim=-1)
    return _barycentric(across, moved)


def _barycentric(corners: Float[Tensor, "k 3 3"], points: Float[Tensor, "k 3"]) -> Float[Tensor, "k 3"]:
    """Barycentric coordinates of points in the planes of triangles; those of the first corner for zero area."""
    a, b, c = corners.unbind(1)
    normal = torch.linalg.cross(b - a, c - a)
    area = normal.square().sum(-1)
    at = lambda p, q: (torch.linalg.cross(q - p, points - p) * normal).sum(-1) / area.clamp(min=FLAT**2)
    found = torch.stack([at(b, c), at(c, a), at(a, b)], -1)
    return torch.where((area > FLAT**2)[:, None], found, corners.new_tensor([1.0, 0.0, 0.0]))


@dataclass(frozen=True)
class SeamError:
    """How visible the seams of a texture are.

    Attributes:
        seam: mean absolute difference of the colors at the two sides of seams, in [0, 1].
        interior: the same for edges inside UV charts, between points as far apart: what the texture itself changes.
        edges: number of seams.
    """

    seam: float
    interior: float
    edges: int


@torch.no_grad()
def seam_error(model: TexturedMesh, points: int = 8, away: float = 0.5) -> SeamError:
    """Compare the colors of a texture at the two sides of seams, as a viewer with bilinear filtering shows them.

    Colors are sampled along every edge, at a small distance on each of its sides. Along seams the two samples come
    from different UV charts, along other edges from one.

    Args:
        model: the textured mesh.
        points: samples along each edge.
        away: distance from the edge in texels of the texture.

    Returns:
        The mean differences; 0 where there are no such edges.
    """
    edges, sampled = Edges.of(model), []
    s = (torch.arange(points) + 0.5) / points
    for which in (0, 1):
        face, side = edges.face[:, which], edges.side[:, which]
        row = torch.arange(len(face))
        uv = model.uv[model.mesh.faces[face]].double()
        a, b, c = (uv[row, (side + k) % 3] for k in (1, 2, 0))
        if which:
            same = edges.flipped[:, None]
            a, b = torch.where(same, a, b), torch.where(same, b, a)
        texels = torch.tensor([model.texture.shape[2], model.texture.shape[1]])
        along = normalize((b - a) * texels, dim=-1)
        towards = (c - a) * texels
        normal = towards - (towards * along).sum(-1, keepdim=True) * along
        step = normalize(normal, dim=-1) * normal.norm(dim=-1, keepdim=True).clamp(max=away) / texels
        place = a[:, None] + s[:, None] * (b - a)[:, None] + step[:, None]
        grid = torch.stack([2 * place[..., 0] - 1, 1 - 2 * place[..., 1]], -1)[None]
        sampled.append(grid_sample(model.texture.double()[None], grid, padding_mode="border", align_corners=False)[0])
    change = (sampled[0] - sampled[1]).abs().mean((0, 2))
    ends = model.mesh.vertices[model.mesh.faces]
    length = (
        ends[edges.face[:, 0], (edges.side[:, 0] + 1) % 3] - ends[edges.face[:, 0], (edges.side[:, 0] + 2) % 3]
    ).norm(dim=-1)
    mean = lambda some: float((change * length)[some].sum() / length[some].sum().clamp(min=1e-12))
    return SeamError(mean(edges.seam), mean(~edges.seam), int(edges.seam.sum()))
