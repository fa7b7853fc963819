"""Means, spreads, paired differences."""

import math
import statistics
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeGuard, TypeVar

from scoredistill.studies.harness.jobs import spread


def digits(value: float, size: float | None = None) -> str:
    """A number with as many decimals as give one of the size of `size`, by default its own, three digits."""
    size = abs(value) if size is None else size
    if not math.isfinite(value) or not math.isfinite(size):
        return f"{value:g}"
    return f"{value:.{min(6, max(0, 2 - math.floor(math.log10(size)))) if size > 0 else 0}f}"


def averaged(found: Sequence[Mapping[str, float]]) -> dict[str, dict[str, float]]:
    """Mean and standard deviation of every figure, over those that have it."""
    names = list(dict.fromkeys(name for part in found for name in part))
    columns = {name: [float(part[name]) for part in found if name in part] for name in names}
    return {name: {"mean": statistics.fmean(v), "std": spread(v)} for name, v in columns.items()}


@dataclass(frozen=True)
class Metric:
    """A figure of an edit.

    Attributes:
        title: with its unit.
        better: +1 if higher is better, -1 if lower is, 0 if neither.
        says: what it is.
    """

    title: str
    better: int
    says: str


BEYOND = 2.0  # standard errors


Cell = Mapping[str, Any]


def plus_minus(cell: Cell | None, sign: bool = False) -> str:
    """Mean and deviation as text, with three digits of the larger and one of the deviation; a mean may stand alone."""
    if not cell or cell.get("mean") is None:
        return ""
    mean, std = cell["mean"], cell.get("std")
    size = max(abs(mean), std) if known(std) else abs(mean)
    size = min(size, 100 * std) if known(std) and std > 0 else size
    text = digits(mean, size)
    text = text.lstrip("-") if float(text) == 0 else f"+{text}" if sign and mean > 0 else text
    return f"{text} ± {digits(std, size)}" if known(std) else text


def known(value: Any) -> TypeGuard[float]:
    """Whether this is a finite number."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def tells(cell: Cell | None) -> bool:
    """Whether a difference has a mean, a standard error, and more than the one pair that would have none."""
    return cell is not None and known(cell.get("mean")) and known(cell.get("std")) and cell.get("n", 0) > 1


def sign_of(cell: Cell) -> int:
    """+1 or -1 where a mean is more than two standard errors from 0, else 0."""
    mean, error = cell["mean"], cell["std"]
    return 0 if abs(mean) <= BEYOND * error else int(math.copysign(1, mean))


Figures = Mapping[str, float]


Row = dict[str, str]


K = TypeVar("K", bound=Hashable)


Metrics = Mapping[str, Metric]


def differences(ours: Mapping[Any, Figures], theirs: Mapping[Any, Figures]) -> dict[str, dict[str, float]]:
    """Ours minus theirs in the cases that both have: "mean", "std" (the standard error of the mean) and "n"."""
    both = [(found, theirs[case]) for case, found in ours.items() if case in theirs]
    pairs = [{name: a[name] - b[name] for name in a if name in b} for a, b in both]
    made = {}
    for name, cell in averaged(pairs).items():
        n = sum(name in pair for pair in pairs)
        made[name] = {"mean": cell["mean"], "std": cell["std"] / math.sqrt(n), "n": n}
    return made


def over_cases(found: Sequence[Figures]) -> dict[str, dict[str, float]]:
    """Mean and deviation of every figure over cases; a single case has no deviation."""
    every = averaged(found)
    return every if len(found) > 1 else {name: {"mean": cell["mean"]} for name, cell in every.items()}


def over_seeds(found: Mapping[tuple[str, int], Figures]) -> dict[str, dict[str, float]]:
    """Of figures by (what, seed): the mean of all, and the deviation over seeds of the mean over everything else."""
    every = averaged(list(found.values()))
    seeds = sorted({seed for _, seed in found})
    lines = [averaged([figures for (_, s), figures in found.items() if s == seed]) for seed in seeds]
    deviation = {name: spread([line[name]["mean"] for line in lines if name in line]) for name in every}
    alone = len(seeds) == 1
    return {
        name: {"mean": cell["mean"]} if alone else {"mean": cell["mean"], "std": deviation[name]}
        for name, cell in every.items()
    }


def figures_of(parts: Mapping[str, Mapping[str, Any]], names: Mapping[K, str]) -> dict[K, Figures]:
    """The figures of the cases that are measured, by case."""
    return {case: parts[name] for case, name in names.items() if name in parts}
