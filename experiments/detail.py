r"""What mean shift does to the detail of an image, and why a draw of y keeps what its mean loses.

    python experiments/detail.py --out docs/results/text_to_2d

Detail is the root mean square of a latent less its 3 x 3 box blur, relative to that of the DDIM sample it started from.
At each bandwidth h, from samples x of the bundled prior (or x + c h n), guidance 5:

    mean      D(x; h), one call               noised    D(x + h n; h), one call: what SDS with plain steps does
    draw      y of p(y) N(x; y, h^2 I), 12 calls, noise levels of the kernel (.05 h is left in y) or of the prior (none)

Also the `spread` of the prior under each prompt, from which `annealing` would start. Writes detail.json.
"""

import argparse
import json
import subprocess
from datetime import date
from pathlib import Path

import torch
from torch import Tensor

from scoredistill import load_prior
from scoredistill.estimators.collaborative import spread
from scoredistill.priors import Cond, Guided, Prior
from scoredistill.sampling import ddim, product_sample
from scoredistill.studies.text_to_image.blocks import PROMPTS

ROOT = Path(__file__).resolve().parents[1]
BANDWIDTHS, CARRIED, SAMPLES, SCALE = (0.1, 0.3, 0.45, 1.0, 2.0, 4.0), (0.5, 1.0, 1.5), 2, 5.0


def detail(z: Tensor) -> float:
    """Root mean square of what a 3 x 3 box blur removes."""
    return float((z - torch.nn.functional.avg_pool2d(z, 3, 1, 1, count_include_pad=False)).square().mean().sqrt())


def measured(prior: Prior, x: Tensor, h: float, cond: Cond, rng: torch.Generator) -> dict[str, float]:
    """Detail after one gradient of each kind, relative to x."""
    noise = lambda z: torch.randn(z.shape, generator=rng)
    width = torch.full((len(x),), h)
    found = {"mean": prior.denoise_at(x, width, cond), "noised": prior.denoise_at(x + h * noise(x), width, cond)}
    for levels in ("kernel", "prior"):
        found[f"draw, {levels}"] = product_sample(prior, x, width, 12, cond, noise, levels)
    for c in CARRIED:
        found[f"draw, x + {c:g} h n"] = product_sample(prior, x + c * h * noise(x), width, 12, cond, noise)
    return {name: detail(y) / detail(x) for name, y in found.items()}


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=ROOT / "docs/results/text_to_2d")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    prior, rng = load_prior("emoji"), torch.Generator().manual_seed(0)
    guided, spreads, rows = Guided(prior, SCALE), {}, []
    for prompt in PROMPTS:
        cond = prior.encode_text([prompt])
        x = ddim(guided, torch.randn(SAMPLES, *prior.latent_shape, generator=rng), 30, cond)
        spreads[prompt] = round(spread(guided, x, cond, rng=rng), 2)
        rows.append([measured(guided, x, h, cond, rng) for h in BANDWIDTHS])
        print(prompt, spreads[prompt], flush=True)
    table = {}
    for k, h in enumerate(BANDWIDTHS):
        values = {name: torch.tensor([row[k][name] for row in rows]) for name in rows[0][k]}
        table[f"{h:g}"] = {
            m: {"mean": round(float(v.mean()), 3), "std": round(float(v.std()), 3)} for m, v in values.items()
        }
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, cwd=ROOT).stdout
    report = {"command": "python experiments/detail.py", "commit": commit.strip(), "date": str(date.today())}
    report |= {
        "setting": {"prompts": PROMPTS, "samples": SAMPLES, "guidance": SCALE},
        "detail": table,
        "spread": spreads,
    }
    (options.out / "detail.json").write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
