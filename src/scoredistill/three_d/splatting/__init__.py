"""Gaussian splats: parameters, rasterization, adaptive density control and PLY files."""

from scoredistill.three_d.splatting.densify import Changes, Densify, Slopes
from scoredistill.three_d.splatting.gaussians import Gaussians
from scoredistill.three_d.splatting.ply import read_ply, write_ply
from scoredistill.three_d.splatting.rasterizer import Layers, project, rasterize

__all__ = [
    "Changes",
    "Densify",
    "Gaussians",
    "Layers",
    "Slopes",
    "project",
    "rasterize",
    "read_ply",
    "write_ply",
]
