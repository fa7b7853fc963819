r"""Texture baking: the surface is cut into UV charts (xatlas), and each texel takes its color from the field.

A texel whose center has barycentric coordinates (a, b, c) in a triangle ABC of the UV layout stands for the point
a A + b B + c C of the surface. Its color is that of the field slightly below this point, along the normal. Texels just
outside a UV chart extrapolate its nearest triangle, and all others copy the nearest texel that has a color, so that
interpolation never meets an empty texel.

UV coordinates: u to the right and v upwards, in [0, 1], as in OpenGL; the center of texel (row i, column j) of s x s is
at ((j + 1/2) / s, 1 - (i + 1/2) / s).
"""

from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from scoredistill.optional import require
from scoredistill.three_d.mesh.surface import Field, Mesh, query
from scoredistill.three_d.mesh.views import candidates

MARGIN = 1.0  # texels by which a UV chart is extrapolated
PADDING = 4  # texels between UV charts
CANDIDATES = 2**20  # pairs of triangle and texel that are tested at once


@dataclass(frozen=True)
class TexturedMesh:
    """A mesh with texture coordinates and a texture.

    Args:
        mesh: the surface; vertices on a seam between two UV charts are duplicated.
        uv: texture coordinates of each vertex, in [0, 1], [v, 2].
        texture: colors in [0, 1], [3, h, w].
    """

    mesh: Mesh
    uv: Float[Tensor, "v 2"]
    texture: Float[Tensor, "3 h w"]

    def layout(self, size: int) -> Float[Tensor, "f 3 2"]:
        """The triangles of the UV layout: (column, row) in texels of a texture of size x size."""
        return (torch.stack([self.uv[:, 0], 1 - self.uv[:, 1]], -1) * size)[self.mesh.faces]


def bake(mesh: Mesh, field: Field, texture: int = 512, device: torch.device | str = "cpu") -> TexturedMesh:
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
    mesh, uv, _ = unwrapped(mesh, texture)
    laid = TexturedMesh(mesh, uv, torch.zeros(3, texture, texture))
    row, corner = rasterize(laid.layout(texture), texture)
    filled = row >= 0
    points, normals = (
        torch.einsum("nk,nkd->nd", corner[filled], values[mesh.faces[row[filled]]])
        for values in (mesh.vertices, mesh.normals)
    )
    normals = torch.nn.functional.normalize(normals, dim=-1)
    texels = torch.zeros(texture, texture, 3)
    texels[filled] = query(field, points - mesh.inset * normals, device=device)[1].clamp(0, 1)
    return replace(laid, texture=spread(texels.permute(2, 0, 1), filled))


def spread(texture: Float[Tensor, "c h w"], known: Bool[Tensor, "h w"]) -> Float[Tensor, "c h w"]:
    """The texture with every unknown texel copied from the nearest known one; unchanged if none is known."""
    rows, columns = nearest(known)
    return texture[:, rows, columns].contiguous()


def nearest(known: Bool[Tensor, "h w"]) -> tuple[Int[Tensor, "h w"], Int[Tensor, "h w"]]:
    """Row and column of the known texel that is nearest to each texel.

    Raises:
        MissingExtra: if SciPy is not installed.
    """
    image = require("scipy.ndimage", "nerf", "texture baking")
    found = image.distance_transform_edt(~known.cpu().numpy(), return_distances=False, return_indices=True)
    rows, columns = torch.from_numpy(found.astype(np.int64)).to(known.device)
    return rows, columns


def unwrapped(mesh: Mesh, texture: int) -> tuple[Mesh, Float[Tensor, "v 2"], Int[Tensor, " v"]]:
    """Cut a mesh into UV charts.

    Args:
        mesh: the surface.
        texture: side of the texture in texels, in which charts keep a distance of PADDING.

    Returns:
        The mesh with duplicated vertices at seams, the texture coordinates of its vertices, and the vertex of the given
        mesh that each is a copy of. Faces keep their order.

    Raises:
        MissingExtra: if xatlas is not installed.
    """
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
    return cut, (torch.from_numpy(uv).float() * sides / sides.max()).clamp(0, 1), which


def rasterize(
    triangles: Float[Tensor, "f 3 2"], size: int, margin: float = MARGIN
) -> tuple[Int[Tensor, "{size} {size}"], Float[Tensor, "{size} {size} 3"]]:
    """The triangle that covers each texel, -1 for none, and the barycentric coordinates of the texel's center in it.

    A texel outside all triangles takes the nearest one, by the distance to its edges, if within the margin.

    Args:
        triangles: corners (column, row) in texels, [f, 3, 2].
        size: side of the texture in texels.
        margin: in texels.

    Returns:
        Indices of triangles [size, size], and coordinates [size, size, 3].
    """
    best = torch.full((size * size,), -torch.inf)
    owner = torch.full((size * size,), -1)
    weights = torch.zeros(size * size, 3)
    low = (triangles.amin(1) - 0.5 - margin).ceil().long().clamp(0, size - 1)
    high = (triangles.amax(1) - 0.5 + margin).floor().long().clamp(0, size - 1)
    for face, column, row in candidates(low, high, CANDIDATES):
        corner, depth = _inside(triangles[face], torch.stack([column, row], -1) + 0.5)
        texel = row * size + column
        near = depth >= -margin
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
