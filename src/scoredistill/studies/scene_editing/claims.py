"""What CSD-Edit's paper prints for scenes, what our figures are, the claims, and how many views are enough."""

from collections.abc import Mapping
from typing import Any

from scoredistill.studies.editing.claims import METRICS as EDIT_METRICS
from scoredistill.studies.harness.claims import between, chain
from scoredistill.studies.harness.statistics import Metric, differences, known, plus_minus

# directional similarity, consistency, LPIPS of neighboring views (https://arxiv.org/abs/2307.04787)
PAPER: Mapping[str, tuple[float, float, float]] = {
    "Instruct-NeRF2NeRF": (0.230, 0.994, 0.048),
    "CSD-Edit": (0.239, 0.995, 0.043),
}
METRICS: Mapping[str, Metric] = {
    "truth_psnr": Metric("PSNR to truth, dB", 1, "of 12 novel views, against the true edit of true images"),
    "held_psnr": Metric("PSNR to truth, held out, dB", 1, "the same of photographs that were held out"),
    "direction": EDIT_METRICS["direction"],
    "source": Metric("source similarity", 1, "100 times CLIP's similarity to true images before the edit"),
    "consistency": Metric("view consistency", 1, "100 times CLIP's cosine of neighboring views, around the circle"),
    "view_distance": Metric("view distance", -1, "perceptual distance of neighboring views, around the circle"),
    "rows": Metric("rows", 0, "of the network for an edit (NFE)"),
    "encoded": Metric("encoded", 0, "views that went through the encoder"),
    "decoded": Metric("decoded", 0, "views that went through the decoder"),
    "seconds": Metric("seconds", 0, "of an edit, without the first fit"),
}
JUDGES = ("truth_psnr", "held_psnr", "direction", "source", "consistency", "view_distance")
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
ENOUGH = ("truth_psnr", "consistency")  # figures by which a number of views is enough
NAMES = {"one_view": "Instruct-NeRF2NeRF", "csd": "CSD-Edit"}
NOT_COMPARABLE = (
    "The paper's figures are judged by another CLIP and LPIPS on real scenes, with InstructPix2Pix as the editor: the "
    "values cannot be compared, at most the order of methods."
)


def claims(results: Mapping[str, Any]) -> list[dict[str, str]]:
    """What is claimed, our numbers, and the verdict.

    Weaker edits have it easier to agree, so the difference in direction stands beside every other one.
    """
    found = []
    for method, metric in CLAIMED:
        claim = chain(results["paired"], ("csd", method), metric, METRICS)
        direction = between(results["paired"], "csd", method).get("direction")
        if direction and metric != "direction":
            claim["ours"] += f"; direction {plus_minus(direction, sign=True)}"
        found.append(claim)
    return found


def enough(found: Mapping[int, Mapping[Any, Mapping[str, float]]], metric: str) -> int | None:
    """The smallest number of views that is within one standard error of the best number.

    Args:
        found: number of views -> case -> figures; differences are those of the same cases.

    Returns:
        None where a number has no case, or there are fewer than two cases, which give no standard error.
    """
    better = METRICS[metric].better
    cells = {n: differences(figures, figures).get(metric) for n, figures in found.items()}
    if not cells or any(cell is None or cell["n"] < 2 for cell in cells.values()):
        return None
    height = {n: better * sum(f[metric] for f in cases.values()) / len(cases) for n, cases in found.items()}
    best = max(height, key=height.__getitem__)
    for n in sorted(found):
        behind = differences(found[best], found[n])[metric]
        if better * behind["mean"] <= behind["std"]:
            return n
    return best


def paper_rows(results: Mapping[str, Any]) -> list[dict[str, str]]:
    """The paper's figures, then ours in the same units."""
    names = ("direction", "consistency", "distance of neighbors")
    rows = [
        {"method": method, "from": "paper", **{name: f"{v:.3f}" for name, v in zip(names, values, strict=True)}}
        for method, values in PAPER.items()
    ]
    scales = (("direction", 100), ("consistency", 100), ("view_distance", 1))
    for method, found in results["methods"].items():
        values = [_scaled(found.get(metric), scale) for metric, scale in scales]
        rows.append({"method": NAMES.get(method, method), "from": "ours", **dict(zip(names, values, strict=True))})
    return rows


def smallest(results: Mapping[str, Any]) -> str:
    """How many views are enough, as a sentence."""
    said = [f"{METRICS[m].title}: {n if n else 'not measured'}" for m, n in results["enough"].items()]
    return f"Smallest number of views within one standard error of the best number, by {'; by '.join(said)}."


def _scaled(cell: Mapping[str, Any] | None, scale: int) -> str:
    return f"{cell['mean'] / scale:.3f}" if cell and known(cell.get("mean")) else ""
