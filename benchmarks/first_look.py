"""Mean-shift against score distillation, on the bundled prior: CLIP similarity and network rows, several seeds.

    python benchmarks/first_look.py --out docs/results/first_look

Writes results.json (per prompt, method and seed, with means and standard deviations) and a wall of the pictures.
"""

import argparse
import json
import statistics
import subprocess
from datetime import date
from pathlib import Path

from scoredistill import load_prior
from scoredistill.metrics import clip_similarity
from scoredistill.pictures import grid, to_tensor
from scoredistill.tasks import text_to_image

ROOT = Path(__file__).resolve().parents[1]
PROMPTS = ("a hamburger", "a tulip", "an owl", "a rocket")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=ROOT / "docs/results/first_look")
    parser.add_argument("--prompts", nargs="+", default=PROMPTS)
    parser.add_argument("--methods", nargs="+", default=["ddim", "sds", "msd"])
    parser.add_argument("--image", default="mlp")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--settings", type=json.loads, default={}, help="JSON of further settings, for trials")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    prior = load_prior("emoji")
    rows, pictures, labels = [], [], []
    for method in options.methods:
        for prompt in options.prompts:
            for seed in range(options.seeds):
                settings = {"particles": 1, "image": options.image, **options.settings}
                result = text_to_image(prompt, prior, method, seed=seed, **settings)
                similarity = float(clip_similarity(to_tensor(result.images[:1]), prompt))
                row = {"method": method, "prompt": prompt, "seed": seed, "clip_sim": round(similarity, 2)}
                rows.append({**row, "nfe": result.counts["rows"], "seconds": round(result.seconds, 2)})
                print(rows[-1], flush=True)
                pictures.append(result.images[0].resize((128, 128)))
                labels.append(f"{method} {similarity:.1f}")
    summary = {}
    for method in options.methods:
        values = [r["clip_sim"] for r in rows if r["method"] == method]
        mean, std = statistics.mean(values), statistics.stdev(values) if len(values) > 1 else 0.0
        nfe = statistics.mean(r["nfe"] for r in rows if r["method"] == method)
        summary[method] = {"clip_sim": {"mean": round(mean, 2), "std": round(std, 2)}, "nfe": nfe}
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, cwd=ROOT
    ).stdout.strip()
    report = {
        "command": "python benchmarks/first_look.py",
        "commit": commit,
        "date": str(date.today()),
        "setting": {"prior": "emoji", "image": options.image, "seeds": options.seeds, **options.settings},
        "methods": summary,
        "runs": rows,
    }
    (options.out / "results.json").write_text(json.dumps(report, indent=2) + "\n")
    grid(pictures, columns=len(options.prompts) * options.seeds, pad=2, labels=labels).save(options.out / "wall.png")
    print(json.dumps(summary, indent=2))


if __name__ == "__main__":
    main()
