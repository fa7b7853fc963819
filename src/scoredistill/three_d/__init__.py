"""Three-dimensional scenes: radiance fields and Gaussian splats, and how they are rendered, fitted and exported."""

from scoredistill.three_d.camera import Cameras, orbit
from scoredistill.three_d.scenes.base import Look, Penalties, Rendering, Scene, Viewpoint
from scoredistill.three_d.scenes.nerf import BackgroundMLP, Field, NeRF
from scoredistill.three_d.scenes.splats import Splats

__all__ = [
    "BackgroundMLP",
    "Cameras",
    "Field",
    "Look",
    "NeRF",
    "Penalties",
    "Rendering",
    "Scene",
    "Splats",
    "Viewpoint",
    "orbit",
]
