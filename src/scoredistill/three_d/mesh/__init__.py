r"""Mesh extraction from radiance fields and export for other programs: GLB with a texture, OBJ and PLY.

A field is a function of points [n, 3] that returns densities [n] >= 0 and colors [n, 3] in [0, 1], in the cube
[-1, 1]^3 with z up and the front towards -y (`camera`). `extract` finds the surface where the field becomes opaque;
`write_glb` bakes its colors into a texture.

    mesh = extract(field, resolution=128)
    write_glb(mesh, "object.glb", field)
"""

from scoredistill.three_d.mesh.files import read_ply, write_glb, write_obj, write_ply
from scoredistill.three_d.mesh.surface import Field, Mesh, extract
from scoredistill.three_d.mesh.texture import bake

__all__ = ["Field", "Mesh", "bake", "extract", "read_ply", "write_glb", "write_obj", "write_ply"]
