"""The contract of generators, which render parameters into samples that a prior can score.

A generator has views (images, crops, cameras). A step chooses some and renders them:

    views = generator.views(4, rng);    x = generator(views);    x.backward(grad)

`Encoded` is a generator that encodes another generator's images for a latent prior.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor, nn

from scoredistill.priors.base import Prior, described


class Generator(nn.Module, ABC):
    """Abstract base of parameters with a differentiable rendering."""

    @abstractmethod
    def views(self, n: int | None = None, rng: torch.Generator | None = None) -> Tensor:
        """Choose the views of a step.

        Args:
            n: number of views; all of them by default.
            rng: a CPU generator, for generators that choose at random.

        Returns:
            One row per view; the meaning of a row belongs to the generator.
        """

    @abstractmethod
    def forward(self, views: Tensor) -> Tensor:
        """Render views [n, ...] to samples [n, *d], differentiably."""

    def facts(self) -> dict[str, object]:
        """What `repr` says of the generator, by name."""
        every = list(self.parameters())
        if not every:
            return {"parameters": 0}
        return {"parameters": sum(p.numel() for p in every), "dtype": every[0].dtype, "device": every[0].device}

    def __repr__(self) -> str:
        try:
            return described(self, self.facts())
        except AttributeError:  # of an object that is not yet made
            return object.__repr__(self)

    def images(self, views: Tensor, decode: Callable[[Tensor], Tensor]) -> Tensor:
        """Render the images of views in [0, 1], [n, 3, h, w]; `decode` maps samples to images."""
        return decode(self(views))


class Encoded(Generator):
    """A generator of images, encoded for a latent prior; gradients flow back through the encoder.

    Args:
        generator: renders images in [0, 1].
        prior: the latent prior, for its `encode_image`.
    """

    def __init__(self, generator: Generator, prior: Prior):
        super().__init__()
        self.generator = generator
        self._prior = (prior,)  # in a tuple: its networks are not parameters of this generator

    def facts(self) -> dict[str, object]:
        return {"generator": self.generator, "prior": self._prior[0]}

    def views(self, n: int | None = None, rng: torch.Generator | None = None) -> Tensor:
        return self.generator.views(n, rng)

    def forward(self, views: Tensor) -> Tensor:
        return self._prior[0].encode_image(self.generator(views))

    def images(self, views: Tensor, decode: Callable[[Tensor], Tensor]) -> Tensor:
        return self.generator(views)
