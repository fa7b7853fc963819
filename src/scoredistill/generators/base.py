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
from scoredistill.priors.counted import count_others
from scoredistill.ranks import Share


class Generator(nn.Module, ABC):
    """Abstract base of parameters with a differentiable rendering.

    Attributes:
        split: whether the processes of a job each render a part of a step's views, which pays if rendering is
            expensive. Each view must then be rendered independently of the others. Otherwise all render all.
    """

    split: bool = False

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

    def part(self, views: Tensor, share: Share) -> Tensor:
        """Render some of a step's views as `forward(views)` renders them, for generators with `split`.

        Args:
            views: all views of the step, [n, ...].
            share: which of them.

        Returns:
            Their samples, [k, *d].
        """
        return self(share.of(views))

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


class Independent(Generator):
    """Abstract base of generators of which each view has parameters of its own."""


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

    @property
    def split(self) -> bool:  # type: ignore[override]
        """Whether the views are independent of each other, as encoding them is expensive."""
        return self.generator.split or isinstance(self.generator, Independent)

    def forward(self, views: Tensor) -> Tensor:
        return self._prior[0].encode_image(self.generator(views))

    def part(self, views: Tensor, share: Share) -> Tensor:
        made = self._prior[0].encode_image(self.generator.part(views, share))
        count_others(self._prior[0], encoded=share.others)
        return made

    def images(self, views: Tensor, decode: Callable[[Tensor], Tensor]) -> Tensor:
        return self.generator(views)
