"""The metrics of the study of collaboration, and its claims."""

from collections.abc import Mapping
from typing import Any

from scoredistill.studies.harness.claims import Claim, between, verdict
from scoredistill.studies.harness.statistics import Metric, plus_minus

METRICS: Mapping[str, Metric] = {
    "agreement": Metric("agreement", 1, "fraction of the windows whose nearest answer is the most frequent one"),
    "one": Metric("one answer", 1, "fraction of the runs in which all windows have the same nearest answer"),
    "strength": Metric(
        "strength", 1, "projection of the change on that of the nearest answer; 1 is the whole edit, mean over windows"
    ),
    "error": Metric("error", -1, "distance of a window to its nearest answer over the length of the edit"),
    "together": Metric(
        "distance to one answer", -1, "distance of the whole to the nearest single answer over the length of the edit"
    ),
}
CLAIMS = (
    ("disjoint", "tint", "csd_means_8", "uncoupled"),
    ("disjoint", "pattern", "csd_whole_8", "uncoupled"),
    ("disjoint", "pattern", "csd_means_8", "uncoupled"),
    ("disjoint", "contrast", "csd_whole_8", "uncoupled"),
    ("disjoint", "contrast", "target_affine_8", "csd_whole_8"),
    ("overlapping", "recolor", "target_affine_8", "csd_means_8"),
    ("overlapping", "hues", "target_affine_8", "windows"),
    ("some", "tint", "common_noise", "uncoupled"),
    ("some", "tint", "target_affine_8", "csd_affine_8"),
    ("frames", "recolor", "target_affine_8", "common_noise"),
)


def claims(results: Mapping[str, Any]) -> list[Claim]:
    """Whether a method reaches one answer in more runs than another, with the strength that it keeps."""
    made: list[Claim] = []
    for arrangement, style, better, worse in CLAIMS:
        part = results["parts"].get(f"{style}, {arrangement}", {})
        if better not in part.get("methods", {}) or worse not in part.get("methods", {}):
            continue
        cell = between(part["paired"], better, worse).get("one")
        ours = plus_minus(cell, sign=True)
        if "uncoupled" in part["methods"]:
            kept = part["methods"][better]["strength"]["mean"] / part["methods"]["uncoupled"]["strength"]["mean"]
            ours += f", strength {kept:.2f} of uncoupled"
        made.append(
            {"claim": f"{style}, {arrangement}: {better} ends in one answer more often than {worse}", "ours": ours,
             "verdict": verdict(cell, 1)}
        )  # fmt: skip
    return made
