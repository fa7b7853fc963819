r"""Variance reduction for distillation gradients, at equal network rows.

    python experiments/variance.py --out docs/results/toy [--quick]

Write SDS in clean coordinates: eps - n = (x - D(x + r n; r)) / r. With J = E[dD/dx] the part of the residual that is
linear in n is -J n, so the control variate n with coefficient c, eps - c n, has variance

    |(I - J) - c I|^2 + (nonlinear part)   per unit of n;    best c = 1 - tr J / d = E[tr deps/dn] / d   (Stein's lemma)

c = 1 is SDS, c = 0 SJC without its reference. On N(mu, v I): J = v / (v + r^2), so c = sigma^2 / S removes everything,
SDS has standard deviation alpha^2 v / S and c = 0 has sigma^2 / S: the reference of SDS *adds* variance where r^2 < v.
A pair (n, -n) removes the odd part of D in n for twice the rows: at equal rows it changes the variance by 1 + corr,
corr that of the gradients at n and -n, -1 where D is linear and +1 where it is even.

The noise path of `ancestral` answers to its noises n_k linearly where D is linear: with J_r = S (S + r^2)^-1 of a local
Gaussian of covariance S, d z' = [J + (v'/v)(I - J)] d z + q n_k, d y = J d z at the last call; E[d y] = 0, so y - d y
has the mean of y. S comes from s J_s = Cov(y | x) at the first level (second-order Tweedie).
"""

import json
import math
import statistics
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor
from toy_results import SEEDS, heading, option_parser, table, write

from scoredistill.datasets.toy2d import HALF_SIDE, NAMES, grid_start, toy_set
from scoredistill.estimators import MSD, SDS, SJC, Batch, Estimate, Estimator, Stein
from scoredistill.estimators.averaged import Averaged
from scoredistill.estimators.methods import ratio
from scoredistill.estimators.noise import Random
from scoredistill.estimators.residual import Residual
from scoredistill.generators import Latents
from scoredistill.loop import distill
from scoredistill.metrics.point_sets import bias, efficiency, nll, precision_recall
from scoredistill.priors import Counted, GaussianMixture, Prior
from scoredistill.rng import Rng, draw_noise
from scoredistill.sampling import posterior_sample
from scoredistill.schedule import VE, VP, Weight, weight_at
from scoredistill.times import Bandwidth, Linear, Times, Uniform

EXPLODING, PRESERVING = VE(0.002, 5.0), VP()
LAMBDAS = (0.316, 0.1)
STEPS, PLAIN = 150, 48  # network rows per particle of a run with Adam, and of one with plain steps
Draw = Callable[[Tensor, torch.Generator], Tensor]  # (x [n, 2], rng) -> one gradient each, [n, 2]


