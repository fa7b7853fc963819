"""Metrics of an edited image or clip against its source and its reference edit, both known exactly."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from scoredistill.datasets.procedural_edits import Edit
from scoredistill.metrics import edits as metrics


def edit_metrics(source: Tensor, made: Tensor, truth: Tensor, edit: Edit, side: int | None = None) -> dict[str, float]:
    """How well images follow an instruction, keep their source and match the reference edit.

    Args:
        source, made, truth: the images before the edit, after it, and as they should be, [f, 3, h, w] each.
        edit: the procedural edit, whose caption describes the result.
        side: size of the crops that CLIP sees, in pixels; the whole image by default.
    """
    texts = ("a picture", f"a picture, {edit.caption}")
    return {
        "direction": 100 * float(metrics.directional_similarity(source, made, *texts, side=side).mean()),
        "source": 100 * float(metrics.source_similarity(source, made, side=side).mean()),
        "truth_psnr": float(metrics.psnr(made, truth).clamp(max=99).mean()),
    }


def window_metrics(made: Tensor, truth: Tensor, side: int, wrap: bool) -> dict[str, float]:
    """How well the windows of one image fit together.

    Args:
        made, truth: [1, 3, h, w].
        side: size of a window in pixels.
        wrap: whether the left border meets the right one.
    """
    height, width = made.shape[-2:]
    crops = _crops(made, side)
    columns, rows = range(side, width, side), range(side, height, side)
    found = {
        "seam": float(metrics.seam(made, columns, rows, truth)),
        "style": float(metrics.intra_style_distance(made, side, truth)),
        "consistency": 100 * _mean([metrics.neighbor_consistency(line) for line in crops]),
        "neighbor_distance": _mean([_neighbor_distance(line) for line in crops]),
    }
    return {**found, "wrap_seam": float(metrics.wrap_seam(made, truth))} if wrap else found


def frame_metrics(made: Tensor, source: Tensor, flows: Any) -> dict[str, float]:
    """How well the frames of a clip fit together.

    Args:
        made, source: [f, 3, h, w].
        flows: the optical flow of the source, of `source_flows`.
    """
    return {
        "consistency": 100 * metrics.neighbor_consistency(made),
        "neighbor_distance": _neighbor_distance(made),
        "warp_error": 1000 * metrics.warp_error(made, source, flows),
    }


def _crops(images: Tensor, side: int) -> list[Tensor]:
    """The windows of one image, row by row."""
    rows = images[0].unfold(1, side, side).unfold(2, side, side).movedim(0, 2)  # [rows, columns, 3, side, side]
    return [line for line in rows if len(line) > 1]


def _neighbor_distance(images: Tensor) -> float:
    """Mean perceptual distance of neighbors."""
    return float(metrics.perceptual_distance(images[:-1], images[1:]).mean())


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
