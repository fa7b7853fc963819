"""What encodings cost: forward and backward at 65,536 points, one thread, and the ratio to the dense grid of this run.

    python benchmarks/encodings.py --out docs/results/encodings.json

Sizes are the defaults. All encodings are timed alternately; medians. "backward" gives gradients by points and
parameters; "parameters only" is a forward and a backward without gradients by points, as in a step of distillation.
"""

import argparse
import json
import statistics
import time
from datetime import date
from pathlib import Path

import torch

from scoredistill.three_d.encodings import DenseGrid, Encoding, HashGrid, TriPlane
from scoredistill.three_d.encodings.backends import drjit_usable

POINTS = 65_536


def measure(encoding: Encoding, points: torch.Tensor) -> dict[str, float]:
    """Milliseconds of one call each."""
    at = points.clone().requires_grad_()
    encoding.zero_grad()
    start = time.perf_counter()
    features = encoding(at)
    middle = time.perf_counter()
    features.square().sum().backward()
    end = time.perf_counter()
    encoding(points).square().sum().backward()
    last = time.perf_counter()
    return {
        "forward": 1000 * (middle - start),
        "backward": 1000 * (end - middle),
        "parameters only": 1000 * (last - end),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, help="a JSON file; standard output by default")
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()
    torch.set_num_threads(1)
    rng = torch.Generator().manual_seed(0)
    made = {
        "dense grid": DenseGrid(rng=rng),
        "tri-plane": TriPlane(rng=rng),
        "hash grid, torch": HashGrid(backend="torch"),
    }
    if drjit_usable("cpu"):
        import drjit

        drjit.set_thread_count(1)
        made["hash grid, drjit"] = HashGrid(backend="drjit")
    points = 2 * torch.rand(POINTS, 3, generator=rng) - 1
    rounds: dict[str, list[dict[str, float]]] = {name: [] for name in made}
    for i in range(options.rounds + 3):
        for name, encoding in made.items():
            row = measure(encoding, points)
            if i >= 3:
                rounds[name].append(row)
    results: dict[str, dict[str, float]] = {}
    for name, rows in rounds.items():
        ms = {key: statistics.median(row[key] for row in rows) for key in rows[0]}
        results[name] = {f"{key}_ms": round(value, 2) for key, value in ms.items()}
        results[name]["features"] = made[name].features
        results[name]["parameters"] = sum(p.numel() for p in made[name].parameters())
        base = results["dense grid"]["parameters only_ms"]
        results[name]["parameters only over dense grid"] = round(ms["parameters only"] / base, 2)
    report = {"date": date.today().isoformat(), "points": POINTS, "threads": 1, "torch": torch.__version__}
    text = json.dumps({**report, "results": results}, indent=1) + "\n"
    if options.out:
        options.out.write_text(text)
    else:
        print(text, end="")


if __name__ == "__main__":
    main()
