"""Published numbers for edited scenes, the metrics of the study, its claims, and how many views are sufficient."""

from collections.abc import Mapping
from typing import Any

from scoredistill.studies.editing.claims import METRICS as EDIT_METRICS
from scoredistill.studies.harness.claims import Claim, between, ordered_claim
from scoredistill.studies.harness.statistics import Measurements, Metric, differences, plus_minus

# Collaborative Score Distillation (2023), https://arxiv.org/abs/2307.04787: directional similarity, consistency, LPIPS
# of neighboring views
PUBLISHED: Mapping[str, tuple[float, float, float]] = {
    "Instruct-NeRF2NeRF": (0.230, 0.994, 0.048),
    "CSD-Edit": (0.239, 0.995, 0.043),
}
METRICS: Mapping[str, Metric] = {
    "truth_psnr": Metric("PSNR to truth, dB", 1, "of 12 novel views, against the reference edit of true images"),
    "held_psnr": Metric("PSNR to truth, held out, dB", 1, "the same of held-out photographs"),
    "direction": EDIT_METRICS["direction"],
    "source": Metric("source similarity", 1, "100 times CLIP's similarity to true images before the edit"),
    "consistency": Metric("view consistency", 1, "100 times CLIP's cosine of neighboring views, around the circle"),
    "view_distance": Metric("view distance", -1, "perceptual distance of neighboring views, around the circle"),
    "rows": EDIT_METRICS["rows"],
    "encoded": Metric("encoded", 0, "views that went through the encoder"),
    "decoded": Metric("decoded", 0, "views that went through the decoder"),
    "seconds": Metric("seconds", 0, "time for an edit, without the first fit"),
}
QUALITY = ("truth_psnr", "held_psnr", "direction", "source", "consistency", "view_distance")
COST = ("rows", "encoded", "decoded", "seconds")
PAIRS = (
    ("csd", "one_view"),
    ("csd", "uncoupled"),
    ("csd", "random_noise"),
    ("csd", "common_noise"),
    ("uncoupled", "one_view"),
)
CLAIMED = (
    ("one_view", "truth_psnr"),
    ("one_view", "consistency"),
    ("one_view", "view_distance"),
    ("one_view", "direction"),
    ("uncoupled", "truth_psnr"),
    ("uncoupled", "consistency"),
    ("uncoupled", "view_distance"),
)
SUFFICIENT = ("truth_psnr", "consistency")  # metrics by which a number of views is sufficient


def claims(results: Mapping[str, Any]) -> list[Claim]:
    """What the publication claims, our numbers, and the verdict.

    Weaker edits are consistent more easily, so the difference in direction stands beside every other one.
    """
    found = []
    for method, metric in CLAIMED:
        claim = ordered_claim(results["paired"], ("csd", method), metric, METRICS)
        direction = between(results["paired"], "csd", method).get("direction")
        if direction and metric != "direction":
            claim["ours"] += f"; direction {plus_minus(direction, sign=True)}"
        found.append(claim)
    return found


def sufficient_views(found: Mapping[int, Mapping[Any, Measurements]], metric: str) -> int | None:
    """The smallest number of views that is within one standard error of the best number.

    Args:
        found: number of views -> case -> measurements; differences are those of the same cases.

    Returns:
        None where a number has no case, or there are fewer than two cases, which give no standard error.
    """
    better = METRICS[metric].better
    cells = {n: differences(measured, measured).get(metric) for n, measured in found.items()}
    if not cells or any(cell is None or cell["n"] < 2 for cell in cells.values()):
        return None
    height = {n: better * sum(f[metric] for f in cases.values()) / len(cases) for n, cases in found.items()}
    best = max(height, key=height.__getitem__)
    for n in sorted(found):
        behind = differences(found[best], found[n])[metric]
        if better * behind["mean"] <= behind["std"]:
            return n
    return best
