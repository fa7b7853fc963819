r"""The surface of a radiance field: marching cubes on opacity, refined by bisection along the edges of the grid.

A density has no natural level set. It gets one from the opacity of a layer of thickness d,

    alpha(p) = 1 - exp(-density(p) d)        surface: alpha = 1/2, that is density = ln 2 / d,

where d does not depend on the resolution, so a finer grid finds the same surface. Marching cubes interpolates alpha
linearly between grid points, which gives staircase artifacts where a field jumps, as trained fields do. Each vertex,
which lies on a grid edge between a point inside and one outside, is therefore moved along that edge by bisection.

Reference: Efficient implementation of marching cubes' cases with topological guarantees (Lewiner et al. 2003), by
scikit-image.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from scoredistill.optional import require

Field = Callable[[Tensor], tuple[Tensor, Tensor]]

HALVINGS = 8  # bisections of a grid edge: vertices are exact to 1/256 of a cell


@dataclass(frozen=True)
class Mesh:
    """A triangle mesh whose faces are counterclockwise seen from outside.

    Args:
        vertices: positions, [v, 3].
        normals: outward unit vectors, smooth over the surface, [v, 3].
        colors: in [0, 1], [v, 3].
        faces: vertex indices, [f, 3].
        inset: depth below the surface at which colors were sampled.
    """

    vertices: Float[Tensor, "v 3"]
    normals: Float[Tensor, "v 3"]
    colors: Float[Tensor, "v 3"]
    faces: Int[Tensor, "f 3"]
    inset: float = 0.0

    @property
    def corners(self) -> Float[Tensor, "f 3 3"]:
        """Positions of the three vertices of each face."""
        return self.vertices[self.faces]

    @property
    def area(self) -> float:
        """Total area of the faces."""
        return float(_crossed(self.corners.double()).norm(dim=-1).sum() / 2)

    @property
    def volume(self) -> float:
        """Enclosed volume of a closed surface; positive if the faces are oriented outwards."""
        return float(_volumes(self.corners).sum())


def extract(
    field: Field,
    resolution: int = 128,
    threshold: float | int = 0.5,
    thickness: float | int = 1 / 32,
    radius: float | int | None = 1.0,
    floaters: float | int = 0.02,
    inset: float | int = 0.25,
    chunk: int = 2**18,
    device: torch.device | str = "cpu",
) -> Mesh:
    """Extract the surface where a layer of the field has a given opacity, closed also at the faces of the cube.

    Internal cavities are filled, because they are invisible.

    Args:
        field: points [n, 3] -> (densities [n], colors [n, 3]). If it has a method `density`, that is used for
            densities alone.
        resolution: cells along each side of the cube; the field is queried at their centers.
        threshold: opacity at the surface, between 0 and 1; a lower threshold gives thicker objects.
        thickness: of the layer that has this opacity; with the default, the density at the surface is 22.
        radius: of the ball to which the field is restricted, as renderers do; None for the whole cube.
        floaters: connected components with less than this fraction of the faces of the largest one are removed.
        inset: depth below the surface, in cells, at which colors are sampled, where the field is no longer fog.
        chunk: points per query.
        device: on which the field expects its points.

    Raises:
        ValueError: if nothing is opaque enough, the field is not finite, or an argument is out of range.
        MissingExtra: if scikit-image is not installed.
    """
    if resolution < 2 or not 0 < threshold < 1 or not thickness > 0 or not 0 <= floaters <= 1 or chunk < 1:
        raise ValueError(
            "extract needs resolution >= 2, threshold in (0, 1), thickness > 0, floaters in [0, 1] and chunk >= 1"
        )

    def opaque(points: Tensor) -> Tensor:
        alpha = 1 - torch.exp(-thickness * query(_densities(field), points, chunk, device)[0])
        return alpha if radius is None else torch.where(points.norm(dim=-1) < radius, alpha, 0)

    alpha = opaque(_centers(resolution)).reshape(3 * (resolution,))
    if not bool(alpha.isfinite().all()):
        raise ValueError("the field has densities that are not finite: use an earlier checkpoint")
    if not float(alpha.max()) > threshold:
        raise ValueError(
            f"nothing is solid: layers of {thickness:.3g} have at most opacity {float(alpha.max()):.2g}, "
            f"below the threshold {threshold:g}; optimize longer or lower the threshold"
        )
    vertices, faces = _marched(alpha, threshold)
    vertices = _refined(vertices, opaque, threshold, resolution)
    vertices, faces = _main_pieces(vertices, faces, floaters)
    normals = _normals(vertices, faces)
    depth = float(2 / resolution * inset)
    colors = query(field, vertices - depth * normals, chunk, device)[1]
    return Mesh(vertices, normals, colors.clamp(0, 1), faces, depth)


@torch.no_grad()
def query(
    field: Field, points: Float[Tensor, "n 3"], chunk: int = 2**18, device: torch.device | str = "cpu"
) -> tuple[Float[Tensor, " n"], Float[Tensor, "n 3"]]:
    """Densities and colors of a field, in chunks of points; points outside the cube are clamped to it."""
    parts = [field(part.clamp(-1, 1).to(device)) for part in points.split(chunk)]
    density, rgb = (torch.cat([part[i].float().cpu() for part in parts]) for i in (0, 1))
    return density, rgb


def _densities(field: Field) -> Field:
    """The field without its colors, if it has a method `density`."""
    density = getattr(field, "density", None)
    return field if density is None else lambda points: (density(points), points)


def _centers(resolution: int) -> Float[Tensor, "n 3"]:
    """Centers of the cells; z varies fastest."""
    line = (torch.arange(resolution) + 0.5) * (2 / resolution) - 1
    return torch.stack(torch.meshgrid(line, line, line, indexing="ij"), -1).reshape(-1, 3)


def _marched(alpha: Float[Tensor, "r r r"], threshold: float) -> tuple[Float[Tensor, "v 3"], Int[Tensor, "f 3"]]:
    """Vertices in units of cells, 0 at the center of the first one, and faces; padded by empty cells on all sides."""
    measure = require("skimage.measure", "nerf", "mesh extraction")
    padded = np.pad(alpha.numpy(), 1)
    vertices, faces, _, _ = measure.marching_cubes(padded, threshold, gradient_direction="ascent")
    return torch.from_numpy(vertices - 1).float(), torch.from_numpy(faces.astype(np.int64))


def _refined(
    vertices: Float[Tensor, "v 3"], opaque: Callable[[Tensor], Tensor], threshold: float, resolution: int
) -> Float[Tensor, "v 3"]:
    """Vertices in the coordinates of the cube, each moved along its grid edge to where alpha = threshold.

    The few vertices inside a cell, and those at a grid point, stay where they are.
    """
    place = lambda v: (v + 0.5) * (2 / resolution) - 1
    low = vertices.floor()
    between = vertices != low
    moved = between.sum(-1) == 1
    low, high = low[moved], vertices[moved].ceil()
    solid = lambda v: (opaque(place(v)) > threshold) & (place(v).abs() <= 1).all(-1)
    rising = solid(high)
    low, high = torch.where(rising[:, None], low, high), torch.where(rising[:, None], high, low)
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        inside = solid(middle)[:, None]
        low, high = torch.where(inside, low, middle), torch.where(inside, middle, high)
    refined = vertices.clone()
    refined[moved] = (low + high) / 2
    return place(refined).clamp(-1, 1)


def _main_pieces(
    vertices: Float[Tensor, "v 3"], faces: Int[Tensor, "f 3"], floaters: float
) -> tuple[Float[Tensor, "w 3"], Int[Tensor, "g 3"]]:
    """Remove small components and the walls of cavities, which enclose a negative volume."""
    sparse = require("scipy.sparse", "nerf", "mesh extraction")
    graph = require("scipy.sparse.csgraph", "nerf", "mesh extraction")
    i, j = faces[:, [0, 1]].flatten().numpy(), faces[:, [1, 2]].flatten().numpy()
    links = sparse.coo_matrix((np.ones(len(i), bool), (i, j)), shape=2 * (len(vertices),))
    count, labels = graph.connected_components(links, directed=False)
    piece = torch.from_numpy(labels).long()[faces[:, 0]]
    sizes = torch.bincount(piece, minlength=count)
    volumes = torch.zeros(count, dtype=torch.float64).index_add(0, piece, _volumes(vertices[faces]))
    solid = volumes > 0
    if not bool(solid.any()):
        raise ValueError("the surface encloses no volume: use a finer resolution or a lower threshold")
    kept = solid & (sizes >= floaters * sizes[solid].max())
    faces = faces[kept[piece]]
    used, faces = faces.unique(return_inverse=True)
    return vertices[used], faces


def _normals(vertices: Float[Tensor, "v 3"], faces: Int[Tensor, "f 3"]) -> Float[Tensor, "v 3"]:
    """Vertex normals: normals of the adjacent faces, weighted by area."""
    crossed = _crossed(vertices[faces].double())
    total = torch.zeros(len(vertices), 3, dtype=torch.float64)
    for corner in range(3):
        total = total.index_add(0, faces[:, corner], crossed)
    return torch.nn.functional.normalize(total, dim=-1, eps=1e-30).float()


def _crossed(corners: Float[Tensor, "f 3 3"]) -> Float[Tensor, "f 3"]:
    """Normals of triangles, whose lengths are twice the areas."""
    a, b, c = corners.unbind(1)
    return torch.linalg.cross(b - a, c - a, dim=-1)


def _volumes(corners: Float[Tensor, "f 3 3"]) -> Float[Tensor, " f"]:
    """Signed volumes of the tetrahedra from the origin to the triangles; their sum is the enclosed volume."""
    a, b, c = corners.double().unbind(1)
    return (a * torch.linalg.cross(b, c, dim=-1)).sum(-1) / 6
