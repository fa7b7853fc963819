"""Gaussian splats: what they are, pictures of them, files of them."""

from scoredistill.splat.densify import Changes, Densify, Slopes
from scoredistill.splat.gaussians import Gaussians
from scoredistill.splat.ply import read_ply, write_ply
from scoredistill.splat.rasterise import Layers, project, rasterise

__all__ = [
    "Changes",
    "Densify",
    "Gaussians",
    "Layers",
    "Slopes",
    "project",
    "rasterise",
    "read_ply",
    "write_ply",
]
