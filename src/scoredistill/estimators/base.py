r"""An estimator turns a prior's scores into a gradient on samples.

    estimate = estimator(prior, Batch(x, cond), t, rng)
    x.backward(estimate.grad)

`grad` is always a descent direction on x: a small step x - lr * grad makes x more likely under the prior (or, for
editing, moves it as instructed). An estimator knows nothing of guidance, autoencoders, cameras or text: priors and
generators take care of those. An estimator wrapped in another (Stein) is an estimator.
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
    """What is being shaped.

    Attributes:
        x: particles in the prior's space, [b, *d].
        cond: conditions of the prior, each with b rows or 1.
        source: samples an edit starts from, [b, *d] or [1, *d].
        source_cond: what the source shows; like `cond`, and equal to it by default.
        group: number of each particle's group; particles of different groups share nothing. One group by default.
    """

    x: Float[Tensor, " b *d"]
    cond: Cond | None = None
    source: Float[Tensor, " *n"] | None = None
    source_cond: Cond | None = None
    group: Int[Tensor, " b"] | None = None


@dataclass(frozen=True)
class Estimate:
    """What an estimator found.

    Attributes:
        grad: descent direction on the particles, [b, *d].
        loss: a number to watch, if the method has one.
        info: diagnostics by name; tensors, so that nothing waits for the device.
        x_t: the noised particles that were looked at, of estimators that look at one noise level.
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
            t: diffusion time of each particle, in [0, 1].
            rng: a generator, or one per particle.
        """

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run needs to know of an estimator with a memory; empty for most."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from `state_dict`."""


class EstimatorWrapper(Estimator):
    """Abstract base of estimators made from another one, `base`, whose memory is theirs."""

    base: Estimator

    def state_dict(self) -> dict[str, Any]:
        return self.base.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.base.load_state_dict(state)
