r"""Three toy distributions in the plane: exact Gaussian mixtures, so densities and scores have closed forms.

Each consists of strokes: rows of Gaussians that are long along the stroke and thin across it,

    C_k = a_k^2 u_k u_k^T + b_k^2 v_k v_k^T,    u_k along the stroke, v_k across it.

If a_k is at least half the distance between neighbors, the density along a stroke is smooth (with a ripple of 1.5 %).

    set       entropy   description
    fractal   -1.50     a tree with forking, thinning branches; a second class grows from the same root the other way
    spiral    -1.39     two arms, 320 components, standard deviation .5 on both axes
    pinwheel  -1.19     five blades, 120 components, standard deviation .5 on both axes

All lie in [-1.5, 1.5]^2. Entropies are in nats; the stroke widths below were found by bisection to match them.

References: Guiding a diffusion model with a bad version of itself (Karras et al. 2024),
https://arxiv.org/abs/2406.02507, for this kind of tree; mean shift distillation, https://arxiv.org/abs/2502.15989, for
the three sets and their entropies. The constructions are our own.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from scoredistill.priors import GaussianMixture
from scoredistill.schedule import VE, Schedule

NAMES = ("fractal", "spiral", "pinwheel")
HALF_SIDE = 1.5  # the sets lie in [-HALF_SIDE, HALF_SIDE]^2
WIDTH = {"fractal": 0.01573, "spiral": 0.005836, "pinwheel": 0.01697}  # standard deviation across the widest stroke

DEPTH, BEADS = 7, 8  # generations of branches of a tree, components of a branch
TRUNK, SHORTEN, THIN = 0.4, 0.78, 0.7  # length of the trunk, factors of length and width per generation
FORK, NARROW = 0.72, 0.8  # angle in radians of the first fork's branches to its trunk, factor per generation
HEADINGS, SEEDS = (0.86, 0.86 - math.pi), (1, 2)  # directions of the two trunks, seeds of their irregularities

Parts = tuple[Tensor, Tensor, Tensor]  # means [k, 2], covariances [k, 2, 2], weights [k]


def toy_set(
    name: str, classes: int = 1, schedule: Schedule | None = None, dtype: torch.dtype = torch.float64
) -> GaussianMixture:
    """A toy distribution by name.

    Args:
        name: "fractal", "spiral" or "pinwheel".
        classes: 1, or 2 for the fractal only.
        schedule: the noise schedule; VE(0.002, 80) by default.
        dtype: of the parameters.

    Raises:
        ValueError: if the name is unknown, or the set does not have that many classes.
    """
    if name == "fractal":
        return fractal(classes, schedule, dtype)
    if name not in NAMES:
        raise ValueError(f"unknown toy set {name!r}: use one of {', '.join(NAMES)}")
    if classes != 1:
        raise ValueError(f"{name} has one class, not {classes}: use classes=1, or the fractal")
    return (spiral if name == "spiral" else pinwheel)(schedule, dtype)


def fractal(classes: int = 1, schedule: Schedule | None = None, dtype: torch.dtype = torch.float64) -> GaussianMixture:
    """A tree from the origin to the upper right and, with two classes, a second one to the lower left.

    Args:
        classes: 1 for the first tree without labels, or 2 for both, equally likely, with labels 0 and 1.
        schedule, dtype: see `toy_set`.
    """
    if classes not in (1, 2):
        raise ValueError(f"the fractal has 1 or 2 classes, not {classes}")
    means, covs, weights = (torch.cat(c) for c in zip(*map(_tree, HEADINGS[:classes], SEEDS[:classes]), strict=True))
    labels = None if classes == 1 else torch.arange(classes).repeat_interleave(len(means) // classes)
    return _mixture((means, covs, weights), schedule, dtype, labels)


def spiral(schedule: Schedule | None = None, dtype: torch.dtype = torch.float64) -> GaussianMixture:
    """Two Archimedean arms of one and a half turns, of constant width, with uniform density along their length."""
    n, turn, start, pitch = 160, 3 * math.pi, 0.04, 0.96 / (3 * math.pi)
    fine = torch.linspace(0, turn, 20_001, dtype=torch.float64)
    radius = start + pitch * fine
    length = torch.cumulative_trapezoid((radius.square() + pitch**2).sqrt(), fine)
    wanted = length[-1] * (torch.arange(n, dtype=torch.float64) + 0.5) / n
    phi = fine[1 + torch.searchsorted(length, wanted)]
    radius, step = start + pitch * phi, length[-1] / n
    along = torch.stack([torch.full_like(phi, pitch), radius], 1)  # d/dphi in the polar frame
    width = torch.full_like(phi, WIDTH["spiral"])
    arm = _stroke(radius, phi + math.pi, along, 0.5 * step * torch.ones_like(phi), width, torch.ones_like(phi))
    return _mixture(_scaled(_turned(arm, 2)), schedule, dtype)


def pinwheel(schedule: Schedule | None = None, dtype: torch.dtype = torch.float64) -> GaussianMixture:
    """Five blades bent clockwise, wide at the center, thinner and less likely towards their outer ends."""
    n, bend = 24, 1.25
    u = (torch.arange(n, dtype=torch.float64) + 0.5) / n
    radius = 0.04 + 1.3 * u
    along = torch.stack([torch.ones_like(u), -bend * radius], 1)  # d/dradius in the polar frame
    step = along.norm(dim=1) * 1.3 / n
    weights = (-0.5 * ((radius - 0.62) / 0.26).square()).exp()
    blade = _stroke(radius, 1.3 - bend * radius, along, 0.6 * step, WIDTH["pinwheel"] * (1 - 0.85 * u), weights)
    return _mixture(_scaled(_turned(blade, 5)), schedule, dtype)


def density_level(mixture: GaussianMixture, mass: float = 0.01, n: int = 20_000, seed: int = 0) -> float:
    """The log density below which a fraction `mass` of samples lies; points below it count as off the distribution.

    Args:
        mixture: the distribution.
        mass: in (0, 1).
        n: number of samples for the estimate.
        seed: of these samples, so that a distribution always has the same level.

    Raises:
        ValueError: if mass is not in (0, 1).
    """
    if not 0 < mass < 1:
        raise ValueError(f"mass must lie between 0 and 1, not {mass}")
    rng = torch.Generator(mixture.means.device).manual_seed(seed)
    samples = mixture.sample(n, rng)
    log_density = torch.cat([mixture.log_prob(part) for part in samples.split(100)])
    return log_density.quantile(mass).item()


def grid_start(n: int, dtype: torch.dtype = torch.float64) -> Float[Tensor, "{n} 2"]:
    """n particles on a regular grid with ceil(sqrt(n)) points per side over [-1.5, 1.5]^2, including the border.

    If n is not a square, the omitted points are spread over the whole grid: those with the largest frac(a i + a^2 j),
    where a = .7549 is the inverse of the plastic number (R2 sequence, M. Roberts,
    https://extremelearning.com.au/unreasonable-effectiveness-of-quasirandom-sequences/).

    Raises:
        ValueError: if n is below 1.
    """
    if n < 1:
        raise ValueError(f"expected at least one particle, got {n}")
    side = math.isqrt(n - 1) + 1
    line = torch.linspace(-HALF_SIDE, HALF_SIDE, side, dtype=dtype) if side > 1 else torch.zeros(1, dtype=dtype)
    a, index = 0.7548776662466927, torch.arange(side, dtype=torch.float64)
    order = (a * index[:, None] + a * a * index).frac().flatten().argsort()
    return torch.cartesian_prod(line, line)[order[:n].sort().values]


def modes(mixture: GaussianMixture, radius: float = 0.1, mass: float = 0.99) -> Float[Tensor, "k d"]:
    """Representative points of a mixture for counting mode coverage: nearly all means are within `radius` of one.

    A greedy cover: repeatedly take the mean with the largest weight of uncovered means within `radius` (including
    itself), until the covered means have the weight `mass`. The points are means, so they lie on the strokes.

    Args:
        mixture: the distribution.
        radius: in units of the data; a mode counts as found if a particle is within the same radius.
        mass: in (0, 1]. The rest is rarer than about a thousand samples can be expected to show.

    Raises:
        ValueError: if radius or mass is out of range.
    """
    if not (radius > 0 and 0 < mass <= 1):
        raise ValueError(f"radius must be positive and mass in (0, 1], not {radius} and {mass}")
    near = torch.cdist(mixture.means, mixture.means, compute_mode="donot_use_mm_for_euclid_dist") <= radius
    left, chosen = mixture.weights.double(), []
    while left.sum() > 1 - mass + 1e-9:
        gain = (near * left).sum(1).round(decimals=9)  # equal gains stay equal, so that the first is taken
        chosen.append(int(gain.argmax()))
        left = left.masked_fill(near[chosen[-1]], 0)
    return mixture.means[chosen]


def _tree(heading: float, seed: int) -> Parts:
    """The components of one tree; its trunk has the width WIDTH["fractal"], and weights sum to 1."""
    rng = torch.Generator().manual_seed(seed)
    start, angle = torch.zeros(1, 2, dtype=torch.float64), torch.tensor([heading], dtype=torch.float64)
    length, width, fork, parts = TRUNK, WIDTH["fractal"], FORK, []
    along = (torch.arange(BEADS, dtype=torch.float64) + 0.5) / BEADS
    for _ in range(DEPTH):
        stretch, lean = torch.rand(2, 2 * len(angle), generator=rng, dtype=torch.float64) - 0.5
        reach = length * (1 + 0.3 * stretch[: len(angle)])
        direction = torch.stack([angle.cos(), angle.sin()], 1)
        branch = reach[:, None] * direction
        means = start[:, None] + along[:, None] * branch[:, None]
        covs = _covariances(direction, 0.5 * reach / BEADS, torch.full_like(reach, width))
        parts.append((means.flatten(0, 1), covs.repeat_interleave(BEADS, 0), (width * reach).repeat_interleave(BEADS)))
        start = (start + branch).repeat_interleave(2, 0)
        sides = torch.tensor([fork, -fork], dtype=torch.float64).repeat(len(angle))
        angle = angle.repeat_interleave(2) + sides + 0.3 * lean
        length, width, fork = SHORTEN * length, THIN * width, NARROW * fork
    means, covs, weights = (torch.cat(c) for c in zip(*parts, strict=True))
    return means, covs, weights / weights.sum()


def _covariances(direction: Tensor, along: Tensor, across: Tensor) -> Tensor:
    """Covariances [k, 2, 2] with standard deviations `along` the unit vectors `direction` [k, 2] and `across` them."""
    normal = torch.stack([-direction[:, 1], direction[:, 0]], 1)
    axes = torch.stack([along[:, None] * direction, across[:, None] * normal], 2)
    return axes @ axes.mT


def _stroke(radius: Tensor, phi: Tensor, heading: Tensor, along: Tensor, across: Tensor, weights: Tensor) -> Parts:
    """A stroke in polar coordinates; `heading` [k, 2] is its direction along (radius, phi), of any length."""
    outward = torch.stack([phi.cos(), phi.sin()], 1)
    sideward = torch.stack([-phi.sin(), phi.cos()], 1)
    direction = torch.nn.functional.normalize(heading[:, :1] * outward + heading[:, 1:] * sideward, dim=1)
    return radius[:, None] * outward, _covariances(direction, along, across), weights


def _turned(stroke: Parts, times: int) -> Parts:
    """`times` copies of a stroke, each rotated by a further 1 / times of a full turn."""
    means, covs, weights = stroke
    angle = 2 * math.pi * torch.arange(times, dtype=torch.float64) / times
    turn = torch.stack([angle.cos(), -angle.sin(), angle.sin(), angle.cos()], 1).reshape(times, 1, 2, 2)
    return (turn @ means[:, :, None]).reshape(-1, 2), (turn @ covs @ turn.mT).reshape(-1, 2, 2), weights.repeat(times)


def _scaled(parts: Parts) -> Parts:
    """Shift and scale each axis to mean 0 and standard deviation 0.5."""
    means, covs, weights = parts
    fraction = weights[:, None] / weights.sum()
    means = means - (fraction * means).sum(0)
    variance = (fraction * (means.square() + covs.diagonal(dim1=1, dim2=2))).sum(0)
    scale = 0.5 / variance.sqrt()
    return scale * means, scale[:, None] * covs * scale, weights


def _mixture(
    parts: Parts, schedule: Schedule | None, dtype: torch.dtype, labels: Tensor | None = None
) -> GaussianMixture:
    means, covs, weights = (part.to(dtype) for part in parts)
    return GaussianMixture(means, covs, weights, VE(0.002, 80.0) if schedule is None else schedule, labels)
