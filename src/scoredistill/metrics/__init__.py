"""Numbers about results: `clip` about pictures, `pictures` about sets of them, `samples` about points and gradients."""

from scoredistill.metrics.clip import Clip, bundled_clip, clip_similarity
from scoredistill.metrics.pictures import diversity, frechet_distance, kernel_distance
from scoredistill.metrics.samples import (
    ModeCoverage,
    Nll,
    bias,
    efficiency,
    mmd,
    mode_coverage,
    nll,
    precision_recall,
    squared_bias,
)

__all__ = [
    "Clip",
    "ModeCoverage",
    "Nll",
    "bias",
    "bundled_clip",
    "clip_similarity",
    "diversity",
    "efficiency",
    "frechet_distance",
    "kernel_distance",
    "mmd",
    "mode_coverage",
    "nll",
    "precision_recall",
    "squared_bias",
]
