r"""Generators of images: latents, pixels, or coordinate networks.

`CoordinateMLP` is the image model of the mean-shift paper's text-to-2D study: color as a function of position,

    rgb(u, v) = sigmoid( MLP( cos(2 pi B (u, v)), sin(2 pi B (u, v)) ) ),    B ~ N(0, f^2),

so that no method can simply copy a sample into its parameters. Reference: Fourier features let networks learn high
frequency functions (Tancik et al. 2020), https://arxiv.org/abs/2006.10739.
"""

import math
from abc import abstractmethod
from collections.abc import Callable
from itertools import pairwise

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from scoredistill.generators.base import Independent
from scoredistill.rng import draw_noise


class _Images(Independent):
    """Abstract base of n independent images; a view is the index of one."""

    def __init__(self, n: int):
        super().__init__()
        if n < 1:
            raise ValueError(f"there must be at least one image, not {n}")
        self.n = n

    def facts(self) -> dict[str, object]:
        return {"n": self.n, "sample": self._shape(), **super().facts()}

    @abstractmethod
    def _shape(self) -> tuple[int, ...]:
        """Shape of a sample."""

    def views(self, n: int | None = None, rng: torch.Generator | None = None) -> Int[Tensor, " v"]:
        """Choose n distinct images at random, as sorted indices; all of them by default."""
        if n is None or n == self.n:
            return torch.arange(self.n)
        if not 1 <= n < self.n:
            raise ValueError(f"a step renders from 1 to all {self.n} images, not {n}: change the number of particles")
        return torch.randperm(self.n, generator=rng)[:n].sort().values  # rng: a CPU generator


class Latents(_Images):
    """Samples in the prior's space as parameters.

    Args:
        n: number of samples.
        shape: shape of one sample, for example (4, 64, 64).
        std: standard deviation of the initial values.
        rng: draws the initial values.
    """

    def __init__(self, n: int, shape: tuple[int, ...], std: float = 1.0, rng: torch.Generator | None = None):
        super().__init__(n)
        self.values = nn.Parameter(std * draw_noise(torch.empty(n, *shape), rng))

    def _shape(self) -> tuple[int, ...]:
        return tuple(self.values.shape[1:])

    @classmethod
    def of(cls, values: Float[Tensor, " n *d"]) -> "Latents":
        """Make latents that start at the given samples, in their dtype and on their device."""
        made = cls(len(values), tuple(values.shape[1:]))
        made.values = nn.Parameter(values.detach().clone())
        return made

    def forward(self, views: Int[Tensor, " v"]) -> Float[Tensor, " v *d"]:
        return self.values[views]


class ImageParameters(_Images):
    """Abstract base of images that are rendered as images, whatever the prior's space."""

    def images(self, views: Tensor, decode: Callable[[Tensor], Tensor]) -> Tensor:
        return self(views)


class Pixels(ImageParameters):
    """Images with pixels as parameters. They start gray, and may leave [0, 1] during the optimization.

    Args:
        n: number of images.
        size: (height, width).
        std: standard deviation of the initial noise around gray.
    """

    def __init__(self, n: int, size: tuple[int, int], std: float = 0.05, rng: torch.Generator | None = None):
        super().__init__(n)
        self.values = nn.Parameter(0.5 + std * draw_noise(torch.empty(n, 3, *size), rng))

    def _shape(self) -> tuple[int, ...]:
        return tuple(self.values.shape[1:])

    def forward(self, views: Int[Tensor, " v"]) -> Float[Tensor, "v 3 h w"]:
        return self.values[views]


class CoordinateMLP(ImageParameters):
    """Images as networks from position to color; all n networks are evaluated in one batched product per layer.

    Args:
        n: number of images.
        size: (height, width) of the rendered images.
        width: units of a hidden layer.
        depth: number of hidden layers.
        features: number of frequencies.
        frequency: f, standard deviation of the frequencies, in cycles per image.
        rng: draws the frequencies and initial weights.
    """

    split = True

    def __init__(
        self,
        n: int,
        size: tuple[int, int],
        width: int = 128,
        depth: int = 2,
        features: int = 64,
        frequency: float = 5.0,
        rng: torch.Generator | None = None,
    ):
        super().__init__(n)
        self.size = size
        v, u = torch.meshgrid(*((torch.arange(s) + 0.5) / s for s in size), indexing="ij")
        positions = torch.stack([u, v], -1).reshape(-1, 2)
        phase = 2 * math.pi * positions @ (frequency * draw_noise(torch.empty(2, features), rng))
        self.positions: Tensor
        self.register_buffer("positions", torch.cat([phase.cos(), phase.sin()], -1))
        widths = [2 * features, *[width] * depth, 3]
        self.weights = nn.ParameterList(
            [
                nn.Parameter(math.sqrt((2 if i < depth else 0.1) / a) * draw_noise(torch.empty(n, a, b), rng))
                for i, (a, b) in enumerate(pairwise(widths))
            ]
        )
        self.biases = nn.ParameterList([nn.Parameter(torch.zeros(n, 1, b)) for b in widths[1:]])

    def _shape(self) -> tuple[int, ...]:
        return 3, *self.size

    def forward(self, views: Int[Tensor, " v"]) -> Float[Tensor, "v 3 h w"]:
        h = self.positions.expand(len(views), -1, -1)
        for i, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            h = torch.baddbmm(bias[views], h, weight[views])
            if i + 1 < len(self.weights):
                h = nn.functional.silu(h)
        return h.sigmoid().mT.reshape(len(views), 3, *self.size)
