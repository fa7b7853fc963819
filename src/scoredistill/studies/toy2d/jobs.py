"""The measurements in the plane: each job returns numbers, and some write images.

The ground truth is known: densities are exact whatever denoiser was used, and the true mean shift of a point is that of
the exact denoiser, D(x; sqrt s) - x.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from scoredistill import metrics
from scoredistill.datasets.toy2d import density_level, grid_start, modes
from scoredistill.estimators import MSD, SDS, Batch, Estimator
from scoredistill.priors import Counted, Guided, Prior
from scoredistill.priors.conditions import Cond
from scoredistill.sampling import posterior_sample, product_sample
from scoredistill.studies.harness.setting import seeded
from scoredistill.studies.toy2d.denoisers import denoiser, exact
from scoredistill.studies.toy2d.drawings import animation, density_image, landscape_image, scatter
from scoredistill.studies.toy2d.landscape import landscape
from scoredistill.studies.toy2d.methods import EXPLODING, LAMBDA, VARIANCE_PRESERVING, Method, method_of
from scoredistill.studies.toy2d.run import Run, run, seen_through

TRUTH, TRUTH_SEED = 4096, 123
MMD_BANDWIDTH = 0.1
MODE_RADIUS = 0.1
CLASS, SCALE = {"label": torch.zeros(1, dtype=torch.long)}, 4.0  # condition and guidance of the guided experiments
LAMBDAS = (0.316, 0.1, 0.0316)


@dataclass(frozen=True)
class Scale:
    """How large the experiments are.

    Attributes:
        particles: per run.
        draws: gradient samples of a stochastic estimator at each point.
        points: at which gradients are measured.
        side: nodes of a landscape's grid along an axis.
        rows: network evaluations per particle in the ranking.
        image: pixels per side of an image.
    """

    particles: int
    draws: int
    points: int
    side: int
    rows: int
    image: int


FULL = Scale(particles=1024, draws=64, points=100, side=80, rows=600, image=300)
QUICK = Scale(particles=256, draws=16, points=36, side=40, rows=100, image=220)


def table2(
    name: str, kind: str, method: str, seed: int, scale: Scale, quick: bool, out: Path, first: bool = False
) -> dict[str, Any]:
    """Table 2: the quality of a method's samples, and their cost; the first seed with an image."""
    truth = exact(name)
    done = run(method_of(method), denoiser(kind, name, quick), scale.particles, seed)
    if first:
        image(truth, done.points, scale).save(out / f"{seeded(f'{name}-{kind}-{method}', seed)}.png")
    return quality(done, name, seed)


def quality(done: Run, name: str, seed: int, cond: Cond | None = None) -> dict[str, Any]:
    """NLL, precision, recall, MMD and mode coverage of a run against the exact set (or its class 0)."""
    mixture = exact(name)
    truth = mixture.sample(TRUTH, torch.Generator().manual_seed(TRUTH_SEED + seed))
    nll = metrics.nll(done.points, mixture)
    precision, recall = metrics.precision_recall(done.points, truth)
    covered = metrics.mode_coverage(done.points, modes(mixture), MODE_RADIUS)
    return {
        "nll": nll.mean,
        "nll_median": nll.median,
        "precision": precision,
        "recall": recall,
        "mmd": metrics.mmd(done.points, truth, MMD_BANDWIDTH),
        "modes": covered.modes,
        "nfe": done.rows,
    }


def image(mixture: Any, points: Tensor, scale: Scale, cond: Cond | None = None) -> Image.Image:
    """Particles over the density; those outside the frame are not drawn."""
    inside = points[(points.abs() < 1.5).all(1)]
    return scatter(density_image(mixture, scale.image, cond=cond), inside)


def gradient_methods(lam: float) -> dict[str, tuple[Estimator, Any]]:
    """name -> an estimator of the mean shift at one lambda, and the noise schedule it is run on."""
    mean_shift: Callable[..., Estimator] = lambda **how: MSD(lambda_=lam, **how)
    return {
        "sds": (SDS(), VARIANCE_PRESERVING),
        "sds_w1": (SDS("uniform"), VARIANCE_PRESERVING),
        "paper_sigma2": (mean_shift(sampler="paper", steps=32), EXPLODING),
        "paper_sigma": (mean_shift(sampler="paper", steps=32, dt="sigma"), EXPLODING),
        "paper_index": (mean_shift(sampler="paper", steps=32, dt="index"), EXPLODING),
        "paper_inverted": (mean_shift(sampler="paper", steps=32, anchor="inverted"), EXPLODING),
        "product_4": (mean_shift(sampler="product", steps=4), EXPLODING),
        "product_16": (mean_shift(sampler="product", steps=16), EXPLODING),
        "ancestral_4": (mean_shift(sampler="ancestral", steps=4), EXPLODING),
        "ancestral_8": (mean_shift(sampler="ancestral", steps=8), EXPLODING),
        "ancestral_4_pair": (mean_shift(sampler="ancestral", steps=4, samples=2, antithetic=True), EXPLODING),
        "msd": (mean_shift(), EXPLODING),
    }


