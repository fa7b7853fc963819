"""Bias of MSD's sampler "product" on distributions whose mean shift is known, and what alternatives would leave.

    python benchmarks/product_bias.py --out docs/results/product_bias.json

Writes the table beside the JSON file, as Markdown. All variants draw y with the same network evaluations and noise n,
in opposite pairs, at Karras levels from r = 8 sqrt(s) down:

    noised x          start at x + r n, as before the correction
    moved (ours)      the first prediction d, made at x + r n, moves the start to d + r n
    exact first step  the first prediction is m = D(x; sqrt s), the mean itself; start at m + r_1 n
"""

import argparse
import json
import math
import subprocess
from collections.abc import Callable
from datetime import date
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor

from scoredistill.datasets.toy2d import grid_start, toy_set
from scoredistill.metrics.point_sets import bias
from scoredistill.priors import GaussianMixture, Prior
from scoredistill.sampling import product_denoise, product_levels, product_sample
from scoredistill.schedule import VE, per_sample

COMMAND = "python benchmarks/product_bias.py --out docs/results/product_bias.json"
STEPS, PAIRS, SEED = (4, 16, 64), {"two Gaussians": 1000, "pinwheel": 120}, 0
Draw = Callable[[Prior, Tensor, Tensor, int, Tensor], Tensor]


def moved(prior: Prior, x: Tensor, h: Tensor, steps: int, noise: Tensor) -> Tensor:
    """The library's sampler."""
    return product_sample(prior, x, h, steps, draw=lambda z: noise)


def noised_x(prior: Prior, x: Tensor, h: Tensor, steps: int, noise: Tensor) -> Tensor:
    """The same from x + r n."""
    levels = product_levels(prior, h, steps)
    return _flow(prior, x, h, levels, x + per_sample(levels[0], x) * noise)


def exact_first_step(prior: Prior, x: Tensor, h: Tensor, steps: int, noise: Tensor) -> Tensor:
    """The same from infinite noise, at which the prediction is the mean."""
    levels = product_levels(prior, h, steps)[1:]
    return _flow(prior, x, h, levels, prior.denoise_at(x, h) + per_sample(levels[0], x) * noise)


def _flow(prior: Prior, x: Tensor, h: Tensor, levels: Tensor, z: Tensor) -> Tensor:
    for now, then in pairwise(levels):
        d = product_denoise(prior, z, now, x, h)
        z = d + per_sample(then / now, x) * (z - d)
    return z


VARIANTS: dict[str, Draw] = {
    "noised x": noised_x,
    "moved (ours)": moved,
    "exact first step": exact_first_step,
}


def cases() -> dict[str, tuple[Prior, Tensor, float]]:
    """Name -> prior, points x, bandwidth sqrt s."""
    rng, schedule = torch.Generator().manual_seed(SEED), VE(1e-4, 100.0)
    made: dict[str, tuple[Prior, Tensor, float]] = {}
    for variance in (1.0, 0.1, 0.01):
        gaussian = GaussianMixture(torch.zeros(1, 1).double(), torch.tensor([variance]).double(), schedule=schedule)
        made[f"Gaussian, v = {variance:g}, h = .1"] = gaussian, torch.full((1, 1), 0.3).double(), 0.1
    means, variances = torch.tensor([[-1.0, 0.0], [1.0, 0.5]]).double(), torch.tensor([0.1, 0.2]).double()
    two, points = GaussianMixture(means, variances, schedule=schedule), torch.randn(16, 2, generator=rng).double()
    for h in (0.3, 3.0):
        made[f"two Gaussians, h = {h:g}"] = two, points, h
    made["pinwheel, h = .22"] = toy_set("pinwheel", schedule=VE(0.002, 5.0)), grid_start(16), 0.316 / math.sqrt(2)
    return made


def measure(prior: Prior, points: Tensor, h: float, pairs: int) -> dict[str, dict[str, float]]:
    """Relative bias by variant and number of steps, corrected for the noise of the mean."""
    rng = torch.Generator().manual_seed(SEED)
    shift = prior.denoise_at(points, torch.full((len(points),), h).double()) - points
    x = points.repeat(2 * pairs, 1)
    half = torch.randn(pairs * len(points), points.shape[1], generator=rng).double()
    noise, widths = torch.cat([half, -half]), torch.full((len(x),), h).double()
    found: dict[str, dict[str, float]] = {name: {} for name in VARIANTS}
    for name, draw in VARIANTS.items():
        for steps in STEPS:
            y = draw(prior, x, widths, steps, noise).reshape(2, pairs, *points.shape).mean(0)
            found[name][str(steps)] = round(bias(y - points, shift), 4)
    return found


def table(results: dict[str, dict[str, dict[str, float]]]) -> list[str]:
    """Markdown: a row for each distribution, a column for each variant, "4 / 16 / 64 steps"."""
    show = lambda row: " / ".join(f"{value:.3f}" for value in row.values())
    lines = [f"| distribution | {' | '.join(VARIANTS)} |", "|---|" + "---|" * len(VARIANTS)]
    return lines + [
        f"| {case} | {' | '.join(show(rows[name]) for name in VARIANTS)} |" for case, rows in results.items()
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="a JSON file; the table alone is printed by default")
    options = parser.parse_args()
    torch.set_num_threads(1)
    results = {name: measure(*case, PAIRS.get(name.split(",")[0], 2)) for name, case in cases().items()}
    if not options.out:
        print("\n".join(table(results)))
        return
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()
    head = {"command": COMMAND, "seed": SEED, "commit": commit, "date": date.today().isoformat()}
    options.out.write_text(json.dumps({**head, "pairs": PAIRS, "steps": STEPS, "results": results}, indent=1) + "\n")
    text = (
        "# Bias of the product sampler\n\n"
        f'Relative bias |E y - x - m| / |m| of `MSD(sampler="product")` at {" / ".join(map(str, STEPS))} steps, by\n'
        "where the flow starts; the columns are explained in the script. Pairs of draws have no noise on Gaussians;\n"
        "in the other rows, of 16 points, differences below about .005 are noise.\n\n"
        + "\n".join(table(results))
        + f"\n\n`{COMMAND}`, seed {SEED}, commit {commit}, {head['date']}.\n"
    )
    options.out.with_suffix(".md").write_text(text)


if __name__ == "__main__":
    main()
