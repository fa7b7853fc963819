r"""From a radiance field to a surface that other programs open: GLB with a texture, OBJ and PLY.

A field is a function of points [n, 3] that gives densities [n] >= 0 and colors [n, 3] in [0, 1], in the cube [-1, 1]^3
with z up and the front towards -y (`camera`). `extract` finds where it becomes opaque, `write_glb` has the
colors in an image that is laid over the surface.

    mesh = extract(field, resolution=128)
    write_glb(mesh, "thing.glb", field)
"""

from scoredistill.three_d.mesh.files import write_glb, write_obj, write_ply
from scoredistill.three_d.mesh.surface import Field, Mesh, extract
from scoredistill.three_d.mesh.texture import bake

__all__ = ["Field", "Mesh", "bake", "extract", "write_glb", "write_obj", "write_ply"]
