r"""Collaborative mean shift: particles that follow the prior's score and repel each other.

    m_i = [D_p(x_i; h) - x_i] + beta (h / w)^2 [x_i - D_q(x_i; w)],    grad_i = -m_i,    w = max(h, spacing)

    D_q(x; w) = sum_j softmax_j(-|x - x_j|^2 / (2 w^2)) x_j

D_p is the prior's denoiser and D_q that of the particles' own density q, each particle itself included. By Tweedie's
formula m = h^2 grad log(p_h / q_w^beta): beta = 0 is mean-shift distillation (https://arxiv.org/abs/2502.15989),
beta = 1 the particle flow that lowers KL(q || p) at scale h, and in between q tends to p^(1 / beta), a lower
temperature.

The spacing is the median distance of a particle to its nearest neighbor. A kernel narrower than the spacing resolves
single particles: with w = h the repulsion vanishes while h still falls, and particles drift together. With w held at
the spacing a weak repulsion remains, and h may fall as low as desired. At the fixed point q_w = p_h the particles'
variance is w^2 - h^2 below that of p: a negligible amount for many particles, but strokes become thinner with few.

The time schedule (`annealing`) completes the rule: h falls geometrically from the prior's `spread` by a factor of 250.
All lengths come from the prior and the particles, so the method is invariant to the scale of the data. Comparisons with
constant bandwidths, initializations and results in 64 dimensions: docs/results/toy/collaborative.md.

In many dimensions noise dominates the spacing. A kernel on features f measures w and the repulsion in feature space and
maps it back, J^T [f_i - D_q(f)_i] with J the Jacobian of f, so directions to which f is blind are not repelled.
(Averaging x itself with the weights of f would undo the prior's denoising in all those directions, and particles would
diverge.) `principal_features` finds a subspace that holds the prior's structure, if there is one.

A few particles in a thousand dimensions do not interact under any kernel narrower than their distances. There,
`density="gaussian"` fits an isotropic Gaussian, with their mean m and their variance v per coordinate:

    D_q(x; h) = m + v / (v + h^2) (x - m),    w = h

Directions in which the prior varies are kept and all others shrink. On a Gaussian prior of variance s^2 the particles
settle at v = beta s^2 - (1 - beta) h^2 whatever their number: at the prior's own variance for beta = 1
(docs/results/text_to_2d.md).
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from scoredistill.estimators.base import Batch, Estimate, Estimator
from scoredistill.estimators.mean_shift import MeanShift
from scoredistill.kernels import RBF, Kernel
from scoredistill.priors.base import Prior
from scoredistill.priors.conditions import Cond
from scoredistill.rng import Rng, draw_noise
from scoredistill.sampling import LARGEST
from scoredistill.schedule import per_sample
from scoredistill.times import Bandwidth

FALL = 250.0  # how much narrower the bandwidth is at the end of a run; from 100 to 500 the results hardly differ
DENSITIES = ("kernel", "gaussian")
PROBE = 4.0  # the spread is measured at a noise level of so many spreads, where several modes act as one Gaussian


@dataclass(frozen=True)
class CollaborativeMeanShift(Estimator):
    """Mean shift of particles that repel each other; the formula is that of the module.

    Args:
        base: the mean shift of single particles; its bandwidth is h.
        beta: weight of the particles' own density, in [0, 1].
        kernel: of the particles' own density; RBF() by default. Its bandwidth "median" means the rule,
            w = max(h, scale * spacing) in the units of its features; a number takes the place of the spacing. Features
            should preserve distances, as an orthonormal projection does. A scale near 0 gives w = h.
        density: how the particles' density is estimated: "kernel" (a kernel density estimate), or "gaussian" (an
            isotropic Gaussian fit) for few particles in many dimensions.
        denoised: compute spacing and weights from the denoised particles D_p(x; h), without a further evaluation, and
            the repulsion from the particles. It repels more: full recall, less likely samples. Not with features.

    Raises:
        ValueError: for a beta outside [0, 1], an unknown density, or options that exclude each other.
    """

    base: MeanShift
    beta: float = 1.0
    kernel: Kernel | None = None
    denoised: bool = False
    density: str = "kernel"

    def __post_init__(self) -> None:
        if not 0 <= self.beta <= 1:
            raise ValueError(f"beta must lie in [0, 1], not {self.beta}")
        if self.density not in DENSITIES:
            raise ValueError(f"unknown density {self.density!r}: use one of {', '.join(DENSITIES)}")
        if self.density == "gaussian" and (self.kernel is not None or self.denoised):
            raise ValueError("kernel and denoised apply to density='kernel': leave them out with density='gaussian'")
        if self.denoised and self.kernel is not None and self.kernel.features is not None:
            raise ValueError("denoised=True does not work with a kernel on features: leave out one of the two")

    @torch.no_grad()
    def __call__(self, prior: Prior, batch: Batch, t: Float[Tensor, " b"], rng: Rng = None) -> Estimate:
        estimate = self.base(prior, batch, t, rng)
        h = self.base.bandwidth_at(prior, t).to(batch.x.dtype)
        if self.density == "gaussian":
            push, width = _gaussian_push(batch.x, h)
            return Estimate(estimate.grad - self.beta * push, info={**estimate.info, "width": width})
        seen = batch.x - estimate.grad if self.denoised else batch.x
        push, width = self._push(batch.x, seen, h)
        strength = (self.beta * (h / width).square()).reshape(-1, *[1] * (batch.x.ndim - 1))
        return Estimate(estimate.grad - strength * push, info={**estimate.info, "width": width.mean()})

    def _push(self, x: Tensor, seen: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        """(-w^2 grad log q_w at each particle, in the shape of x; w of each particle, [n])."""
        kernel = RBF() if self.kernel is None else self.kernel
        with torch.enable_grad():
            source = seen.detach().requires_grad_(kernel.features is not None)
            f = source if kernel.features is None else kernel.features(source)
        flat = f.detach().flatten(1)
        apart = spacing(flat).to(h) if kernel.bandwidth == "median" else float(kernel.bandwidth)
        width = h.clamp(min=kernel.scale * apart)
        u = _distances(flat).square() / (2 * width[:, None].square())
        weights = -kernel.slope(u) / kernel.profile(u).sum(1, keepdim=True)
        pushed = x.flatten(1) if kernel.features is None else flat
        away = weights.sum(1, keepdim=True) * pushed - weights @ pushed
        if kernel.features is None:
            return away.reshape_as(x), width
        return torch.autograd.grad(f, source, away.reshape_as(f))[0], width


def _gaussian_push(x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
    """(x - D_q(x; h) for q the isotropic Gaussian with the particles' mean and variance, its standard deviation)."""
    away = x - x.mean(0, keepdim=True)
    variance = away.square().sum() / max(1, len(x) - 1) / x[0].numel()
    shrink = h.square() / (variance + h.square())
    return per_sample(shrink, x) * away, variance.sqrt()


@dataclass(frozen=True)
class Subspace:
    """Linear features of particles: their coordinates along orthonormal axes.

    Attributes:
        axes: the axes, [k, D], with D the number of entries of a particle.
    """

    axes: Float[Tensor, "k D"]

    def __call__(self, x: Float[Tensor, " n *d"]) -> Float[Tensor, "n k"]:
        return x.flatten(1) @ self.axes.T


def spacing(x: Float[Tensor, " n *d"]) -> Float[Tensor, ""]:
    """Median distance of a particle to its nearest neighbor, in the units of x; 0 for a single particle."""
    if len(x) < 2:
        return x.new_zeros(())
    distance = _distances(x.flatten(1)).fill_diagonal_(torch.inf)
    return distance.amin(1).median()


@torch.no_grad()
def spread(
    prior: Prior, x: Float[Tensor, " n *d"], cond: Cond | None = None, rounds: int = 8, rng: Rng = None
) -> float:
    """Estimate the largest standard deviation of the prior in any direction.

    The estimate is a power iteration with the Jacobian of D(x; r) at the mean. For a Gaussian of covariance C it is
    C (C + r^2 I)^-1, whose largest eigenvalue l = s^2 / (s^2 + r^2) gives s at every noise level r. For other priors
    the same holds at noise levels r far above the data, so r is kept at four times the current estimate of s.

    Args:
        prior: the diffusion model.
        x: particles, of which only the mean, the shape and the dtype matter.
        cond: condition of one row.
        rounds: iterations, at least 1; each is one network call of two batch rows.
        rng: draws the first direction.

    Returns:
        s in the units of x, clamped to the range of the prior's schedule.
    """
    if rounds < 1:
        raise ValueError(f"rounds must be at least 1, not {rounds}")
    ends = prior.schedule.ratio(torch.tensor([0.0, 1.0], dtype=torch.float64, device=x.device)).clamp(max=LARGEST)
    least, most = ends.tolist()
    center, level, s = x.mean(0, keepdim=True), most, least
    direction = draw_noise(center, rng)
    direction = direction / direction.norm()
    for _ in range(rounds):
        pair = torch.cat([center + level * direction, center - level * direction])
        up, down = prior.denoise_at(pair, torch.full((2,), level, dtype=x.dtype, device=x.device), cond).split(1)
        center, image = (up + down) / 2, (up - down) / 2
        length = image.norm().item()
        direction = image / length if length > 0 else direction
        slope = min(length / level, 0.9)
        s = min(max(level * math.sqrt(slope / (1 - slope)), least), most)
        level = min(PROBE * s, most)
    return s


def annealing(prior: Prior, x: Float[Tensor, " n *d"], cond: Cond | None = None, rng: Rng = None) -> Bandwidth:
    """Make the time schedule of collaborative mean shift: h falls geometrically from the prior's spread to a 250th.

    Twenty steps suffice, and eight nearly do. It costs the 16 network evaluations of `spread`. Particles may start as a
    grid or a cloud around the prior, of a tenth of the spread to twice the spread. From a single point the first steps
    are needed to separate them: start at two spreads and take 40 steps.

    Args:
        prior: the diffusion model.
        x: the particles at the start; only their mean, shape and dtype matter.
        cond: condition of one row.
        rng: as in `spread`.
    """
    start = spread(prior, x, cond, rng=rng)
    return Bandwidth(prior.schedule, start, start / FALL)


@torch.no_grad()
def principal_features(
    prior: Prior, x: Float[Tensor, " n *d"], ratio: float, dims: int, cond: Cond | None = None
) -> Subspace:
    """Find the directions in which the prior's denoised samples D(x; ratio) vary most, by n network evaluations.

    Args:
        prior: the diffusion model.
        x: n particles spread over the prior, such as center + spread * noise.
        ratio: noise-to-signal ratio to denoise at; the prior's `spread` is a good choice.
        dims: number of directions, at most n - 1 and at most the entries of a particle. With too many of them the
            features contain noise again.
        cond: condition of 1 or n rows.
    """
    most = min(len(x) - 1, x[0].numel())
    if not 1 <= dims <= most:
        raise ValueError(f"dims must lie in [1, {most}] for particles of shape {tuple(x.shape)}, not {dims}")
    y = prior.denoise_at(x, torch.full((len(x),), ratio, dtype=x.dtype, device=x.device), cond).flatten(1)
    return Subspace(torch.linalg.svd(y - y.mean(0), full_matrices=False)[2][:dims])


def _distances(flat: Tensor) -> Tensor:
    return torch.cdist(flat, flat, compute_mode="donot_use_mm_for_euclid_dist")
