"""Means, standard deviations and paired differences of measurements, and how they are printed."""

import math
import statistics
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeGuard, TypeVar

SIGNIFICANT = 2.0  # standard errors from zero beyond which a difference counts as significant
STUDENT = (
    *(12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131),
    *(2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042),
)  # quantile .975 of Student's t with 1, 2, ... degrees of freedom

Cell = Mapping[str, Any]
"""A number over several cases: "mean" and "std"; of a difference, "std" is the standard error and "n" the number. If
the standard error is clustered, "clusters" is the number of clusters; a single one has no standard error."""

Measurements = Mapping[str, float]
"""The numbers measured in one case, by the name of the metric."""

K = TypeVar("K", bound=Hashable)


@dataclass(frozen=True)
class Metric:
    """A quantity that a study measures.

    Attributes:
        title: its name in tables, with the unit if it has one.
        better: +1 if higher is better, -1 if lower is better, 0 if neither.
        description: its definition, for the report.
    """

    title: str
    better: int
    description: str


Metrics = Mapping[str, Metric]


def spread(values: Sequence[float]) -> float:
    """Standard deviation of a sample; 0 for a single value and where any value is infinite."""
    return statistics.stdev(values) if len(values) > 1 and all(map(math.isfinite, values)) else 0.0


def summary(values: Sequence[float]) -> dict[str, float]:
    """{"mean", "std"} of a sample."""
    return {"mean": statistics.fmean(values), "std": spread(values)}


def mean_and_std(found: Sequence[Measurements]) -> dict[str, dict[str, float]]:
    """metric -> {"mean", "std"}, each over the cases in which it was measured."""
    names = dict.fromkeys(name for case in found for name in case)
    return {name: summary([float(case[name]) for case in found if name in case]) for name in names}


