"""The former name of `scoredistill.times`, kept for one release; import from there."""

from scoredistill.rng import seed_of
from scoredistill.schedule import noise_to_signal
from scoredistill.times import (
    SHAPES,
    Bandwidth,
    Linear,
    PriorWeighted,
    Sqrt,
    Ticks,
    Uniform,
    Window,
)
from scoredistill.times import Times as Clock

__all__ = [
    "SHAPES",
    "Bandwidth",
    "Clock",
    "Linear",
    "PriorWeighted",
    "Sqrt",
    "Ticks",
    "Uniform",
    "Window",
    "noise_to_signal",
    "seed_of",
]
