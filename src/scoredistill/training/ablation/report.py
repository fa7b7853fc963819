"""Tables of the ablation: JSON with everything, Markdown to read."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import torch

from scoredistill.files import write_json, write_text
from scoredistill.training.ablation.run import LENGTHS
from scoredistill.training.ablation.variants import AUTOENCODERS, VARIANTS
from scoredistill.training.throughput import bfloat16_instructions, peak

MARKER = "<!-- the tables below are written by scoredistill.training.ablation -->"
TITLE = "# Training recipe: ablation at equal CPU time\n"

Column = tuple[str, Callable[[Mapping[str, Any]], str]]


def number(name: str, form: str) -> Callable[[Mapping[str, Any]], str]:
    """A cell with a figure."""
    return lambda figures: format(figures[name], form)


AUTOENCODER_COLUMNS: Sequence[Column] = (
    ("images seen", number("images", ",d")),
    ("PSNR emoji", number("psnr_emoji", ".2f")),
    ("PSNR photographs", number("psnr_photographs", ".2f")),
    ("at 128 pixels: PSNR emoji", number("psnr_at_128_emoji", ".2f")),
    ("edges emoji", number("edges_emoji", ".3f")),
    ("perceptual emoji", number("perceptual_emoji", ".4f")),
    ("perceptual photographs", number("perceptual_photographs", ".4f")),
    ("decode, ms", number("decode_ms", ".1f")),
    ("encode, ms", number("encode_ms", ".1f")),
)
UNET_COLUMNS: Sequence[Column] = (
    ("images seen", number("images", ",d")),
    ("steps", number("step", ",d")),
    ("GFLOP/s", lambda f: f"{f['flops_per_step'] * f['step'] / f['cpu_seconds'] / 1e9:.0f}"),
    ("held-out error", number("held_out", ".4f")),
    ("CLIP score", number("clip_score", ".3f")),
    ("name in top 5", number("name_in_top_5", ".1%")),
    ("Fréchet", number("frechet_to_real", ".4f")),
)
LENGTH_COLUMNS: Sequence[Column] = tuple((f"{length:g}", number(f"held_out_{length:g}", ".4f")) for length in LENGTHS)

NOTES = """
Autoencoders: *at 128 pixels* compares both sizes enlarged to 128 pixels; *edges* is the root mean square of finite
differences relative to the truth (1 is as sharp), *perceptual* the distance of `training.perceptual` (lower is better).
Text-to-image: *held-out error* is the mean squared error of the predicted clean latents of held-out images on fixed
noise and {levels} noise levels (comparable for latents of the same autoencoder only); *CLIP score*, *name in top 5* and
*Fréchet* evaluate one sample of each of the {concepts} common concepts by the bundled CLIP, at 64 pixels. Half of the
real images against the other half: {half:.4f}. GFLOP/s counts forward and backward passes.
"""


def gathered(out: Path, kind: str, variants: Sequence[Any]) -> dict[str, dict[str, Any]]:
    """Figures of the complete variants, in the order of the list."""
    paths = {variant.name: out / kind / variant.name / "figures.json" for variant in variants}
    return {name: json.loads(path.read_text()) for name, path in paths.items() if path.exists()}


def table(rows: Mapping[str, Mapping[str, Any]], columns: Sequence[Column]) -> str:
    """A Markdown table, one row per variant."""
    lines = ["| " + " | ".join(["variant", "change", *(title for title, _ in columns)]) + " |"]
    lines.append("| --- | --- |" + " ---: |" * len(columns))
    for name, figures in rows.items():
        lines.append("| " + " | ".join([name, figures["change"], *(cell(figures) for _, cell in columns)]) + " |")
    return "\n".join(lines)


def write_report(out: Path, report: Path, command: str, seed: int) -> None:
    """Write {report}.json and {report}.md; what stands above the marker in the latter is kept."""
    autoencoders, unets = gathered(out, "autoencoder", AUTOENCODERS), gathered(out, "unet", VARIANTS)
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()
    machine = {"instructions": bfloat16_instructions(), "threads": 1}
    for dtype in (torch.bfloat16, torch.float32):
        machine[f"peak_gflops_{str(dtype).removeprefix('torch.')}"] = round(peak(dtype) / 1e9)
    made = {"command": command, "seed": seed, "commit": commit, "date": str(date.today()), "machine": machine}
    report.parent.mkdir(parents=True, exist_ok=True)
    write_json(report.with_suffix(".json"), {**made, "autoencoder": autoencoders, "unet": unets})
    path = report.with_suffix(".md")
    above = path.read_text().split(MARKER)[0] if path.exists() else TITLE + "\n"
    write_text(path, above + MARKER + "\n" + "\n".join(sections(made, autoencoders, unets)))


def sections(made: Mapping[str, Any], autoencoders: Mapping[str, Any], unets: Mapping[str, Any]) -> list[str]:
    """The Markdown below the marker."""
    machine = made["machine"]
    parts = [
        f"\n`{made['command']}`, commit {made['commit']}, {made['date']}. One thread each; a product of large matrices "
        f"reaches {machine['peak_gflops_bfloat16']} GFLOP/s in bfloat16, {machine['peak_gflops_float32']} in float32 "
        f"({', '.join(machine['instructions']) or 'no bfloat16 instructions'}).\n"
    ]
    if autoencoders:
        parts += ["## Autoencoder\n", table(autoencoders, AUTOENCODER_COLUMNS), ""]
    if unets:
        half = next(iter(unets.values()))
        parts += ["## Text to image\n", table(unets, UNET_COLUMNS), ""]
        parts += ["## Held-out error by the length of the average\n", table(unets, LENGTH_COLUMNS), ""]
        parts.append(NOTES.format(levels=half["levels"], concepts=half["concepts"], half=half["frechet_half_to_half"]))
    return parts
