"""Vector graphics: paths of Bezier curves, rendered with exact coverage and exact gradients."""

from scoredistill.generators.vector.compositing import composite
from scoredistill.generators.vector.coverage import coverage
from scoredistill.generators.vector.graphics import VectorGraphics

__all__ = ["VectorGraphics", "composite", "coverage"]
