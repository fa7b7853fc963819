"""Metrics of images (`clip`), edits and videos (`edits`), sets of images (`image_sets`), points and gradients
(`point_sets`).

`efficientnet` and `inception` compute the ImageNet features that `image_sets` compares.
"""

from scoredistill.metrics.clip import Clip, bundled_clip, clip_similarity
from scoredistill.metrics.edits import (
    directional_similarity,
    intra_style_distance,
    neighbor_consistency,
    perceptual_distance,
    perceptual_features,
    psnr,
    seam,
    source_flows,
    source_similarity,
    square_crops,
    style_of,
    warp_error,
    wrap_seam,
)
from scoredistill.metrics.efficientnet import EfficientNet, efficientnet
from scoredistill.metrics.image_sets import ImageFeatures, diversity, frechet_distance, kernel_distance
from scoredistill.metrics.inception import Inception, inception
from scoredistill.metrics.point_sets import (
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
    "EfficientNet",
    "ImageFeatures",
    "Inception",
    "ModeCoverage",
    "Nll",
    "bias",
    "bundled_clip",
    "clip_similarity",
    "directional_similarity",
    "diversity",
    "efficiency",
    "efficientnet",
    "frechet_distance",
    "inception",
    "intra_style_distance",
    "kernel_distance",
    "mmd",
    "mode_coverage",
    "neighbor_consistency",
    "nll",
    "perceptual_distance",
    "perceptual_features",
    "precision_recall",
    "psnr",
    "seam",
    "source_flows",
    "source_similarity",
    "square_crops",
    "squared_bias",
    "style_of",
    "warp_error",
    "wrap_seam",
]
