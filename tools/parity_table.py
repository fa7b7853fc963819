"""The parity table: every kind of pipeline against its prior, on tiny random networks.

    python tools/parity_table.py --out docs/results/parity.json

Each line is the largest difference of latents (relative to the largest latent, if that is above 1) between what the
diffusers pipeline returns and what `sampling.ddim` returns through our prior, float32. Tests assert each below 1e-4.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from datetime import date
from pathlib import Path

import diffusers
import torch
import transformers

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))

import tiny  # noqa: E402
import tiny_flow  # noqa: E402
import tiny_unets  # noqa: E402


def measure():
    """{case: difference} of all cases."""
    figures = {}
    for case, difference in {**tiny.CASES, **tiny_unets.CASES, **tiny_flow.CASES}.items():
        with tempfile.TemporaryDirectory() as folder:
            figures[case] = difference(Path(folder))
        print(f"{figures[case]:.1e}  {case}", flush=True)
    return figures


def table(record):
    """The record as Markdown."""
    versions = ", ".join(f"{name} {version}" for name, version in record["versions"].items())
    lines = [
        "# Parity with diffusers",
        "",
        f"`{record['command']}`, {record['date']}, commit {record['commit']}, {versions}.",
    ]
    lines += [
        "Largest difference of latents, float32, tiny random networks, relative to the largest latent if above 1."
    ]
    rows = [f"| {case} | {value:.1e} |" for case, value in record["difference"].items()]
    return "\n".join([*lines, "", "| pipeline, prediction, guidance | difference |", "|---|---|", *rows, ""])


def main():
    """Measure, write JSON and Markdown beside each other."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "results" / "parity.json")
    out = parser.parse_args().out
    torch.set_num_threads(1)
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True).stdout
    versions = {module.__name__: module.__version__ for module in (torch, diffusers, transformers)}
    record = {"command": "python tools/parity_table.py", "date": str(date.today()), "commit": commit.strip()}
    record |= {"versions": versions, "difference": measure()}
    out.write_text(json.dumps(record, indent=2) + "\n")
    out.with_suffix(".md").write_text(table(record))


if __name__ == "__main__":
    main()
