r"""Volume rendering: from densities and colors along rays to images.

The color of a ray with density s(t) and color c(t) is

    C = int T(t) s(t) c(t) dt,    T(t) = exp( - int_near^t s ).

If both are constant on each of k segments of lengths d_i, this is exactly

    C = sum_i w_i c_i,    w_i = T_i (1 - exp(-s_i d_i)),    T_i = exp( - sum_{j<i} s_j d_j ),

so a slab of density s and thickness L has opacity 1 - exp(-s L), however many segments it is divided into. Everything
here is twice differentiable.

References: Optical models for direct volume rendering (Max 1995); NeRF (Mildenhall et al. 2020),
https://arxiv.org/abs/2003.08934.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor


def weights(density: Float[Tensor, "r k"], length: Float[Tensor, "r k"]) -> Float[Tensor, "r k"]:
    """Weights w_i of the segments in the color of each ray; their sum is the opacity of the ray, at most 1.

    Args:
        density: per unit of length, at least 0, front to back.
        length: of the segments, at least 0.
    """
    depth = density * length
    before = torch.cumsum(depth, -1) - depth
    return (-before).exp() * -torch.expm1(-depth)


def composite(w: Float[Tensor, "r k"], values: Float[Tensor, "r k c"]) -> Float[Tensor, "r c"]:
    """Weighted sum over the segments of each ray, sum_i w_i values_i, of colors, distances or other values."""
    return torch.einsum("rk,rkc->rc", w, values)


def over(
    front: Float[Tensor, " *r c"], opacity: Float[Tensor, " *r 1"], behind: Float[Tensor, " *#r c"]
) -> Float[Tensor, " *r c"]:
    """Composite premultiplied colors over a background: front + (1 - opacity) behind."""
    return front + (1 - opacity) * behind


def ball_hits(
    origins: Float[Tensor, "r 3"], directions: Float[Tensor, "r 3"], radius: float = 1.0
) -> tuple[Float[Tensor, " r"], Float[Tensor, " r"]]:
    """Distances, 0 <= near <= far, at which rays enter and leave a ball around the origin; equal where a ray misses.

    Args:
        origins: of the rays.
        directions: of the rays, unit vectors.
        radius: of the ball.
    """
    middle = -(origins * directions).sum(-1)
    away = origins + middle[:, None] * directions
    half = (radius**2 - away.square().sum(-1)).clamp(min=0).sqrt()
    near = (middle - half).clamp(min=0)
    return near, torch.maximum(near, torch.where(half > 0, middle + half, near))


def box_hits(
    origins: Float[Tensor, "r 3"], directions: Float[Tensor, "r 3"], half: float = 1.0
) -> tuple[Float[Tensor, " r"], Float[Tensor, " r"]]:
    """Distances, 0 <= near <= far, at which rays enter and leave the cube [-half, half]^3; see `ball_hits`."""
    slope = torch.where(directions.abs() < 1e-12, torch.full_like(directions, 1e-12), directions)
    a, b = (-half - origins) / slope, (half - origins) / slope
    near = torch.minimum(a, b).amax(-1).clamp(min=0)
    far = torch.maximum(a, b).amin(-1)
    return near, torch.maximum(near, far)


def stratified(
    near: Float[Tensor, " r"], far: Float[Tensor, " r"], k: int, offset: Float[Tensor, " r"] | float = 0.5
) -> tuple[Float[Tensor, "r k"], Float[Tensor, "r k"]]:
    """Distances of k samples, one in each of k equal segments of a ray, and the lengths of the segments.

    Args:
        near, far: ends of the sampled interval.
        k: samples per ray.
        offset: position of the samples in their segments, in [0, 1], one per ray: random during training, 0.5 for the
            midpoint rule.
    """
    length = (far - near) / k
    shift = offset[:, None] if isinstance(offset, Tensor) else offset
    places = near[:, None] + length[:, None] * (torch.arange(k, dtype=near.dtype, device=near.device) + shift)
    return places, length[:, None].expand(-1, k)


def masked(values: Float[Tensor, " m *c"], where: Bool[Tensor, "r k"]) -> Float[Tensor, " r k *c"]:
    """Values of all r k segments, in the shape [r, k], with zeros in place of those that are not selected."""
    full = values.unflatten(0, where.shape)
    return torch.where(where.reshape(*where.shape, *[1] * (values.ndim - 1)), full, torch.zeros_like(full))


def scattered(values: Float[Tensor, " m *c"], where: Bool[Tensor, "r k"]) -> Float[Tensor, " r k *c"]:
    """Values of the selected segments, scattered to their places in [r, k]; zeros elsewhere."""
    full = values.new_zeros(*where.shape, *values.shape[1:])
    full[where] = values
    return full
