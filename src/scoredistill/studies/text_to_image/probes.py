"""Two analyses of mean shift: the samples behind a gradient at each bandwidth, and the noise of each estimator.

Bandwidths, as in Score Distillation via Mean Shift (2025), https://arxiv.org/abs/2502.15989, Fig. 6: y drawn from
p(y) N(x; y, s I) for one x and several seeds. With a large bandwidth y is any sample of the prior, varied and
independent of x; with a small one y is x.

Gradients: draws at one x and one noise level, all scaled to a step in clean coordinates, where mean shift's is x - y.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from scoredistill.estimators import MSD, SDI, SDS, Batch, Estimator
from scoredistill.estimators.methods import ratio
from scoredistill.files import slug
from scoredistill.media.images import grid, to_pil
from scoredistill.priors.base import Prior
from scoredistill.priors.conditions import Cond
from scoredistill.priors.guidance import Guided
from scoredistill.sampling import product_sample
from scoredistill.studies.harness.setting import loaded, seeded
from scoredistill.studies.text_to_image.jobs import Setup
from scoredistill.tasks.image_generation.recipes import RECIPES
from scoredistill.tasks.image_generation.text_to_image import text_to_image

BANDWIDTHS, STATES, SEEDS, CALLS = (0.05, 0.5, 2.0, 10.0, 100.0), (0.25, 0.5, 1.0), 4, 16
LEVELS, DRAWS, BINS = (0.5, 2.0, 8.0), 12, 41
GRADIENTS: dict[str, Callable[[], Estimator]] = {
    "sds": lambda: SDS(ratio),
    "sdi": SDI,
    "msd_mean": MSD,
    "msd (12 calls)": lambda: MSD(sampler="product", steps=12),
    "msd_ancestral (12 calls)": lambda: MSD(sampler="ancestral", steps=12),
    "msd_paper (12 calls)": lambda: MSD(sampler="paper", steps=12),
}


def bandwidths(setup: Setup, prompt: str, out: Path, seed: int = 0) -> dict[str, Any]:
    """Draw y for several bandwidths (rows of the image) at states of a run (columns), four seeds of each.

    Returns:
        For each bandwidth and state, root mean squares over latents, relative to that between two DDIM samples of the
        prompt: "apart" (two seeds' y from each other), "away" (y from x). And for each bandwidth "follows", how far y
        moves from the first state to the last with the same noise, over how far x does: 1 where y is x, 0 where it
        does not depend on x.
    """
    prior = loaded(setup.prior, setup.load)
    cond, guided = prior.encode_text([prompt]), Guided(prior, RECIPES["msd"].guidance)
    latents = torch.from_numpy(np.load(out / f"reference-{slug(prompt)}.npz")["latents"]).to(prior.device)
    unit = _apart(latents)
    visited = _states(prior, prompt, seed)
    cells: dict[str, list[dict[str, float]]] = {}
    follows: dict[str, float] = {}
    images = [to_pil(prior.decode(torch.cat(visited)).clamp(0, 1).repeat_interleave(SEEDS, 0))]
    for bandwidth in BANDWIDTHS:
        drawn = [_around(guided, x, bandwidth, cond, seed) for x in visited]
        follows[f"{bandwidth:g}"] = (
            float((drawn[-1] - drawn[0]).norm() / (visited[-1] - visited[0]).norm()) / SEEDS**0.5
        )
        images.append(to_pil(prior.decode(torch.cat(drawn)).clamp(0, 1)))
        cells[f"{bandwidth:g}"] = [
            {"apart": _apart(y) / unit, "away": float((y - x).square().mean().sqrt()) / unit}
            for x, y in zip(visited, drawn, strict=True)
        ]
    name = f"{seeded(f'bandwidths-{slug(prompt)}', seed)}.png"
    image_grid = [image for row in images for image in row]
    grid(image_grid, columns=SEEDS * len(visited)).save(out / name)
    found = {"bandwidths": list(BANDWIDTHS), "states": list(STATES), "cells": cells, "follows": follows}
    return {**found, "image": name}


def gradients(setup: Setup, prompt: str, out: Path, seed: int = 0) -> dict[str, Any]:
    """Measure spread and histogram of each estimator's gradient at an unfinished image.

    Returns:
        Per estimator and level r: "spread", sqrt(E |g - m|^2) / |m| with m the mean of the draws; "cosine" of m with
        the one-call mean shift; the histogram of the entries of g / rms(m) in "bins".
    """
    prior = loaded(setup.prior, setup.load)
    cond, guided = prior.encode_text([prompt]), Guided(prior, RECIPES["msd"].guidance)
    x = _states(prior, prompt, seed)[0].expand(DRAWS, *prior.latent_shape)
    edges = np.linspace(-4, 4, BINS)
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in GRADIENTS}
    for level in LEVELS:
        t = prior.schedule.time_of(torch.full((DRAWS,), level, device=prior.device))
        shift = MSD()(guided, Batch(x[:1], cond), t[:1]).grad
        for name, make in GRADIENTS.items():
            rng = torch.Generator().manual_seed(seed)
            draws = make()(guided, Batch(x, cond), t, rng).grad
            mean = draws.mean(0)
            entries = (draws / mean.square().mean().sqrt()).flatten().cpu().numpy()
            fraction = np.histogram(entries, edges)[0] / len(entries)
            found[name].append(
                {
                    "spread": float((draws - mean).flatten(1).square().sum(1).mean().sqrt() / mean.norm()),
                    "cosine": float(torch.cosine_similarity(mean.flatten(), shift.flatten(), 0)),
                    "histogram": fraction.tolist(),
                }
            )
    return {"levels": list(LEVELS), "bins": edges.tolist(), "methods": found}


def _states(prior: Prior, prompt: str, seed: int) -> list[Tensor]:
    """Latents of one coordinate network at fractions STATES of a mean-shift run, [1, *d] each."""
    images: list[Tensor] = []
    text_to_image(prompt, prior, "msd_mean", callback=lambda step: images.append(step.images()), seed=seed)
    return [prior.encode_image(images[round(part * (len(images) - 1))]) for part in STATES]


def _around(prior: Prior, x: Tensor, bandwidth: float, cond: Cond, seed: int) -> Tensor:
    """Samples y of p(y) N(x; y, s I)."""
    rng = torch.Generator().manual_seed(seed)
    rows = x.expand(SEEDS, *x.shape[1:])
    width = torch.full((SEEDS,), bandwidth, device=x.device)
    return product_sample(prior, rows, width, CALLS, cond, lambda z: torch.randn(z.shape, generator=rng).to(z), "prior")


def _apart(z: Tensor) -> float:
    """Root mean square difference of two different rows."""
    return float((torch.pdist(z.flatten(1)).square().mean() / z[0].numel()).sqrt())
