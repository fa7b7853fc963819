"""The published numbers for distributions in the plane, and how ours compare with them.

The numbers are those of Score Distillation via Mean Shift (2025), https://arxiv.org/abs/2502.15989, Tables 1 and 2. Its
ideal denoiser is that of the data, ours is that of 10,000 samples; its sets are not published, ours have the same names
and, for spiral and pinwheel, the same entropies (see `datasets.toy2d`).
"""

from collections.abc import Mapping
from typing import Any

# set -> denoiser -> method -> (NLL, precision, recall)
TABLE2: Mapping[str, Mapping[str, Mapping[str, tuple[float, float, float]]]] = {
    "fractal": {
        "learned": {"ddim": (-1.51, 0.95, 0.96), "sds": (9.12, 0.01, 0.00), "msd": (-2.02, 0.97, 0.42)},
        "ideal": {"ddim": (-1.85, 0.97, 0.93), "sds": (36.15, 0.08, 0.03), "msd": (-1.32, 0.92, 0.33)},
    },
    "spiral": {
        "learned": {"ddim": (-1.32, 0.96, 0.96), "sds": (8.13, 0.04, 0.11), "msd": (-1.51, 0.98, 0.18)},
        "ideal": {"ddim": (-1.39, 0.97, 0.93), "sds": (30.37, 0.02, 0.03), "msd": (-1.28, 0.99, 0.18)},
    },
    "pinwheel": {
        "learned": {"ddim": (-1.10, 0.97, 0.97), "sds": (2.00, 0.90, 0.005), "msd": (-2.19, 0.99, 0.13)},
        "ideal": {"ddim": (-1.19, 0.97, 0.94), "sds": (2.29, 0.85, 0.03), "msd": (-1.94, 0.99, 0.01)},
    },
}
# set -> method -> log efficiency |g|^2 / (MSE cost), at lambda .316
TABLE1: Mapping[str, Mapping[str, float]] = {
    "fractal": {"sds": -6.89, "msd": 7.65},
    "spiral": {"sds": -7.57, "msd": 6.32},
    "pinwheel": {"sds": -6.99, "msd": 7.08},
}
SAME = (0.3, 0.05, 0.1)  # differences of NLL, precision and recall up to which two results count as the same
COLLAPSED = 0.25  # recall; a noisy cluster far from the modes still has .2, because its own balls are large


def verdict(method: str, published: tuple[float, float, float], ours: Mapping[str, Any]) -> str:
    """Compare our NLL, precision and recall of a method with the published ones, in a few words."""
    nll, precision, recall = (ours[key] for key in ("nll", "precision", "recall"))
    if method == "sds":
        return "collapses, as published" if recall < COLLAPSED else "does not collapse"
    gaps = (nll - published[0], precision - published[1], recall - published[2])
    if all(abs(gap) <= limit for gap, limit in zip(gaps, SAME, strict=True)):
        return "as published"
    said = []
    for name, gap, limit, better in zip(("NLL", "precision", "recall"), gaps, SAME, (-1, 1, 1), strict=True):
        if abs(gap) > limit:
            said.append(f"{name} {'better' if gap * better > 0 else 'worse'}")
    return ", ".join(said)
