"""Network evaluations of a prior, counted; unlike times, counts do not depend on the machine."""

from collections.abc import Mapping

from jaxtyping import Float
from torch import Tensor

from scoredistill.priors.base import Prior, PriorWrapper
from scoredistill.priors.conditions import Cond


class Counted(PriorWrapper):
    """Count network evaluations, and images encoded and decoded. Place it innermost: Guided(Counted(prior), 7.5).

    Attributes:
        rows: batch rows evaluated by the network, the usual NFE; guidance makes two rows of one sample.
        calls: batched calls of the network, which are sequential.
        encoded, decoded: images passed through the autoencoder.
    """

    def __init__(self, prior: Prior):
        super().__init__(prior)
        self.rows = self.calls = self.encoded = self.decoded = 0

    def facts(self) -> dict[str, object]:
        return {**super().facts(), **self.counts()}

    def eps(
        self, x_t: Float[Tensor, " b *d"], t: Float[Tensor, " b"], cond: Cond | None = None
    ) -> Float[Tensor, " b *d"]:
        self._count(x_t)
        return self.prior.eps(x_t, t, cond)

    def denoise(
        self, x_t: Float[Tensor, " b *d"], t: Float[Tensor, " b"], cond: Cond | None = None
    ) -> Float[Tensor, " b *d"]:
        self._count(x_t)
        return self.prior.denoise(x_t, t, cond)

    def encode_image(self, images: Float[Tensor, "b k *p"]) -> Float[Tensor, " b *d"]:
        self.encoded += len(images)
        return self.prior.encode_image(images)

    def decode(self, x: Float[Tensor, " b *d"]) -> Tensor:
        self.decoded += len(x)
        return self.prior.decode(x)

    def decode_differentiably(self, x: Float[Tensor, " b *d"]) -> Tensor:
        self.decoded += len(x)
        return self.prior.decode_differentiably(x)

    def counts(self) -> dict[str, int]:
        """Return the counts so far: {"rows", "calls", "encoded", "decoded"}."""
        return {"rows": self.rows, "calls": self.calls, "encoded": self.encoded, "decoded": self.decoded}

    def add(self, counts: Mapping[str, int]) -> None:
        """Add earlier counts, to resume a run."""
        for name, value in counts.items():
            setattr(self, name, getattr(self, name) + value)

    def _count(self, x: Tensor) -> None:
        self.rows += len(x)
        self.calls += 1


def count_others(prior: Prior, **counts: int) -> None:
    """Count what other processes of a job evaluate in a call that this one takes part in.

    Args:
        prior: a `Counted`, a wrapper of one, or a prior that is not counted.
        **counts: see `Counted.counts`.
    """
    inner = prior
    while isinstance(inner, PriorWrapper):
        if isinstance(inner, Counted):
            inner.add(counts)
        inner = inner.prior
