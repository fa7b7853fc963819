"""The ideal denoiser of the emoji images, 3x64x64: its cost beside the bundled UNet, its error, and where it leads.

    python benchmarks/empirical.py --data FOLDER [--out docs/results/empirical.json]

FOLDER holds the emoji data set (created there if it is missing: see `scoredistill.datasets.emoji`). At each
noise-to-signal ratio noised images are denoised by products over all data ("dense") and by `Empirical` ("screened"),
and the bundled prior's UNet is run; the three are timed alternately, and medians reported, so that their ratios depend
little on what else the machine does. Distances are Euclidean over all 12,288 coordinates, images in [0, 1].
"""

import argparse
import copy
import json
import os
import statistics
import subprocess
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from scoredistill import load_prior
from scoredistill.datasets.emoji import Emoji, load_emoji
from scoredistill.estimators import MSD, Batch
from scoredistill.priors import Empirical, Prior
from scoredistill.sampling import ddim
from scoredistill.training.compose import over, premultiplied

ROOT = Path(__file__).resolve().parents[1]
RATIOS = (0.01, 0.03, 0.1, 0.2, 0.3, 0.5, 1.0, 2.0, 3.0, 5.0, 10.0, 30.0, 157.0)
BATCHES = (1, 8, 32)
STEPS = 100


def texts(emoji: Emoji) -> list[set[str]]:
    """Name, style, and both, of each image."""
    pairs = [(emoji.names[c], emoji.styles[s]) for c, s in zip(emoji.concept, emoji.style, strict=True)]
    return [{name, style, f"a {style} emoji of {name}"} for name, style in pairs]


