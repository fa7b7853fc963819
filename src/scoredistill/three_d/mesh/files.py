"""Mesh files, written with trimesh: GLB for browsers, Blender and game engines, OBJ and PLY for other programs.

glTF has y up and the front towards +z, while ours is z up with the front towards -y, so a point (x, y, z) becomes
(x, z, -y). OBJ files are written so too, because viewers and Blender take them for y up; PLY files, which Blender takes
for z up, keep our axes. A comment in both says so. Fields return sRGB colors, as textures hold them; vertex colors are
linear in glTF, so they are converted.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import normalize

from scoredistill.files import atomic
from scoredistill.media.images import to_pil
from scoredistill.optional import require
from scoredistill.three_d import ply
from scoredistill.three_d.mesh.surface import Field, Mesh
from scoredistill.three_d.mesh.texture import TexturedMesh, bake

AXES_OBJ = "axes: x right, y up, z towards the viewer of the front"
AXES_PLY = "axes: x right, y away from the viewer of the front, z up"


def write_glb(
    mesh: Mesh,
    path: str | Path,
    field: Field | None = None,
    texture: int | None = 512,
    unlit: bool = False,
    device: torch.device | str = "cpu",
) -> Path:
    """Write a .glb file with a texture of the field's colors, or with vertex colors if field or texture is None.

    Args:
        mesh: the surface.
        path: of the file; missing directories are created.
        field: from which the mesh was extracted.
        texture: side of the texture in texels.
        unlit: show the colors without lights, for fields whose colors include shading.
        device: on which the field expects its points.

    Returns:
        The path.

    Raises:
        MissingExtra: if trimesh, or xatlas for a texture, is not installed.
    """
    if field is None or texture is None:
        rgb = torch.cat([linear(mesh.colors), torch.ones(len(mesh.vertices), 1)], 1)
        scene = _as_trimesh(mesh, y_up(mesh.vertices), y_up(mesh.normals), vertex_colors=_bytes(rgb))
        data = scene.export(file_type="glb", include_normals=True, tree_postprocessor=_unlit if unlit else None)
        return _write(path, data)
    return write_textured(bake(mesh, field, texture, device), path, unlit)


def write_textured(
    model: TexturedMesh, path: str | Path, unlit: bool = False, finish: Float[Tensor, "2 h w"] | None = None
) -> Path:
    """Write a textured mesh as a .glb file.

    Args:
        model: the mesh and its texture, in our axes.
        path: of the file; missing directories are created.
        unlit: show the colors without lights.
        finish: roughness and metallic in [0, 1], as a second texture; by default rough and not metallic everywhere.

    Raises:
        MissingExtra: if trimesh is not installed.
    """
    trimesh = require("trimesh", "nerf", "mesh export")
    look: dict[str, Any] = {"metallicFactor": 0.0, "roughnessFactor": 1.0}
    if finish is not None:  # glTF keeps roughness in green and metallic in blue
        packed = torch.cat([torch.ones_like(finish[:1]), finish])
        look = {"metallicFactor": 1.0, "roughnessFactor": 1.0, "metallicRoughnessTexture": to_pil(packed[None])[0]}
    material = trimesh.visual.material.PBRMaterial(
        baseColorTexture=to_pil(model.texture[None])[0], doubleSided=True, **look
    )
    laid = trimesh.visual.TextureVisuals(uv=model.uv.numpy(), material=material)
    scene = _as_trimesh(model.mesh, y_up(model.mesh.vertices), y_up(model.mesh.normals), visual=laid)
    data = scene.export(file_type="glb", include_normals=True, tree_postprocessor=_unlit if unlit else None)
    return _write(path, data)


def write_obj(mesh: Mesh, path: str | Path) -> Path:
    """Write an .obj file with vertex colors (x y z r g b); y up and the front towards +z, as viewers expect."""
    turned = replace(mesh, vertices=y_up(mesh.vertices), normals=y_up(mesh.normals))
    return _write(path, f"# {AXES_OBJ}\n" + _plain(turned).export(file_type="obj", include_normals=True))


def write_ply(mesh: Mesh, path: str | Path) -> Path:
    """Write a binary .ply file with vertex colors, in our axes: z up and the front towards -y."""
    data = _plain(mesh).export(file_type="ply", vertex_normal=True)
    first, form, rest = data.split(b"\n", 2)
    return _write(path, b"\n".join([first, form, f"comment {AXES_PLY}".encode(), rest]))


def read_ply(path: str | Path) -> Mesh:
    """Read a mesh from a PLY file of any format, in the axes of the file.

    Polygons become triangles. Normals that are missing are computed. Colors of faces are averaged at vertices,
    and missing colors are gray (1/2).

    Raises:
        ValueError: if the file is no PLY file, is truncated, has no mesh, or has colors that are not finite.
    """
    elements = ply.read(path).elements
    vertex, face = elements.get("vertex", {}), elements.get("face", {})

    def columns(*names: str, colors: bool = False) -> Float[Tensor, "v 3"] | None:
        found = [vertex.get(name) for name in names]
        arrays = [values for values in found if isinstance(values, np.ndarray)]
        if len(arrays) < 3:
            return None
        scale = _largest(arrays[0].dtype) if colors else 1.0
        return torch.from_numpy(np.stack([(values / scale).astype(np.float32) for values in arrays], 1))

    corners = face.get("vertex_indices", face.get("vertex_index"))
    vertices = columns("x", "y", "z")
    if vertices is None or not isinstance(corners, ply.Lists):
        raise ValueError(f"{path} has no mesh: it needs vertices with x, y and z, and faces with vertex_indices")
    faces = _triangles(corners)
    if not len(faces) or not 0 <= int(faces.min()) <= int(faces.max()) < len(vertices):
        raise ValueError(f"{path} has no faces, or faces with vertices that do not exist: export the mesh again")
    colors, normals = columns("red", "green", "blue", colors=True), columns("nx", "ny", "nz")
    if colors is None and 0 <= corners.values.min() <= corners.values.max() < len(vertices):
        colors = _averaged(face, corners, len(vertices))
    colors = torch.full_like(vertices, 0.5) if colors is None else colors
    if not bool(colors.isfinite().all()):
        raise ValueError(f"{path} has colors that are not finite: repair the mesh and export it again")
    colors = colors.clamp(0, 1)
    return Mesh(vertices, _normals(vertices, faces) if normals is None else normals, colors, faces)


def _triangles(corners: ply.Lists) -> Int[Tensor, "f 3"]:
    """Polygons as fans of triangles around their first corners; those with fewer corners than three are left out."""
    starts = np.cumsum(corners.lengths) - corners.lengths
    counts = np.maximum(corners.lengths.astype(np.int64) - 2, 0)
    k = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)  # of a triangle in its polygon
    at = np.repeat(starts, counts)
    rows = np.stack([corners.values[at + i] for i in (0, k + 1, k + 2)], 1)
    return torch.from_numpy(rows.astype(np.int64))


def _largest(kind: np.dtype) -> float:
    """The value of a full color of a type."""
    return 1.0 if kind.kind not in "iu" else 65535.0 if kind == np.uint16 else 255.0


def _averaged(face: ply.Table, corners: ply.Lists, count: int) -> Float[Tensor, "v 3"] | None:
    """Colors of faces, averaged at each of `count` vertices; None if faces have none."""
    found = [face.get(name) for name in ("red", "green", "blue")]
    arrays = [values for values in found if isinstance(values, np.ndarray)]
    if len(arrays) < 3:
        return None
    each = np.repeat(np.stack(arrays, 1) / _largest(arrays[0].dtype), corners.lengths, 0)
    summed, number = np.zeros((count, 3)), np.zeros((count, 1))
    np.add.at(summed, corners.values.astype(np.int64), each)
    np.add.at(number, corners.values.astype(np.int64), 1)
    return torch.from_numpy((summed / np.maximum(number, 1)).astype(np.float32))


def _normals(vertices: Float[Tensor, "v 3"], faces: Int[Tensor, "f 3"]) -> Float[Tensor, "v 3"]:
    """Unit normals of vertices: those of the faces around them, weighted by area."""
    a, b, c = vertices[faces].unbind(1)
    each = torch.linalg.cross(b - a, c - a)
    summed = torch.zeros_like(vertices).index_add_(0, faces.flatten(), each.repeat_interleave(3, 0))
    return normalize(summed, dim=-1)


def y_up(vectors: Float[Tensor, "n 3"]) -> Float[Tensor, "n 3"]:
    """Vectors in the axes of glTF: the rotation (x, y, z) -> (x, z, -y)."""
    x, y, z = vectors.unbind(-1)
    return torch.stack([x, z, -y], -1)


def linear(rgb: Float[Tensor, "n 3"]) -> Float[Tensor, "n 3"]:
    """Linear RGB from sRGB (IEC 61966-2-1)."""
    return torch.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)


def encoded(rgb: Float[Tensor, "*n 3"]) -> Float[Tensor, "*n 3"]:
    """sRGB from linear RGB, the inverse of `linear`."""
    return torch.where(rgb <= 0.0031308, 12.92 * rgb, 1.055 * rgb.clamp(min=0.0031308) ** (1 / 2.4) - 0.055)


def _plain(mesh: Mesh) -> Any:
    return _as_trimesh(mesh, mesh.vertices, mesh.normals, vertex_colors=_bytes(mesh.colors))


def _as_trimesh(mesh: Mesh, vertices: Float[Tensor, "v 3"], normals: Float[Tensor, "v 3"], **look: Any) -> Any:
    trimesh = require("trimesh", "nerf", "mesh export")
    return trimesh.Trimesh(
        vertices.numpy(), mesh.faces.numpy(), vertex_normals=normals.numpy(), process=False, validate=False, **look
    )


def _bytes(values: Float[Tensor, "n k"]) -> Any:
    return (values * 255).round().to(torch.uint8).numpy()


def _unlit(tree: dict[str, Any]) -> None:
    """Mark all materials of a glTF tree as unlit; vertex colors get a material for it."""
    extension: dict[str, Any] = {"KHR_materials_unlit": {}}
    tree["extensionsUsed"] = [*tree.get("extensionsUsed", []), *extension]
    materials = tree.setdefault("materials", [{"pbrMetallicRoughness": {"metallicFactor": 0.0}}])
    for material in materials:
        material.setdefault("extensions", {}).update(extension)
    for mesh in tree["meshes"]:
        for primitive in mesh["primitives"]:
            primitive.setdefault("material", 0)


def _write(path: str | Path, data: str | bytes) -> Path:
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic(path) as draft:
        draft.write_bytes(data.encode() if isinstance(data, str) else data)
    return path
