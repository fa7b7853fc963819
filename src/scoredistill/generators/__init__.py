"""Generators: parameters that can be rendered into samples a prior scores."""

from scoredistill.generators.base import Encoded, Generator
from scoredistill.generators.image import CoordinateMLP, Latents, Pixels
from scoredistill.generators.seen import Seen
from scoredistill.generators.vector import VectorGraphics
from scoredistill.generators.windows import Windows

__all__ = [
    "CoordinateMLP",
    "Encoded",
    "Generator",
    "Latents",
    "Pixels",
    "Seen",
    "VectorGraphics",
    "Windows",
]
