"""Generators: parameters that can be rendered into samples a prior scores."""

from scoredistill.generators.base import Encoded, Generator
from scoredistill.generators.image import CoordinateMLP, Latents, Pixels
from scoredistill.generators.nerf import BackgroundMLP, Field, NeRF
from scoredistill.generators.scene import Penalties, Rendering, Scene, Viewpoint
from scoredistill.generators.splats import Splats
from scoredistill.generators.windows import Windows

__all__ = [
    "BackgroundMLP",
    "CoordinateMLP",
    "Encoded",
    "Field",
    "Generator",
    "Latents",
    "NeRF",
    "Penalties",
    "Pixels",
    "Rendering",
    "Scene",
    "Splats",
    "Viewpoint",
    "Windows",
]
