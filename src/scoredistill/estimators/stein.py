r"""Collaborative score distillation: particles that share their gradients through a kernel.

Several samples are the particles of a Stein variational gradient descent. With d_j the base estimator's gradient on
particle j and K_ij a kernel of clean particles,

    row (default)     grad_i = sum_j K_ij d_j / sum_j K_ij
    paper             grad_i = 1/N sum_j ( K_ij d_j - gamma grad_{x_j} K_ij ),  gamma = 1

With normalization by rows the step size does not depend on N, so runs with and without coupling compare fairly.

With `share` only a part P d of the gradients is shared, grad_i = d_i - P d_i + sum_j K_ij P d_j / sum_j K_ij, or
coefficients of the gradients (`shared.Basis`). Particles that show different places then agree on what is common to all
of them and keep their own detail.

A wider kernel makes particles agree where the task has many answers in a common direction, gains nothing where it has
one, and loses the answer where the direction depends on the place (docs/estimators/csd.md).

Without `repulsion` nothing separates the particles of a clean kernel: coupled SDS forms a consensus, and its particles
collapse as those of SDS do. (With a kernel of the *noised* particles, the -n_j in d_j would be the entropy term, by
Stein's identity, and an explicit kernel gradient would count it twice; but such a kernel flattens as t grows. Numbers:
docs/errata.md.) The paper's Eqs. 7 and 8, read with descent, attract; the sign here repels. On a Gaussian
prior of variance v, gamma = w v sigma alpha / (alpha^2 v + sigma^2) makes that Gaussian the stationary distribution; in
the thousands of dimensions of an image the term is a fraction of a percent of the score.

References: Collaborative score distillation (Kim et al. 2023), https://arxiv.org/abs/2307.04787; Stein variational
gradient descent (Liu & Wang 2016), https://arxiv.org/abs/1608.04471.
"""

from collections.abc import Callable
from dataclasses import InitVar, dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from scoredistill.estimators.base import Batch, Estimate, Estimator, EstimatorWrapper
from scoredistill.estimators.shared import Basis, solve
from scoredistill.kernels import RBF
from scoredistill.priors.base import Prior
from scoredistill.rng import Rng
from scoredistill.schedule import Weight, per_sample, weight_at

NORMALIZE = ("row", "paper")


