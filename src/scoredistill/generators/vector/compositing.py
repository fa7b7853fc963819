r"""Layers of one color each, one over the other: the over operator and its gradients.

With the opacity a_k of layer k at a pixel (coverage times the layer's opacity) and its color c_k, from the back to the
front,

    C_k = (1 - a_k) C_{k-1} + a_k c_k = sum_{l <= k} a_l T_{l,k} c_l + ...,    T_k = prod_{l > k} (1 - a_l)

The gradients are dC/dc_k = a_k T_k and dC/da_k = T_k (c_k - C_{k-1}). The backward pass needs <g, C_{k-1}> only, one
number per pixel, which it computes from the back to the front: memory is that of the coverage, and opaque layers are no
exception, as they would be for the derivative of a product.
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor


def composite(
    coverage: Float[Tensor, "b k h w"],
    opacity: Float[Tensor, "b k"],
    color: Float[Tensor, "b k 3"],
    background: float = 1.0,
) -> Float[Tensor, "b 3 h w"]:
    """Images of layers over a gray background.

    Args:
        coverage: of pixels by each layer, in [0, 1], from the back to the front.
        opacity: of each layer, in [0, 1].
        color: of each layer.
        background: its gray value; white by default.
    """
    image: Tensor = _Over.apply(coverage, opacity, color, background)
    return image


@torch.no_grad()
def shares(coverage: Float[Tensor, "b k h w"], opacity: Float[Tensor, "b k"]) -> Float[Tensor, "b k h w"]:
    """The share a_k T_k of each layer in each pixel, in [0, 1]; without gradients."""
    alpha = coverage * opacity[:, :, None, None]
    return alpha * _through(alpha)


def _through(alpha: Float[Tensor, "b k h w"]) -> Float[Tensor, "b k h w"]:
    """T_k, what the layers in front of each let through."""
    through = torch.ones_like(alpha)
    for k in range(alpha.shape[1] - 2, -1, -1):
        torch.mul(through[:, k + 1], 1 - alpha[:, k + 1], out=through[:, k])
    return through


class _Over(torch.autograd.Function):
    """The over operator."""

    @staticmethod
    def forward(ctx: Any, coverage: Tensor, opacity: Tensor, color: Tensor, background: float) -> Tensor:
        ctx.save_for_backward(coverage, opacity, color)
        ctx.background = background
        image = coverage.new_full((len(coverage), 3, *coverage.shape[2:]), background)
        for k in range(coverage.shape[1]):
            alpha = (coverage[:, k] * opacity[:, k, None, None])[:, None]
            image = image + alpha * (color[:, k, :, None, None] - image)
        return image

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        coverage, opacity, color = ctx.saved_tensors
        alpha = coverage * opacity[:, :, None, None]
        through = _through(alpha)
        behind = ctx.background * grad.sum(1)  # <g, C_{k-1}>
        to_color = torch.einsum("bkhw,bchw->bkc", alpha * through, grad)
        for k in range(alpha.shape[1]):
            here = torch.einsum("bc,bchw->bhw", color[:, k], grad)
            through[:, k].mul_(here - behind)
            behind = behind + alpha[:, k] * (here - behind)
        to_opacity = (through * coverage).sum((2, 3))
        return through.mul_(opacity[:, :, None, None]), to_opacity, to_color, None
