"""Output directories and results of vector graphics.

config.json      the complete settings and the exact command     metrics.jsonl   one line per step
preview.png      the icons so far                                video.gif       the optimization
icon_00.svg      the icons, numbered                             icon_00.png     the same as images
report.html      icons, curves, cost, settings                   result.json     similarity to the prompt, size, cost
edited.svg, edited.png, source.svg and source.png stand for icons where a drawing is edited.
checkpoint.safetensors and .frames/ exist while the run is unfinished.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from PIL import Image

from scoredistill.generators import VectorGraphics
from scoredistill.media.images import grid, save_image, to_pil, to_tensor
from scoredistill.media.svg import Drawing, to_svg, write_svg
from scoredistill.metrics import clip_similarity
from scoredistill.priors.pipelines import BUNDLED
from scoredistill.reports.page import Page
from scoredistill.tasks.known_words import add_verdict
from scoredistill.tasks.run_report import add_curves, add_settings, cost_table
from scoredistill.tasks.step_directory import StepDirectory
from scoredistill.tasks.vector_graphics.request import VectorEditSettings, VectorSettings

PIXELS = 512  # longer side of the images of icons
SHOWN = 192  # longer side of an icon in previews and in the video of a run
LEFTOVERS = (
    "checkpoint.safetensors", "metrics.jsonl", "result.json", "report.html", "video.gif", "preview.png",
    ".frames/[0-9]*.png",
)  # fmt: skip


@dataclass(frozen=True)
class VectorResult:
    """Icons of prompts, and how they were made.

    Attributes:
        drawings: the icons, one per prompt, without paths that cannot be seen.
        images: their renderings, of 512 pixels along the longer side.
        request: the complete settings.
        counts: network evaluations ("rows"), network calls, images encoded and decoded.
        seconds: wall time without loading the prior.
        history: metrics of each step.
        verdict: what the result is worth of prompts that the prior was not trained on; else empty.
    """

    drawings: list[Drawing]
    images: list[Image.Image]
    request: VectorSettings
    counts: dict[str, int]
    seconds: float
    history: list[dict[str, float]] = field(default_factory=list)
    verdict: str = ""

    @property
    def svgs(self) -> list[str]:
        """The icons as SVG text."""
        return [to_svg(*each) for each in zip(self.drawings, self.request.prompts, strict=True)]


@dataclass(frozen=True)
class VectorEditResult:
    """An edited drawing, and how it was made; attributes as those of `VectorResult`."""

    drawing: Drawing
    image: Image.Image
    source: Drawing
    source_image: Image.Image
    request: VectorEditSettings
    counts: dict[str, int]
    seconds: float
    history: list[dict[str, float]] = field(default_factory=list)
    verdict: str = ""

    @property
    def svg(self) -> str:
        """The edited drawing as SVG text."""
        return to_svg(self.drawing, self.request.instruction)


class VectorDirectory(StepDirectory[VectorResult]):
    """Output directory of text to vector graphics."""

    leftovers = (*LEFTOVERS, *(f"icon_{n}.{end}" for n in ("[0-9][0-9]", "[0-9][0-9][0-9]") for end in ("svg", "png")))
    frames = 60
    source = "another drawing"

    def finish(self, result: VectorResult) -> None:
        texts = result.svgs
        for i, (drawing, image, prompt) in enumerate(
            zip(result.drawings, result.images, result.request.prompts, strict=True)
        ):
            write_svg(drawing, self.path / f"icon_{i:02d}.svg", prompt)
            save_image(image, self.path / f"icon_{i:02d}.png")
        self.preview(icon_grid(result.images))
        self._write_video()
        similarity: list[float] = []
        if result.request.prior in BUNDLED:
            similarity = clip_similarity(to_tensor(result.images), result.request.prompts).tolist()
        summary: dict[str, object] = {
            "clip_sim": similarity, "paths": [len(drawing.paths) for drawing in result.drawings],
            "bytes": [len(text.encode()) for text in texts], **result.counts, "seconds": round(result.seconds, 2),
        }  # fmt: skip
        self._write_summary(summary, self._report(result, summary))
        self._clear()

    def _report(self, result: VectorResult, summary: dict[str, object]) -> Page:
        settings = result.request
        page = Page(", ".join(settings.prompts), f"{settings.method} on {settings.prior}").command(self.command)
        add_verdict(page, summary, result.verdict)
        page.image_grid({"": result.images}, settings.prompts, "Rendered from the SVG files.")
        columns: dict[str, list[object]] = {
            name: summary[key]  # type: ignore[misc]
            for name, key in (("CLIP score", "clip_sim"), ("paths", "paths"), ("bytes", "bytes"))
            if summary[key]
        }
        page.table(
            [{"icon": prompt, **{n: v[i] for n, v in columns.items()}} for i, prompt in enumerate(settings.prompts)]
        )
        if result.history:
            page.figure(self.path / "video.gif", "The optimization.")
            add_curves(page, result.history, "samples")
        page.heading("Cost").key_values({**cost_table(result.counts), "seconds": round(result.seconds, 2)})
        return add_settings(page, settings)


class VectorEditDirectory(StepDirectory[VectorEditResult]):
    """Output directory of an edit of vector graphics."""

    leftovers = (*LEFTOVERS, "edited.svg", "edited.png", "source.svg", "source.png")
    frames = 60
    source = "another drawing"

    def finish(self, result: VectorEditResult) -> None:
        for name, drawing, image in (
            ("source", result.source, result.source_image),
            ("edited", result.drawing, result.image),
        ):
            write_svg(drawing, self.path / f"{name}.svg", result.request.instruction if name == "edited" else "")
            save_image(image, self.path / f"{name}.png")
        self.preview(result.image)
        self._write_video()
        summary: dict[str, object] = {
            "paths": len(result.drawing.paths), "bytes": len(result.svg.encode()), **result.counts,
            "seconds": round(result.seconds, 2),
        }  # fmt: skip
        settings = result.request
        page = Page(settings.instruction, f"{settings.method} on {settings.prior}").command(self.command)
        add_verdict(page, summary, result.verdict)
        page.slider(result.source_image, result.image, "Move the divider.", ("source", "edited"))
        add_curves(page, result.history, "windows")
        page.heading("Cost").key_values({**cost_table(result.counts), "seconds": round(result.seconds, 2)})
        self._write_summary(summary, add_settings(page, settings))
        self._clear()


def icon_grid(images: Sequence[Image.Image]) -> Image.Image:
    """Icons side by side, at most four in a row."""
    small = [image.resize(_fitting(image.size, SHOWN), Image.Resampling.LANCZOS) for image in images]
    return grid(small, columns=min(4, len(small)), pad=4)


@torch.no_grad()
def rendered(graphics: VectorGraphics, small: bool = False) -> list[Image.Image]:
    """The images of drawings.

    Args:
        graphics: the drawings.
        small: for previews, instead of for files.

    Raises:
        FloatingPointError: if they are not finite.
    """
    height, width = graphics.size
    width, height = _fitting((width, height), SHOWN if small else PIXELS)
    images = graphics.render((height, width))
    if not bool(images.isfinite().all()):
        raise FloatingPointError("the paths are not finite: use a smaller lr or guidance scale")
    return to_pil(images)


def _fitting(size: tuple[int, int], longer: int) -> tuple[int, int]:
    factor = longer / max(size)
    return max(1, round(size[0] * factor)), max(1, round(size[1] * factor))
