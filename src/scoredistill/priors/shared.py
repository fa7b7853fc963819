"""A prior whose batch rows are divided over the processes of a job, see `scoredistill.ranks`.

The innermost prior is replaced: guidance and averages over windows are computed by every rank from the predictions of
all, so that one particle with guidance already occupies two ranks.
"""

import copy
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from scoredistill.priors.base import Prior, PriorWrapper
from scoredistill.priors.conditions import Cond
from scoredistill.priors.counted import count_others
from scoredistill.priors.guidance import LinearGuidance, NonlinearGuidance
from scoredistill.priors.windowed import Windowed
from scoredistill.ranks import Ranks

OUTER = (LinearGuidance, NonlinearGuidance, Windowed)  # wrappers without state, which are copied


class SharedRows(PriorWrapper):
    """Evaluate this rank's share of the rows of every batch, and gather those of all ranks.

    All ranks must make the same calls. Batches that require gradients are evaluated as a whole on every rank. Counts of
    a `Counted` inside are those of the whole job.

    Args:
        prior: the prior to evaluate.
        ranks: the processes.
    """

    def __init__(self, prior: Prior, ranks: Ranks):
        super().__init__(prior)
        self.ranks = ranks

    def facts(self) -> dict[str, object]:
        return {**super().facts(), "ranks": self.ranks.size}

    def eps(
        self, x_t: Float[Tensor, " b *d"], t: Float[Tensor, " b"], cond: Cond | None = None
    ) -> Float[Tensor, " b *d"]:
        return self._shared(self.prior.eps, x_t, t, cond)

    def denoise(
        self, x_t: Float[Tensor, " b *d"], t: Float[Tensor, " b"], cond: Cond | None = None
    ) -> Float[Tensor, " b *d"]:
        return self._shared(self.prior.denoise, x_t, t, cond)

    def encode_image(self, images: Float[Tensor, "b k *p"]) -> Float[Tensor, " b *d"]:
        return self._mapped(self.prior.encode_image, images, "encoded")

    def decode(self, x: Float[Tensor, " b *d"]) -> Tensor:
        return self._mapped(self.prior.decode, x, "decoded")

    def _shared(
        self, predict: Callable[[Tensor, Tensor, Cond | None], Tensor], x_t: Tensor, t: Tensor, cond: Cond | None
    ) -> Tensor:
        if _differentiated(x_t, t, *(cond or {}).values()):
            return predict(x_t, t, cond)
        share = self.ranks.share(len(x_t))
        rows = None if cond is None else {name: v if len(v) == 1 else share.of(v) for name, v in cond.items()}
        made = self.ranks.gather(predict(share.of(x_t), share.of(t), rows), share)
        count_others(self.prior, rows=share.others)
        return made

    def _mapped(self, function: Callable[[Tensor], Tensor], values: Tensor, count: str) -> Tensor:
        if _differentiated(values):
            return function(values)
        share = self.ranks.share(len(values))
        made = self.ranks.gather(function(share.of(values)), share)
        count_others(self.prior, **{count: share.others})
        return made


def _differentiated(*tensors: Tensor) -> bool:
    return torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors)


def shared(prior: Prior, ranks: Ranks | None = None) -> Prior:
    """The same prior, evaluated by several processes together.

    Args:
        prior: a prior, with its wrappers; it is not changed.
        ranks: the processes; by default those of the default process group.

    Returns:
        The prior itself for a single process.
    """
    ranks = Ranks.here() if ranks is None else ranks
    if ranks.size == 1:
        return prior
    if isinstance(prior, OUTER):
        made = copy.copy(prior)
        made.prior = shared(prior.prior, ranks)
        return made
    return SharedRows(prior, ranks)
