"""Measurements and illusions: distance to exact posteriors, images completed and enlarged, images that turn, tiles.

    python benchmarks/observed.py --out docs/results/observed

The baseline is diffusion posterior sampling (Chung et al. 2022) with DDIM steps: each step is followed by one along the
gradient of |A(D(z)) - y|, of the length `--length`. On a mixture of Gaussians with a linear measurement the posterior
is a mixture in closed form; distances to its samples are sliced Wasserstein distances.
"""

import argparse
import json
from itertools import pairwise
from pathlib import Path

import torch

from scoredistill import distill, load_prior
from scoredistill.estimators import MSD, SDS, AveragePool, Decoded, Mask, Observed, TrackedMSD, known_noise
from scoredistill.generators import Latents, Pixels, Seen
from scoredistill.media.images import grid, to_pil
from scoredistill.priors import GaussianMixture, Guided
from scoredistill.sampling import ddim, ddim_step
from scoredistill.schedule import VE
from scoredistill.times import Bandwidth, Linear

NOISE, STEPS, N = 0.2, 60, 1000


def plain(lr=1.0):
    return lambda parameters: torch.optim.SGD(parameters, lr=lr)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def mixture(seed):
    """Eight Gaussians in four dimensions, a measurement of two, and the posterior given it."""
    rng = seeded(seed)
    means, roots = 2 * torch.randn(8, 4, generator=rng), 0.4 * torch.randn(8, 4, 4, generator=rng)
    covs = roots @ roots.mT + 0.02 * torch.eye(4)
    prior, a = GaussianMixture(means, covs, schedule=VE(0.002, 80.0)), torch.randn(2, 4, generator=rng)
    a = a / torch.linalg.matrix_norm(a, 2)
    y = prior.sample(1, rng) @ a.T + NOISE * torch.randn(1, 2, generator=rng)
    seen = a @ covs @ a.T + NOISE**2 * torch.eye(2)
    gain = covs @ a.T @ torch.linalg.inv(seen)
    residual = y - means @ a.T
    after = torch.distributions.MultivariateNormal(torch.zeros(2), seen).log_prob(residual).softmax(0)
    kept = after > 1e-6
    covs = (covs - gain @ a @ covs)[kept]
    moved = (means + (gain @ residual[..., None])[..., 0])[kept]
    return prior, a, y, GaussianMixture(moved, (covs + covs.mT) / 2, after[kept])


def dps(prior, start, times, measured, y, length, cond=None):
    """DDIM steps, each followed by one of the given length along the gradient of |A(D(z)) - y|.

    Pipelines pass no gradient through their network: for them the gradient at D(z) is taken for that at z.
    """
    z = start
    for now, then in pairwise(times):
        t, s = now.expand(len(z)), then.expand(len(z))
        with torch.enable_grad():
            leaf = z.detach().requires_grad_()
            clean = prior.denoise(leaf, t, cond)
            leaf = leaf if clean.requires_grad else clean.requires_grad_()
            residual = (measured(clean) - y).flatten(1)
            (slope,) = torch.autograd.grad(residual.norm(dim=1).sum(), leaf)
        z = ddim_step(prior, z, t, s, cond) - length * slope
    return z.detach()


def limited(schedule, t):
    """The weight of the known noise, at most 3, for which the steps are stable."""
    return known_noise(NOISE)(schedule, t).clamp(max=3.0)


def sliced(a, b):
    directions = torch.nn.functional.normalize(torch.randn(a.shape[1], 64, generator=seeded(9)), dim=0)
    return float((torch.sort(a @ directions, 0).values - torch.sort(b @ directions, 0).values).abs().mean())


def exact(out, seeds=range(8)):
    """Mean over posteriors of the distance of each method's points to exact samples, and of |A x - y| / noise."""
    rows = {}

    def add(name, points, truth, a, y, target):
        misfit = float(((points @ a.T - y) / NOISE).square().mean().sqrt())
        density = float(target.log_prob(points).mean())
        rows.setdefault(name, []).append((sliced(points, truth), misfit, density))

    for seed in seeds:
        prior, a, y, target = mixture(seed)
        truth, other = target.sample(N, seeded(1)), target.sample(N, seeded(2))
        times, linear = Bandwidth(prior.schedule, 30.0, 0.02), lambda x, a=a: x @ a.T
        add("exact samples", other, truth, a, y, target)
        add("the prior's samples", prior.sample(N, seeded(3)), truth, a, y, target)
        for name, estimator, lr in (
            ("TrackedMSD(0.05), w = 1", Observed(TrackedMSD(0.05), linear, y, 1.0), 1.0),
            ("TrackedMSD(0.5), w = 1", Observed(TrackedMSD(0.5), linear, y, 1.0), 1.0),
            ("MSD, w = 1", Observed(MSD(), linear, y, 1.0), 0.5),
            ("MSD, known noise", Observed(MSD(), linear, y, limited), 0.4),
        ):
            points = Latents(N, (4,), rng=seeded(4))
            for _ in distill(points, prior, estimator, steps=STEPS, times=times, optimizer=plain(lr), rng=seeded(5)):
                pass
            add(name, points.values.detach(), truth, a, y, target)
        levels = prior.schedule.time_of(torch.logspace(1.9, -2.3, STEPS + 1))
        start = 80 * torch.randn(N, 4, generator=seeded(6))
        for length in (0.3, 1.0, 3.0):
            scaled = dps(prior, start, levels, linear, y, length * NOISE)
            add(f"DPS, length {length * NOISE:.2f}", scaled, truth, a, y, target)
    mean = lambda values: [round(sum(v) / len(v), 3) for v in zip(*values, strict=True)]
    return {name: dict(zip(("distance", "misfit", "log_density"), mean(v), strict=True)) for name, v in rows.items()}


