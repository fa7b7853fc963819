r"""Texture baking: the surface is cut into UV charts (xatlas), and each texel takes its color from the field.

A texel whose center has barycentric coordinates (a, b, c) in a triangle ABC of the UV layout stands for the point
a A + b B + c C of the surface. Its color is that of the field slightly below this point, along the normal. Texels just
outside a UV chart extrapolate its nearest triangle, and all others copy the nearest texel that has a color, so that
interpolation never meets an empty texel.

UV coordinates: u to the right and v upwards, in [0, 1], as in OpenGL; the center of texel (row i, column j) of s x s is
at ((j + 1/2) / s, 1 - (i + 1/2) / s).
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from scoredistill.optional import require
from scoredistill.three_d.mesh.surface import Field, Mesh, query

MARGIN = 1.0  # texels by which a UV chart is extrapolated
PADDING = 4  # texels between UV charts
CANDIDATES = 2**20  # pairs of triangle and texel that are tested at once


@dataclass(frozen=True)
class Baked:
    """A textured mesh.

    Args:
        mesh: the surface; vertices on a seam between two UV charts are duplicated.
        uv: texture coordinates of each vertex, in [0, 1], [v, 2].
        texture: colors in [0, 1], [3, s, s].
    """

    mesh: Mesh
    uv: Float[Tensor, "v 2"]
    texture: Float[Tensor, "3 s s"]


def bake(mesh: Mesh, field: Field, texture: int = 512, device: torch.device | str = "cpu") -> Baked:
    """Unwrap a mesh and bake the colors of a field into a texture.

    Args:
        mesh: extracted from the field.
        field: points [n, 3] -> (densities [n], colors [n, 3]).
        texture: side of the texture in texels, at least 16.
        device: on which the field expects its points.

    Raises:
        ValueError: if the texture has fewer than 16 texels on a side.
        MissingExtra: if xatlas or SciPy is not installed.
    """
    if texture < 16:
        raise ValueError(f"a texture needs at least 16 texels on a side, not {texture}")
    mesh, uv = _unwrapped(mesh, texture)
    row, corner = rasterize(torch.stack([uv[:, 0], 1 - uv[:, 1]], -1)[mesh.faces] * texture, texture)
    filled = row >= 0
    points, normals = (
        torch.einsum("nk,nkd->nd", corner[filled], values[mesh.faces[row[filled]]])
        for values in (mesh.vertices, mesh.normals)
    )
    normals = torch.nn.functional.normalize(normals, dim=-1)
    texels = torch.zeros(texture, texture, 3)
    texels[filled] = query(field, points - mesh.inset * normals, device=device)[1].clamp(0, 1)
    image = require("scipy.ndimage", "nerf", "texture baking")
    nearest = image.distance_transform_edt(~filled.numpy(), return_distances=False, return_indices=True)
    i, j = torch.from_numpy(nearest.astype(np.int64))
    return Baked(mesh, uv, texels[i, j].permute(2, 0, 1).contiguous())


def _unwrapped(mesh: Mesh, texture: int) -> tuple[Mesh, Float[Tensor, "v 2"]]:
    """The mesh cut into UV charts, and the texture coordinates of its vertices."""
    xatlas = require("xatlas", "nerf", "texture baking")
    atlas, packing = xatlas.Atlas(), xatlas.PackOptions()
    packing.resolution, packing.padding, packing.bilinear = texture, PADDING, True
    faces = mesh.faces.numpy().astype(np.uint32)
    atlas.add_mesh(mesh.vertices.numpy(), faces, mesh.normals.numpy())
    atlas.generate(xatlas.ChartOptions(), packing)
    origin, faces, uv = atlas.get_mesh(0)
    which = torch.from_numpy(origin.astype(np.int64))
    cut = Mesh(
        mesh.vertices[which],
        mesh.normals[which],
        mesh.colors[which],
        torch.from_numpy(faces.astype(np.int64)),
        mesh.inset,
    )
    sides = torch.tensor([atlas.width, atlas.height])
    return cut, (torch.from_numpy(uv).float() * sides / sides.max()).clamp(0, 1)


def rasterize(
    triangles: Float[Tensor, "f 3 2"], size: int
) -> tuple[Int[Tensor, "{size} {size}"], Float[Tensor, "{size} {size} 3"]]:
    """The triangle that covers each texel, -1 for none, and the barycentric coordinates of the texel's center in it.

    A texel outside all triangles takes the nearest one, by the distance to its edges, if within MARGIN.

    Args:
        triangles: corners (column, row) in texels, [f, 3, 2].
        size: side of the texture in texels.

    Returns:
        Indices of triangles [size, size], and coordinates [size, size, 3].
    """
    best = torch.full((size * size,), -torch.inf)
    owner = torch.full((size * size,), -1)
    weights = torch.zeros(size * size, 3)
    low = (triangles.amin(1) - 0.5 - MARGIN).ceil().long().clamp(0, size - 1)
    high = (triangles.amax(1) - 0.5 + MARGIN).floor().long().clamp(0, size - 1)
    extent = high - low + 1
    many = extent.prod(-1)
    parts = torch.bincount((many.cumsum(0) - 1) // CANDIDATES)
    for faces in torch.arange(len(triangles)).split(parts.tolist()):
        face = faces.repeat_interleave(many[faces])
        first = (many[faces].cumsum(0) - many[faces]).repeat_interleave(many[faces])
        number = torch.arange(len(face)) - first
        column = low[face, 0] + number % extent[face, 0]
        row = low[face, 1] + number // extent[face, 0]
        corner, depth = _inside(triangles[face], torch.stack([column, row], -1) + 0.5)
        texel = row * size + column
        near = depth >= -MARGIN
        face, texel, corner, depth = face[near], texel[near], corner[near], depth[near]
        best.scatter_reduce_(0, texel, depth, "amax")
        won = depth == best[texel]
        owner[texel[won]], weights[texel[won]] = face[won], corner[won]
    return owner.reshape(size, size), weights.reshape(size, size, 3)


def _inside(
    triangles: Float[Tensor, "n 3 2"], points: Float[Tensor, "n 2"]
) -> tuple[Float[Tensor, "n 3"], Float[Tensor, " n"]]:
    """Barycentric coordinates, and the signed distance to the nearest edge, positive inside; -inf for zero area."""
    crossed = lambda p, q: p[:, 0] * q[:, 1] - p[:, 1] * q[:, 0]
    a, b, c = triangles.double().unbind(1)
    p = points.double()
    area = crossed(b - a, c - a)
    parts = torch.stack([crossed(c - b, p - b), crossed(a - c, p - c), crossed(b - a, p - a)], -1)
    edges = torch.stack([c - b, a - c, b - a], 1).norm(dim=-1)
    flat = area.abs() < 1e-12
    safe = torch.where(flat, torch.ones_like(area), area)
    distance = (parts * safe.sign()[:, None] / edges.clamp_min(1e-12)).amin(-1)
    return (parts / safe[:, None]).float(), distance.masked_fill(flat, -torch.inf).float()
