r"""Metrics of point sets and of gradients, for distributions with a known density or known samples.

    nll                 -log p(x), in nats
    precision_recall    fraction of one set inside the k-nearest-neighbor balls of the other, both ways
    mmd                 E k(x, x') + E k(y, y') - 2 E k(x, y),    k(x, y) = exp( -|x - y|^2 / (2 h^2) )
    mode_coverage       fraction of the modes that were found, fraction of the samples that are at a mode
    efficiency          log |m|^2 / (MSE cost) of a random gradient g with respect to the true gradient m
    bias                |E g - m| / |m|

Points may have any floating dtype; distances and sums are computed in float64 (float32 on devices without float64).
Distances are computed in blocks of `CHUNK` pairs, so memory does not grow with the product of the sizes.

References: improved precision and recall (Kynkaanniemi et al. 2019), https://arxiv.org/abs/1904.06991; MMD (Gretton et
al. 2012), https://jmlr.org/papers/v13/gretton12a.html; efficiency: mean shift distillation,
https://arxiv.org/abs/2502.15989, section 4.2.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from scoredistill.priors.conditions import Cond, expand_cond

CHUNK = 2**22  # pairs of points in memory: 32 MiB in float64
ROWS = 1024  # points per density evaluation


@runtime_checkable
class Density(Protocol):
    """A prior with a known log density, such as `GaussianMixture`."""

    def log_prob(self, x: Tensor, t: Tensor | None = None, cond: Cond | None = None) -> Tensor:
        """log p(x) in nats, shape [b]."""


@dataclass(frozen=True)
class Nll:
    """Mean and median of -log p(x) in nats. A few outliers dominate the mean; the median is robust to them."""

    mean: float
    median: float


@dataclass(frozen=True)
class ModeCoverage:
    """Fractions in [0, 1]: of the modes with a sample within the radius, and of the samples near any mode."""

    modes: float
    near: float


@torch.no_grad()
def nll(x: Float[Tensor, "n d"], prior: Density, cond: Cond | None = None) -> Nll:
    """Mean and median of -log p(x).

    Args:
        x: at least 1 sample. A sample that is not finite, or where the density underflows to 0, counts as +inf.
        prior: with a method `log_prob`.
        cond: condition, such as a class; each entry has n rows or 1.

    Raises:
        ValueError: if there is no sample.
    """
    if len(x) == 0:
        raise ValueError("nll needs at least one sample")
    rows = None if cond is None else expand_cond(cond, len(x))
    parts = []
    for i in range(0, len(x), ROWS):
        part = slice(i, i + ROWS)
        chosen = None if rows is None else {name: value[part] for name, value in rows.items()}
        parts.append(-prior.log_prob(x[part], cond=chosen))
    values = _exact(torch.cat(parts)).masked_fill(~x.isfinite().all(1), math.inf).sort().values
    n = len(values)
    return Nll(values.mean().item(), ((values[(n - 1) // 2] + values[n // 2]) / 2).item())


def precision_recall(samples: Float[Tensor, "n d"], truth: Float[Tensor, "m d"], k: int = 3) -> tuple[float, float]:
    """Improved precision and recall, each in [0, 1].

    The support of a set is the union of closed balls around its points, each with the distance to the k-th nearest
    neighbor in that set (excluding the point) as its radius. Precision is the fraction of samples in the support of the
    truth, recall the fraction of the truth in the support of the samples. Points that coincide k + 1 times have balls
    of radius 0, so a collapsed set recalls only truth that is exactly at its point. Two sets from one distribution do
    not reach 1: in one dimension with k = 1, they reach 3/4.

    Args:
        samples: at least k + 1 finite points.
        truth: at least k + 1 finite points of the true distribution.
        k: neighbor that sets the radius, at least 1; both values increase with k.

    Raises:
        ValueError: if k is below 1, or points are too few or not finite.
    """
    if k < 1:
        raise ValueError(f"k must be at least 1, not {k}")
    x, y = _points(samples, "samples", k + 1), _points(truth, "truth", k + 1)
    sample_radii, truth_radii = _neighbor_distance(x, k), _neighbor_distance(y, k)
    recalled = torch.zeros(len(y), dtype=torch.bool, device=y.device)
    precise = 0
    for part, distance in _blocks(x, y):
        precise += int((distance <= truth_radii).any(1).sum())
        recalled |= (distance <= sample_radii[part, None]).any(0)
    return precise / len(x), recalled.double().mean().item()


def mmd(samples: Float[Tensor, "n d"], truth: Float[Tensor, "m d"], bandwidth: float) -> float:
    """Unbiased squared maximum mean discrepancy; 0 on average for equal distributions, so negative at times.

    Args:
        samples: at least 2 finite points.
        truth: at least 2 finite points of the true distribution.
        bandwidth: h of the kernel exp(-|x - y|^2 / (2 h^2)), in units of the points. Values for different bandwidths
            are not comparable.

    Raises:
        ValueError: if the bandwidth is not positive, or points are too few or not finite.
    """
    if not bandwidth > 0:
        raise ValueError(f"bandwidth must be positive, not {bandwidth}")
    x, y = _points(samples, "samples", 2), _points(truth, "truth", 2)
    n, m = len(x), len(y)
    own = (_kernel_sum(x, x, bandwidth) - n) / (n * (n - 1)) + (_kernel_sum(y, y, bandwidth) - m) / (m * (m - 1))
    return own - 2 * _kernel_sum(x, y, bandwidth) / (n * m)


def mode_coverage(samples: Float[Tensor, "n d"], modes: Float[Tensor, "k d"], radius: float) -> ModeCoverage:
    """Fraction of the modes that the samples cover, and fraction of the samples that are near a mode.

    Args:
        samples: at least 1 finite point.
        modes: at least 1 finite point.
        radius: largest distance, inclusive, at which a sample counts as near a mode, in units of the points.

    Raises:
        ValueError: if the radius is not positive, or points are missing or not finite.
    """
    if not radius > 0:
        raise ValueError(f"radius must be positive, not {radius}")
    x, centers = _points(samples, "samples", 1), _points(modes, "modes", 1)
    found = torch.zeros(len(centers), dtype=torch.bool, device=centers.device)
    near = 0
    for _, distance in _blocks(x, centers):
        inside = distance <= radius
        near += int(inside.any(1).sum())
        found |= inside.any(0)
    return ModeCoverage(found.double().mean().item(), near / len(x))


def efficiency(
    grads: Float[Tensor, " draws b *d"],
    cost: int | float,
    target: Float[Tensor, " b *d"] | None = None,
    scale: bool | str = True,
) -> float:
    r"""Efficiency of a gradient estimator: log |m|^2 / (MSE cost), natural logarithm, with sums over all particles.

    Without a target, this is the definition of the mean-shift paper: m is the mean of the estimator and MSE its
    variance, so bias does not count. Both are estimated without bias: the variance with the divisor draws - 1, and
    |m|^2 by subtracting the noise from the square of the sample mean (-inf if nothing is left: more draws are needed).

    With a target m, it is log |m|^2 / (mean |c g - m|^2 cost), bias included. c > 0 is one number for all draws and
    particles, because the scale of an estimator is absorbed by the step size:

    - scale=True: c = |m|^2 / <mean g, m>, so that c g makes the progress of m along m, on average. Then
      |m|^2 / MSE = rho^2 / (1 - rho^2), rho the cosine of g and m over all draws: signal over everything else. For an
      estimator without bias (up to its units) it is the definition without a target, and averaging n draws at n times
      the cost leaves it as it is. Pure noise and a wrong direction go to -inf.
    - scale="shrink": c = <g, m> / <g, g>, the smallest MSE. It is |m|^2 (1 - rho^2), so the efficiency is at least
      -log cost: this c shrinks the steps of a noisy estimator towards 0, which limits its error to that of making no
      step. One draw of pure noise therefore beats a good estimator with many evaluations, and averaging draws lowers
      the value. Estimators of equal cost are ordered as with scale=True. c is clamped to at least 0.
    - scale=False: c = 1. An estimator with small gradients gains from it as with "shrink".

    Args:
        grads: independent draws at the same particles; at least 2, or 1 with a target.
        cost: of one draw, such as its network evaluations; positive.
        target: the true gradient, with the sign of `grads`.
        scale: the choice of c; ignored without a target.

    Returns:
        The efficiency in nats: +inf if the MSE is 0 up to rounding in the dtype of `grads`, -inf if no signal is left.

    Raises:
        ValueError: if the cost is not positive, draws are too few or not finite, or the target is 0 or not finite.
    """
    if not cost > 0:
        raise ValueError(f"cost must be positive, not {cost}")
    g = _draws(grads, 2 if target is None else 1)
    if target is None:
        mean = g.mean(0)
        error = ((g - mean).square().sum() / (len(g) - 1)).item()
        signal = max(0.0, mean.square().sum().item() - error / len(g))
    else:
        m = _target(target)
        c = _step_size(g, m, scale)
        signal = m.square().sum().item()
        error = (c * g - m).square().sum(1).mean().item() if c < math.inf else math.inf
    if signal == 0:
        return -math.inf
    if error <= (8 * torch.finfo(grads.dtype).eps) ** 2 * signal:
        return math.inf
    return math.log(signal / error / cost) if signal / error > 0 else -math.inf


def bias(grads: Float[Tensor, " draws b *d"], target: Float[Tensor, " b *d"], scale: bool = False) -> float:
    """Relative bias |mean g - m| / |m| over all particles, corrected for the Monte Carlo noise of the mean.

    The square root of `squared_bias`, or 0 if that is negative, when bias cannot be distinguished from noise. Arguments
    and errors are those of `squared_bias`.
    """
    return math.sqrt(max(0.0, squared_bias(grads, target, scale)[0]))


def squared_bias(
    grads: Float[Tensor, " draws b *d"], target: Float[Tensor, " b *d"], scale: bool = False
) -> tuple[float, float]:
    """Squared relative bias |E g - m|^2 / |m|^2 over all particles, and its standard error.

    The mean of <g_i - m, g_j - m> over pairs of different draws, that is |mean g - m|^2 minus variance / draws; it is
    unbiased, so negative at times. The standard error is that of a jackknife, about 1.4 times too large if there is no
    bias.

    Args:
        grads: independent draws at the same particles, at least 2.
        target: the true gradient m, with the sign of `grads`.
        scale: first multiply g by c of `efficiency` with scale=True. Then only the part perpendicular to m counts: the
            squared tangent of the angle between E g and m, +inf for 90 degrees and more.

    Raises:
        ValueError: if draws are too few or not finite, or the target is 0 or not finite.
    """
    g, m = _draws(grads, 2), _target(target)
    n = len(g)
    size = m.square().sum()
    c = _step_size(g, m, scale)
    if c == math.inf:
        return math.inf, math.inf
    wrong = c * g - m
    if scale:
        wrong = wrong - torch.outer(wrong @ m / size, m)
    pairs = (wrong @ wrong.sum(0) - wrong.square().sum(1)) / (n - 1) / size
    return pairs.mean().item(), 2 * (pairs.std() / math.sqrt(n)).item()


def _step_size(g: Tensor, m: Tensor, scale: bool | str) -> float:
    """c of `efficiency` for gradients [draws, p] and a target [p]; +inf if no positive c makes progress along it."""
    if scale not in (True, False, "shrink"):
        raise ValueError(f'unknown scale {scale!r}: use True, False or "shrink"')
    if not scale:
        return 1.0
    along = (g @ m).mean().item()
    if scale == "shrink":
        return max(0.0, along) / max(g.square().sum(1).mean().item(), torch.finfo(g.dtype).tiny)
    return m.square().sum().item() / along if along > 0 else math.inf


def _target(target: Tensor) -> Tensor:
    m = _exact(target).flatten()
    if not bool(m.isfinite().all()):
        raise ValueError("target has values that are not finite: exclude those particles")
    if not bool(m.any()):
        raise ValueError("target is zero everywhere, so relative errors are undefined: exclude those particles")
    return m


def _draws(grads: Tensor, least: int) -> Tensor:
    if len(grads) < least:
        raise ValueError(f"{len(grads)} draws of the gradient are too few: give at least {least}")
    if not bool(grads.isfinite().all()):
        raise ValueError(
            "grads have values that are not finite: efficiency and bias of a diverging estimator are undefined"
        )
    return _exact(grads).flatten(1)


def _exact(x: Tensor) -> Tensor:
    return x.detach().to(torch.float32 if x.device.type == "mps" else torch.float64)


def _points(x: Tensor, name: str, least: int) -> Tensor:
    if len(x) < least:
        raise ValueError(f"{name} has {len(x)} points: give at least {least}")
    strange = int((~x.isfinite()).any(1).sum())
    if strange:
        raise ValueError(f"{name} has {strange} points that are not finite: remove them and report their number")
    return _exact(x)


def _blocks(a: Tensor, b: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """Distances [rows, m] of the points of b from successive rows of a, each with the slice of these rows."""
    rows = max(1, CHUNK // len(b))
    for i in range(0, len(a), rows):
        part = slice(i, i + rows)
        yield part, torch.cdist(a[part], b, compute_mode="donot_use_mm_for_euclid_dist")


def _neighbor_distance(a: Tensor, k: int) -> Tensor:
    """Distance of each point to its k-th neighbor, [n]; the point itself is the first of k + 1, at distance 0."""
    return torch.cat([distance.kthvalue(k + 1, 1).values for _, distance in _blocks(a, a)])


def _kernel_sum(a: Tensor, b: Tensor, bandwidth: float) -> float:
    return sum((distance / bandwidth).square().div(-2).exp().sum().item() for _, distance in _blocks(a, b))
