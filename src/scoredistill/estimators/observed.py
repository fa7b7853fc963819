r"""Optimization under a measurement: inpainting, super-resolution, deblurring.

A measurement y = A(x) of a sample adds its least-squares term to the objective of an estimator:

    grad = g(x) + w J_A(x)^T (A(x) - y),        the gradient of  w / 2 |A(x) - y|^2.

For mean shift, whose g(x) is -s grad log p_s(x) at the bandwidth sqrt s, the fixed points are the modes of

    p_s(x) N(y; A(x), (s / w) I):

a constant weight tightens the measurement as the bandwidth shrinks, and w = s / v keeps its noise at the variance v
(`known_noise`). `TrackedMSD` moves the draw that it keeps along (`Estimator.displace`): the measurement is met exactly
in the end, and what is not measured is drawn given what is, approximately. Gradient steps with learning rate l are
stable for l (1 + w |A|^2) < 2, where |A| is the largest singular value of A: about 1 for a mask or a blur, 1 / factor
for average pooling.

Reference: Diffusion posterior sampling (Chung et al. 2022), https://arxiv.org/abs/2209.14687, takes the same kind of
term in the steps of a sampler.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from scoredistill.estimators.base import Batch, Estimate, Estimator, EstimatorWrapper
from scoredistill.estimators.rows import Coefficient, scaled
from scoredistill.media.images import blurred
from scoredistill.priors.base import Prior
from scoredistill.rng import Rng
from scoredistill.schedule import Schedule


@dataclass(frozen=True, eq=False)
class Mask:
    """Keep some pixels: A(x) = mask * x, for inpainting.

    Args:
        mask: 1 where x is measured and 0 elsewhere, in a shape that broadcasts to x, such as [1, 1, h, w].
    """

    mask: Tensor

    def __call__(self, x: Float[Tensor, " b *d"]) -> Float[Tensor, " b *d"]:
        return self.mask.to(x) * x


@dataclass(frozen=True)
class AveragePool:
    """Means over squares of pixels, [b, c, h, w] to [b, c, h / factor, w / factor], for super-resolution.

    Args:
        factor: side of a square in pixels, at least 1; it must divide height and width.

    Raises:
        ValueError: for a factor below 1; when called, if it does not divide the size of the images.
    """

    factor: int

    def __post_init__(self) -> None:
        if self.factor < 1:
            raise ValueError(f"the factor must be at least 1, not {self.factor}")

    def __call__(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c p q"]:
        if x.ndim != 4 or x.shape[-2] % self.factor or x.shape[-1] % self.factor:
            raise ValueError(
                f"average pooling by {self.factor} takes images whose sides it divides, not {list(x.shape)}"
            )
        return functional.avg_pool2d(x, self.factor)


@dataclass(frozen=True)
class GaussianBlur:
    """Gaussian blur with replicated borders, [b, c, h, w], for deblurring.

    Args:
        std: standard deviation in pixels, positive.

    Raises:
        ValueError: if it is not positive.
    """

    std: float

    def __post_init__(self) -> None:
        if not self.std > 0:
            raise ValueError(f"the standard deviation of a blur must be positive, not {self.std}")

    def __call__(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        return blurred(x, self.std)


def known_noise(std: float) -> Callable[[Schedule, Tensor], Tensor]:
    """The weight w = s / std^2 of a measurement whose noise has this standard deviation.

    sqrt s = sigma_t / alpha_t, for `MSD()`, whose bandwidth follows the time schedule. Learning rates must suit the
    largest weight, see the module.

    Raises:
        ValueError: if the standard deviation is not positive.
    """
    if not std > 0:
        raise ValueError(f"the standard deviation of the noise must be positive, not {std}")
    return lambda schedule, t: (schedule.ratio(t) / std) ** 2


@dataclass(frozen=True, eq=False)
class Observed(EstimatorWrapper):
    """An estimator under a measurement y = A(x): grad = base's gradient + w J_A^T (A(x) - y).

    The particles are what the generator renders: images with `Decoded(...)` as the base or for priors of images,
    latents otherwise. The diagnostic "misfit" is the root mean square of A(x) - y before the step.

    Args:
        base: the estimator.
        operator: A, a differentiable function of samples [b, *d] that treats each alone, such as `Mask`, `AveragePool`
            or `GaussianBlur`.
        y: the measurement, with 1 row or one per particle.
        weight: w, at least 0; a number, or a function of (schedule, t) that returns one per particle, such as
            `known_noise`.
        decode: measure the decoded images of latents, in [0, 1]. The gradient passes through the decoder.

    Raises:
        ValueError: for a negative weight; in a run, if y does not have the shape of A(x), or A passes no gradient.
    """

    base: Estimator
    operator: Callable[[Tensor], Tensor]
    y: Tensor
    weight: Coefficient = 1.0
    decode: bool = False

    def __post_init__(self) -> None:
        if not callable(self.weight) and not 0 <= self.weight < float("inf"):
            raise ValueError(f"the weight must be at least 0 and finite, not {self.weight}")

    def __call__(self, prior: Prior, batch: Batch, t: Float[Tensor, " b"], rng: Rng = None) -> Estimate:
        slope, misfit = self._slope(prior, batch.x)  # before the base's work: it refuses what does not fit
        estimate = self.base(prior, batch, t, rng)
        pull = scaled(self.weight, prior.schedule, t, slope).to(estimate.grad)
        self.base.displace(pull)
        return replace(estimate, grad=estimate.grad + pull, info={**estimate.info, "misfit": misfit})

    def _slope(self, prior: Prior, x: Float[Tensor, " b *d"]) -> tuple[Float[Tensor, " b *d"], Tensor]:
        """J_A^T (A(x) - y), and the root mean square of A(x) - y."""
        with torch.enable_grad():
            leaf = x.detach().requires_grad_()
            seen = prior.decode_differentiably(leaf) if self.decode else leaf
            measured = self.operator(seen.to(torch.promote_types(seen.dtype, torch.float32)))
            y = self.y.to(measured)
            if y.shape[1:] != measured.shape[1:] or len(y) not in (1, len(measured)):
                raise ValueError(
                    f"the measurement is {list(y.shape)}, but that of the particles is {list(measured.shape)}: give 1 "
                    "row or one per particle, of that shape"
                )
            if not measured.requires_grad:
                raise ValueError("the operator passes no gradient: compute it with differentiable functions of torch")
            residual = (measured - y).detach()
            (slope,) = torch.autograd.grad(measured, leaf, residual)
        return slope, residual.square().mean().sqrt()
