"""Numbers about results: `clip` about pictures, `samples` about point sets and about gradients."""

from scoredistill.metrics.clip import Clip, bundled_clip, clip_similarity
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
    "efficiency",
    "mmd",
    "mode_coverage",
    "nll",
    "precision_recall",
    "squared_bias",
]
