"""Encodings: maps from points of the cube [-1, 1]^3 to features, with levels of detail that fade in."""

from scoredistill.three_d.encodings.base import Encoding
from scoredistill.three_d.encodings.grids import DenseGrid, TriPlane
from scoredistill.three_d.encodings.hash_grid import HashGrid

__all__ = ["DenseGrid", "Encoding", "HashGrid", "TriPlane"]
