"""The output directory and the result of text-to-image.

config.json      the complete settings and the exact command     metrics.jsonl   one line per step
preview.png      the images so far                               video.gif       the optimization
image_00.png     the images, numbered                            report.html     images, curves, cost, settings
enlarged_00.png  small images at four times their size          result.json     similarity to the prompt, cost
checkpoint.safetensors and .frames/ exist while the run is unfinished.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from PIL import Image
from torch import Tensor

from scoredistill.media.images import grid, to_tensor
from scoredistill.metrics import clip_similarity
from scoredistill.priors.pipelines import BUNDLED
from scoredistill.reports.page import Page
from scoredistill.tasks.image_generation.request import Settings
from scoredistill.tasks.image_generation.run import ENLARGED, SMALL
from scoredistill.tasks.known_words import add_verdict
from scoredistill.tasks.run_report import add_curves, add_settings, cost_table
from scoredistill.tasks.step_directory import StepDirectory

SHOWN = 192  # images in a grid are enlarged to about as many pixels


@dataclass(frozen=True)
class Result:
    """Images of a prompt, and how they were made.

    Attributes:
        images: the images, one per particle.
        request: the complete settings.
        counts: network evaluations ("rows"), network calls, images encoded and decoded.
        seconds: wall time of the optimization or sampling, without loading the prior.
        history: metrics of each step: t, grad_norm, and what the estimator reports, such as the bandwidth.
        samples: the latents that the images were decoded from, if latents were optimized or sampled; else None.
        verdict: what the result is worth of a prompt that the prior was not trained on; else empty.
        large: the images at a multiple of their size, rendered by coordinate networks; empty for other images.
    """

    images: list[Image.Image]
    request: Settings
    counts: dict[str, int]
    seconds: float
    history: list[dict[str, float]] = field(default_factory=list)
    samples: Tensor | None = None
    verdict: str = ""
    large: list[Image.Image] = field(default_factory=list)


class ImageDirectory(StepDirectory[Result]):
    """Output directory of text-to-image."""

    leftovers = (
        "checkpoint.safetensors", "metrics.jsonl", "result.json", "report.html", "video.gif", "preview.png",
        "image_[0-9][0-9].png", "image_[0-9][0-9][0-9].png", "enlarged_[0-9][0-9].png",
        "enlarged_[0-9][0-9][0-9].png", ".frames/[0-9]*.png",
    )  # fmt: skip
    frames = 60

    def finish(self, result: Result) -> None:
        for i, image in enumerate(result.images):
            self.save(image, f"image_{i:02d}.png")
            if (large := _large(result, i)) is not None:
                self.save(large, f"enlarged_{i:02d}.png")
        self.preview(image_grid(result.images))
        self._write_video()
        similarity = _similarity(result)
        summary: dict[str, object] = {"clip_sim": similarity, **result.counts, "seconds": round(result.seconds, 2)}
        self._write_summary(summary, self._report(result, similarity, summary))
        self._clear()

    def _report(self, result: Result, similarity: Sequence[float], summary: dict[str, object]) -> Page:
        settings = result.request
        page = Page(settings.prompt, f"{settings.method} on {settings.prior}")
        add_verdict(page, summary, result.verdict)
        columns = [f"{value:.1f}" for value in similarity] or [""] * len(result.images)
        caption = "CLIP similarity to the prompt, measured by the bundled CLIP." if similarity else ""
        page.image_grid({"": result.large or result.images}, columns, caption, alt=settings.prompt)
        page.command(self.command)
        if result.history:
            self.add_optimization(page, "The optimization.")
            add_curves(page, result.history, "samples")
            if settings.method == "msd" and "bandwidth" in result.history[0]:
                first, last = (result.history[k]["bandwidth"] for k in (0, -1))
                page.text(f"The bandwidth shrank from {first:.3g} to {last:.3g}, which is where the run ends.")
        page.heading("Cost").key_values(
            {
                **cost_table(result.counts),
                "images encoded": result.counts["encoded"],
                "images decoded": result.counts["decoded"],
                "seconds": round(result.seconds, 2),
                "milliseconds per step": round(1000 * result.seconds / settings.steps, 1),
            }
        )
        return add_settings(page, settings)


def _large(result: Result, i: int) -> Image.Image | None:
    """A small image at a multiple of its size, for display; None for images that are large enough."""
    if result.large:
        return result.large[i]
    image = result.images[i]
    if max(image.size) > SMALL:
        return None
    return image.resize((ENLARGED * image.width, ENLARGED * image.height), Image.Resampling.LANCZOS)


def image_grid(images: Sequence[Image.Image]) -> Image.Image:
    """The images side by side, at most four in a row; small images are enlarged."""
    factor = max(1, round(SHOWN / max(images[0].size)))
    large = [im.resize((im.width * factor, im.height * factor), Image.Resampling.LANCZOS) for im in images]
    return grid(large, columns=min(4, len(large)), pad=4)


def _similarity(result: Result) -> list[float]:
    """CLIP similarity by the bundled CLIP, which knows what the bundled priors draw; empty for other priors."""
    if result.request.prior not in BUNDLED:
        return []
    return clip_similarity(to_tensor(result.images), result.request.prompt).tolist()
