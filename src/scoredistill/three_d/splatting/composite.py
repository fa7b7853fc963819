r"""Alpha compositing of sorted Gaussians over an image, with closed-form derivatives.

With exponents E_i at a pixel, alpha_i = min(.999, exp E_i), T_i = prod_(j < i) (1 - alpha_j) and w_i = alpha_i T_i,

    out = sum_i f_i w_i,     d out / d alpha_i = f_i T_i - sum_(j > i) f_j w_j / (1 - alpha_i),

and d alpha_i / d E_i = alpha_i, or 0 where alpha_i is clamped. An exponent is a quadratic form of the offsets x, y to a
center,

    E = across(x) + down(y) + tilt(y) x,

of which only the three functions of one variable are stored. The image is computed in strips of rows that fit the
cache, and computed again in the backward pass. A strip skips Gaussians so faint there that 1 - alpha rounds to 1.
"""

import math
from collections.abc import Iterator
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.autograd.function import once_differentiable

MAX_ALPHA = 0.999  # as in gsplat


class Composite(torch.autograd.Function):
    """Composite g sorted Gaussians over h x w pixels, giving [h, w, c]; first derivatives only.

    Args (of `apply`):
        across: -a x^2 / 2, [w, g].
        down: log opacity - c y^2 / 2, [h, g].
        tilt: -b y, [h, g].
        x: offsets to the centers, [w, g].
        features: values to composite, [g, c].
        peak: the largest exponent in each row, [h, g]; not differentiated.
        chunk: largest number of Gaussians times pixels at once.
    """

    @staticmethod
    def forward(
        ctx: Any,
        across: Float[Tensor, "w g"],
        down: Float[Tensor, "h g"],
        tilt: Float[Tensor, "h g"],
        x: Float[Tensor, "w g"],
        features: Float[Tensor, "g c"],
        peak: Float[Tensor, "h g"],
        chunk: int,
    ) -> Float[Tensor, "h w c"]:
        seen = peak > math.log(torch.finfo(x.dtype).eps / 2)
        out = features.new_zeros(len(down), len(x), features.shape[1])
        for rows, some in _strips(seen, len(x), chunk):
            alpha, before = _blend(across[:, some], down[rows][:, some], tilt[rows][:, some], x[:, some])
            out[rows] = alpha.mul_(before) @ features[some]
        ctx.save_for_backward(across, down, tilt, x, features, seen)
        ctx.chunk = chunk
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        across, down, tilt, x, features, seen = ctx.saved_tensors
        to_across, to_down, to_tilt, to_x, to_features = (
            torch.zeros_like(v) for v in (across, down, tilt, x, features)
        )
        for rows, some in _strips(seen, len(x), ctx.chunk):
            lean, off = tilt[rows][:, some], x[:, some]
            alpha, before = _blend(across[:, some], down[rows][:, some], lean, off)
            weights = alpha * before
            to_features.index_add_(0, some, weights.flatten(0, 1).T @ grad[rows].flatten(0, 1))
            pull = grad[rows] @ features[some].T
            each = weights.mul_(pull)
            behind = each.sum(-1, keepdim=True) - each.cumsum(-1)
            slope = before.mul_(pull).sub_(behind.div_(1 - alpha)).mul_(alpha)
            slope.masked_fill_(alpha >= MAX_ALPHA, 0)
            to_across.index_add_(1, some, slope.sum(0))
            to_down[rows] = to_down[rows].index_add_(1, some, slope.sum(1))
            to_tilt[rows] = to_tilt[rows].index_add_(1, some, (slope * off).sum(1))
            to_x.index_add_(1, some, slope.mul_(lean[:, None]).sum(0))
        return to_across, to_down, to_tilt, to_x, to_features, None, None


def _strips(seen: Bool[Tensor, "h g"], width: int, chunk: int) -> Iterator[tuple[slice, Tensor]]:
    """Strips of rows, each with the indices of the Gaussians visible in it, if there are any.

    Only on the CPU, where that saves time, others are left out: elsewhere a selection would wait for the device.
    """
    height, count = seen.shape
    step = max(1, chunk // (width * max(1, count)))
    for start in range(0, height, step):
        rows = slice(start, min(start + step, height))
        cpu = seen.device.type == "cpu"
        some = seen[rows].any(0).nonzero()[:, 0] if cpu else torch.arange(count, device=seen.device)
        if len(some):
            yield rows, some


def _blend(across: Tensor, down: Tensor, tilt: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    """alpha and T of each Gaussian at each pixel, [h, w, g]."""
    exponent = torch.addcmul(across + down[:, None], tilt[:, None], x)
    alpha = exponent.exp_().clamp_(max=MAX_ALPHA)
    clear = torch.log1p(-alpha)
    return alpha, clear.cumsum(-1).sub_(clear).exp_()
