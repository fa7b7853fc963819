"""A generator whose views are rendered by the processes of a job together, see `scoredistill.ranks`."""

from torch import Tensor

from scoredistill.generators.base import Generator
from scoredistill.ranks import Ranks, Share


class SharedViews:
    """The views of one step: each rank renders its share, if the generator is expensive to render (`Generator.split`).

    Args:
        generator: the generator, with equal parameters on all ranks.
        views: all views of the step.
        ranks: the processes.
    """

    def __init__(self, generator: Generator, views: Tensor, ranks: Ranks):
        self.generator, self.views, self.ranks = generator, views, ranks
        divided = ranks.size > 1 and generator.split
        self._share = ranks.share(len(views)) if divided else None

    def render(self) -> Tensor:
        """The samples that this rank renders, differentiable, [k, *d]."""
        if self._share is None:
            return self.generator(self.views)
        return self.generator.part(self.views, self._share)

    def whole(self, own: Tensor) -> Tensor:
        """The samples of all views, without gradient, [n, *d]."""
        return own.detach() if self._share is None else self.ranks.gather(own, self._share)

    def own(self, values: Tensor) -> Tensor:
        """This rank's rows of values with a row per view."""
        return values if self._share is None else self._share.of(values)

    def backward(self, own: Tensor, grad: Tensor) -> None:
        """Give all parameters the gradient of all views.

        Args:
            own: the samples of this rank, see `render`.
            grad: gradient on them.
        """
        share: Share | None = self._share
        if share is None:
            own.backward(grad)
            return
        own.backward(grad.mul(0) if share.spare else grad)
        self.ranks.add_gradients(self.generator.parameters())
