r"""The surface of a radiance field: marching cubes on opacity (Lewiner et al. 2003), then a search along the edges.

A density has no natural level. It gets one from the opacity of a layer of a given thickness d,

    alpha(p) = 1 - exp(-density(p) d)        surface: alpha = 1/2, that is density = ln 2 / d

and d does not depend on the resolution, so that a finer grid finds the same surface. Marching cubes assume that alpha
runs straight between two points of the grid. Where a field jumps, as trained ones do, that gives stairs; therefore each
vertex, which lies on an edge of the grid between a point inside and one outside, is moved along it by bisection.
"""

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

Field = Callable[[Tensor], tuple[Tensor, Tensor]]

HALVINGS = 8  # of an edge of the grid: vertices are exact to 1/256 of a cell


@dataclass(frozen=True)
class Mesh:
    """A surface of triangles, seen from outside against the time schedule.

    Args:
        vertices: positions, [v, 3].
        normals: unit vectors outwards, smooth over the surface, [v, 3].
        colors: in [0, 1], [v, 3].
        faces: numbers of vertices, [f, 3].
        inset: how far under the surface the colors were taken.
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
        return float(_crossed(self.corners.double()).norm(dim=-1).sum() / 2)

    @property
    def volume(self) -> float:
        """What the surface encloses, if it is closed; positive if the faces look outwards."""
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
    """The surface where a layer of the field has a given opacity; closed, also where things touch the cube's sides.

    Cavities are filled, since nobody sees them.

    Args:
        field: points [n, 3] -> (densities [n], colors [n, 3]).
        resolution: cells along each side of the cube; the field is asked at their centers.
        threshold: opacity at the surface, between 0 and 1; less makes things thicker.
        thickness: of the layer that has this opacity; with the default a density of 22 is on the surface.
        radius: of the ball that is looked at, as renderers do; None for all of the cube.
        floaters: pieces with less than this share of the faces of the largest piece are left out.
        inset: colors are taken so many cells under the surface, where the field is no longer fog.
        chunk: points asked for at once.
        device: where the field wants its points.

    Raises:
        ValueError: nothing is opaque enough, the field is not finite, an argument out of range, scikit-image missing.
    """
    if resolution < 2 or not 0 < threshold < 1 or not thickness > 0 or not 0 <= floaters <= 1 or chunk < 1:
        raise ValueError(
            "a mesh needs resolution >= 2, threshold in (0, 1), thickness > 0, floaters in [0, 1] and chunk >= 1"
        )

    def opaque(points: Tensor) -> Tensor:
        alpha = 1 - torch.exp(-thickness * ask(_densities(field), points, chunk, device)[0])
        return alpha if radius is None else torch.where(points.norm(dim=-1) < radius, alpha, 0)

    alpha = opaque(_centers(resolution)).reshape(3 * (resolution,))
    if not bool(alpha.isfinite().all()):
        raise ValueError("the field has densities that are not finite: go back to an earlier checkpoint")
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
    colors = ask(field, vertices - depth * normals, chunk, device)[1]
    return Mesh(vertices, normals, colors.clamp(0, 1), faces, depth)


@torch.no_grad()
def ask(
    field: Field, points: Float[Tensor, "n 3"], chunk: int = 2**18, device: torch.device | str = "cpu"
) -> tuple[Float[Tensor, " n"], Float[Tensor, "n 3"]]:
    """Densities and colors, asked for part by part; points out of the cube are moved to its sides."""
    parts = [field(part.clamp(-1, 1).to(device)) for part in points.split(chunk)]
    density, rgb = (torch.cat([part[i].float().cpu() for part in parts]) for i in (0, 1))
    return density, rgb


def _densities(field: Field) -> Field:
    """The field without its colors, if its class can be asked for densities alone."""
    density = getattr(field, "density", None)
    return field if density is None else lambda points: (density(points), points)


def _centers(resolution: int) -> Float[Tensor, "n 3"]:
    """Centers of the cells, z fastest."""
    line = (torch.arange(resolution) + 0.5) * (2 / resolution) - 1
    return torch.stack(torch.meshgrid(line, line, line, indexing="ij"), -1).reshape(-1, 3)


def _marched(alpha: Float[Tensor, "r r r"], threshold: float) -> tuple[Float[Tensor, "v 3"], Int[Tensor, "f 3"]]:
    """Vertices in units of cells, 0 at the center of the first one, and faces; all around lies an empty cell."""
    measure = needed("skimage.measure", "scikit-image")
    padded = np.pad(alpha.numpy(), 1)
    vertices, faces, _, _ = measure.marching_cubes(padded, threshold, gradient_direction="ascent")
    return torch.from_numpy(vertices - 1).float(), torch.from_numpy(faces.astype(np.int64))


def _refined(
    vertices: Float[Tensor, "v 3"], opaque: Callable[[Tensor], Tensor], threshold: float, resolution: int
) -> Float[Tensor, "v 3"]:
    """Vertices in the cube's coordinates, each moved along its edge of the grid to where alpha = threshold.

    The few in the middle of a cell, and those at a point of the grid, stay.
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
    """Without small pieces and without the image grids of cavities, which enclose a negative volume."""
    sparse = needed("scipy.sparse", "scikit-image")
    graph = needed("scipy.sparse.csgraph", "scikit-image")
    i, j = faces[:, [0, 1]].flatten().numpy(), faces[:, [1, 2]].flatten().numpy()
    links = sparse.coo_matrix((np.ones(len(i), bool), (i, j)), shape=2 * (len(vertices),))
    count, labels = graph.connected_components(links, directed=False)
    piece = torch.from_numpy(labels).long()[faces[:, 0]]
    sizes = torch.bincount(piece, minlength=count)
    volumes = torch.zeros(count, dtype=torch.float64).index_add(0, piece, _volumes(vertices[faces]))
    solid = volumes > 0
    if not bool(solid.any()):
        raise ValueError("the surface encloses nothing: ask for a finer resolution or lower the threshold")
    kept = solid & (sizes >= floaters * sizes[solid].max())
    faces = faces[kept[piece]]
    used, faces = faces.unique(return_inverse=True)
    return vertices[used], faces


def _normals(vertices: Float[Tensor, "v 3"], faces: Int[Tensor, "f 3"]) -> Float[Tensor, "v 3"]:
    """The normals of the faces around each vertex, weighted by their areas."""
    crossed = _crossed(vertices[faces].double())
    total = torch.zeros(len(vertices), 3, dtype=torch.float64)
    for corner in range(3):
        total = total.index_add(0, faces[:, corner], crossed)
    return torch.nn.functional.normalize(total, dim=-1, eps=1e-30).float()


def _crossed(corners: Float[Tensor, "f 3 3"]) -> Float[Tensor, "f 3"]:
    """Normals of triangles, twice as long as the areas are large."""
    a, b, c = corners.unbind(1)
    return torch.linalg.cross(b - a, c - a, dim=-1)


def _volumes(corners: Float[Tensor, "f 3 3"]) -> Float[Tensor, " f"]:
    """Of the pyramids from the origin to the triangles: their sum is the volume of what they enclose."""
    a, b, c = corners.double().unbind(1)
    return (a * torch.linalg.cross(b, c, dim=-1)).sum(-1) / 6


def needed(name: str, package: str) -> Any:
    """A module that is only installed for three dimensions."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ValueError(f"meshes need {package}: pip install 'scoredistill[nerf]'") from error