@dataclass(frozen=True)
class Stein(EstimatorWrapper):
    """Couple any estimator's particles through a kernel.

    Args:
        base: estimator of single particles.
        kernel: callable x[n, *d] -> K[n, n]; repulsion also needs a method `repulsion`, as `RBF` has. K_ij is the
            weight of particle j's gradient for particle i; K need not be symmetric.
        normalize: "row" or "paper", see the module.
        repulsion: gamma, the coefficient of the kernel gradient; by default 0 for "row" and 1 for "paper".
        share: what is shared: coefficients on a basis, such as `LowPass` or `Tone`, or the part P d that a linear
            function of d returns; whole gradients by default.
        target: share the coefficients of x - source - d, where a step of length 1 arrives, instead of those of d.
            Sharing gradients keeps differences that exist, and differences arise when not all particles take part in
            every step; sharing targets removes them. For edits, with `share` a basis.
        until: time t below which particles are on their own. Which of several answers they reach is decided at large t;
            then each may reach it exactly. 0 couples at all times.
        noised: evaluate the kernel on the noised particles, as the released code does, instead of on the clean ones.
        weight: w(t), multiplies the result, repulsion included; for a base without a weight of its own.
        normalise: alias of `normalize`.

    Raises:
        ValueError: for an unknown normalization, or repulsion with a kernel that has none.
    """

    base: Estimator
    kernel: Callable[[Tensor], Tensor] = field(default_factory=RBF)
    normalize: str = "row"
    repulsion: float | None = None
    share: Basis | Callable[[Tensor], Tensor] | None = None
    target: bool = False
    until: float = 0.0
    noised: bool = False
    weight: Weight = "uniform"
    normalise: InitVar[str | None] = None

    def __post_init__(self, normalise: str | None) -> None:
        if normalise is not None:
            object.__setattr__(self, "normalize", normalise)
        if self.normalize not in NORMALIZE:
            raise ValueError(f"unknown normalize {self.normalize!r}: use one of {', '.join(NORMALIZE)}")
        if not 0 <= self.until <= 1:
            raise ValueError(f"until must be a time in [0, 1], not {self.until}")
        if self.target and not isinstance(self.share, Basis):
            raise ValueError("target=True shares coefficients: give share a basis, such as Affine()")
        if self._gamma and not hasattr(self.kernel, "repulsion"):
            raise ValueError("repulsion needs a kernel with a `repulsion` method, such as RBF; or give repulsion=0.0")

    @property
    def _gamma(self) -> float:
        if self.repulsion is not None:
            return self.repulsion
        return 1.0 if self.normalize == "paper" else 0.0

    @torch.no_grad()
    def __call__(self, prior: Prior, batch: Batch, t: Float[Tensor, " b"], rng: Rng = None) -> Estimate:
        estimate = self.base(prior, batch, t, rng)
        seen = estimate.x_t if self.noised else batch.x
        if seen is None:
            raise ValueError("noised=True needs a base that returns its noised particles, such as a Residual")
        if batch.group is not None and len(batch.group) != len(batch.x):
            raise ValueError(f"{len(batch.group)} groups for {len(batch.x)} particles: give one number per particle")
        if batch.group is None:
            grad, mean = self._couple(seen, estimate.grad, batch)
        else:
            grad, means = torch.zeros_like(estimate.grad), []
            for name in batch.group.unique():
                here = (batch.group == name).nonzero()[:, 0].to(seen.device)
                source = batch.source if batch.source is None or len(batch.source) == 1 else batch.source[here]
                some = Batch(batch.x[here], source=source)
                grad[here], mean = self._couple(seen[here], estimate.grad[here], some)
                means.append(mean)
            mean = torch.stack(means).mean()
        if self.until:
            grad = torch.where(per_sample(t >= self.until, grad) > 0, grad, estimate.grad)
        grad = per_sample(weight_at(self.weight, prior.schedule, t), grad) * grad
        return Estimate(grad, estimate.loss, {**estimate.info, "kernel": mean}, estimate.x_t)

    def _couple(self, seen: Float[Tensor, " n *d"], d: Float[Tensor, " n *d"], batch: Batch) -> tuple[Tensor, Tensor]:
        """The coupled gradients of particles, and the kernel's mean."""
        if self._gamma:
            kernel, away = self.kernel.repulsion(seen)  # type: ignore[attr-defined]
        else:
            kernel, away = self.kernel(seen), None
        if isinstance(self.share, Basis):
            grad = d + self._difference(self.share, kernel, d, batch)
        else:
            shared = d if self.share is None else self.share(d)
            grad = d - shared + _weighed(kernel, shared) / per_sample(self._scale(kernel), d)
        if away is not None:
            grad = grad - away * per_sample(self._gamma / self._scale(kernel), d)
        return grad, kernel.mean()

    def _difference(self, basis: Basis, kernel: Tensor, d: Tensor, batch: Batch) -> Tensor:
        """B_i (c_i - own c_i), by which sharing coefficients changes the gradients."""
        source = torch.zeros_like(batch.x) if batch.source is None else batch.source.expand_as(batch.x)
        like = batch.x if batch.source is None else source
        asked = batch.x - source - d if self.target else d
        products, gram = basis.products(asked, like), basis.gram(like)
        own = solve(gram, products)
        if self.normalize == "paper":
            common = _weighed(kernel, own) / len(kernel)
        else:
            common = solve(_weighed(kernel, gram), _weighed(kernel, products))
        change = basis.combine(common - own, like)
        return -change if self.target else change

    def _scale(self, kernel: Float[Tensor, "n n"]) -> Float[Tensor, " n"]:
        """The normalization of each particle's sum."""
        return kernel.sum(1) if self.normalize == "row" else torch.full_like(kernel[0], len(kernel))


def _weighed(kernel: Float[Tensor, "n n"], values: Float[Tensor, " n *k"]) -> Float[Tensor, " n *k"]:
    """sum_j K_ij v_j."""
    return (kernel @ values.flatten(1)).reshape_as(values)