def seen(name: str, schedule: VE | VP) -> GaussianMixture:
    """A toy set, its two-class form, a Gaussian of variance .25 or a mixture of 20 modes in 64 dimensions."""
    if name == "fractal, 2 classes":
        return toy_set("fractal", 2, schedule)
    if name == "gaussian":
        return GaussianMixture(torch.zeros(1, 2).double(), torch.tensor([0.25]).double(), schedule=schedule)
    if name == "64-D":
        means = 0.5 * torch.randn(20, 64, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        return GaussianMixture(means, torch.full((20,), 0.01, dtype=torch.float64), schedule=schedule)
    return toy_set(name, schedule=schedule)


def near(prior: GaussianMixture, n: int, h: float, rng: torch.Generator) -> Tensor:
    """Where particles are while the bandwidth is h: samples plus h times noise."""
    y = prior.sample(n, rng)
    return y + h * torch.randn(y.shape, generator=rng, dtype=y.dtype)


def spread(values: list[float], digits: int = 3) -> list[float]:
    """[mean, standard deviation] over seeds."""
    if not all(math.isfinite(v) for v in values):  # `mean` has efficiency inf
        return [max(values), 0.0]
    return [round(statistics.fmean(values), digits), round(statistics.stdev(values), digits)]


# ---- SDS with control variates -------------------------------------------------------------------------------------


def residuals(prior: Prior, x: Tensor, r: float, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """(eps, n) at noise-to-signal ratio r, each [n, d]."""
    n = draw_noise(x, rng)
    return (x + r * n - prior.denoise_at(x + r * n, torch.full((len(x),), r, dtype=x.dtype))) / r, n


def controlled(prior: Prior, r: float, kind: str, pilot: int) -> Draw:
    """eps - C n with C "shared" (one number, least squares over all particles), or "matrix" (one per particle).

    C is fitted on `pilot` draws per particle that are not used otherwise: in a run they are those of earlier steps.
    """

    def draw(x: Tensor, rng: torch.Generator) -> Tensor:
        own, unique = torch.Generator().manual_seed(rng.initial_seed() + 1000), x[: particles_of(x)]
        eps, n = residuals(prior, unique.repeat(pilot, 1), r, own)
        eps, n = (v.reshape(pilot, *unique.shape) - v.reshape(pilot, *unique.shape).mean(0) for v in (eps, n))
        fitted = torch.linalg.lstsq(n.transpose(0, 1), eps.transpose(0, 1)).solution
        if kind == "shared":
            fitted = (eps * n).sum() / n.square().sum() * torch.eye(x.shape[1], dtype=x.dtype).expand_as(fitted)
        eps, n = residuals(prior, x, r, rng)
        return eps - (n[:, None] @ fitted.repeat(len(x) // len(unique), 1, 1))[:, 0]

    return draw


def particles_of(x: Tensor) -> int:
    """x is some particles, repeated as a whole: how many."""
    again = (x[1:] == x[0]).all(1).nonzero()
    return int(again[0]) + 1 if len(again) else len(x)


def strata(prior: Prior, k: int, stratified: bool, antithetic: bool = False) -> Draw:
    """SDS averaged over k draws at times in [.02, .98], one in each k-th part of it or all anywhere."""
    m = k // 2 if antithetic else k
    base = Averaged(Residual(noise=Random(antithetic=True)), 2) if antithetic else SDS()

    def draw(x: Tensor, rng: torch.Generator) -> Tensor:
        u = torch.rand(len(x), m, generator=rng, dtype=x.dtype)
        f = (torch.arange(m) + u) / m if stratified else u
        grads = [base(prior, Batch(x), 0.02 + 0.96 * f[:, i], rng).grad for i in range(m)]
        return torch.stack(grads).mean(0)

    return draw


# ---- ancestral with a control variate ------------------------------------------------------------------------------


def jacobian(prior: Prior, x: Tensor, r: Tensor) -> Tensor:
    """dD/dx of every particle, [n, d, d], by central differences."""
    step, columns = 1e-5, []
    for i in range(x.shape[1]):
        e = torch.zeros_like(x)
        e[:, i] = step
        columns.append((prior.denoise_at(x + e, r) - prior.denoise_at(x - e, r)) / (2 * step))
    return torch.stack(columns, 2)


def response(first: Tensor, s: float, noises: list[Tensor], steps: int) -> Tensor:
    """d y of the module's text: what noises [n, d] do to y when J at variance s is `first`, [n, d, d] symmetric."""
    first = 0.5 * (first + first.mT)
    values, vectors = torch.linalg.eigh(first)
    values = values.clamp(0, 1 - 1e-9)
    gain = s * values / (1 - values)  # the local covariance S
    turned = [(vectors.mT @ n[:, :, None])[:, :, 0] for n in noises]
    z = torch.zeros_like(turned[0]) if turned else torch.zeros_like(values)
    levels = [s * (1 - k / steps) ** 6 for k in range(steps + 1)]
    for k, n in enumerate(turned):
        v, after = levels[k], levels[k + 1]
        j = gain / (gain + v)
        z = (j + after / v * (1 - j)) * z + math.sqrt(after * (v - after) / v) * n
    last = gain / (gain + levels[steps - 1])
    return (vectors @ (last * z)[:, :, None])[:, :, 0]


def ancestral_controlled(prior: Prior, h: float, steps: int, kind: str) -> Draw:
    """Ancestral mean shift minus its linear answer; J_s "exact", "fitted" (16 pilot draws) or "shared" (one number)."""

    def draw(x: Tensor, rng: torch.Generator) -> Tensor:
        unique = x[: particles_of(x)]
        ratio, noises = torch.full((len(x),), h, dtype=x.dtype), []
        first = local_jacobian(prior, unique, h, steps, kind, rng).repeat(len(x) // len(unique), 1, 1)

        def noted(z: Tensor) -> Tensor:
            noises.append(draw_noise(z, rng))
            return noises[-1]

        y = posterior_sample(prior, x, ratio, steps, draw=noted)
        return x - (y - response(first, h * h, noises, steps))

    return draw


def local_jacobian(prior: Prior, x: Tensor, h: float, steps: int, kind: str, rng: torch.Generator) -> Tensor:
    """J_s of every particle, [n, d, d]."""
    ratio = torch.full((len(x),), h, dtype=x.dtype)
    if kind == "exact":
        return jacobian(prior, x, ratio)
    own, pilot = torch.Generator().manual_seed(rng.initial_seed() + 1000), 16
    noise = lambda z: draw_noise(z, own)
    y = posterior_sample(prior, x.repeat(pilot, 1), ratio.repeat(pilot), steps, draw=noise).reshape(pilot, *x.shape)
    y = y - y.mean(0)
    covariance = torch.einsum("kni,knj->nij", y, y) / (pilot - 1) / h**2
    eye = torch.eye(x.shape[1], dtype=x.dtype)
    return covariance if kind == "fitted" else covariance.diagonal(dim1=1, dim2=2).mean() * eye.expand_as(covariance)


# ---- per estimate --------------------------------------------------------------------------------------------------


def estimators(name: str, h: float) -> dict[str, tuple[float, Draw]]:
    """{title: (rows of one estimate, how to draw it)}. Pilot draws are not counted: a run has them from earlier."""
    vp, ve = seen(name, PRESERVING), seen(name, EXPLODING)
    at_h, s2 = PRESERVING.time_of(torch.tensor(h, dtype=torch.float64)), 0.25
    t_h = float(at_h)

    def of(estimator: Estimator, prior: Prior = vp, t: float = t_h) -> Draw:
        return lambda x, rng: estimator(prior, Batch(x), torch.full((len(x),), t, dtype=x.dtype), rng).grad

    def closed(x: Tensor, rng: torch.Generator) -> Tensor:
        eps, n = residuals(ve, x, h, rng)
        return eps - h * h / (s2 + h * h) * n

    pair = lambda n: Averaged(Residual(noise=Random(antithetic=True)), n)
    table: dict[str, tuple[float, Draw]] = {
        "SDS, random t": (1, strata(vp, 1, False)),
        "SDS, random t, pair": (2, strata(vp, 2, False, True)),
        "SDS, 4 random t": (4, strata(vp, 4, False)),
        "SDS, 4 stratified t": (4, strata(vp, 4, True)),
        "SDS, 2 stratified t, pairs": (4, strata(vp, 4, True, True)),
        "SDS at r = h": (1, of(SDS())),
        "SDS at r = h, pair": (2, of(pair(2))),
        "SDS at r = h, two pairs": (4, of(pair(4))),
        "no reference (SJC, c = 0)": (1, of(SJC(False))),
        "c = sigma^2 / S, v = .25": (1, closed),
        "c fitted, one number": (1, controlled(ve, h, "shared", 16)),
        "C fitted, matrix per particle, 8 draws": (1, controlled(ve, h, "matrix", 8)),
        "C fitted, matrix per particle, 128 draws": (1, controlled(ve, h, "matrix", 128)),
        "mean": (1, of(MSD(bandwidth=h), ve)),
    }
    for sampler in ("ancestral", "product"):
        for steps in (2, 4, 8):
            table[f"{sampler}, {steps} steps"] = (steps, of(MSD(h, sampler, steps), ve))
            table[f"{sampler}, {steps} steps, pair"] = (2 * steps, of(MSD(h, sampler, steps, 2, True), ve))
        table[f"{sampler}, 4 steps, 2 samples"] = (8, of(MSD(h, sampler, 4, 2), ve))
        table[f"{sampler}, 4 steps, 4 samples"] = (16, of(MSD(h, sampler, 4, 4), ve))
        table[f"{sampler}, 4 steps, two pairs"] = (16, of(MSD(h, sampler, 4, 4, True), ve))
    for kind in ("shared", "fitted", "exact"):
        table[f"ancestral, 4 steps, control {kind}"] = (4, ancestral_controlled(ve, h, 4, kind))
    return table


def per_estimate(name: str, lambda_: float, particles: int, draws: int) -> dict[str, dict]:
    """Own relative variance x rows, bias, efficiencies, of each estimator, at particles near the set."""
    h, found = lambda_ / math.sqrt(2), {}
    prior = seen(name, EXPLODING)
    for title, (rows, draw) in estimators(name, h).items():
        values: dict[str, list[float]] = {key: [] for key in ("variance_rows", "bias", "own", "true")}
        for seed in SEEDS:
            rng = torch.Generator().manual_seed(seed)
            x = near(prior, particles, h, rng)
            grads = draw(x.repeat(draws, 1), rng).reshape(draws, *x.shape)
            target = x - prior.denoise_at(x, torch.full((len(x),), h, dtype=x.dtype))
            mean = grads.mean(0)
            noise = ((grads - mean).square().sum() / (draws - 1)).item()
            signal = max(mean.square().sum().item() - noise / draws, 1e-300)
            values["variance_rows"].append(rows * noise / signal)
            values["bias"].append(bias(grads, target, scale=True))
            values["own"].append(efficiency(grads, rows))
            values["true"].append(efficiency(grads, rows, target))
        found[title] = {"rows": rows, **{key: spread(v) for key, v in values.items()}}
    return found


# ---- what a pair can do --------------------------------------------------------------------------------------------


def pairs(name: str, particles: int, draws: int) -> dict[str, dict]:
    """1 + corr of gradients at opposite noise, and the variance left by control variates, against r."""
    ve, found = seen(name, EXPLODING), {}
    for r in (0.02, 0.05, 0.1, 0.2236, 0.5, 1.0, 2.0):
        kept: dict[str, list[float]] = {key: [] for key in ("pair", "reference", "c", "matrix", "closed")}
        for seed in SEEDS:
            rng = torch.Generator().manual_seed(seed)
            x = near(ve, particles, r, rng)
            n = torch.randn(draws, *x.shape, generator=rng, dtype=x.dtype)
            ratio = torch.full((draws * particles,), r, dtype=x.dtype)
            moved = [(x + sign * r * n).flatten(0, 1) for sign in (1, -1)]
            plus, minus = (((x - ve.denoise_at(z, ratio).reshape_as(n)) / r) for z in moved)
            a, b = plus - plus.mean(0), minus - minus.mean(0)
            single = (a.square().sum() + b.square().sum()) / 2
            kept["pair"].append((0.5 * (a + b).square().sum() / single).item())
            eps, centerd = a + n - n.mean(0), n - n.mean(0)
            kept["reference"].append((eps.square().sum() / a.square().sum()).item())
            c = (eps * centerd).sum() / centerd.square().sum()
            kept["c"].append(((eps - c * centerd).square().sum() / a.square().sum()).item())
            kept["closed"].append(((eps - r * r / (0.25 + r * r) * centerd).square().sum() / a.square().sum()).item())
            if draws < 8 * x.shape[1]:
                continue  # a matrix fitted to fewer draws follows their noise
            fit = torch.linalg.lstsq(centerd.transpose(0, 1), a.transpose(0, 1)).solution
            left = a.transpose(0, 1) - centerd.transpose(0, 1) @ fit
            kept["matrix"].append((left.square().sum() / a.square().sum()).item())
        found[f"{r:g}"] = {key: spread(v) for key, v in kept.items() if v}
    return found


def gaussian_check() -> dict[str, float]:
    """Errors against the closed forms on N(0, .25 I), relative to them (absolute where they are 0)."""
    prior, rng = seen("gaussian", PRESERVING), torch.Generator().manual_seed(0)
    ve, t, draws, x = seen("gaussian", EXPLODING), 0.4, 200_000, torch.tensor([[0.3, -0.8]], dtype=torch.float64)
    alpha, sigma = (float(v) for v in PRESERVING(torch.tensor(t, dtype=torch.float64)))
    total, many, times = alpha**2 * 0.25 + sigma**2, x.repeat(draws, 1), torch.full((draws,), t, dtype=torch.float64)
    few, h = x.repeat(100, 1), 0.2

    def std(estimator: Estimator, x: Tensor) -> float:
        return estimator(prior, Batch(x), times[: len(x)], rng).grad.std(0).mean().item()

    eps, n = residuals(ve, few, h, rng)
    best = (eps - h * h / (0.25 + h * h) * n).std(0).max().item()
    exact = ancestral_controlled(ve, h, 4, "exact")(few, rng).std(0).max().item()
    return {
        "sds_std_over_w_alpha2_v_over_S": std(SDS(), many) / (sigma**2 * alpha**2 * 0.25 / total),
        "no_reference_std_over_sigma2_over_S": std(SJC(False), many) / (sigma**2 / total),
        "pair_std": std(Averaged(Residual(noise=Random(antithetic=True)), 2), few),
        "best_c_std": best,
        "product_pair_std": MSD(h, "product", 4, 2, True)(ve, Batch(few), times[:100], rng).grad.std(0).max().item(),
        "ancestral_control_exact_std": exact,
    }


def two_modes() -> dict[str, float]:
    """1 + corr of opposite noise between two narrow modes at -1 and 1, r = .01, over the points -4 r to 4 r.

    Where D is a step that noise of x crosses with probability q, 1 + corr = (1 - 2 q) / (1 - q), and over all x
    int q (1 - 2 q) / int q (1 - q) = 2 - sqrt 2 = .586.
    """
    r, draws, rng = 0.01, 4000, torch.Generator().manual_seed(0)
    prior = GaussianMixture(
        torch.tensor([[-1.0], [1.0]]).double(), torch.tensor([1e-6, 1e-6]).double(), schedule=EXPLODING
    )
    x = torch.linspace(-4 * r, 4 * r, 161, dtype=torch.float64)[:, None]
    n = torch.randn(draws, *x.shape, generator=rng, dtype=x.dtype)
    ratio = torch.full((draws * len(x),), r, dtype=x.dtype)
    plus, minus = (prior.denoise_at((x + sign * r * n).flatten(0, 1), ratio).reshape_as(n) for sign in (1, -1))
    a, b = plus - plus.mean(0), minus - minus.mean(0)
    single, pair = (a.square() + b.square()).mean(0) / 2, (a + b).square().mean(0) / 2
    at_one = int((x[:, 0] - r).abs().argmin())
    q = 0.5 * math.erfc(1 / math.sqrt(2))
    return {
        "pooled": (pair.sum() / single.sum()).item(),
        "pooled_theory": 2 - math.sqrt(2),
        "x_is_r": (pair[at_one] / single[at_one]).item(),
        "x_is_r_theory": (1 - 2 * q) / (1 - q),
    }


def coupled(name: str, particles: int, draws: int) -> dict[str, dict]:
    """Relative variance of the Stein-coupled SDS gradient by kind of noise: of all and of what tells them apart."""
    prior, h, found = seen(name, PRESERVING), 0.2236, {}
    for title, noise in (("independent", Random()), ("antithetic", Random(True)), ("shared", Random(shared=True))):
        rows: dict[str, list[float]] = {key: [] for key in ("single", "coupled", "apart")}
        for seed in SEEDS:
            rng = torch.Generator().manual_seed(seed)
            x = near(prior, particles, h, rng)
            t = torch.full((particles,), float(PRESERVING.time_of(h)), dtype=x.dtype)
            for key, estimator in (("single", Residual(noise=noise)), ("coupled", Stein(Residual(noise=noise)))):
                g = torch.stack([estimator(prior, Batch(x), t, rng).grad for _ in range(draws)])
                rows[key].append(relative_variance(g))
            rows["apart"].append(relative_variance(g - g.mean(1, keepdim=True)))
        found[title] = {key: spread(v) for key, v in rows.items()}
    return found


def relative_variance(g: Tensor) -> float:
    noise = ((g - g.mean(0)).square().sum() / (len(g) - 1)).item()
    return noise / max(g.mean(0).square().sum().item() - noise / len(g), 1e-300)


# ---- the end of a run ----------------------------------------------------------------------------------------------


@dataclass
class OnlineReference(Estimator):
    """SDS as w (eps - c n), c the best number so far: a running average over earlier steps, 1 at first."""

    weight: Weight = "sigma2"
    keep: float = 0.8
    c: float | None = field(default=None)

    def __call__(self, prior: Prior, batch: Batch, t: Tensor, rng: Rng = None) -> Estimate:
        alpha, sigma = (level[:, None].to(batch.x) for level in prior.schedule(t))
        n = draw_noise(batch.x, rng)
        eps = prior.eps(alpha * batch.x + sigma * n, t)
        used = 1.0 if self.c is None else self.c
        best = ((eps * n).sum() / n.square().sum()).item()
        self.c = best if self.c is None else self.keep * self.c + (1 - self.keep) * best
        return Estimate(weight_at(self.weight, prior.schedule, t)[:, None] * (eps - used * n))


@dataclass
class ControlledAncestral(Estimator):
    """Ancestral mean shift minus the linear answer of a Gaussian of J_s = c I, c from the draws of the step before."""

    steps: int = 4
    c: float | None = field(default=None)

    def __call__(self, prior: Prior, batch: Batch, t: Tensor, rng: Rng = None) -> Estimate:
        ratio, noises = prior.schedule.ratio(t), []

        def noted(z: Tensor) -> Tensor:
            noises.append(draw_noise(z, rng))
            return noises[-1]

        s = float(ratio[0]) ** 2
        first: list[Tensor] = []
        y = posterior_sample(Noted(prior, first), batch.x, ratio, self.steps, draw=noted)
        answer = torch.zeros_like(y)
        if self.c is not None:
            eye = torch.eye(y.shape[1], dtype=y.dtype).expand(len(y), -1, -1)
            answer = response(self.c * eye, s, noises, self.steps)
        self.c = min(0.99, (y - first[0]).square().mean().item() / s)
        return Estimate(batch.x - (y - answer))


class Noted(Counted):
    """Keeps the first denoised sample, which is the mean of y."""

    def __init__(self, prior: Prior, first: list[Tensor]):
        super().__init__(prior)
        self.first = first

    def denoise(self, x_t: Tensor, t: Tensor, cond: object = None) -> Tensor:
        found = super().denoise(x_t, t)
        self.first.append(found)
        return found


def golden(index: int, steps: int) -> float:
    """Times spread evenly whatever part of a run is looked at: frac(k / golden ratio) in [.02, .98]."""
    return 0.02 + 0.96 * ((0.5 + index * 0.6180339887498949) % 1)


def families(plain: bool) -> Iterator[tuple[str, VE | VP, Callable[[], Estimator], Times, int]]:
    """(title, schedule, estimator, time_schedule, rows per step); with `plain` steps, x - grad is a denoised sample."""
    end, shape = (0.005, "geometric") if plain else (0.0, "linear")
    narrow, like = (Bandwidth(kind, LAMBDAS[0] / math.sqrt(2), end, shape) for kind in (EXPLODING, PRESERVING))
    weight: Weight = ratio if plain else "sigma2"
    opposite, one = Random(antithetic=True), Random(shared=True)
    if not plain:
        down = Linear(0.98, 0.02)
        yield "SDS, random t", PRESERVING, SDS, Uniform(0.02, 0.98), 1
        yield "SDS, golden t", PRESERVING, SDS, golden, 1
        yield "SDS, t .98 to .02", PRESERVING, SDS, down, 1
        yield "SDS, t .98 to .02, pair", PRESERVING, lambda: Averaged(Residual(noise=opposite), 2), down, 2
    yield "SDS, r as lambda", PRESERVING, lambda: Residual(weight), like, 1
    yield "SDS, r as lambda, pair", PRESERVING, lambda: Averaged(Residual(weight, noise=opposite), 2), like, 2
    yield "SDS, r as lambda, c online", PRESERVING, lambda: OnlineReference(weight), like, 1
    yield "SDS, r as lambda, no reference", PRESERVING, lambda: Residual(weight, reference="zero"), like, 1
    yield "SDS, r as lambda, shared", PRESERVING, lambda: Residual(weight, noise=one), like, 1
    yield "CSD, r as lambda", PRESERVING, lambda: Stein(Residual(weight)), like, 1
    yield "CSD, r as lambda, antithetic", PRESERVING, lambda: Stein(Residual(weight, noise=opposite)), like, 1
    yield "CSD, r as lambda, shared", PRESERVING, lambda: Stein(Residual(weight, noise=one)), like, 1
    yield "mean", EXPLODING, MSD, narrow, 1
    for sampler in ("ancestral", "product"):
        yield f"{sampler}, 2 steps", EXPLODING, lambda s=sampler: MSD(None, s, 2), narrow, 2
        yield f"{sampler}, 4 steps", EXPLODING, lambda s=sampler: MSD(None, s, 4), narrow, 4
        yield f"{sampler}, 2 steps, pair", EXPLODING, lambda s=sampler: MSD(None, s, 2, 2, True), narrow, 4
        yield f"{sampler}, 4 steps, pair", EXPLODING, lambda s=sampler: MSD(None, s, 4, 2, True), narrow, 8
    yield "ancestral, 4 steps, control shared", EXPLODING, ControlledAncestral, narrow, 4


def ends(name: str, particles: int, rows: int, plain: bool = False) -> dict[str, dict]:
    """NLL, precision and recall at the end of runs of `rows` network rows per particle: Adam .08, or x <- x - grad."""
    found: dict[str, dict] = {}
    for title, schedule, make, time_schedule, cost in families(plain):
        values: dict[str, list[float]] = {key: [] for key in ("nll", "nll_median", "precision", "recall", "rows")}
        for seed in SEEDS:
            rng, counted = torch.Generator().manual_seed(seed), Counted(seen(name, schedule))
            jitter = torch.rand(particles, 2, generator=rng, dtype=torch.float64) - 0.5
            latents = Latents.of(grid_start(particles) + 2 * HALF_SIDE / math.sqrt(particles) * jitter)
            optimizer: torch.optim.Optimizer = torch.optim.Adam(latents.parameters(), lr=0.08)
            if plain:
                optimizer = torch.optim.SGD(latents.parameters(), lr=1.0)
            times = replace(time_schedule, seed=seed) if isinstance(time_schedule, Uniform) else time_schedule
            for _ in distill(latents, counted, make(), steps=rows // cost, times=times, optimizer=optimizer, rng=rng):
                pass
            x, exact = latents.values.detach(), seen(name, EXPLODING)
            truth = exact.sample(1000, torch.Generator().manual_seed(100 + seed))
            density, (precision, recall) = nll(x, exact), precision_recall(x, truth)
            here = (density.mean, density.median, precision, recall, counted.rows / particles)
            for key, value in zip(values, here, strict=True):
                values[key].append(value)
        found[title] = {key: spread(v) for key, v in values.items()}
    return found


# ---- report --------------------------------------------------------------------------------------------------------


def cell(value: list[float], digits: int = 2) -> str:
    return f"{value[0]:.{digits}f} ± {value[1]:.{digits}f}"


def tables(report: dict) -> str:
    """The measured tables as Markdown."""
    out = []
    for lambda_, sets in report["per_estimate"].items():
        head = ["estimator", "rows"]
        for name in sets:
            head += [f"{name}: variance x rows", "bias", "efficiency, true"]
        rows = []
        for title in next(iter(sets.values())):
            row = [title, f"{next(iter(sets.values()))[title]['rows']}"]
            for found in sets.values():
                e = found[title]
                row += [f"{e['variance_rows'][0]:.3g}", f"{e['bias'][0]:.3f}", cell(e["true"])]
            rows.append(row)
        out.append(f"### lambda = {lambda_}\n\n" + table(head, rows))
    for key, says in (
        ("pair", "pair at equal rows"),
        ("reference", "no reference (c = 0)"),
        ("c", "best c"),
        ("closed", "c = r^2 / (.25 + r^2)"),
        ("matrix", "best matrix per particle"),
    ):
        names = list(report["pairs"])
        ratios = list(report["pairs"][names[0]])
        rows = [[n, *(cell(v[key]) if key in v else "-" for v in report["pairs"][n].values())] for n in names]
        out.append(f"### Variance over that of SDS: {says}\n\n" + table(["set, r =", *ratios], rows))
    rows = [
        [f"{name}, {kind}", *(cell(v) for v in found.values())]
        for name, kinds in report["coupled"].items()
        for kind, found in kinds.items()
    ]
    out.append("### Coupled gradient\n\n" + table(["set, noise", "single", "coupled", "coupled, apart"], rows))
    for part, says in (("ends", "Adam .08"), ("ends_plain", "plain steps")):
        head, rows = ["method", "rows"], []
        for name in report[part]:
            head += [f"{name}: NLL", "median", "precision", "recall"]
        for title, first in next(iter(report[part].values())).items():
            row = [title, f"{first['rows'][0]:.0f}"]
            for found in report[part].values():
                row += [cell(found[title][k]) for k in ("nll", "nll_median", "precision", "recall")]
            rows.append(row)
        out.append(f"### Ends of runs, {says}\n\n" + table(head, rows))
    return "\n".join(out)


def strict(value: object) -> object:
    """JSON has no infinity: the text "inf"."""
    if isinstance(value, dict):
        return {key: strict(v) for key, v in value.items()}
    if isinstance(value, list):
        return [strict(v) for v in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def main() -> None:
    options = option_parser(__doc__, quick="few particles and draws, to see that it runs").parse_args()
    quick = options.quick
    sets, others = (NAMES[2:], ("gaussian",)) if quick else (NAMES, ("fractal, 2 classes", "gaussian", "64-D"))
    report = {
        **heading("variance.py", quick),
        "gaussian": gaussian_check(),
        "two_modes": two_modes(),
        "pairs": {name: pairs(name, 16, 16 if quick else 64) for name in (*sets, *others)},
        "coupled": {name: coupled(name, 64, 16 if quick else 64) for name in sets},
        "per_estimate": {
            f"{value:g}": {name: per_estimate(name, value, 36, 8 if quick else 40) for name in sets}
            for value in LAMBDAS
        },
        "ends": {name: ends(name, 64 if quick else 196, 16 if quick else STEPS) for name in sets},
        "ends_plain": {name: ends(name, 64 if quick else 196, 16 if quick else PLAIN, True) for name in sets},
    }
    write({key: strict(value) for key, value in report.items()}, options.out / "variance.json")
    print(json.dumps(report["gaussian"], indent=1))
    print(tables(report))


if __name__ == "__main__":
    main()
