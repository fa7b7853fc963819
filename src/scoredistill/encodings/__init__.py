"""Encodings: maps from points of the cube to features, with levels that fade in."""

from scoredistill.encodings.base import Encoding
from scoredistill.encodings.grids import DenseGrid, TriPlane
from scoredistill.encodings.hashgrid import HashGrid

__all__ = ["DenseGrid", "Encoding", "HashGrid", "TriPlane"]
