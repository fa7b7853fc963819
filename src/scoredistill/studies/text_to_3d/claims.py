"""Published numbers for text-to-3D, the metrics of the study, and its claims."""

from collections.abc import Mapping
from typing import Any

from scoredistill.studies.harness.claims import Claim, ordered_claim
from scoredistill.studies.harness.statistics import Metric

# Collaborative Score Distillation (2023), https://arxiv.org/abs/2307.04787, 30 prompts: CLIP similarity of colors and
# of geometry, FID
COLLABORATIVE: Mapping[str, tuple[float, float, float]] = {"sds": (0.437, 0.322, 259.4), "csd": (0.447, 0.345, 247.1)}
# Score Distillation via Mean Shift (2025), https://arxiv.org/abs/2502.15989: 100 times CLIP's similarity, in 2-D
MEAN_SHIFT: Mapping[str, float] = {"sds": 27.7, "sdi": 31.0, "msd": 32.6}

METRICS: Mapping[str, Metric] = {
    "clip_sim": Metric("CLIP-SIM", 1, "100 times CLIP's cosine of view and prompt, mean of 12 views (CLIP color)"),
    "clip_geometry": Metric("CLIP geometry", 1, "the same of gray images that show the shape alone"),
    "clip_sim_worst_view": Metric("worst view", 1, "the smallest CLIP-SIM of the 12 views"),
    "clip_sim_front": Metric("front", 1, "CLIP-SIM of the view at azimuth 0"),
    "view_consistency": Metric(
        "view consistency", 1, "100 times CLIP's cosine of neighboring views, around the circle"
    ),
    "view_distance": Metric("view distance", -1, "perceptual distance of neighboring views, around the circle"),
    "opacity": Metric("opacity", 0, "mean over pixels: the fraction of the image that the object covers"),
    "rows": Metric("NFE", 0, "network evaluations (batch rows) for an object"),
    "encoded": Metric("encoded", 0, "images that went through the encoder"),
    "decoded": Metric("decoded", 0, "latents that went through the decoder"),
    "steps": Metric("steps", 0, "gradients"),
    "views": Metric("views", 0, "views per step"),
    "seconds": Metric("seconds", 0, "time for an object"),
}
QUALITY = ("clip_sim", "clip_geometry", "clip_sim_worst_view", "clip_sim_front", "view_consistency", "view_distance")
COST = ("opacity", "steps", "views", "rows", "encoded", "decoded", "seconds")
PAIRS = (("msd", "sdi"), ("msd", "sds"), ("sdi", "sds"), ("csd", "sds"))
CLAIMED = (
    (("msd", "sdi", "sds"), "clip_sim"),
    (("msd", "sdi"), "clip_sim"),
    (("msd", "sds"), "clip_sim"),
    (("sdi", "sds"), "clip_sim"),
    (("csd", "sds"), "clip_sim"),
    (("csd", "sds"), "clip_geometry"),
)


def claims(results: Mapping[str, Any]) -> list[Claim]:
    """What the publications claim, our numbers, and the verdict."""
    return [ordered_claim(results["paired"], methods, metric, METRICS) for methods, metric in CLAIMED]
