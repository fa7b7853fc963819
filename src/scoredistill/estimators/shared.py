r"""The part of a gradient that particles share, as coefficients on a basis of each particle.

Windows of a panorama show different places, so gradients at single pixels do not correspond, but some of their
coefficients do: how much brighter the whole window should become, or how much more contrast it should have. With basis
vectors B_j of particle j, its gradient d_j, and the kernel K, `Stein` finds for particle i

    c_i = argmin_c sum_j K_ij |d_j - B_j c|^2 = sum_j K_ij B_j^T d_j / sum_j K_ij |B_j|^2

and replaces the own coefficients B_i^T d_i / |B_i|^2 of d_i by c_i. The vectors of one particle are orthogonal, so
products and quotients are taken for each of them.

    LowPass   means over cells: which answer, where all answers have the same direction everywhere
    Tone      mean and deviation from the mean, of each channel: also answers whose direction depends on the place

A particle with little contrast says little about contrast, and has a small weight |B_j|^2.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

Coefficients = tuple[Float[Tensor, "n *k"], Float[Tensor, "n *k"]]


class Basis(ABC):
    """Orthogonal vectors of each particle."""

    @abstractmethod
    def analyze(self, d: Float[Tensor, " n *d"], x: Float[Tensor, " n *d"]) -> Coefficients:
        """(B^T d, |B|^2) of gradients on particles.

        Args:
            d: the gradients.
            x: what the basis is made of: the sources of an edit, otherwise the particles.
        """

    @abstractmethod
    def synthesize(self, c: Float[Tensor, "n *k"], x: Float[Tensor, " n *d"]) -> Float[Tensor, " n *d"]:
        """B c of coefficients."""


@dataclass(frozen=True)
class LowPass(Basis):
    """Means over large cells of images, or of gradients on them; calling it gives the projection P(d), P(P(d)) = P(d).

    Args:
        cells: number of cells along each side; 1 is the mean over the window.

    Raises:
        ValueError: when used, if the cells do not divide the sides of a window.
    """

    cells: int = 1

    def __call__(self, d: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
        """The projection of gradients."""
        total, squared = self.analyze(d, d)
        return self.synthesize(total / squared, d)

    def analyze(self, d: Float[Tensor, "n c h w"], x: Float[Tensor, "n c h w"]) -> Coefficients:
        height, width = d.shape[-2:]
        if height % self.cells or width % self.cells:
            raise ValueError(f"{self.cells} cells do not divide windows of {height} x {width}")
        means = functional.adaptive_avg_pool2d(d, self.cells)
        pixels = height * width / self.cells**2
        return pixels * means, torch.full_like(means, pixels)

    def synthesize(self, c: Float[Tensor, "n c p q"], x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
        height, width = x.shape[-2:]
        return c.repeat_interleave(height // self.cells, 2).repeat_interleave(width // self.cells, 3)


@dataclass(frozen=True)
class Tone(Basis):
    """Brightness and contrast of each channel: the vectors 1 and x - mean x."""

    def analyze(self, d: Float[Tensor, "n c h w"], x: Float[Tensor, "n c h w"]) -> Coefficients:
        around = self.around(x)
        products = torch.stack([d.sum((2, 3)), (d * around).sum((2, 3))])
        pixels = torch.full_like(products[0], x.shape[-2] * x.shape[-1])
        return products.movedim(0, 1), torch.stack([pixels, around.square().sum((2, 3))], 1)

    def synthesize(self, c: Float[Tensor, "n 2 c"], x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
        return c[:, 0, :, None, None] + c[:, 1, :, None, None] * self.around(x)

    @staticmethod
    def around(x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
        """x - mean x."""
        return x - x.mean((2, 3), keepdim=True)
