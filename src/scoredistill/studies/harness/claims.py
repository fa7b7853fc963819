r"""Verdicts on claims that one method is better than another, from paired differences.

With measurements a_i and b_i of two methods in the same n cases,

    d = mean (a_i - b_i)        standard error = std (a_i - b_i) / sqrt(n)

and the claim that a is better holds, or fails, where d is more than two standard errors from zero; otherwise the
difference is within two standard errors. Every pair counts as independent, unless the standard error is clustered (see
`statistics.clustered_error`). Then a few clusters need more than two standard errors, by Student's t with their number
less one degrees of freedom; what is between has the verdict FEW.
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from scoredistill.studies.harness.statistics import Cell, Metrics, has_error, plus_minus, reliable, significant_sign

HOLDS, WITHIN, FAILS, MISSING = "holds", "within two standard errors", "fails", "not measured"
FEW = "too few independent cases"  # beyond two standard errors, but not for so few clusters
RULE = (
    "Numbers are mean differences over the same cases with their standard errors. A claim holds or fails where the "
    "difference exceeds two standard errors. For an order of several methods, every neighboring pair counts, and the "
    "worst one decides."
)


def clustered_rule(by: str) -> str:
    """The rule where standard errors are clustered.

    Args:
        by: of what there is one cluster each, for example "prompt".
    """
    return (
        f"Numbers are mean differences over the same cases with their standard errors, clustered by {by}, because "
        f"cases of one {by} are not independent. A claim holds or fails where the difference exceeds two standard "
        f"errors, or Student's quantile (97.5 %) times the standard error where there are so few {by}s that this is "
        "more. For an order of several methods, every neighboring pair counts, and the worst one decides."
    )


Claim = dict[str, str]
"""A row of the table of claims: "claim", "ours" (our numbers as text) and "verdict"."""

Paired = Mapping[str, Mapping[str, Cell]]
""" "a - b" -> metric -> paired difference."""


def verdict(cell: Cell | None, better: int) -> str:
    """Whether a paired difference is an improvement.

    Args:
        better: +1 where more is better, -1 where less is.
    """
    if not has_error(cell):
        return MISSING
    sign = significant_sign(cell)
    return FEW if sign and not reliable(cell) else {1: HOLDS, 0: WITHIN, -1: FAILS}[sign * better]


def ordered_claim(paired: Paired, methods: Sequence[str], metric: str, metrics: Metrics) -> Claim:
    """The claim that each method is better than the next one; the verdict is that of the worst neighboring pair.

    Args:
        paired: differences as `differences` gives them; either order of a pair will do.
        methods: the best first.
    """
    links = [between(paired, a, b).get(metric) for a, b in pairwise(methods)]
    said = [
        f"{a} - {b} {plus_minus(link, sign=True)} ({_count(link)})" if link else f"{a} - {b} {MISSING}"
        for (a, b), link in zip(pairwise(methods), links, strict=True)
    ]
    worst_first = (FAILS, MISSING, WITHIN, FEW, HOLDS)
    worst = min((verdict(link, metrics[metric].better) for link in links), key=worst_first.index)
    sign = " > " if metrics[metric].better > 0 else " < "
    return {"claim": f"{metrics[metric].title}: {sign.join(methods)}", "ours": "; ".join(said), "verdict": worst}


def _count(cell: Cell) -> str:
    clusters = f" in {cell['clusters']} clusters" if "clusters" in cell else ""
    return f"n = {cell['n']}{clusters}"


def between(paired: Paired, a: str, b: str) -> dict[str, Any]:
    """metric -> a - b, also where only b - a was computed."""
    if f"{a} - {b}" in paired:
        return dict(paired[f"{a} - {b}"])
    reverse = paired.get(f"{b} - {a}", {})
    return {name: {**cell, "mean": -cell["mean"]} for name, cell in reverse.items()}
