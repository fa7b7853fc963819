"""Icons of ten prompts by every method, and a set of six with and without collaboration: scores, sizes, cost, images.

    python benchmarks/vector_graphics.py --out docs/results/vector

Methods start from the same traced samples, which are sampled once; "trace" is the start itself, rasterize-then-trace.
Times are CPU seconds, since the machine may be shared. Needs resvg-py only for `--raster`, which compares our renderer
with resvg's and measures time and memory.
"""

import argparse
import io
import json
import resource
import time
from itertools import combinations
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from scoredistill import load_prior
from scoredistill.generators import VectorGraphics
from scoredistill.media.images import grid, to_tensor
from scoredistill.media.svg import Contour, Drawing, to_svg
from scoredistill.media.svg import Path as Shape
from scoredistill.media.svg.drawing import ellipse
from scoredistill.metrics import clip_similarity
from scoredistill.optional import require
from scoredistill.tasks import text_to_svg
from scoredistill.tasks.vector_graphics import starts

PROMPTS = (
    "a rocket", "an owl", "a hamburger", "a house", "a cactus", "a red apple", "a sailboat", "a guitar", "a strawberry",
    "a penguin",
)  # fmt: skip
SET = ("a rocket", "a hamburger", "a cactus", "a red apple", "a guitar", "a house")
METHODS = ("trace", "msd", "sds", "csd")
SHOWN = 128


def sampled_once() -> None:
    """Let all methods of this process start from the same samples."""
    original, known = starts.samples, {}

    def samples(settings, prior, queried):
        key = settings.prompts, settings.seed, settings.candidates
        if key not in known:
            known[key] = original(settings, prior, prior)
        return known[key]

    starts.samples = samples


def measured(name, prompts, prior, **options):
    """One row of the table, and the images."""
    before = time.process_time()
    result = text_to_svg(prompts, prior, progress=False, **options)
    seconds = time.process_time() - before
    scores = clip_similarity(to_tensor(result.images), prompts).tolist()
    colors = [histogram(image) for image in result.images]
    apart = [float(np.abs(a - b).sum() / 2) for a, b in combinations(colors, 2)]
    row = {
        "name": name, "clip_sim": scores, "mean_clip_sim": float(np.mean(scores)),
        "nfe_per_icon": result.counts["rows"] / len(prompts), "paths": [len(d.paths) for d in result.drawings],
        "bytes": [len(text.encode()) for text in result.svgs], "cpu_seconds_per_icon": seconds / len(prompts),
        "color_distance": float(np.mean(apart)), "colors": len({p.fill for d in result.drawings for p in d.paths}),
    }  # fmt: skip
    print({key: value for key, value in row.items() if not isinstance(value, list)}, flush=True)
    return row, result


def histogram(image: Image.Image) -> np.ndarray:
    """Fractions of the colored pixels in 4 x 4 x 4 bins."""
    pixels = np.asarray(image.convert("RGB").resize((64, 64))).reshape(-1, 3)
    pixels = pixels[np.linalg.norm(255.0 - pixels, axis=1) > 30] // 64
    counts = np.bincount(pixels @ np.array([16, 4, 1]), minlength=64)
    return counts / max(1, counts.sum())


def gallery(prior, out: Path) -> list[dict]:
    """Ten prompts by every method."""
    rows, images = [], []
    for method in METHODS:
        row, result = measured(method, PROMPTS, prior, method=method, together=method == "csd")
        rows.append(row)
        images += [image.resize((SHOWN, SHOWN), Image.Resampling.LANCZOS) for image in result.images]
        grid(images, columns=len(PROMPTS), pad=2).save(out / "gallery.png", optimize=True)
        if method == "msd":
            for prompt, text in zip(PROMPTS, result.svgs, strict=True):
                (out / f"{prompt.split()[-1]}.svg").write_text(text)
    return rows


def icon_set(prior, out: Path) -> list[dict]:
    """Six icons, each alone and together."""
    rows, images = [], []
    for together in (False, True):
        row, result = measured("together" if together else "alone", SET, prior, together=together, method="sds")
        rows.append(row)
        images += [image.resize((SHOWN, SHOWN), Image.Resampling.LANCZOS) for image in result.images]
        grid(images, columns=len(SET), pad=2).save(out / "set.png", optimize=True)
    return rows


def raster() -> list[dict]:
    """Our renderer against resvg's, its time and its memory."""
    rng, rows = np.random.default_rng(0), []
    for paths in (32, 128):
        shapes = []
        for _ in range(paths):
            x, y, radius = *rng.uniform(0, 64, 2), rng.uniform(3, 17)
            points = ellipse((float(x), float(y)), (float(radius),) * 2)
            points[1:-1] += rng.normal(0, radius / 4, points[1:-1].shape)  # many cross themselves
            shapes.append(Shape((Contour(points),), tuple(rng.uniform(0, 1, 3))))
        drawing = Drawing((64.0, 64.0), tuple(shapes))
        for side in (64, 128, 256, 512):
            made = VectorGraphics([drawing], (side, side))
            times = []
            for _ in range(3):
                begin = time.process_time()
                image = made(torch.arange(1))
                image.backward(torch.ones_like(image))
                times.append(time.process_time() - begin)
            text = to_svg(drawing).replace("<svg ", f'<svg width="{side}" height="{side}" ', 1)
            raw = require("resvg_py", "train", "the comparison").svg_to_bytes(svg_string=text, skip_system_fonts=True)
            theirs = Image.open(io.BytesIO(bytes(raw)), formats=("PNG",)).convert("RGBA")
            white = Image.new("RGBA", theirs.size, "white")
            white.alpha_composite(theirs)
            reference = torch.from_numpy(np.array(white.convert("RGB"))).permute(2, 0, 1) / 255
            rows.append({
                "paths": paths, "side": side, "cpu_ms": 1000 * min(times),
                "mean_error": float((image[0].detach() - reference).abs().mean()),
                "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
            })  # fmt: skip
            print(rows[-1], flush=True)
    return rows


def main() -> None:
    """Run all, or the comparison of renderers alone."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="output directory")
    parser.add_argument("--only", choices=("raster", "gallery", "set"), help="one part; all by default")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    file = given.out / "results.json"
    results = json.loads(file.read_text()) if file.exists() else {}
    prior = None if given.only == "raster" else load_prior("emoji")
    sampled_once()
    for name, part in {
        "raster": raster,
        "set": lambda: icon_set(prior, given.out),
        "gallery": lambda: gallery(prior, given.out),
    }.items():
        if given.only in (None, name):
            results[name] = part()
            file.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
