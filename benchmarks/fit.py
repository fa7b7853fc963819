"""How well encodings are fitted to posed images, and at what cost: PSNR of held-out views, and seconds of CPU.

    OMP_NUM_THREADS=1 python benchmarks/fit.py --out docs/results/fit.json

Synthetic scenes at 64x64 pixels: 40 views to fit, 8 between them held out. All encodings get the same steps and rays;
seconds are those of the process (one thread), so they do not count waiting for others. The preset of `scene_of` comes
first. What --out has already is not measured again.
"""

import argparse
import json
import subprocess
import tempfile
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import torch

from scoredistill.datasets.synthetic_scenes import make
from scoredistill.three_d.capture import Capture
from scoredistill.three_d.encodings import DenseGrid, Encoding, HashGrid, TriPlane
from scoredistill.three_d.encodings.backends import drjit_usable
from scoredistill.three_d.fitting import Photographs, adam, fit, held_out_psnr, scene_of
from scoredistill.three_d.scenes.nerf import Field

ROOT = Path(__file__).resolve().parents[1]
Make = Callable[[torch.Generator], Encoding]
KINDS: dict[str, tuple[Make, int, tuple[float, float]]] = {  # encoding, hidden layers, learning rates
    "dense, linear": (lambda rng: DenseGrid(rng=rng), 0, (0.2, 0.02)),
    "dense, network": (lambda rng: DenseGrid(rng=rng), 1, (0.1, 0.01)),
    "tri-plane, network": (lambda rng: TriPlane(rng=rng), 1, (0.05, 0.01)),
    "hash (torch), network": (lambda rng: HashGrid(backend="torch", rng=rng), 1, (0.05, 0.01)),
    "hash (drjit), network": (lambda rng: HashGrid(backend="drjit", rng=rng), 1, (0.05, 0.01)),
}


def measure(capture: Capture, kind: str, steps: int, rays: int, seed: int) -> dict[str, Any]:
    rng = torch.Generator().manual_seed(seed)
    encoding, layers, rates = KINDS[kind]
    photographs = Photographs.of(capture)
    scene = scene_of(photographs, seed=seed)
    scene.field = Field(encoding(rng), 32, layers, blob=(0.0, 1.0), density=1.0, rng=rng)
    start, half = time.process_time(), None
    for step in fit(scene, photographs, steps=steps, rays=rays, optimizer=adam(scene, rates), rng=rng):
        if step.index + 1 == steps // 2:
            used = time.process_time() - start
            half = {"psnr": round(held_out_psnr(scene, capture), 2), "cpu_seconds": round(used, 1)}
            start += time.process_time() - start - used  # looking costs nothing
    seconds = time.process_time() - start
    psnr = held_out_psnr(scene, capture)
    count = sum(p.numel() for p in scene.parameters())
    return {"psnr": round(psnr, 2), "cpu_seconds": round(seconds, 1), "half_way": half, "parameters": count}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path)
    parser.add_argument("--scenes", nargs="+", default=["duck", "toys", "table"])
    parser.add_argument("--kinds", nargs="+", default=list(KINDS), choices=list(KINDS))
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--rays", type=int, default=1024)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.set_num_threads(1)
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True)
    record: dict[str, Any] = {
        "command": "OMP_NUM_THREADS=1 python benchmarks/fit.py --out docs/results/fit.json",
        "commit": commit.stdout.strip(),
        "date": date.today().isoformat(),
        **{name: getattr(args, name) for name in ("seed", "steps", "rays")},
        "threads": 1,
        "results": {},
    }
    if args.out and args.out.exists():
        before = json.loads(args.out.read_text())
        if any(before[name] != record[name] for name in ("seed", "steps", "rays")):
            parser.error(f"{args.out} has other settings: remove it first")
        record["results"] = before["results"]
    for name in args.scenes:
        with tempfile.TemporaryDirectory() as folder:
            capture = make(name, Path(folder) / name)
        for kind in args.kinds:
            if kind in record["results"].get(name, {}) or ("drjit" in kind and not drjit_usable("cpu")):
                continue
            record["results"].setdefault(name, {})[kind] = measure(capture, kind, args.steps, args.rays, args.seed)
            print(name, kind, record["results"][name][kind], flush=True)
            if args.out:  # after each, for it takes minutes
                args.out.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
