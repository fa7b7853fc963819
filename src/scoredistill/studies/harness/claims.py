r"""How studies of methods compare them: paired differences, verdicts, and tables for both of their reports.

With figures a_i and b_i of two methods in the same n cases,

    d = mean (a_i - b_i)        standard error = std (a_i - b_i) / sqrt(n)

and a claim that a is better holds, or fails, where d is beyond two standard errors; nearer to 0 it is within the bars.
Every pair counts as independent.
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from scoredistill.studies.harness.statistics import Metrics, plus_minus, sign_of, tells

HOLDS, WITHIN, FAILS, MISSING = "holds", "within the bars", "fails", "not measured"
WORDS = {1: HOLDS, 0: WITHIN, -1: FAILS}
JUDGED = (
    "Numbers are mean differences of the same cases with their standard errors. A claim holds or fails beyond two "
    "standard errors and is within the bars before that; of a chain each link counts, and the worst one decides."
)

Cell = Mapping[str, Any]


def verdict(cell: Cell | None, better: int) -> str:
    """Whether a paired difference is an improvement; `better` is +1 where more is better and -1 where less is."""
    if cell is None or not tells(cell):
        return MISSING
    return WORDS[sign_of(cell) * better]


def chain(
    paired: Mapping[str, Mapping[str, Cell]], methods: Sequence[str], metric: str, metrics: Metrics, where: str = ""
) -> dict[str, str]:
    """The claim that each method is better than the next one; the worst link's verdict is the claim's.

    Args:
        paired: of "a - b" the differences, as `differences` gives them; either order of a pair will do.
        methods: the best first.
        where: what is added to the claim.
    """
    links = [between(paired, a, b).get(metric) for a, b in pairwise(methods)]
    said = [
        f"{a} - {b} {plus_minus(link, sign=True)} (n = {link['n']})" if link else f"{a} - {b} {MISSING}"
        for (a, b), link in zip(pairwise(methods), links, strict=True)
    ]
    order = (FAILS, MISSING, WITHIN, HOLDS)
    worst = min((verdict(link, metrics[metric].better) for link in links), key=order.index)
    sign = " > " if metrics[metric].better > 0 else " < "
    claim = f"{metrics[metric].title}: {sign.join(methods)}{where}"
    return {"claim": claim, "ours": "; ".join(said), "verdict": worst}


def between(paired: Mapping[str, Mapping[str, Cell]], a: str, b: str) -> dict[str, Cell]:
    """a - b, also where b - a was written down."""
    if f"{a} - {b}" in paired:
        return dict(paired[f"{a} - {b}"])
    turned = paired.get(f"{b} - {a}", {})
    return {name: {**cell, "mean": -cell["mean"]} for name, cell in turned.items()}
