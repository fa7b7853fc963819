r"""Meshes: extraction from radiance fields, reading those of other programs, textures, views, and export.

A field is a function of points [n, 3] that returns densities [n] >= 0 and colors [n, 3] in [0, 1], in the cube
[-1, 1]^3 with z up and the front towards -y (`camera`). `extract` finds the surface where the field becomes opaque;
`write_glb` bakes its colors into a texture.

    mesh = extract(field, resolution=128)
    write_glb(mesh, "object.glb", field)
"""

from scoredistill.three_d.mesh.files import read_ply, write_glb, write_obj, write_ply, write_textured
from scoredistill.three_d.mesh.reading import MeshFile, is_mesh, read_mesh
from scoredistill.three_d.mesh.seams import Atlas, SeamError, seam_error
from scoredistill.three_d.mesh.surface import Field, Mesh, extract
from scoredistill.three_d.mesh.texture import TexturedMesh, bake
from scoredistill.three_d.mesh.views import Fragments, rasterize_views
from scoredistill.three_d.mesh.web import write_viewer

__all__ = [
    "Atlas",
    "Field",
    "Fragments",
    "Mesh",
    "MeshFile",
    "SeamError",
    "TexturedMesh",
    "bake",
    "extract",
    "is_mesh",
    "rasterize_views",
    "read_mesh",
    "read_ply",
    "seam_error",
    "write_glb",
    "write_obj",
    "write_ply",
    "write_textured",
    "write_viewer",
]
