"""What a step costs beside the networks it must call: ratios within one run, so they do not depend on the machine.

    python benchmarks/step_overhead.py --out docs/results/step_overhead.json

For each kind of image a distillation step and the bare calls it needs (UNet on the guided rows; the encoder forward and
backward where there is one; the rendering forward and backward of the generator) are timed alternately; medians.
"""

import argparse
import json
import statistics
import subprocess
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path

import torch

from scoredistill import load_prior
from scoredistill.loop import distill
from scoredistill.priors import Guided
from scoredistill.tasks import Request
from scoredistill.tasks.image_generation.recipes import RECIPES
from scoredistill.tasks.image_generation.run import make_generator

ROOT = Path(__file__).resolve().parents[1]


def timed(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def measure(prior, image: str, particles: int, steps: int) -> dict[str, float]:
    request = Request("a hamburger", "sds", image=image, particles=particles, steps=steps + 5).complete()
    generator = make_generator(request, prior)
    cond = prior.encode_text("a hamburger")
    recipe = RECIPES["sds"]
    run = distill(generator, Guided(prior, 7.5), recipe.estimator(), cond, steps=steps + 5)
    latents, text = torch.randn(2 * particles, *prior.latent_shape), cond["text"].expand(2 * particles, -1, -1)
    images = torch.rand(particles, 3, *prior.image_size)
    inner = getattr(generator, "generator", None)

    @torch.no_grad()
    def unet() -> None:
        prior.network(latents, torch.full((2 * particles,), 500.0), encoder_hidden_states=text)

    def encoder() -> None:
        prior.encode_image(images.clone().requires_grad_()).sum().backward()

    def rendering() -> None:
        inner(inner.views()).sum().backward()

    bare = [unet] if image == "latents" else [unet, encoder]
    rows = []
    for i in range(steps + 5):
        row = {"step": timed(lambda: next(run)), **{call.__name__: timed(call) for call in bare}}
        row["rendering"] = timed(rendering) if inner is not None else 0.0
        if i >= 5:
            rows.append(row)
    ms = {name: 1000 * statistics.median(r[name] for r in rows) for name in rows[0]}
    networks = sum(ms[call.__name__] for call in bare)
    return {
        **{f"{name}_ms": round(value, 2) for name, value in ms.items()},
        "step_over_networks": round(ms["step"] / networks, 3),
        "step_over_networks_and_rendering": round(ms["step"] / (networks + ms["rendering"]), 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=ROOT / "docs/results/step_overhead.json")
    parser.add_argument("--steps", type=int, default=60)
    options = parser.parse_args()
    prior = load_prior("emoji")
    results = {
        f"{image}, {n} particle(s)": measure(prior, image, n, options.steps)
        for image in ("latents", "mlp", "pixels")
        for n in (1, 4)
    }
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, cwd=ROOT
    ).stdout.strip()
    report = {
        "command": "python benchmarks/step_overhead.py",
        "commit": commit,
        "date": str(date.today()),
        "threads": torch.get_num_threads(),
        "results": results,
    }
    options.out.write_text(json.dumps(report, indent=2) + "\n")
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
