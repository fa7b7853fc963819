"""Published numbers for video edits, the metrics of the study, and its claims.

A claim that csd beats a method compares the two on the same images and instructions: d = csd - method, with the
standard error of its mean. It holds or fails where d exceeds two standard errors. A weaker edit is consistent more
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
EQUALLY = {  # part -> methods and metrics by which csd is claimed to beat them at equal direction
    "images": (("crops", "windows", "uncoupled"), ("seam", "consistency")),
    "videos": (("per_frame", "windows", "uncoupled"), ("consistency", "warp_error")),
}
REFERENCES = ("source", "truth")  # rows of the tables that no method made
KINDS: Mapping[str, tuple[str, ...]] = {"": (), "_equal_update": ("update",)}  # end of keys -> what is made equal
WIDER = {"kernel scale": "images", "video kernel scale": "videos"}


def claims(results: Mapping[str, Any]) -> list[Claim]:
    """What is claimed, our numbers, and the verdict, which may also be NOT_EQUAL."""
    found = []
    for kind, equal in KINDS.items():
        paired = results.get(f"paired{kind}", {})
        if kind and not paired:
            continue
        found += [
            _beats(paired.get(part, {}).get(method, {}), part, method, metric, ("direction", *equal))
            for part, (methods, metrics) in EQUALLY.items()
            for method in methods
            for metric in metrics
        ]
        found += [_beats(paired.get("images", {}).get("random_noise", {}), "images", "random_noise", "source", equal)]
    return found + [_rises(results, sweep, part) for sweep, part in WIDER.items()]


def _beats(found: Mapping[str, Cell], part: str, method: str, metric: str, equal: Sequence[str]) -> Claim:
    """Whether csd is better than the method in a metric, at equal other ones."""
    how = "higher" if METRICS[metric].better > 0 else "lower"
    claim = f"{part}: csd has a {how} {METRICS[metric].title} than {method}"
    claim += f" at equal {' and '.join(equal)}" if equal else ""
    shown = [metric, "direction"]
    ours = "; ".join(f"{METRICS[m].title} {plus_minus(found[m], sign=True)}" for m in shown if plus_minus(found.get(m)))
    says = verdict(found.get(metric), METRICS[metric].better)
    if "direction" in equal and says != MISSING:
        direction = verdict(found.get("direction"), 1)
        says = MISSING if direction == MISSING else NOT_EQUAL if {says, direction} == {HOLDS, FAILS} else says
    if says == MISSING:
        return {"claim": claim, "ours": ours or MISSING, "verdict": MISSING}
    return {"claim": claim, "ours": f"{ours} (n = {found[metric]['n']})", "verdict": says}


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
    paired = has_error(step)
    if not paired:
        if not (has_error(cells[0]) and has_error(cells[-1])):
            return {"claim": claim, "ours": f"{ours}; without a standard error", "verdict": MISSING}
        step = _unpaired(cells[0], cells[-1])
    means = [cell["mean"] for cell in cells]
    steady = "" if step["mean"] <= 0 or all(a <= b for a, b in pairwise(means)) else ", not at every step"
    how = f"n = {step['n']}" if paired else f"n = {step['n']}, unpaired"
    ours += f"; widest minus narrowest {plus_minus(step, sign=True)} ({how}){steady}"
    return {"claim": claim, "ours": ours, "verdict": verdict(step, 1)}


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