def gradients(name: str, kind: str, lam: float, scale: Scale, quick: bool, out: Path, seed: int = 0) -> dict[str, Any]:
    """Table 1 and the biases: bias, standard deviation and efficiency of every estimator, on a grid of points."""
    prior, x = denoiser(kind, name, quick), grid_start(scale.points)
    s = torch.full((len(x),), lam / math.sqrt(2), dtype=x.dtype)
    target = x - exact(name).denoise_at(x, s)
    found = {}
    for method, (estimator, schedule) in gradient_methods(lam).items():
        rng = torch.Generator().manual_seed(seed)
        counted = Counted(seen_through(prior, schedule))
        random = method.startswith(("sds", "product", "ancestral"))
        count = scale.draws * (8 if method.startswith("sds") else 1) if random else 2
        draws = []
        for _ in range(count):
            t = 0.02 + 0.96 * torch.rand(1, generator=rng, dtype=x.dtype)
            draws.append(estimator(counted, Batch(x), t.expand(len(x)), rng).grad)
        grads, cost = torch.stack(draws), counted.rows / len(x) / count
        found[method] = {
            "rows": cost,
            "bias": metrics.bias(grads, target, scale=method.startswith("sds")),
            "std": float(grads.var(0).mean().sqrt() / target.square().mean().sqrt()),
            "efficiency_paper": metrics.efficiency(grads, cost),
            "efficiency_true": metrics.efficiency(grads, cost, target),
        }
    return found


def heights(name: str, method: str, scale: Scale, quick: bool, out: Path, seed: int = 0) -> dict[str, Any]:
    """Figure 3: the landscape that a method climbs, and how many of its peaks lie off the distribution."""
    mixture = exact(name)
    kind, _, lam = method.partition("_")

    def field(points: Tensor) -> Tensor:
        t = torch.full((len(points),), 0.5, dtype=points.dtype)
        if kind == "sds":
            return -mean_sds(seen_through(mixture, VARIANCE_PRESERVING), points, 16 if quick else 48, seed)
        how: dict[str, Any] = {"sampler": "paper", "steps": 32} if kind == "paper" else {}
        estimator = MSD(lambda_=float(lam or "0.1"), **how)
        return -estimator(mixture, Batch(points), t, torch.Generator().manual_seed(seed)).grad

    found = landscape(field, mixture, scale.side, level=density_level(mixture))
    landscape_image(found, mixture, scale.image).save(out / f"{seeded(f'landscape-{name}-{method}', seed)}.png")
    return {
        "peaks": len(found.peaks),
        "off_distribution": int(found.off.sum()),
        "at": [[round(c, 4) for c in point] for point in found.peaks.tolist()],
    }


def mean_sds(prior: Prior, x: Tensor, times: int, seed: int = 0) -> Tensor:
    """The expected SDS gradient (w = 1), over stratified t and antithetic noise that all points share.

    Args:
        times: number of strata of t.
        seed: seed of the noise.
    """
    rng, total = torch.Generator().manual_seed(seed), torch.zeros_like(x)
    for k in range(times):
        t = torch.full((len(x),), 0.02 + 0.96 * (k + 0.5) / times, dtype=x.dtype)
        noise = torch.randn(1, x.shape[1], generator=rng, dtype=x.dtype)
        for sign in (1, -1):
            total += residual(prior, x, t, sign * noise)
    return total / (2 * times)


def residual(prior: Prior, x: Tensor, t: Tensor, noise: Tensor) -> Tensor:
    """eps(x_t) - n for given noise n."""
    alpha, sigma = (c[:, None] for c in prior.schedule(t))
    return prior.eps(alpha * x + sigma * noise, t) - noise


def guided(method: str, scale: Scale, quick: bool, out: Path, seed: int = 0) -> dict[str, Any]:
    """Figure 1: one class of the two-class fractal, guidance 4."""
    mixture = exact("fractal", 2)
    done = run(method_of(method), mixture, scale.particles, seed, CLASS, SCALE)
    image(mixture, done.points, scale).save(out / f"{seeded(f'guided-{method}', seed)}.png")
    return quality(done, "fractal", seed)