def images(out):
    """A quarter of an image completed, and an image enlarged from 16 x 16: two runs each, from different noise."""
    prior = load_prior()
    model, cond, shape = Guided(prior, 4.0), prior.encode_text("a hamburger"), prior.latent_shape
    truth = prior.decode(ddim(model, torch.randn(1, *shape, generator=seeded(11)), 30, cond))
    mask, shown, rows = torch.ones(1, 1, 64, 64), [], {}
    mask[..., 16:48, 32:64] = 0
    for name, operator, weight in (("inpainting", Mask(mask), 1.0), ("super-resolution", AveragePool(4), 16.0)):
        y, found = operator(truth), {}
        times = Bandwidth(prior.schedule, 60.0, 0.05, shape="time")
        points = Latents(2, shape, rng=seeded(1))
        for estimator in (TrackedMSD(0.5), Observed(TrackedMSD(0.5), operator, y, weight, decode=True)):
            points = Latents(2, shape, rng=seeded(1))
            for step in distill(  # noqa: B007
                points, model, estimator, cond, steps=30, times=times, optimizer=plain(), rng=seeded(2)
            ):
                pass
            found["Observed" if isinstance(estimator, Observed) else "no measurement"] = step.images()
        levels = torch.linspace(0.98, 0.02, 31)
        seen = lambda z, operator=operator: operator(prior.decode_differentiably(z))
        for length in (1.0,):
            z = dps(model, torch.randn(2, *shape, generator=seeded(3)), levels, seen, y, length, cond)
            found[f"DPS, length {length}"] = prior.decode(z)
        error = lambda a, b: round(float((a - b).square().mean().sqrt()), 3)
        rows[name] = {k: {"misfit": error(operator(v), y.expand(2, *y.shape[1:])), "error": error(v, truth)}
                      for k, v in found.items()}  # fmt: skip
        blurry = torch.nn.functional.interpolate(y, (64, 64)) * (1 if name != "inpainting" else mask)
        best = min((k for k in found if k.startswith("DPS")), key=lambda k: rows[name][k]["error"])
        shown += [truth, blurry, *(row[None] for key in ("Observed", best) for row in found[key])]
    sheet = grid(to_pil(torch.cat(shown).clamp(0, 1)), 6)
    sheet.resize((2 * sheet.width, 2 * sheet.height)).quantize(200).save(out / "measured.png", optimize=True)
    return rows


def illusions(out):
    """A tulip that is a dress upside down, and a tile, repeated two by two."""
    prior = load_prior()
    seen = Seen(Pixels(1, (64, 64), rng=seeded()), ["identity", "rotate180"])
    cond = seen.conditions(prior.encode_text(["a tulip", "a dress"]))
    times = Bandwidth(prior.schedule, 12.0, 0.45)
    for step in distill(seen, Guided(prior, 7.5), Decoded(MSD(sampler="product", steps=6)), cond, steps=8, times=times,  # noqa: B007
                        optimizer=plain(), rng=seeded(2)):  # fmt: skip
        pass
    turned = step.images()
    sheet, seams = [turned[:1], turned[1:]], {}
    for rolled in (False, True):
        tile = Seen(Pixels(1, (64, 64), std=0.2, rng=seeded()), rolled=rolled)
        for _ in distill(tile, Guided(prior, 7.5), Decoded(SDS()), prior.encode_text("a red apple"), steps=60,
                         times=Linear(0.98, 0.1), rng=seeded(2),
                         optimizer=lambda p: torch.optim.Adam(p, lr=0.05)):  # fmt: skip
            pass
        image = tile.generator.values.detach().clamp(0, 1)
        across = torch.cat(
            [(image[..., 0] - image[..., -1]).abs(), (image[..., 0, :] - image[..., -1, :]).abs()]
        ).mean()
        inside = (image.diff(dim=-1).abs().mean() + image.diff(dim=-2).abs().mean()) / 2
        seams["rolled" if rolled else "fixed"] = round(float(across / inside), 2)
        sheet.append(torch.nn.functional.avg_pool2d(image.repeat(1, 1, 2, 2), 2))
    made = grid(to_pil(torch.cat(sheet).clamp(0, 1)), 4)
    made.resize((2 * made.width, 2 * made.height)).save(out / "illusions.png")
    return {"step over the border / step inside": seams}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--only", nargs="*", default=["exact", "images", "illusions"])
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    for name in options.only:
        print(json.dumps(found := globals()[name](options.out), indent=2), flush=True)
        (options.out / f"{name}.json").write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