def flat_mean_and_std(found: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """metric -> mean over seeds, with all standard deviations under "std" and the number of seeds under "seeds".

    Entries that are not numbers are left out. The metrics are those of the first seed.
    """
    values = {name: [f[name] for f in found] for name, value in found[0].items() if isinstance(value, (int, float))}
    means = {name: statistics.fmean(v) for name, v in values.items()}
    return {**means, "std": {name: spread(v) for name, v in values.items()}, "seeds": len(found)}


def over_cases(found: Sequence[Measurements]) -> dict[str, dict[str, float]]:
    """metric -> {"mean", "std"} over cases; a single case has no "std"."""
    every = mean_and_std(found)
    return every if len(found) > 1 else {name: {"mean": cell["mean"]} for name, cell in every.items()}


def over_seeds(found: Mapping[tuple[str, int], Measurements]) -> dict[str, dict[str, float]]:
    """metric -> mean over all cases, and standard deviation over seeds of the mean over everything else.

    Args:
        found: (what, seed) -> measurements. With a single seed there is no "std".
    """
    every = mean_and_std(list(found.values()))
    seeds = sorted({seed for _, seed in found})
    lines = [mean_and_std([case for (_, s), case in found.items() if s == seed]) for seed in seeds]
    deviation = {name: spread([line[name]["mean"] for line in lines if name in line]) for name in every}
    single = len(seeds) == 1
    return {
        name: {"mean": cell["mean"]} if single else {"mean": cell["mean"], "std": deviation[name]}
        for name, cell in every.items()
    }


def differences(
    ours: Mapping[K, Measurements], theirs: Mapping[K, Measurements], cluster: Callable[[K], Hashable] | None = None
) -> dict[str, dict[str, float]]:
    """metric -> ours minus theirs, paired by case: "mean", "std" (the standard error of the mean) and "n".

    Args:
        cluster: case -> its cluster. The standard error is then `clustered_error`, and the cells have "clusters"; of a
            single cluster there is no "std". Every case is independent by default.
    """
    pairs = {
        case: {name: a[name] - theirs[case][name] for name in a if name in theirs[case]}
        for case, a in ours.items()
        if case in theirs
    }
    made: dict[str, dict[str, float]] = {}
    for name, cell in mean_and_std(list(pairs.values())).items():
        chosen = {case: float(pair[name]) for case, pair in pairs.items() if name in pair}
        n = len(chosen)
        if cluster is None:
            made[name] = {"mean": cell["mean"], "std": cell["std"] / math.sqrt(n), "n": n}
            continue
        groups = [cluster(case) for case in chosen]
        error = clustered_error(list(chosen.values()), groups)
        made[name] = {"mean": cell["mean"], **({} if error is None else {"std": error})}
        made[name] |= {"n": n, "clusters": len(set(groups))}
    return made


def clustered_error(values: Sequence[float], clusters: Sequence[Hashable]) -> float | None:
    r"""Standard error of a mean whose values are dependent within clusters, and independent between them.

    .. math:: \text{SE}^2 = \frac{G}{G - 1} \sum_{g=1}^{G} \Big( \frac{1}{n} \sum_{i \in g} (d_i - \bar d) \Big)^2

    The cluster-robust variance of an intercept: A Practitioner's Guide to Cluster-Robust Inference (Cameron and Miller,
    2015), https://doi.org/10.3368/jhr.50.2.317. With m values per cluster, of variance v and intraclass correlation
    rho, its square is v (1 + (m - 1) rho) / n in expectation; with one value per cluster it is the usual s / sqrt(n).

    Args:
        values: d_i.
        clusters: the cluster of each value.

    Returns:
        None of fewer than two clusters; 0 where a value is infinite, as `spread`.
    """
    names = set(clusters)
    if len(names) < 2:
        return None
    if not all(map(math.isfinite, values)):
        return 0.0
    mean = statistics.fmean(values)
    sums = dict.fromkeys(names, 0.0)
    for value, name in zip(values, clusters, strict=True):
        sums[name] += value - mean
    return math.sqrt(len(names) / (len(names) - 1) * math.fsum(s**2 for s in sums.values())) / len(values)


def bounded_error(error: float, n: int, clusters: int) -> float:
    """Largest clustered standard error that values with a known unclustered one can have: that of equal values within
    clusters of equal sizes, sqrt((n - 1) / (G - 1)) times as large.

    Args:
        error: s / sqrt(n), with s the standard deviation of the values.
        n: number of values.
        clusters: number of clusters G, at least 2.
    """
    return error * math.sqrt((n - 1) / (clusters - 1))


def finished(found: Mapping[str, Mapping[str, Any]], names: Mapping[K, str]) -> dict[K, Measurements]:
    """case -> measurements, of the cases whose job is finished.

    Args:
        found: the name of a job -> what it measured.
        names: case -> the name of its job.
    """
    return {case: found[name] for case, name in names.items() if name in found}


def is_number(value: Any) -> TypeGuard[float]:
    """Whether a value is a finite number."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def has_error(cell: Cell | None) -> TypeGuard[Cell]:
    """Whether a difference has a mean and a standard error, which takes at least two pairs, in two clusters."""
    return cell is not None and is_number(cell.get("mean")) and is_number(cell.get("std")) and cell.get("n", 0) > 1


def significant_sign(cell: Cell) -> int:
    """+1 or -1 where a mean is more than two standard errors from zero, else 0."""
    return _sign(cell, SIGNIFICANT)


def reliable(cell: Cell) -> bool:
    """Whether a significant difference is so for its number of clusters too, by Student's t with one degree less."""
    free = cell.get("clusters", math.inf) - 1
    return free > len(STUDENT) or _sign(cell, STUDENT[free - 1]) != 0


def _sign(cell: Cell, errors: float) -> int:
    mean, error = cell["mean"], cell["std"]
    return 0 if abs(mean) <= errors * error else int(math.copysign(1, mean))


def digits(value: float, size: float | None = None) -> str:
    """A number with as many decimals as give a number of the size of `size` (by default its own) three digits."""
    size = abs(value) if size is None else size
    if not math.isfinite(value) or not math.isfinite(size):
        return f"{value:g}"
    return f"{value:.{min(6, max(0, 2 - math.floor(math.log10(size)))) if size > 0 else 0}f}"


def plus_minus(cell: Cell | None, sign: bool = False) -> str:
    """Mean and deviation as text: three digits of the larger, and at least one of the deviation.

    Args:
        cell: a mean may stand alone; without a mean the text is empty.
        sign: whether a positive mean gets a plus sign.
    """
    if not cell or cell.get("mean") is None:
        return ""
    mean, std = cell["mean"], cell.get("std")
    size = max(abs(mean), std) if is_number(std) else abs(mean)
    size = min(size, 100 * std) if is_number(std) and std > 0 else size
    text = digits(mean, size)
    text = text.lstrip("-") if float(text) == 0 else f"+{text}" if sign and mean > 0 else text
    return f"{text} ± {digits(std, size)}" if is_number(std) else text


def scaled(cell: Cell | None, scale: int) -> str:
    """A mean divided by `scale` with three decimals, as publications print it; empty where it was not measured."""
    return f"{cell['mean'] / scale:.3f}" if cell and is_number(cell.get("mean")) else ""
