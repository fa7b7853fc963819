"""The demonstration: two prompts with every method and with DDIM sampling, compared in one report."""

import time
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from scoredistill.files import slug, write_json
from scoredistill.media.images import grid, save_image, to_tensor
from scoredistill.metrics import clip_similarity
from scoredistill.priors.base import Prior
from scoredistill.priors.pipelines import load_prior
from scoredistill.reports.page import Page
from scoredistill.tasks.image_generation.output import Result
from scoredistill.tasks.image_generation.text_to_image import text_to_image
from scoredistill.tasks.run_config import command_line
from scoredistill.tasks.run_directory import RunDirectory

PROMPTS = ("a hamburger", "a castle")
METHODS = ("ddim", "msd", "sds", "csd")
PARTICLES = 2
SAYS = {
    "ddim": "DDIM samples of the model",
    "msd": "Mean-shift distillation",
    "sds": "Score distillation sampling",
    "csd": "Collaborative score distillation",
}


@dataclass(frozen=True)
class DemoRequest:
    """What a demonstration shows."""

    demo: tuple[str, ...]
    seed: int


class DemoDirectory(RunDirectory[tuple[Page, dict[str, object]]]):
    """Output directory of a demonstration: config.json, index.html, images.png, result.json, and that of every run."""

    leftovers = ("index.html", "images.png", "result.json")

    def open(self, request: DemoRequest) -> None:
        """Begin to write."""
        self._begin(request, continued=False, facts={})

    def finish(self, result: tuple[Page, dict[str, object]]) -> None:
        page, summary = result
        page.save(self.path / "index.html")
        write_json(self._result, summary, indent=2)


def demo(
    out: str | Path, seed: int = 0, prompts: tuple[str, ...] = PROMPTS, progress: bool = True, overwrite: bool = False
) -> Path:
    """Run the demonstration; a few minutes on two cores.

    Args:
        out: output directory; the output directory of every run lies in it.
        seed: seed for all random number generators.
        prompts: prompts to compare.
        progress: show progress bars.
        overwrite: replace a finished demonstration in the directory.

    Returns:
        The report, `out`/index.html.

    Raises:
        ValueError: if `out` is a file, or holds other files or a finished demonstration.
    """
    request = DemoRequest(tuple(prompts), seed)
    directory = DemoDirectory(Path(out), request, overwrite=overwrite)
    prior = load_prior("emoji")
    directory.open(request)
    try:
        with directory.told():
            directory.finish(_compared(directory.path, request, prior, progress))
    finally:
        directory.release()
    return directory.path / "index.html"


def _compared(out: Path, request: DemoRequest, prior: Prior, progress: bool) -> tuple[Page, dict[str, object]]:
    """The report and its numbers."""
    start = time.perf_counter()
    page = Page("What score distillation does", "One small diffusion model as the critic of a coordinate network")
    page.text(
        "Each image below, except for the first row, is a small network from position to color. It is optimized from "
        "random weights with nothing but the diffusion model's predictions for its renderings."
    ).command(command_line())
    rows, videos, shown = [], {}, []
    for prompt in request.demo:
        results = {}
        for method in METHODS:
            directory = out / f"{slug(prompt)}-{method}"
            results[method] = text_to_image(
                prompt, prior, method, particles=PARTICLES, seed=request.seed, out=directory, progress=progress,
                overwrite=True,
            )  # fmt: skip
            rows.append({"prompt": prompt, "method": method, **_numbers(results[method])})
            if method != "ddim":
                videos[f"{prompt}, {method}"] = directory / "video.gif"
        page.heading(prompt.capitalize())
        page.image_grid({SAYS[m]: r.images for m, r in results.items()}, ["first", "second"])
        shown += [image for r in results.values() for image in r.images]
    labels = [f"{METHODS[i // PARTICLES % len(METHODS)]}" for i in range(len(shown))]
    large = [image.resize((144, 144), Image.Resampling.LANCZOS) for image in shown]
    save_image(grid(large, columns=PARTICLES * len(METHODS), pad=4, labels=labels), out / "images.png")
    page.heading("Numbers").table(rows, "NFE: network evaluations. CLIP similarity is measured by the bundled CLIP.")
    page.heading("Videos")
    for caption, video in videos.items():
        page.figure(video, caption)
    seconds = time.perf_counter() - start
    page.text(f"All runs together took {seconds:.0f} seconds.")
    return page, {"runs": rows, "seconds": round(seconds, 1)}


def _numbers(result: Result) -> dict[str, object]:
    similarity = clip_similarity(to_tensor(result.images), result.request.prompt)
    return {
        "steps": result.request.steps,
        "NFE per image": result.counts["rows"] // len(result.images),
        "seconds": round(result.seconds, 1),
        "CLIP similarity": round(float(similarity.mean()), 1),
    }
