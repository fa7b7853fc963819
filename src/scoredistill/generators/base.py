"""A generator turns parameters into samples that a prior can score.

It offers views (which image, which crop, which camera), and renders those a step asks for:

    views = generator.views(4, rng);    x = generator(views);    x.backward(grad)

`Encoded` takes images to the space of a latent prior, and is a generator again.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor, nn

from scoredistill.priors.base import Prior


class Generator(nn.Module, ABC):
    """Parameters and a differentiable way to render them."""

    @abstractmethod
    def views(self, n: int | None = None, rng: torch.Generator | None = None) -> Tensor:
        """Choose n views to render, or all of them; what a view is is the generator's business. First axis: views."""

    @abstractmethod
    def forward(self, views: Tensor) -> Tensor:
        """Render views [n, ...] to samples [n, *d], differentiably."""

    def images(self, views: Tensor, decode: Callable[[Tensor], Tensor]) -> Tensor:
        """Images of the views in [0, 1], [n, 3, h, w]; `decode` takes samples to images."""
        return decode(self(views))


class Encoded(Generator):
    """Images from a generator, encoded for a latent prior; the gradient flows back through the encoder.

    Args:
        generator: makes images in [0, 1].
        prior: whose `encode_image` is used.
    """

    def __init__(self, generator: Generator, prior: Prior):
        super().__init__()
        self.generator = generator
        self._prior = (prior,)  # in a tuple: its networks are not parameters of this generator

    def views(self, n: int | None = None, rng: torch.Generator | None = None) -> Tensor:
        return self.generator.views(n, rng)

    def forward(self, views: Tensor) -> Tensor:
        return self._prior[0].encode_image(self.generator(views))

    def images(self, views: Tensor, decode: Callable[[Tensor], Tensor]) -> Tensor:
        return self.generator(views)
