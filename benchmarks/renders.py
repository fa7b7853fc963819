"""Renders per second, and what a step of text-to-3D is made of: render, encode, UNet, and the way back.

    python benchmarks/renders.py --out docs/results/renders.json [--device cuda]

Times are medians of several runs after one that is not counted, on one machine; compare them within a run. The object
is that of the first step: a ball in an empty space.
"""

import argparse
import json
import shlex
import statistics
import sys
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path

import torch

from scoredistill import __version__, load_prior
from scoredistill.priors import Guided
from scoredistill.tasks.object_generation.request import ObjectRequest
from scoredistill.tasks.object_generation.run import make_scene
from scoredistill.three_d.camera import orbit

SIZES = (64, 512)
VIEWS = 4


def seconds(run: Callable[[], object], device: str, times: int = 5) -> float:
    """Median wall time of a call."""
    found = []
    for _ in range(times + 1):
        if device.startswith("cuda"):
            torch.cuda.synchronize()
        start = time.perf_counter()
        run()
        if device.startswith("cuda"):
            torch.cuda.synchronize()
        found.append(time.perf_counter() - start)
    return statistics.median(found[1:])


def measured(device: str, shape: str, prior_name: str) -> dict[str, object]:
    """Renders per second and the parts of a step."""
    prior = load_prior(prior_name, device=device)
    request = ObjectRequest("a hamburger", shape=shape).complete()
    scene = make_scene(request, prior.image_size).to(device)
    made: dict[str, object] = {}
    for size in SIZES:
        camera = orbit(1, size=(size, size)).to(device)
        with torch.no_grad():
            made[f"renders_per_second_{size}"] = 1 / seconds(lambda camera=camera: scene.render(camera), device)
    views = scene.views(VIEWS)
    with torch.no_grad():
        images = scene(views)
        latents = prior.encode_image(images)
    guided, text = Guided(prior, 7.5), prior.encode_text("a hamburger")
    t = torch.full((VIEWS,), 0.5, device=device)

    def rendered() -> None:
        x = scene(views)
        x.backward(torch.ones_like(x))

    def encoded() -> None:
        x = images.clone().requires_grad_()
        z = prior.encode_image(x)
        z.backward(torch.ones_like(z))

    def asked() -> None:
        with torch.no_grad():
            guided.eps(latents, t, text)

    parts = {name: seconds(run, device) for name, run in (("render", rendered), ("encode", encoded), ("unet", asked))}
    total = sum(parts.values())
    return {**made, "step_share": {name: value / total for name, value in parts.items()}, "step_seconds": total}


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--prior", default="emoji")
    given = parser.parse_args()
    name = torch.cuda.get_device_name() if given.device.startswith("cuda") else "CPU"
    found = {shape: measured(given.device, shape, given.prior) for shape in ("nerf", "splats")}
    head = {
        "command": shlex.join(["python", "benchmarks/renders.py", *sys.argv[1:]]),
        "date": str(date.today()),
        "version": __version__,
        "views": VIEWS,
    }
    text = json.dumps({**head, "device": name, "threads": torch.get_num_threads(), **found}, indent=1)
    print(text)
    if given.out is not None:
        given.out.write_text(text + "\n")


if __name__ == "__main__":
    main()
