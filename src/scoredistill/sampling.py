r"""Sampling from a prior.

With z = x_t / alpha_t and r = sigma_t / alpha_t, a DDIM step from t to s < t keeps the predicted clean sample D and
shrinks the rest:

    x_s = alpha_s [ D + sqrt(r_s^2 - c^2) eps + c n ],    c^2 = eta^2 r_s^2 (r_t^2 - r_s^2) / r_t^2

eta = 0 is deterministic (the probability flow's first-order exponential integrator), eta = 1 is ancestral sampling.
References: Song et al. 2021, https://arxiv.org/abs/2010.02502; ancestral sampling: Ho et al. 2020,
https://arxiv.org/abs/2006.11239.
"""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from scoredistill.priors.base import Cond, Prior
from scoredistill.schedule import per_sample

Rng = torch.Generator | Sequence[torch.Generator] | None


def draw_noise(x: Float[Tensor, "b *d"], rng: Rng) -> Float[Tensor, "b *d"]:
    """Standard normal noise in the shape, dtype and device of x.

    Args:
        rng: one generator for the batch, or a list with one per sample; then a sample's noise does not depend on which
            others it is batched with. A CPU generator gives the same noise on every device.
    """
    if rng is None or isinstance(rng, torch.Generator):
        device = x.device if rng is None else rng.device
        return torch.randn(x.shape, generator=rng, dtype=x.dtype, device=device).to(x.device)
    if len(rng) != len(x):
        raise ValueError(f"rng lists {len(rng)} generators for {len(x)} samples: give one, or one per sample")
    return torch.cat([draw_noise(x[i : i + 1], g) for i, g in enumerate(rng)])


@torch.no_grad()
def ddim(
    prior: Prior,
    x_T: Float[Tensor, "b *d"],
    steps: int,
    cond: Cond | None = None,
    eta: float = 0.0,
    rng: Rng = None,
) -> Float[Tensor, "b *d"]:
    """Sample by DDIM from the noise x_T, at the prior's own times (a diffusers prior's are its scheduler's).

    Args:
        x_T: noised samples at the first of `prior.times`; for almost all priors N(0, sigma^2 I).
        steps: network calls, at least 1.
        eta: 0 deterministic, 1 ancestral.
        rng: source of the noise when eta > 0.

    Returns:
        Clean samples x_0.
    """
    if steps < 1:
        raise ValueError(f"steps must be at least 1, not {steps}")
    times = prior.times(steps)
    alphas, sigmas = (level.to(x_T) for level in prior.schedule(times))
    times = times.to(x_T.device, torch.promote_types(x_T.dtype, torch.float32))
    x = x_T
    for i in range(steps):
        x0 = prior.denoise(x, times[i, 0].expand(len(x)), cond)
        (alpha, alpha_next), (sigma, sigma_next) = alphas[i], sigmas[i]
        if i == 0 and alpha == 0 and not bool(x0.isfinite().all()):
            raise ValueError(
                "this prior predicts the noise, which says nothing of the sample at alpha = 0: give it as 'flow', 'v' "
                "or 'x0', or start below t = 1"
            )
        noise = (x - alpha * x0) / sigma
        if eta > 0:
            variance = (eta * sigma_next) ** 2 * (1 - (alpha * sigma_next / (alpha_next * sigma)) ** 2)
            x = alpha_next * x0 + (sigma_next**2 - variance).clamp(min=0).sqrt() * noise
            x = x + variance.sqrt() * draw_noise(x, rng)
        else:
            x = alpha_next * x0 + sigma_next * noise
    return x


def product_denoise(
    prior: Prior,
    z: Float[Tensor, "b *d"],
    ratio: Float[Tensor, "b"],
    x: Float[Tensor, "b *d"],
    bandwidth: Float[Tensor, "b"],
    cond: Cond | None = None,
) -> Float[Tensor, "b *d"]:
    r"""Denoiser of the product density p(y) N(x; y, s I), sqrt s = bandwidth, at noise level r = ratio.

    Two Gaussian observations of y, z = y + r n and x = y + sqrt(s) n', are one: the prior's own denoiser at

        u = (s z + r^2 x) / (s + r^2),    tau^2 = s r^2 / (s + r^2).
    """
    s, v = bandwidth.to(z.dtype) ** 2, ratio.to(z.dtype) ** 2
    u = per_sample(s / (s + v), z) * z + per_sample(v / (s + v), z) * x
    return prior.denoise_at(u, (s * v / (s + v)).sqrt(), cond)


@torch.no_grad()
def product_sample(
    prior: Prior,
    x: Float[Tensor, "b *d"],
    bandwidth: Float[Tensor, "b"],
    steps: int,
    cond: Cond | None = None,
    draw: Callable[[Tensor], Tensor] = torch.randn_like,
) -> Float[Tensor, "b *d"]:
    """A sample of p(y) N(x; y, s I) by its probability flow, from x + 8 sqrt(s) n down to .05 sqrt(s), in Euler steps.

    Few steps keep the mean and lose spread: the variance of y is .5, .74, .84 of the true one at 4, 8, 16 steps.
    Levels: Karras et al. 2022, https://arxiv.org/abs/2206.00364, rho = 5.
    """
    fraction = torch.arange(steps + 1, device=x.device, dtype=x.dtype) / steps
    levels = (8 ** (1 / 5) + fraction * (0.05 ** (1 / 5) - 8 ** (1 / 5))) ** 5
    z = x + per_sample(8 * bandwidth, x) * draw(x)
    for k in range(steps):
        d = product_denoise(prior, z, bandwidth * levels[k], x, bandwidth, cond)
        z = d + (levels[k + 1] / levels[k]) * (z - d)
    return z


@torch.no_grad()
def posterior_sample(
    prior: Prior,
    z: Float[Tensor, "b *d"],
    ratio: Float[Tensor, "b"],
    steps: int,
    cond: Cond | None = None,
    draw: Callable[[Tensor], Tensor] = torch.randn_like,
) -> Float[Tensor, "b *d"]:
    r"""A sample of p(y) N(z; y, r^2 I), that is of y given its noised version z, by ancestral sampling from z itself.

    The reverse SDE in clean coordinates from variance v = r^2 to 0: with d = D(z; sqrt v) and v' < v,
    z <- d + (v'/v)(z - d) + sqrt(v'(v - v')/v) n. Levels r (1 - k/steps)^3.

    Args:
        ratio: noise level r of z, per sample.
        steps: network calls.
        draw: makes standard normal noise for z; called once per step but the last.
    """
    levels = (1 - torch.arange(steps + 1, device=z.device, dtype=z.dtype) / steps) ** 3
    for k in range(steps):
        v, v_next = ((ratio.to(z.dtype) * level) ** 2 for level in (levels[k], levels[k + 1]))
        d = prior.denoise_at(z, v.sqrt(), cond)
        z = d + per_sample(v_next / v, z) * (z - d)
        if k + 1 < steps:
            z = z + per_sample((v_next * (v - v_next) / v).sqrt(), z) * draw(z)
    return z
