"""Published numbers for video edits, the metrics of the study, and its claims.

A claim that csd beats a method compares the two on the same images and instructions: d = csd - method, with the
standard error of its mean, clustered by image (or clip), because edits of one image are alike. It holds or fails where
d exceeds two standard errors, and also Student's quantile for the number of images. A weaker edit is consistent more
easily; so where the claim says "at equal direction", a gain that costs directional similarity (or a loss that buys it),
again by two standard errors, gets the verdict NOT_EQUAL.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any

from scoredistill.studies.harness.claims import FAILS, HOLDS, MISSING, Claim, verdict
from scoredistill.studies.harness.statistics import (
    Cell,
    Metric,
    bounded_error,
    digits,
    has_error,
    is_number,
    plus_minus,
)

# Collaborative Score Distillation (2023), https://arxiv.org/abs/2307.04787: directional similarity and consistency by
# OpenCLIP bigG, LPIPS of neighboring frames
PUBLISHED: Mapping[str, tuple[float, float, float]] = {
    "FateZero": (0.314, 0.948, 0.267),
    "Pix2Video": (0.230, 0.949, 0.283),
    "CSD-Edit": (0.320, 0.957, 0.236),
}
METRICS: Mapping[str, Metric] = {
    "direction": Metric("direction", 1, "100 times CLIP's directional similarity of edit and instruction"),
    "source": Metric("source similarity", 1, "100 times CLIP's similarity to the unchanged source"),
    "truth_psnr": Metric("PSNR to truth, dB", 1, "against the reference edit, which is known for these instructions"),
    "seam": Metric("seam", -1, "jump across the borders of windows over the jump elsewhere; 1 is no seam"),
    "consistency": Metric("consistency", 1, "100 times CLIP's cosine of neighboring windows or frames"),
    "neighbor_distance": Metric("neighbor distance", -1, "perceptual distance of neighboring windows or frames"),
    "style": Metric("style", -1, "distance of style between distant crops, in excess of the reference edit's"),
    "warp_error": Metric(
        "warp error", -1, "1000 times the difference of a frame from the next one, warped back by the optical flow"
    ),
    "rows": Metric("NFE", 0, "network evaluations (batch rows) for an edit"),
    "update": Metric("update", 0, "root mean square change of the latents"),
    "seconds": Metric("seconds", 0, "time for an edit"),
}
NOT_EQUAL = "not at equal direction"
UNDECIDED = "not decided"  # within an upper bound of the standard error
EQUALLY = {  # part -> methods and metrics by which csd is claimed to beat them at equal direction
    "images": (("crops", "windows", "uncoupled"), ("seam", "consistency")),
    "videos": (("per_frame", "windows", "uncoupled"), ("consistency", "warp_error")),
}
REFERENCES = ("source", "truth")  # rows of the tables that no method made
KINDS: Mapping[str, tuple[str, ...]] = {"": (), "_equal_update": ("update",)}  # end of keys -> what is made equal
WIDER = {"kernel scale": "images", "video kernel scale": "videos"}
SUBJECTS = {"images": "images", "videos": "clips"}  # part -> what its standard errors are clustered by


def claims(results: Mapping[str, Any]) -> list[Claim]:
    """What is claimed, our numbers, and the verdict, which may also be NOT_EQUAL or UNDECIDED."""
    found = []
    for kind, equal in KINDS.items():
        if kind and not results.get(f"paired{kind}"):
            continue
        paired = {part: paired_of(results, part, kind) for part in SUBJECTS}
        found += [
            _beats(paired[part].get(method, {}), part, method, metric, ("direction", *equal))
            for part, (methods, metrics) in EQUALLY.items()
            for method in methods
            for metric in metrics
        ]
        found += [_beats(paired["images"].get("random_noise", {}), "images", "random_noise", "source", equal)]
    return found + [_rises(results, sweep, part) for sweep, part in WIDER.items()]


def paired_of(results: Mapping[str, Any], part: str, kind: str = "") -> dict[str, dict[str, Cell]]:
    """method -> metric -> csd minus the method, with a standard error clustered by image or clip.

    Results of older versions count every pair as independent, and have no single differences. Theirs become the upper
    bounds of `bounded_error`.
    """
    count = len(results.get("setting", {}).get(SUBJECTS[part], ()))
    found = results.get(f"paired{kind}", {}).get(part, {})
    return {method: {name: _clustered(cell, count) for name, cell in each.items()} for method, each in found.items()}


def _clustered(cell: Cell, count: int) -> Cell:
    """A difference with its standard error clustered, or an upper bound of it, for a number of images or clips."""
    if "clusters" in cell or not has_error(cell):
        return cell
    if count < 2:
        return {"mean": cell["mean"], "n": cell["n"], "clusters": count}
    error = bounded_error(cell["std"], cell["n"], count)
    return {**cell, "std": error, "clusters": count, "bound": True}


def bounds_note(results: Mapping[str, Any]) -> str:
    """That standard errors are upper bounds, if they are."""
    paired = [each for part in SUBJECTS for each in results.get("paired", {}).get(part, {}).values()]
    if all("clusters" in cell for each in paired for cell in each.values()):
        return ""
    return (
        " This run did not keep its single differences: the standard errors are upper bounds, as if all edits of an "
        "image had the same difference. A claim that does not exceed them is not decided."
    )


def _count(cell: Cell, part: str) -> str:
    clusters = f" on {cell['clusters']} {SUBJECTS[part]}" if "clusters" in cell else ""
    return f"n = {cell['n']}{clusters}"


def _verdict(cell: Cell | None, better: int) -> str:
    says = verdict(cell, better)
    return UNDECIDED if cell and cell.get("bound") and says not in (HOLDS, FAILS) else says


def _beats(found: Mapping[str, Cell], part: str, method: str, metric: str, equal: Sequence[str]) -> Claim:
    """Whether csd is better than the method in a metric, at equal other ones."""
    how = "higher" if METRICS[metric].better > 0 else "lower"
    claim = f"{part}: csd has a {how} {METRICS[metric].title} than {method}"
    claim += f" at equal {' and '.join(equal)}" if equal else ""
    shown = [metric, "direction"]
    ours = "; ".join(f"{METRICS[m].title} {plus_minus(found[m], sign=True)}" for m in shown if plus_minus(found.get(m)))
    says = _verdict(found.get(metric), METRICS[metric].better)
    if "direction" in equal and says != MISSING:
        direction = verdict(found.get("direction"), 1)
        says = MISSING if direction == MISSING else NOT_EQUAL if {says, direction} == {HOLDS, FAILS} else says
    if says == MISSING:
        return {"claim": claim, "ours": ours or MISSING, "verdict": MISSING}
    return {"claim": claim, "ours": f"{ours} ({_count(found[metric], part)})", "verdict": says}


def _rises(results: Mapping[str, Any], sweep: str, part: str) -> Claim:
    """Whether consistency rises from the narrowest kernel to the widest."""
    claim = f"{part}: consistency rises with the kernel scale"
    points = [p for p in results.get("sweeps", {}).get(sweep, []) if is_number(p.get("value")) and p.get("consistency")]
    points = sorted((p for p in points if is_number(p["consistency"].get("mean"))), key=lambda p: p["value"])
    cells = [p["consistency"] for p in points]
    ours = ", ".join(f"{p['value']:g}: {plus_minus(p['consistency'])}" for p in points)
    if len(cells) < 2:
        return {"claim": claim, "ours": ours or MISSING, "verdict": MISSING}
    step = results.get("paired", {}).get("sweeps", {}).get(sweep, {}).get("consistency")
    step = step and _clustered(step, len(results.get("setting", {}).get(SUBJECTS[part], ())))
    paired = has_error(step)
    if not paired:
        if not (has_error(cells[0]) and has_error(cells[-1])):
            return {"claim": claim, "ours": f"{ours}; without a standard error", "verdict": MISSING}
        step = _unpaired(cells[0], cells[-1])
    means = [cell["mean"] for cell in cells]
    steady = "" if step["mean"] <= 0 or all(a <= b for a, b in pairwise(means)) else ", not at every step"
    how = _count(step, part) if paired else f"n = {step['n']}, unpaired"
    ours += f"; widest minus narrowest {plus_minus(step, sign=True)} ({how}){steady}"
    return {"claim": claim, "ours": ours, "verdict": _verdict(step, 1)}


def _unpaired(first: Cell, last: Cell) -> dict[str, float]:
    """last - first of two means over n edits each, with the standard error as if all were independent."""
    error = math.sqrt(first["std"] ** 2 / first["n"] + last["std"] ** 2 / last["n"])
    return {"mean": last["mean"] - first["mean"], "std": error, "n": min(first["n"], last["n"])}


def equal_cost(results: Mapping[str, Any], part: str) -> Iterable[str]:
    """The ranges of the methods' network evaluations and updates: a comparison is fair where they are alike."""
    for name in ("rows", "update"):
        cells = {m: f[name] for m, f in results.get(part, {}).items() if m not in REFERENCES and name in f}
        means = {m: c["mean"] for m, c in cells.items() if is_number(c.get("mean"))}
        if len(means) > 1:
            low, high = min(means, key=means.__getitem__), max(means, key=means.__getitem__)
            title = METRICS[name].title
            yield f"{title} ({part}) from {digits(means[low])} ({low}) to {digits(means[high])} ({high})"
