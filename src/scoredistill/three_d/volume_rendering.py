r"""Volume rendering: colors and densities along rays to images.

A ray with density s(t) and color c(t) shows (Max 1995; Mildenhall et al. 2020, https://arxiv.org/abs/2003.08934)

    C = int T(t) s(t) c(t) dt,    T(t) = exp( - int_near^t s )

and for k pieces of length d_i in which both are constant, exactly,

    C = sum_i w_i c_i,    w_i = T_i (1 - exp(-s_i d_i)),    T_i = exp( - sum_{j<i} s_j d_j ).

So a slab of density s and length L in any number of pieces has opacity 1 - exp(-s L). Differentiable twice.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor


def weights(density: Float[Tensor, "r k"], length: Float[Tensor, "r k"]) -> Float[Tensor, "r k"]:
    """How much each piece of a ray counts in what it shows, w_i above; their sum is the ray's opacity, at most 1.

    Args:
        density: at least 0, per unit of length.
        length: of the pieces, at least 0, front to back.
    """
    depth = density * length
    before = torch.cumsum(depth, -1) - depth
    return (-before).exp() * -torch.expm1(-depth)


def composite(w: Float[Tensor, "r k"], values: Float[Tensor, "r k c"]) -> Float[Tensor, "r c"]:
    """sum_i w_i values_i: colors, distances or whatever else the pieces have."""
    return torch.einsum("rk,rkc->rc", w, values)


def over(
    front: Float[Tensor, " *r c"], opacity: Float[Tensor, " *r 1"], behind: Float[Tensor, " *#r c"]
) -> Float[Tensor, " *r c"]:
    """An image with weights already in it, in front of a background."""
    return front + (1 - opacity) * behind


def ball_hits(
    origins: Float[Tensor, "r 3"], directions: Float[Tensor, "r 3"], radius: float = 1.0
) -> tuple[Float[Tensor, " r"], Float[Tensor, " r"]]:
    """Where rays enter and leave the ball around the origin: distances near <= far, at least 0; equal where they miss.

    Args:
        directions: unit vectors.
    """
    middle = -(origins * directions).sum(-1)
    away = origins + middle[:, None] * directions
    half = (radius**2 - away.square().sum(-1)).clamp(min=0).sqrt()
    near = (middle - half).clamp(min=0)
    return near, torch.maximum(near, torch.where(half > 0, middle + half, near))


def box_hits(
    origins: Float[Tensor, "r 3"], directions: Float[Tensor, "r 3"], half: float = 1.0
) -> tuple[Float[Tensor, " r"], Float[Tensor, " r"]]:
    """The same for the cube [-half, half]^3."""
    slope = torch.where(directions.abs() < 1e-12, torch.full_like(directions, 1e-12), directions)
    a, b = (-half - origins) / slope, (half - origins) / slope
    near = torch.minimum(a, b).amax(-1).clamp(min=0)
    far = torch.maximum(a, b).amin(-1)
    return near, torch.maximum(near, far)


def stratified(
    near: Float[Tensor, " r"], far: Float[Tensor, " r"], k: int, offset: Float[Tensor, " r"] | float = 0.5
) -> tuple[Float[Tensor, "r k"], Float[Tensor, "r k"]]:
    """Distances of k samples and the lengths of their pieces, which are equal on a ray.

    Args:
        offset: of the sample in its piece, in [0, 1], one per ray; random when training, .5 for the midpoint rule.
    """
    length = (far - near) / k
    shift = offset[:, None] if isinstance(offset, Tensor) else offset
    places = near[:, None] + length[:, None] * (torch.arange(k, dtype=near.dtype, device=near.device) + shift)
    return places, length[:, None].expand(-1, k)


def scattered(values: Float[Tensor, " m *c"], where: Bool[Tensor, "r k"]) -> Float[Tensor, " r k *c"]:
    """Values of the pieces that were looked at, in their places; zeros elsewhere."""
    full = values.new_zeros(*where.shape, *values.shape[1:])
    full[where] = values
    return full
