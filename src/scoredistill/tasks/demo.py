"""The demonstration: two prompts by every method, with DDIM samples beside them, on one page."""

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
    "ddim": "DDIM samples: what the model draws by itself",
    "msd": "Mean-shift distillation",
    "sds": "Score distillation sampling",
    "csd": "Collaborative score distillation",
}


def demo(out: str | Path, seed: int = 0, prompts: tuple[str, ...] = PROMPTS, progress: bool = True) -> Path:
    """Run it; a few minutes on two cores.

    Returns:
        The comparison page, `out`/index.html. Every run's own folder lies beside it.
    """
    out, start = Path(out), time.perf_counter()
    if out.exists() and not out.is_dir():
        raise ValueError(f"{out} is a file: give a folder for --out")
    prior = load_prior("emoji")
    page = Page("What score distillation does", "One small diffusion model as the critic of a coordinate network")
    page.text(
        "Each image below but the first row's is a little network from position to color, optimized from random "
        "weights by nothing but what the diffusion model says of its renderings."
    ).command(command_line())
    rows, videos, shown = [], {}, []
    for prompt in prompts:
        results = {}
        for method in METHODS:
            folder = out / f"{prompt.replace(' ', '_')}-{method}"
            results[method] = text_to_image(
                prompt, prior, method, particles=PARTICLES, seed=seed, out=folder, progress=progress
            )
            rows.append({"prompt": prompt, "method": method, **_numbers(results[method])})
            if method != "ddim":
                videos[f"{prompt}, {method}"] = folder / "video.gif"
        page.heading(prompt.capitalize())
        page.image_grid({SAYS[m]: r.images for m, r in results.items()}, ["first", "second"])
        shown += [image for r in results.values() for image in r.images]
    labels = [f"{METHODS[i // PARTICLES % len(METHODS)]}" for i in range(len(shown))]
    large = [image.resize((144, 144), Image.Resampling.LANCZOS) for image in shown]
    grid(large, columns=PARTICLES * len(METHODS), pad=4, labels=labels).save(out / "images.png")
    page.heading("Numbers").table(rows, "NFE counts rows through the network; CLIP similarity is the bundled judge's.")
    page.heading("Videos")
    for caption, video in videos.items():
        page.figure(video, caption)
    page.text(f"All of it took {time.perf_counter() - start:.0f} seconds.")
    return page.save(out / "index.html")


def _numbers(result: Result) -> dict[str, object]:
    similarity = clip_similarity(to_tensor(result.images), result.request.prompt)
    return {
        "steps": result.request.steps,
        "NFE per image": result.counts["rows"] // len(result.images),
        "seconds": round(result.seconds, 1),
        "CLIP similarity": round(float(similarity.mean()), 1),
    }
