r"""The part of a gradient that particles share, as coefficients on vectors of each particle.

Windows of a panorama show different places, so gradients at single pixels do not correspond, but some of their
coefficients do: how much brighter the window should become, or by which linear map its colors should change. With
vectors B_j made from particle j (or from the source it edits), and what the particle asks for, v_j, `Stein` finds

    c_i = argmin_c sum_j K_ij |v_j - B_j c|^2 = (sum_j K_ij B_j^T B_j)^-1 sum_j K_ij B_j^T v_j

for particle i in place of its own coefficients, K = 1 for i = j alone.

    LowPass   means over cells: answers that have the same direction everywhere
    Tone      1 and x - mean x for each channel: brightness, and contrast around the mean of the particle
    Affine    1 and all channels of x for each channel: one linear map of colors, the same everywhere

A particle of little contrast says little about contrast: it has a small B_j^T B_j.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

RIDGE = 1e-5  # of the mean of the diagonal of B^T B, added to it


class Basis(ABC):
    """Vectors of each particle, k of them for each of m separate parts of it."""

    @abstractmethod
    def products(self, v: Float[Tensor, " n *d"], x: Float[Tensor, " n *d"]) -> Float[Tensor, "n m k"]:
        """B^T v.

        Args:
            v: what is shared, such as gradients.
            x: what the vectors are made from.
        """

    @abstractmethod
    def gram(self, x: Float[Tensor, " n *d"]) -> Float[Tensor, "n q k k"]:
        """B^T B, where q is m, or 1 if it is the same for all parts."""

    @abstractmethod
    def combine(self, c: Float[Tensor, "n m k"], x: Float[Tensor, " n *d"]) -> Float[Tensor, " n *d"]:
        """B c of coefficients."""


def solve(gram: Float[Tensor, "n q k k"], products: Float[Tensor, "n m k"]) -> Float[Tensor, "n m k"]:
    """The coefficients (B^T B)^-1 B^T v; 0 for vectors of length 0."""
    k = gram.shape[-1]
    size = gram.diagonal(dim1=-2, dim2=-1).mean(-1).clamp(min=torch.finfo(gram.dtype).tiny)
    eye = torch.eye(k, dtype=gram.dtype, device=gram.device)
    if k == 1:
        return products / size[..., None]
    return torch.linalg.solve(gram + RIDGE * size[..., None, None] * eye, products[..., None])[..., 0]


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
        return self.combine(solve(self.gram(d), self.products(d, d)), d)

    def products(self, v: Float[Tensor, "n c h w"], x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n m 1"]:
        means = functional.adaptive_avg_pool2d(v, self.cells)
        return (self._pixels(v) * means).flatten(1)[..., None]

    def gram(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n 1 1 1"]:
        return x.new_full((len(x), 1, 1, 1), self._pixels(x))

    def combine(self, c: Float[Tensor, "n m 1"], x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
        height, width = x.shape[-2:]
        grid = c.reshape(*x.shape[:2], self.cells, self.cells)
        return grid.repeat_interleave(height // self.cells, 2).repeat_interleave(width // self.cells, 3)

    def _pixels(self, x: Tensor) -> int:
        """Pixels of a cell."""
        height, width = x.shape[-2:]
        if height % self.cells or width % self.cells:
            raise ValueError(f"{self.cells} cells do not divide windows of {height} x {width}")
        return height * width // self.cells**2


@dataclass(frozen=True)
class Tone(Basis):
    """Brightness and contrast of each channel: the vectors 1 and x - mean x."""

    def products(self, v: Float[Tensor, "n c h w"], x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c 2"]:
        return torch.stack([v.sum((2, 3)), (v * self._around(x)).sum((2, 3))], -1)

    def gram(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c 2 2"]:
        pixels = x.new_full(x.shape[:2], x.shape[-2] * x.shape[-1])
        return torch.diag_embed(torch.stack([pixels, self._around(x).square().sum((2, 3))], -1))

    def combine(self, c: Float[Tensor, "n c 2"], x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
        return c[:, :, 0, None, None] + c[:, :, 1, None, None] * self._around(x)

    @staticmethod
    def _around(x: Tensor) -> Tensor:
        return x - x.mean((2, 3), keepdim=True)


@dataclass(frozen=True)
class Affine(Basis):
    """One linear map of the channels and a constant: the vectors 1 and x_1, ..., x_c for each channel."""

    def products(self, v: Float[Tensor, "n c h w"], x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c k"]:
        return torch.einsum("nchw,nkhw->nck", v, self._vectors(x))

    def gram(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n 1 k k"]:
        vectors = self._vectors(x)
        return torch.einsum("njhw,nkhw->njk", vectors, vectors)[:, None]

    def combine(self, c: Float[Tensor, "n c k"], x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
        return torch.einsum("nck,nkhw->nchw", c, self._vectors(x))

    @staticmethod
    def _vectors(x: Tensor) -> Tensor:
        return torch.cat([torch.ones_like(x[:, :1]), x], 1)
