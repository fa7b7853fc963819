"""What the papers print for things made from text, what our figures are, and the claims that they make."""

from collections.abc import Mapping
from typing import Any

from scoredistill.studies.harness.claims import chain
from scoredistill.studies.harness.statistics import Metric, known

# Text to 3-D, 30 prompts: CSD against SDS (https://arxiv.org/abs/2307.04787), CLIP similarity of colors and geometry
COLLABORATIVE: Mapping[str, tuple[float, float, float]] = {"sds": (0.437, 0.322, 259.4), "csd": (0.447, 0.345, 247.1)}
# 100 times CLIP's similarity in two dimensions, as the paper of mean-shift distillation prints it
MEAN_SHIFT: Mapping[str, float] = {"sds": 27.7, "sdi": 31.0, "msd": 32.6}

METRICS: Mapping[str, Metric] = {
    "clip_sim": Metric("CLIP-SIM", 1, "100 times CLIP's cosine of view and prompt, mean of 12 views (CLIP color)"),
    "clip_geometry": Metric("CLIP geometry", 1, "the same of gray images that show shapes alone"),
    "clip_sim_worst_view": Metric("worst view", 1, "the least CLIP-SIM of the 12"),
    "clip_sim_front": Metric("front", 1, "CLIP-SIM of the view at azimuth 0"),
    "view_consistency": Metric(
        "view consistency", 1, "100 times CLIP's cosine of neighboring views, around the circle"
    ),
    "view_distance": Metric("view distance", -1, "perceptual distance of neighboring views, closing the circle"),
    "opacity": Metric("opacity", 0, "mean over pixels: the part of the image that the thing covers"),
    "rows": Metric("rows", 0, "of the network for a thing (NFE)"),
    "encoded": Metric("encoded", 0, "images that went through the encoder"),
    "decoded": Metric("decoded", 0, "latents that went through the decoder"),
    "steps": Metric("steps", 0, "gradients"),
    "views": Metric("views", 0, "of a step"),
    "seconds": Metric("seconds", 0, "of a thing"),
}
JUDGES = ("clip_sim", "clip_geometry", "clip_sim_worst_view", "clip_sim_front", "view_consistency", "view_distance")
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
NOT_COMPARABLE = (
    "The papers' figures are judged by other CLIPs on other prompts and priors: the values cannot be compared, at most "
    "the order of methods. CLIP color and geometry are those of CSD's paper (30 prompts), CLIP-SIM in 2-D is that of "
    "the mean-shift paper; ours are of views in 3-D."
)


def claims(results: Mapping[str, Any]) -> list[dict[str, str]]:
    """What is claimed, our numbers, and the verdict."""
    return [chain(results["paired"], methods, metric, METRICS) for methods, metric in CLAIMED]


def paper_rows(results: Mapping[str, Any]) -> list[dict[str, str]]:
    """The papers' figures beside ours, in their units."""
    rows = []
    for method in dict.fromkeys([*COLLABORATIVE, *MEAN_SHIFT, *results["methods"]]):
        if method in COLLABORATIVE:
            color, geometry, fid = COLLABORATIVE[method]
            given = {"CLIP color": f"{color:.3f}", "CLIP geometry": f"{geometry:.3f}", "FID": f"{fid:.1f}"}
            rows.append({"method": method, "from": "CSD's paper, 3-D", **given})
        if method in MEAN_SHIFT:
            rows.append({"method": method, "from": "mean-shift paper, 2-D", "CLIP-SIM": f"{MEAN_SHIFT[method]:.1f}"})
        if found := results["methods"].get(method):
            ours = {"CLIP color": _scaled(found.get("clip_sim")), "CLIP geometry": _scaled(found.get("clip_geometry"))}
            sim = found.get("clip_sim", {}).get("mean")
            rows.append({"method": method, "from": "ours", **ours, "CLIP-SIM": f"{sim:.1f}" if known(sim) else ""})
    return rows


def _scaled(cell: Mapping[str, Any] | None) -> str:
    return f"{cell['mean'] / 100:.3f}" if cell and known(cell.get("mean")) else ""