def timed(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return 1000 * (time.perf_counter() - start)


def gigaflop(call: Callable[[], object]) -> float:
    with FlopCounterMode(display=False) as counter:
        call()
    return counter.get_total_flops() / 1e9


def plain(data: Tensor, z: Tensor, ratio: float) -> Tensor:
    """The posterior mean in float64, by its definition."""
    y, x = data.double().flatten(1), z.double().flatten(1)
    squared = torch.stack([(y - row).square_().sum(1) for row in x])
    return ((-squared / (2 * ratio**2)).softmax(1) @ y).reshape_as(z)


def costs(prior: Empirical, unet: Prior, ratio: float, batch: int, repeats: int, rng: torch.Generator) -> dict:
    """One row of the table: milliseconds and 10^9 operations per sample, data looked at, error."""
    dense = copy.copy(prior)
    dense._screen = None
    y = prior.data[torch.randint(len(prior.data), (batch,), generator=rng)]
    z, r = y + ratio * torch.randn(y.shape, generator=rng), torch.full((batch,), ratio)
    latents, cond = torch.randn(batch, *unet.latent_shape, generator=rng), unet.encode_text("an owl")
    cond = {name: value.expand(batch, *value.shape[1:]) for name, value in cond.items()}
    calls = {
        "dense": lambda: dense.denoise_at(z, r),
        "screened": lambda: prior.denoise_at(z, r),
        "unet": lambda: unet.eps(latents, torch.full((batch,), 0.5), cond),
    }
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(repeats + 1):
        for name, call in calls.items():
            times[name].append(timed(call) / batch)
    ms = {name: statistics.median(values[1:]) for name, values in times.items()}
    blocks = list(prior._blocks(z, prior.schedule.time_of(r), None))
    looked = [len(prior.data) if isinstance(data, slice) else len(data) for _, data in blocks]
    row = {"ratio": ratio, "batch": batch, **{f"{name}_ms": round(value, 2) for name, value in ms.items()}}
    row["screened_over_unet"] = round(ms["screened"] / ms["unet"], 3)
    row |= {f"{name}_gflop": round(gigaflop(call) / batch, 4) for name, call in calls.items()}
    row["data_looked_at"] = max(looked)
    if batch == 8:
        exact = plain(prior.data, z, ratio)
        row["screened_error"] = float(f"{(prior.denoise_at(z, r) - exact).abs().max():.2e}")
        row["dense_error"] = float(f"{(dense.denoise_at(z, r) - exact).abs().max():.2e}")
    return row


def landing(prior: Empirical, x: Tensor, cond: dict | None) -> dict[str, float | int]:
    distance, index = prior.nearest(x, cond)
    denoised = prior.denoise_at(x, torch.zeros(len(x)), cond)
    return {
        "samples": len(x),
        "distance_mean": float(f"{distance.mean():.3g}"),
        "distance_max": float(f"{distance.max():.3g}"),
        "denoised_distance_max": float(f"{prior.nearest(denoised, cond)[0].max():.3g}"),
        "different_data": len(index.unique()),
    }


def destinations(prior: Empirical, label: str, rng: torch.Generator) -> dict[str, dict]:
    """How far DDIM samples and mean-shift particles end from the nearest datum."""
    cond, shape = prior.encode_text(label), prior.data.shape[1:]
    every = ddim(prior, torch.randn(16, *shape, generator=rng), STEPS)
    of_label = ddim(prior, torch.randn(16, *shape, generator=rng), STEPS, cond)
    x = torch.rand(16, *shape, generator=rng)
    start = landing(prior, x, cond)
    for ratio in torch.logspace(1.5, -2, STEPS):
        t = prior.schedule.time_of(ratio).expand(16)
        x = x - MSD()(prior, Batch(x, cond), t, rng).grad
    return {
        f"DDIM, {STEPS} steps, all data": landing(prior, every, None),
        f"DDIM, {STEPS} steps, {label!r}": landing(prior, of_label, cond),
        f"noise that MSD starts from, {label!r}": start,
        f"MSD, {STEPS} steps, bandwidth 31.6 to 0.01, {label!r}": landing(prior, x, cond),
    }


def table(rows: list[dict]) -> str:
    names = list(dict.fromkeys(name for row in rows for name in row))
    lines = ["| " + " | ".join(name.replace("_", " ") for name in names) + " |", "|" + "---|" * len(names)]
    return "\n".join(lines + ["| " + " | ".join(str(row.get(name, "")) for name in names) + " |" for row in rows])


def markdown(report: dict) -> str:
    ends = [{"what": what} | figures for what, figures in report["destinations"].items()]
    n, worst = report["data"], max(row["screened_over_unet"] for row in report["costs"])
    return f"""# The ideal denoiser of {n} emoji images

`{report["command"]}`, seed {report["seed"]}, {report["date"]}, {report["threads"]} thread(s), load average
{report["load_average"]} on {report["cores"]} cores. Commit {report["commit"]}.
{report["texts"]} text labels; made in {report["made_in_s"]} s. Only data of weight below eps / n are left out.

A row of `Empirical` takes at most {worst} of the time of a row of the bundled UNet at the same batch. Times are
milliseconds per sample, medians of alternate calls; gflop are 10^9 operations of products and convolutions per sample;
errors are the largest absolute difference to the plain float64 mean over 8 images in [0, 1].

{table(report["costs"])}

Where sampling and mean shift end: Euclidean distance to the nearest datum (half of the data are farther than
{report["median_neighbor_distance"]} from their own nearest neighbor). DDIM ends at the schedule's least noise,
r = {report["least_ratio"]}, r sqrt(12288) = {report["least_distance"]} from a datum; "denoised" is one more call.

{table(ends)}
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of the emoji data set")
    parser.add_argument("--out", type=Path, default=ROOT / "docs/results/empirical.json")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.set_grad_enabled(False)
    rng, unet = torch.Generator().manual_seed(options.seed), load_prior("emoji")
    emoji = load_emoji(options.data, unet.image_size[0])
    images = over(premultiplied(emoji.rgba), torch.ones(1, 3, 1, 1))
    start = time.perf_counter()
    prior = Empirical(images, texts(emoji), unet.schedule)
    made = time.perf_counter() - start
    neighbors = [neighbor(images, i) for i in torch.randperm(len(images), generator=rng)[:101].tolist()]
    rows = []
    for batch in BATCHES:
        for ratio in RATIOS:
            rows.append(costs(prior, unet, ratio, batch, options.repeats, rng))
            print(rows[-1], flush=True)
    least = prior.schedule.ratio(torch.zeros(1)).item()
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, cwd=ROOT).stdout
    report = {
        "command": "python benchmarks/empirical.py --data FOLDER",
        "seed": options.seed,
        "commit": commit.strip(),
        "date": str(date.today()),
        "threads": options.threads,
        "cores": os.cpu_count(),
        "load_average": round(os.getloadavg()[0], 1),
        "least_ratio": round(least, 4),
        "least_distance": round(least * images[0].numel() ** 0.5, 3),
        "data": len(images),
        "texts": len(prior.names),
        "made_in_s": round(made, 1),
        "median_neighbor_distance": round(statistics.median(neighbors), 1),
        "costs": rows,
        "destinations": destinations(prior, "red apple", rng),
    }
    options.out.write_text(json.dumps(report, indent=2) + "\n")
    options.out.with_suffix(".md").write_text(markdown(report))
    print(markdown(report))


def neighbor(images: Tensor, i: int) -> float:
    """Distance of an image to the nearest other one."""
    distances = (images - images[i]).flatten(1).norm(dim=1)
    distances[i] = torch.inf
    return distances.min().item()


if __name__ == "__main__":
    main()
