"""The demonstration: two prompts with every method and with DDIM sampling, compared in one report."""

import time
from pathlib import Path

from PIL import Image

from scoredistill.media.images import grid, to_tensor
from scoredistill.metrics import clip_similarity
from scoredistill.priors.pipelines import load_prior
from scoredistill.reports.page import Page
from scoredistill.tasks.image_generation.output import Result
from scoredistill.tasks.image_generation.text_to_image import text_to_image
from scoredistill.tasks.run_directory import command_line

PROMPTS = ("a hamburger", "a castle")
METHODS = ("ddim", "msd", "sds", "csd")
PARTICLES = 2
SAYS = {
    "ddim": "DDIM samples of the model",
    "msd": "Mean-shift distillation",
    "sds": "Score distillation sampling",
    "csd": "Collaborative score distillation",
}


def demo(out: str | Path, seed: int = 0, prompts: tuple[str, ...] = PROMPTS, progress: bool = True) -> Path:
    """Run the demonstration; a few minutes on two cores.

    Args:
        out: output directory; the output directory of every run lies in it.
        seed: seed for all random number generators.
        prompts: prompts to compare.
        progress: show progress bars.

    Returns:
        The report, `out`/index.html.

    Raises:
        ValueError: if `out` is a file.
    """
    out, start = Path(out), time.perf_counter()
    if out.exists() and not out.is_dir():
        raise ValueError(f"{out} is a file: give a directory for --out")
    prior = load_prior("emoji")
    page = Page("What score distillation does", "One small diffusion model as the critic of a coordinate network")
    page.text(
        "Each image below, except for the first row, is a small network from position to color. It is optimized from "
        "random weights with nothing but the diffusion model's predictions for its renderings."
    ).command(command_line())
    rows, videos, shown = [], {}, []
    for prompt in prompts:
        results = {}
        for method in METHODS:
            directory = out / f"{prompt.replace(' ', '_')}-{method}"
            results[method] = text_to_image(
                prompt, prior, method, particles=PARTICLES, seed=seed, out=directory, progress=progress
            )
            rows.append({"prompt": prompt, "method": method, **_numbers(results[method])})
            if method != "ddim":
                videos[f"{prompt}, {method}"] = directory / "video.gif"
        page.heading(prompt.capitalize())
        page.image_grid({SAYS[m]: r.images for m, r in results.items()}, ["first", "second"])
        shown += [image for r in results.values() for image in r.images]
    labels = [f"{METHODS[i // PARTICLES % len(METHODS)]}" for i in range(len(shown))]
    large = [image.resize((144, 144), Image.Resampling.LANCZOS) for image in shown]
    grid(large, columns=PARTICLES * len(METHODS), pad=4, labels=labels).save(out / "images.png")
    page.heading("Numbers").table(rows, "NFE: network evaluations. CLIP similarity is measured by the bundled CLIP.")
    page.heading("Videos")
    for caption, video in videos.items():
        page.figure(video, caption)
    page.text(f"All runs together took {time.perf_counter() - start:.0f} seconds.")
    return page.save(out / "index.html")


def _numbers(result: Result) -> dict[str, object]:
    similarity = clip_similarity(to_tensor(result.images), result.request.prompt)
    return {
        "steps": result.request.steps,
        "NFE per image": result.counts["rows"] // len(result.images),
        "seconds": round(result.seconds, 1),
        "CLIP similarity": round(float(similarity.mean()), 1),
    }
