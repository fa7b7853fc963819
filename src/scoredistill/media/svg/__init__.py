"""Vector drawings, and SVG as a format of them."""

from scoredistill.media.svg.drawing import Color, Contour, Drawing, Path
from scoredistill.media.svg.reading import from_svg, read_svg
from scoredistill.media.svg.writing import to_svg, write_svg

__all__ = ["Color", "Contour", "Drawing", "Path", "from_svg", "read_svg", "to_svg", "write_svg"]