def product_density(name: str, lam: float, scale: Scale, quick: bool, out: Path, seed: int = 0) -> dict[str, Any]:
    """Figure 2, bottom row: samples y of the product density around a point x, and the mean shift they average to."""
    mixture = exact(name)
    x = torch.tensor([[-0.35, 0.55]], dtype=torch.float64)
    n, s = 400, lam / math.sqrt(2)
    rng = torch.Generator().manual_seed(seed)
    rows, h = x.expand(n, 2), torch.full((n,), s, dtype=x.dtype)
    draw = lambda z: torch.randn(z.shape, generator=rng, dtype=z.dtype)
    y = posterior_sample(mixture, rows, h, 16, draw=draw)
    z = product_sample(mixture, rows, h, 16, draw=draw)
    target = mixture.denoise_at(x, h[:1])
    paper = rows[:1] - MSD(lambda_=lam, sampler="paper", steps=32)(mixture, Batch(x), h[:1], rng).grad
    base = density_image(mixture, scale.image)
    shown = scatter(scatter(base, y, color="#0072B2", opacity=0.6), z, color="#009E73", opacity=0.4)
    shown = scatter(scatter(shown, x, radius=5.0, color="#1d1d24"), target, radius=5.0, color="#d3102f")
    scatter(shown, paper, radius=5.0, color="#CC79A7").save(out / f"{seeded(f'product-{name}-{lam}', seed)}.png")
    return {
        "ancestral_mean_error": float((y.mean(0) - target).norm() / (x - target).norm()),
        "product_mean_error": float((z.mean(0) - target).norm() / (x - target).norm()),
        "paper_error": float((paper - target).norm() / (x - target).norm()),
    }


def ranked(method: str, seed: int, scale: Scale, quick: bool, out: Path, first: bool = False) -> dict[str, Any]:
    """The ranking at equal NFE: one class of the two-class fractal, guidance 4; the first seed with an animation and
    the error of the gradient."""
    mixture, how = exact("fractal", 2), method_of(method)
    done = run(how, mixture, scale.particles // 2, seed, CLASS, SCALE, scale.rows, decay=True)
    if first:
        background = density_image(mixture, scale.image)
        frames = [frame.clamp(-1.49, 1.49) for frame in done.frames]
        if len(frames) > 1:
            animation(frames, background, out / f"{seeded(f'zoo-{method}', seed)}.gif")
        else:
            image(mixture, done.points, scale).save(out / f"{seeded(f'zoo-{method}', seed)}.png")
    return {**quality(done, "fractal", seed), **({"gradient": gradient_error(how, scale, seed)} if first else {})}


def gradient_error(method: Method, scale: Scale, seed: int = 0) -> dict[str, float]:
    """Bias and standard deviation of a method's gradient, relative to the guided mean shift at lambda .316.

    Averaged over the method's own time schedule, and scaled by the step size that fits the mean gradient best. Empty
    for a sampler, which has no gradient.
    """
    if method.make is None:
        return {}
    mixture, x = exact("fractal", 2), grid_start(scale.points)
    s = torch.full((len(x),), LAMBDA / math.sqrt(2), dtype=x.dtype)
    target = x - Guided(seen_through(mixture, EXPLODING), SCALE).denoise_at(x, s, CLASS)
    prior: Prior = seen_through(mixture, method.schedule)
    prior = prior if method.own_scale else Guided(prior, SCALE)
    rng, draws, count = torch.Generator().manual_seed(seed), [], 2 * scale.draws
    for k in range(count):
        estimator = method.make(scale=SCALE) if method.own_scale else method.make()
        t = 0.0 if method.times is None else method.times(k, count)
        if method.schedule is EXPLODING:
            t = float(EXPLODING.time_of(LAMBDA / math.sqrt(2)))
        draws.append(estimator(prior, Batch(x, CLASS), torch.full((len(x),), t, dtype=x.dtype), rng).grad)
    grads = torch.stack(draws)
    mean = grads.mean(0)
    fit = float((mean * target).sum() / mean.square().sum().clamp(min=1e-30))
    size = target.square().mean().sqrt()
    return {
        "bias": float((fit * mean - target).square().mean().sqrt() / size),
        "std": float(abs(fit) * grads.var(0).mean().sqrt() / size),
    }
