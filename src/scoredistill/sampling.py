r"""Deterministic and stochastic samplers of a prior.

With z = x_t / alpha_t and r = sigma_t / alpha_t, a DDIM step from t to s < t keeps the predicted clean sample D and
rescales the noise:

    x_s = alpha_s [ D + sqrt(r_s^2 - c^2) eps + c n ],    c^2 = eta^2 r_s^2 (r_t^2 - r_s^2) / r_t^2

eta = 0 is deterministic (the probability flow's first-order exponential integrator), eta = 1 is ancestral sampling.

References: Denoising diffusion implicit models (Song et al. 2021), https://arxiv.org/abs/2010.02502; ancestral
sampling: Denoising diffusion probabilistic models (Ho et al. 2020), https://arxiv.org/abs/2006.11239.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from scoredistill.priors.base import Prior, check_prior
from scoredistill.priors.conditions import Cond, check_cond
from scoredistill.rng import Rng, draw_noise
from scoredistill.schedule import per_sample

LARGEST = 1e4  # noise-to-signal ratio at which the distribution is effectively one point
FIRST = 1e-4  # a time at which samples are clean and predictions of the noise still finite
LEVELS = ("kernel", "prior")
STEP_VARIABLES: dict[str, Callable[[Tensor], Tensor]] = {
    "sigma2": lambda r: r.square(),
    "sigma": lambda r: r,
    "index": lambda r: torch.linspace(1, 0, len(r), dtype=r.dtype, device=r.device),
}


@torch.no_grad()
def ddim(
    prior: Prior,
    x_T: Float[Tensor, " b *d"],
    steps: int,
    cond: Cond | None = None,
    eta: float = 0.0,
    rng: Rng = None,
    start: float | None = None,
) -> Float[Tensor, " b *d"]:
    """Sample by DDIM from the noise x_T, at the prior's own times (for a diffusers prior, those of its scheduler).

    Args:
        prior: the diffusion model.
        x_T: noised samples at the first of `prior.times`; for almost all priors N(0, sigma^2 I).
        steps: network evaluations per sample, at least 1.
        cond: condition with 1 or b rows.
        eta: 0 for deterministic sampling, 1 for ancestral sampling.
        rng: source of the noise if eta > 0.
        start: time in (0, 1] to which x_T is noised, to denoise a partly noised sample in equal steps of t.

    Returns:
        Clean samples x_0.

    Raises:
        ValueError: for fewer than 1 step, a start out of range, or a prior that predicts noise at alpha = 0.
    """
    check_prior(prior)
    check_cond(cond)
    if steps < 1:
        raise ValueError(f"steps must be at least 1, not {steps}")
    if start is not None and not 0 < start <= 1:
        raise ValueError(f"start must be above 0 and at most 1, not {start}")
    grid = torch.linspace(1, 0, steps + 1, dtype=torch.float64)
    times = prior.times(steps) if start is None else start * torch.stack([grid[:-1], grid[1:]], 1)
    alphas, sigmas = (level.to(x_T) for level in prior.schedule(times))
    times = times.to(x_T.device, torch.promote_types(x_T.dtype, torch.float32))
    x = x_T
    for i in range(steps):
        x0 = prior.denoise(x, times[i, 0].expand(len(x)), cond)
        (alpha, alpha_next), (sigma, sigma_next) = alphas[i], sigmas[i]
        if i == 0 and alpha == 0 and not bool(x0.isfinite().all()):
            raise ValueError(
                "this prior predicts the noise, which does not determine the sample at alpha = 0: use a prior with the "
                "prediction 'flow', 'v' or 'x0', or start below t = 1"
            )
        noise = (x - alpha * x0) / sigma
        if eta > 0:
            variance = (eta * sigma_next) ** 2 * (1 - (alpha * sigma_next / (alpha_next * sigma)) ** 2)
            x = alpha_next * x0 + (sigma_next**2 - variance).clamp(min=0).sqrt() * noise
            x = x + variance.sqrt() * draw_noise(x, rng)
        else:
            x = alpha_next * x0 + sigma_next * noise
    return x


@torch.no_grad()
def ddim_invert(
    prior: Prior,
    x_0: Float[Tensor, " b *d"],
    steps: int,
    cond: Cond | None = None,
    to: float | None = None,
    eta: float = 0.0,
    rng: Rng = None,
) -> Float[Tensor, " b *d"]:
    """Invert DDIM: find the noised sample from which DDIM leads back to x_0, to first order in the step.

    Args:
        prior: the diffusion model.
        x_0: clean samples.
        steps: network evaluations per sample, at least 1.
        cond: condition with 1 or b rows.
        to: time to invert to, in equal steps of t from 0. By default the prior's first time, through its own times
            backwards, so that `ddim` with as many steps retraces them.
        eta: amount of fresh noise per step, as in `ddim`.
        rng: source of the noise if eta > 0.

    Returns:
        x_t at that time.

    Raises:
        ValueError: for fewer than 1 step.
    """
    check_prior(prior)
    check_cond(cond)
    if steps < 1:
        raise ValueError(f"steps must be at least 1, not {steps}")
    grid = torch.linspace(0, 1, steps + 1, dtype=torch.float64)
    times = prior.times(steps).flip(0).flip(1) if to is None else to * torch.stack([grid[:-1], grid[1:]], 1)
    times = times.to(x_0.device, torch.promote_types(x_0.dtype, torch.float32))
    x = x_0
    for now, then in times:
        x = ddim_step(prior, x, now.expand(len(x)), then.expand(len(x)), cond, eta, rng)
    return x


def ddim_step(
    prior: Prior,
    x_t: Float[Tensor, " b *d"],
    t: Float[Tensor, " b"],
    to: Float[Tensor, " b"],
    cond: Cond | None = None,
    eta: float = 0.0,
    rng: Rng = None,
) -> Float[Tensor, " b *d"]:
    """Take one step of the probability flow from t up (or down) to another time, with the prediction at t.

    Args:
        prior: the diffusion model.
        x_t: noised samples.
        t: their time; the prior is evaluated at max(t, FIRST), the time assigned to clean samples.
        to: the time to go to.
        cond: condition with 1 or b rows.
        eta: of a step upwards, mixes in as much fresh noise as DDIM's step back would.
        rng: source of the noise if eta > 0.
    """
    (alpha, sigma), (alpha_to, sigma_to) = prior.schedule(t), prior.schedule(to)
    eps = prior.eps(x_t, t.clamp(min=FIRST), cond)
    x0 = (x_t - per_sample(sigma, x_t) * eps) / per_sample(alpha, x_t)
    if not eta:
        return per_sample(alpha_to, x_t) * x0 + per_sample(sigma_to, x_t) * eps
    fresh = ((eta * sigma) ** 2 * (1 - (alpha_to * sigma / (alpha * sigma_to)) ** 2)).clamp(min=0)
    x = per_sample(alpha_to, x_t) * x0 + per_sample((sigma_to**2 - fresh).clamp(min=0).sqrt(), x_t) * eps
    return x + per_sample(fresh.sqrt(), x_t) * draw_noise(x_t, rng)


@torch.no_grad()
def ode_sample(
    prior: Prior, x_t: Float[Tensor, " b *d"], t: Float[Tensor, " b"], steps: int, cond: Cond | None = None
) -> Float[Tensor, " b *d"]:
    """Follow the probability flow from x_t to a clean sample, in DDIM steps of equal length in t.

    One step gives E[x | x_t].
    """
    for k in range(steps - 1):
        x_t = ddim_step(prior, x_t, t * (1 - k / steps), t * (1 - (k + 1) / steps), cond)
    return prior.denoise(x_t, t / steps, cond)


def product_denoise(
    prior: Prior,
    z: Float[Tensor, " b *d"],
    ratio: Float[Tensor, " b"],
    x: Float[Tensor, " b *d"],
    bandwidth: Float[Tensor, " b"],
    cond: Cond | None = None,
) -> Float[Tensor, " b *d"]:
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
    x: Float[Tensor, " b *d"],
    bandwidth: Float[Tensor, " b"],
    steps: int,
    cond: Cond | None = None,
    draw: Callable[[Tensor], Tensor] = torch.randn_like,
    levels: str = "kernel",
) -> Float[Tensor, " b *d"]:
    """Sample p(y) N(x; y, s I) by its probability flow, from noise level 8 sqrt(s) downwards, in Euler steps.

    At that level r the noised density is centered at E[y], not at x, and the flow keeps an offset of its start. Hence
    the first prediction d, made at x + r n, also moves the start: to d + r n. On a Gaussian the mean of y - x is then
    off by c / (c + 64 s) times a factor below 1, c <= s the variance of y: by less than 1 / 65. From x + r n itself it
    would be off by sqrt(c / (c + 64 s)), up to 12 % at any number of steps (docs/results/product_bias.md).
    Few steps lose variance.

    Args:
        prior: the diffusion model.
        x: clean samples.
        bandwidth: sqrt(s) of each sample.
        steps: network evaluations per sample.
        cond: condition with 1 or b rows.
        draw: makes standard normal noise like its argument; called once.
        levels: the noise levels r in between. "kernel": down to .05 sqrt(s), with rho = 5 (Karras et al. 2022,
            https://arxiv.org/abs/2206.00364), for bandwidths below the scale of the data; with larger ones that much
            noise would remain in y. "prior": such that the prior is evaluated at evenly spaced times, down to r = 0.
    """
    ratios = product_levels(prior, bandwidth.to(x.dtype), steps, levels)
    noise = draw(x)
    d = product_denoise(prior, x + per_sample(ratios[0], x) * noise, ratios[0], x, bandwidth, cond)
    z = d + per_sample(ratios[1], x) * noise
    for k in range(1, steps):
        d = product_denoise(prior, z, ratios[k], x, bandwidth, cond)
        z = d + per_sample(ratios[k + 1] / ratios[k], x) * (z - d)
    return z


def product_levels(
    prior: Prior, bandwidth: Float[Tensor, " b"], steps: int, levels: str = "kernel"
) -> Float[Tensor, "{steps}+1 b"]:
    """Noise levels of `product_sample`, decreasing along the first axis.

    The prior is evaluated at tau^2 = s r^2 / (s + r^2). "prior" spaces the times of tau evenly, from r = 8 sqrt(s) to
    r = 0.

    Raises:
        ValueError: for unknown levels.
    """
    if levels not in LEVELS:
        raise ValueError(f"unknown levels {levels!r}: use one of {', '.join(LEVELS)}")
    fraction = torch.arange(steps + 1, device=bandwidth.device, dtype=bandwidth.dtype)[:, None] / steps
    if levels == "kernel":
        return bandwidth * (8 ** (1 / 5) + fraction * (0.05 ** (1 / 5) - 8 ** (1 / 5))) ** 5
    s = bandwidth.to(torch.promote_types(bandwidth.dtype, torch.float32)).square()
    first = prior.schedule.time_of(8 * (s / 65).sqrt())
    tau2 = prior.schedule.ratio((1 - fraction.to(s.dtype)) * first).square().minimum(s * 64 / 65)
    tau2[-1] = 0
    return (s * tau2 / (s - tau2)).sqrt().to(bandwidth.dtype)


@torch.no_grad()
def posterior_sample(
    prior: Prior,
    z: Float[Tensor, " b *d"],
    ratio: Float[Tensor, " b"],
    steps: int,
    cond: Cond | None = None,
    draw: Callable[[Tensor], Tensor] = torch.randn_like,
) -> Float[Tensor, " b *d"]:
    r"""Sample p(y) N(z; y, r^2 I), that is y given its noised version z, by ancestral sampling from z itself.

    The reverse SDE in clean coordinates from variance v = r^2 to 0: with d = D(z; sqrt v) and v' < v,
    z <- d + (v'/v)(z - d) + sqrt(v'(v - v')/v) n. The noise levels are r (1 - k/steps)^3.

    Args:
        prior: the diffusion model.
        z: noised samples in clean coordinates.
        ratio: noise level r of z, per sample.
        steps: network evaluations per sample.
        cond: condition with 1 or b rows.
        draw: makes standard normal noise like its argument; called once per step but the last.
    """
    levels = (1 - torch.arange(steps + 1, device=z.device, dtype=z.dtype) / steps) ** 3
    for k in range(steps):
        v, v_next = ((ratio.to(z.dtype) * level) ** 2 for level in (levels[k], levels[k + 1]))
        d = prior.denoise_at(z, v.sqrt(), cond)
        z = d + per_sample(v_next / v, z) * (z - d)
        if k + 1 < steps:
            z = z + per_sample((v_next * (v - v_next) / v).sqrt(), z) * draw(z)
    return z


@torch.no_grad()
def paper_sample(
    prior: Prior,
    x: Float[Tensor, " b *d"],
    bandwidth: Float[Tensor, " b"],
    steps: int,
    cond: Cond | None = None,
    draw: Callable[[Tensor], Tensor] = torch.randn_like,
    dt: str = "sigma2",
    anchor: str = "x",
    interval: tuple[float, float] | None = None,
) -> Float[Tensor, " b *d"]:
    r"""Sample near x as the mean-shift paper does: DDIM, with the flow of the un-noised kernel after each step,

        z <- a_t + (z - a_t) exp(dv / lambda^2),    lambda^2 = 2 s,    z = x_t / alpha_t.

    This is the exact flow of the kernel term alone where v = (sigma / alpha)^2, not that of the product density:
    https://arxiv.org/abs/2502.15989, Eqs. 12 to 15. Kept for comparison; `product_sample` has the noised kernel.

    Args:
        prior: the diffusion model.
        x: clean samples.
        bandwidth: sqrt(s) of each sample.
        steps: DDIM steps at the prior's own times; the anchor "inverted" takes as many evaluations again.
        cond: condition with 1 or b rows.
        draw: makes standard normal noise; called once, for the start a_T + (r_T n - a_T) exp(dv / lambda^2).
        dt: the variable v: "sigma2" ((sigma / alpha)^2), "sigma", or "index" (1 at the start, 0 at the end).
        anchor: a_t: "x", or "inverted", the DDIM inversion of x at t.
        interval: times [lo, hi] in which the kernel acts; all times by default.

    Raises:
        ValueError: for an unknown dt.
    """
    if dt not in STEP_VARIABLES:
        raise ValueError(f"unknown dt {dt!r}: use one of {', '.join(STEP_VARIABLES)}")
    times = prior.times(steps).to(torch.promote_types(x.dtype, torch.float32))
    known = torch.cat([times[:, 0], times[-1:, 1]])
    lo, hi = (0.0, 1.0) if interval is None else interval
    acts = [lo <= t <= hi for t in known.tolist()]  # known on the host: nothing waits for the device
    grid = known.to(x.device)
    ratio = prior.schedule.ratio(grid).clamp(max=LARGEST).to(x.dtype)
    change = STEP_VARIABLES[dt](ratio).diff()
    anchors = [x] * (steps + 1) if anchor == "x" else _inverted_path(prior, x, grid, cond)

    def pull(z: Tensor, k: int, at: int) -> Tensor:
        if not acts[at]:
            return z
        return anchors[at] + per_sample((change[k] / (2 * bandwidth.to(z.dtype) ** 2)).exp(), z) * (z - anchors[at])

    z = pull(ratio[0] * draw(x), 0, 0)
    for k in range(steps):
        d = prior.denoise_at(z, ratio[k].expand(len(z)), cond)
        z = pull(d + (ratio[k + 1] / ratio[k]) * (z - d), k, k + 1)
    return z


def _inverted_path(prior: Prior, x: Tensor, grid: Tensor, cond: Cond | None) -> list[Tensor]:
    """The DDIM inversion of x in clean coordinates at each of the decreasing times."""
    x_t, path = x, []
    for now, then in zip(grid.flip(0)[:-1], grid.flip(0)[1:], strict=True):
        path.append(x_t / prior.schedule(now)[0].to(x.dtype))
        x_t = ddim_step(prior, x_t, now.expand(len(x)), then.expand(len(x)), cond)
    alpha = prior.schedule(grid[0])[0].to(x.dtype)
    return [*path, x_t / alpha.clamp(min=1 / LARGEST)][::-1]
