r"""The contract of estimators, which turn a prior's scores into a gradient on samples.

    estimate = estimator(prior, Batch(x, cond), t, rng)
    x.backward(estimate.grad)

`grad` is always a descent direction on x: a small step x - lr * grad makes x more likely under the prior (or, for
editing, moves it as instructed). Guidance, autoencoders, cameras and text belong to priors and generators; an estimator
handles none of them. An estimator wrapped in another, such as `Stein`, is an estimator.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from jaxtyping import Float, Int
from torch import Tensor

from scoredistill.priors.base import Prior
from scoredistill.priors.conditions import Cond
from scoredistill.rng import Rng


@dataclass(frozen=True)
class Batch:
    """Particles and their conditions.

    Attributes:
        x: particles in the prior's space, [b, *d].
        cond: condition of the prior, with b rows or 1 in each entry.
        source: samples that an edit starts from, [b, *d] or [1, *d].
        source_cond: condition that describes the source, of the form of `cond`; `cond` itself by default.
        group: group number of each particle, [b]; coupled estimators keep groups apart. One group by default.
    """

    x: Float[Tensor, " b *d"]
    cond: Cond | None = None
    source: Float[Tensor, " *n"] | None = None
    source_cond: Cond | None = None
    group: Int[Tensor, " b"] | None = None


@dataclass(frozen=True)
class Estimate:
    """Result of an estimator.

    Attributes:
        grad: descent direction on the particles, [b, *d].
        loss: a scalar to monitor, if the method has one.
        info: diagnostics by name; tensors, so that nothing synchronizes with the device.
        x_t: the noised particles, [b, *d], of estimators that evaluate the prior at a single noise level.
    """

    grad: Float[Tensor, " b *d"]
    loss: Tensor | None = None
    info: Mapping[str, Tensor] = field(default_factory=dict)
    x_t: Float[Tensor, " b *d"] | None = None


class Estimator(ABC):
    """Maps (prior, batch, t, rng) to an Estimate."""

    @abstractmethod
    def __call__(self, prior: Prior, batch: Batch, t: Float[Tensor, " b"], rng: Rng = None) -> Estimate:
        """Estimate the gradient on batch.x.

        Args:
            prior: the diffusion model.
            batch: particles, conditions and, for editing, the source.
            t: diffusion time of each particle, in [0, 1].
            rng: a random generator, or a list with one per particle.
        """

    def displace(self, by: Float[Tensor, " b *d"]) -> None:
        """Move what the estimator keeps of each particle by `-by`, as another term moves the targets x - grad.

        Called after the estimate of a step; nothing to do for estimators that keep nothing of a particle.

        Args:
            by: the gradient of the other term on the particles.
        """

    def state_dict(self) -> dict[str, Any]:
        """State that a resumed run needs; empty for stateless estimators, which most are."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the state that `state_dict` returned."""


class EstimatorWrapper(Estimator):
    """Abstract base of estimators made from another one, `base`; its state is theirs."""

    base: Estimator

    def displace(self, by: Float[Tensor, " b *d"]) -> None:
        self.base.displace(by)

    def state_dict(self) -> dict[str, Any]:
        return self.base.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.base.load_state_dict(state)
