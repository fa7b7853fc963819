"""What CSD-Edit's paper prints for video (https://arxiv.org/abs/2307.04787), what the figures are, and all claims.

A claim that csd beats a method compares the two on the same images and instructions: d = csd - method, with the
standard error of its mean. Beyond two standard errors it holds or fails. A weaker edit has it easier to be consistent;
so where the claim says "at equal direction", a gain that is paid by directional similarity (or a loss that buys it),
again by two standard errors, is no verdict but NOT_EQUAL.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any

from scoredistill.studies.harness.statistics import Cell, Metric, digits, known, plus_minus, sign_of, tells

# method -> directional similarity, consistency, LPIPS of neighboring frames; judged by OpenCLIP bigG
VIDEO: Mapping[str, tuple[float, float, float]] = {
    "FateZero": (0.314, 0.948, 0.267),
    "Pix2Video": (0.230, 0.949, 0.283),
    "CSD-Edit": (0.320, 0.957, 0.236),
}


METRICS: Mapping[str, Metric] = {
    "direction": Metric("direction", 1, "100 times CLIP's directional similarity of edit and instruction"),
    "source": Metric("source similarity", 1, "100 times CLIP's similarity to the unchanged source"),
    "truth_psnr": Metric("PSNR to truth, dB", 1, "against the true edit, which is known for these instructions"),
    "seam": Metric("seam", -1, "jump across the borders of windows over the jump elsewhere; 1 is no seam"),
    "consistency": Metric("consistency", 1, "100 times CLIP's cosine of neighboring windows or frames"),
    "neighbor_distance": Metric("neighbor distance", -1, "perceptual distance of neighboring windows or frames"),
    "style": Metric("style", -1, "distance of style between distant crops, in excess of the truth's"),
    "warp_error": Metric(
        "warp error", -1, "1000 times the difference of a frame from the next one led back by the flow"
    ),
    "rows": Metric("rows", 0, "of the network for an edit (NFE)"),
    "update": Metric("update", 0, "root mean square change of the latents"),
    "seconds": Metric("seconds", 0, "of an edit"),
}
HOLDS, FAILS, MISSING = "holds", "fails", "not measured"
EVEN, NOT_EQUAL = "no difference within 2 standard errors", "not at equal direction"
EQUALLY = {  # part -> methods and figures by which csd is to beat them at equal direction
    "images": (("crops", "windows", "uncoupled"), ("seam", "consistency")),
    "videos": (("per_frame", "windows", "uncoupled"), ("consistency", "warp_error")),
}
REFERENCES = ("source", "truth")  # rows that no method made
KINDS: Mapping[str, tuple[str, ...]] = {"": (), "_equal_update": ("update",)}  # end of keys -> what is made equal
WIDER = {"kernel scale": "images", "video kernel scale": "videos"}

Claim = dict[str, str]


def claims(results: Mapping[str, Any]) -> list[Claim]:
    """What is claimed, and whether our numbers agree.

    Returns:
        {"claim", "ours" (numbers as text), "verdict"} each; the verdict is HOLDS, FAILS, EVEN, NOT_EQUAL or MISSING.
    """
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
    """Whether csd's figure is better than the method's, at equal other ones."""
    how = "higher" if METRICS[metric].better > 0 else "lower"
    claim = f"{part}: csd has a {how} {METRICS[metric].title} than {method}"
    named = [metric, "direction"]
    ours = [f"{METRICS[m].title} {plus_minus(found[m], sign=True)}" for m in named if plus_minus(found.get(m))]
    claim += f" at equal {' and '.join(equal)}" if equal else ""
    needed = named if "direction" in equal else [metric]
    if not all(tells(found.get(m)) for m in needed):
        return {"claim": claim, "ours": "; ".join(ours) or MISSING, "verdict": MISSING}
    gain, direction = (
        sign_of(found[metric]) * METRICS[metric].better,
        sign_of(found["direction"]) if needed == named else 0,
    )
    verdict = NOT_EQUAL if gain * direction < 0 else {1: HOLDS, 0: EVEN, -1: FAILS}[gain]
    return {"claim": claim, "ours": f"{'; '.join(ours)} (n = {found[metric]['n']})", "verdict": verdict}


def _rises(results: Mapping[str, Any], sweep: str, part: str) -> Claim:
    """Whether consistency rises from the narrowest kernel to the widest."""
    claim = f"{part}: consistency rises with the kernel scale"
    points = [p for p in results.get("sweeps", {}).get(sweep, []) if known(p.get("value")) and p.get("consistency")]
    points = sorted((p for p in points if known(p["consistency"].get("mean"))), key=lambda p: p["value"])
    cells = [p["consistency"] for p in points]
    ours = ", ".join(f"{p['value']:g}: {plus_minus(p['consistency'])}" for p in points)
    if len(cells) < 2:
        return {"claim": claim, "ours": ours or MISSING, "verdict": MISSING}
    step = results.get("paired", {}).get("sweeps", {}).get(sweep, {}).get("consistency")
    paired = tells(step)
    if not paired:
        if not (tells(cells[0]) and tells(cells[-1])):
            return {"claim": claim, "ours": f"{ours}; without a standard error", "verdict": MISSING}
        step = _unpaired(cells[0], cells[-1])
    means = [cell["mean"] for cell in cells]
    steady = "" if step["mean"] <= 0 or all(a <= b for a, b in pairwise(means)) else ", not at every step"
    how = f"n = {step['n']}" if paired else f"n = {step['n']}, unpaired"
    ours += f"; widest minus narrowest {plus_minus(step, sign=True)} ({how}){steady}"
    return {"claim": claim, "ours": ours, "verdict": {1: HOLDS, 0: EVEN, -1: FAILS}[sign_of(step)]}


def _unpaired(first: Cell, last: Cell) -> dict[str, float]:
    """last - first of two means over n edits each, with the standard error as if all were independent."""
    error = math.sqrt(first["std"] ** 2 / first["n"] + last["std"] ** 2 / last["n"])
    return {"mean": last["mean"] - first["mean"], "std": error, "n": min(first["n"], last["n"])}


def paper_rows(results: Mapping[str, Any]) -> list[dict[str, str]]:
    """The paper's figures for video, then ours in the same units; ours are of another CLIP and another distance."""
    names = ("direction", "consistency", "distance of neighbors")
    rows = [
        {"method": method, "from": "paper", **{name: f"{v:.3f}" for name, v in zip(names, values, strict=True)}}
        for method, values in VIDEO.items()
    ]
    scales = {"direction": 100, "consistency": 100, "neighbor_distance": 1}
    for method, found in results.get("videos", {}).items():
        if method not in REFERENCES:
            values = (_scaled(found.get(metric), scale) for metric, scale in scales.items())
            rows.append({"method": method, "from": "ours", **dict(zip(names, values, strict=True))})
    return rows


def _scaled(cell: Cell | None, scale: int) -> str:
    return f"{cell['mean'] / scale:.3f}" if cell and known(cell.get("mean")) else ""


def equal_cost(results: Mapping[str, Any], part: str) -> Iterable[str]:
    """Between what the methods' rows and updates lie: edits are compared fairly where these are alike."""
    for name in ("rows", "update"):
        cells = {m: f[name] for m, f in results.get(part, {}).items() if m not in REFERENCES and name in f}
        means = {m: c["mean"] for m, c in cells.items() if known(c.get("mean"))}
        if len(means) > 1:
            low, high = min(means, key=means.__getitem__), max(means, key=means.__getitem__)
            yield f"{name} ({part}) from {digits(means[low])} ({low}) to {digits(means[high])} ({high})"
