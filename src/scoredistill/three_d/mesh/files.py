"""Mesh files, written with trimesh: GLB for browsers, Blender and game engines, OBJ and PLY for other programs.

glTF has y up and the front towards +z, while ours is z up with the front towards -y, so a point (x, y, z) becomes
(x, z, -y). OBJ and PLY, which have no convention, keep our axes. Fields return sRGB colors, as textures hold them;
vertex colors are linear in glTF, so they are converted.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from scoredistill.files import atomic
from scoredistill.media.images import to_pil
from scoredistill.optional import require
from scoredistill.three_d.mesh.surface import Field, Mesh
from scoredistill.three_d.mesh.texture import bake


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
    trimesh = require("trimesh", "nerf", "mesh export")
    if field is None or texture is None:
        rgb = torch.cat([linear(mesh.colors), torch.ones(len(mesh.vertices), 1)], 1)
        scene = _as_trimesh(mesh, y_up(mesh.vertices), y_up(mesh.normals), vertex_colors=_bytes(rgb))
    else:
        baked = bake(mesh, field, texture, device)
        material = trimesh.visual.material.PBRMaterial(
            baseColorTexture=to_pil(baked.texture[None])[0], metallicFactor=0.0, roughnessFactor=1.0
        )
        laid = trimesh.visual.TextureVisuals(uv=baked.uv.numpy(), material=material)
        scene = _as_trimesh(baked.mesh, y_up(baked.mesh.vertices), y_up(baked.mesh.normals), visual=laid)
    data = scene.export(file_type="glb", include_normals=True, tree_postprocessor=_unlit if unlit else None)
    return _write(path, data)


def write_obj(mesh: Mesh, path: str | Path) -> Path:
    """Write an .obj file with vertex colors (x y z r g b), in our axes."""
    return _write(path, _plain(mesh).export(file_type="obj", include_normals=True))


def write_ply(mesh: Mesh, path: str | Path) -> Path:
    """Write a binary .ply file with vertex colors, in our axes."""
    return _write(path, _plain(mesh).export(file_type="ply", vertex_normal=True))


def y_up(vectors: Float[Tensor, "n 3"]) -> Float[Tensor, "n 3"]:
    """Vectors in the axes of glTF: the rotation (x, y, z) -> (x, z, -y)."""
    x, y, z = vectors.unbind(-1)
    return torch.stack([x, z, -y], -1)


def linear(rgb: Float[Tensor, "n 3"]) -> Float[Tensor, "n 3"]:
    """Linear RGB from sRGB (IEC 61966-2-1)."""
    return torch.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)


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
