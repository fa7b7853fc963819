"""Command line of the ablation: `python -m scoredistill.training.ablation --data DIR --out DIR`."""

from __future__ import annotations

import argparse
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch

from scoredistill.training.ablation.report import write_report
from scoredistill.training.ablation.run import Ablation
from scoredistill.training.ablation.variants import AUTOENCODERS, VARIANTS

NAMES = {"autoencoder": [each.name for each in AUTOENCODERS], "unet": [each.name for each in VARIANTS]}


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m scoredistill.training.ablation",
        description="Train variants of the recipe for equal CPU time, and compare them. Complete variants are kept.",
    )
    add = parser.add_argument
    add("--data", type=Path, required=True, help="folder of the npm packages and the rasterized emoji")
    add("--out", type=Path, required=True, help="folder of the runs")
    add("--cpu-minutes", type=float, default=15.0, help="CPU minutes of training per variant (default: 15)")
    add("--kind", choices=sorted(NAMES), nargs="+", default=list(NAMES), help="networks (default: both)")
    add("--only", nargs="+", metavar="NAME", help="names of variants (default: all)")
    add("--workers", type=int, default=1, help="variants trained at a time, one thread each (default: 1)")
    add("--seed", type=int, default=0, help="seed of the networks and the data (default: 0)")
    add("--report", type=Path, default=Path("docs/results/training_ablation"), help="report, without its suffix")
    add("--no-report", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    known = {name for kind in options.kind for name in NAMES[kind]}
    if unknown := set(options.only or ()) - known:
        parser.error(f"there is no variant {sorted(unknown)[0]}: choose from {', '.join(sorted(known))}")
    return options


def main(arguments: list[str] | None = None) -> None:
    """Train the variants that are not complete, and write the report."""
    options = parse(arguments)
    torch.set_num_threads(1)
    for kind in options.kind:
        names = [name for name in NAMES[kind] if not options.only or name in options.only]
        if options.workers == 1:
            for name in names:
                train_one(options, kind, name)
        else:
            with ThreadPoolExecutor(options.workers) as pool:
                list(pool.map(lambda name, kind=kind: in_process(options, kind, name), names))
    if not options.no_report:
        command = (
            f"python -m scoredistill.training.ablation --cpu-minutes {options.cpu_minutes:g} --seed {options.seed}"
        )
        write_report(options.out, options.report, command, options.seed)


def train_one(options: argparse.Namespace, kind: str, name: str) -> None:
    """Train and evaluate one variant in this process."""
    ablation = Ablation(options.data, options.out, options.cpu_minutes, options.seed)
    if kind == "autoencoder":
        ablation.autoencoder(next(each for each in AUTOENCODERS if each.name == name))
    else:
        ablation.text_to_image(next(each for each in VARIANTS if each.name == name))


def in_process(options: argparse.Namespace, kind: str, name: str) -> None:
    """Train and evaluate one variant in a process of its own."""
    arguments = ["--data", options.data, "--out", options.out, "--cpu-minutes", options.cpu_minutes]
    arguments += ["--seed", options.seed, "--kind", kind, "--only", name, "--no-report"]
    command = [sys.executable, "-m", "scoredistill.training.ablation", *map(str, arguments)]
    subprocess.run(command, check=True)


if __name__ == "__main__":
    main()
