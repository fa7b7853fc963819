"""The output directory and the result of an edit of an image.

config.json   the complete settings and the exact command     metrics.jsonl   one line per step
preview.png   the edit so far                                  source.png      the source
edited.png    the edited image                                 result.json     cost, and the size of the change
edited.jpg    (.webp, .tif, .bmp) the same in the format of the source, with its EXIF data and color profile
report.html   before and after, curves, cost, settings
checkpoint.safetensors exists while the run is unfinished.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from jaxtyping import Float
from PIL import Image
from torch import Tensor

from scoredistill.media.images import save_image
from scoredistill.media.returned import Origin
from scoredistill.reports.page import Page
from scoredistill.tasks.image_editing.request import EditSettings
from scoredistill.tasks.known_words import add_verdict
from scoredistill.tasks.run_report import add_curves, add_settings, cost_table
from scoredistill.tasks.step_directory import StepDirectory

SHOWN = 1600  # pixels of the longer side of an image in a report


@dataclass(frozen=True)
class EditResult:
    """An edited image, and how it was made.

    Attributes:
        image: the edited image, of the size of the source; RGBA with the alpha of the source if that has transparency.
        source: the image it was made from.
        work: the edit at the working size through the autoencoder, without the source's detail, [1, 3, h, w].
        request: the complete settings.
        counts: network evaluations ("rows"), network calls, images encoded and decoded.
        seconds: wall time without loading the prior.
        latents: the edited canvas, [1, c, H, W].
        update: root mean square of the change of the latents.
        history: metrics of each step: t, grad_norm, the mean of the kernel.
        verdict: what the result is worth of an instruction that the prior was not trained on; else empty.
    """

    image: Image.Image
    source: Image.Image
    work: Float[Tensor, "1 3 h w"]
    request: EditSettings
    counts: dict[str, int]
    seconds: float
    latents: Tensor
    update: float
    history: list[dict[str, float]] = field(default_factory=list)
    verdict: str = ""


class EditDirectory(StepDirectory[EditResult]):
    """Output directory of an edit of an image."""

    leftovers = (
        "checkpoint.safetensors", "metrics.jsonl", "result.json", "report.html", "preview.png", "edited.png",
        "source.png", "edited.jpg", "edited.webp", "edited.tif", "edited.bmp",
    )  # fmt: skip
    source = "another image"
    origin = Origin()

    def keep_source(self, image: Image.Image, file: object = None) -> None:
        """Write the source beside the edit, which is also written in the format of the source's file, if it has one."""
        save_image(image, self.path / "source.png")
        if isinstance(file, (str, Path)):
            self.origin = Origin.of(file)

    def finish(self, result: EditResult) -> None:
        self.save(result.image, "edited.png")
        self.origin.save(result.image, self.path / "edited")
        self.preview(shown_size(result.image))
        summary: dict[str, object] = {**result.counts, "update": result.update, "seconds": round(result.seconds, 2)}
        self._write_summary(summary, self._report(result, summary))
        self._clear()

    def _report(self, result: EditResult, summary: dict[str, object]) -> Page:
        page = edit_page(result.request)
        add_verdict(page, summary, result.verdict)
        page.slider(shown_size(result.source), shown_size(result.image), "Move the divider.", ("source", "edited"))
        page.command(self.command)
        if result.history:
            add_curves(page, result.history, "windows")
        page.heading("Cost").key_values(edit_cost(result.counts, result.seconds, result.update))
        return add_settings(page, result.request)


def edit_page(settings: EditSettings) -> Page:
    """The beginning of the report of an edit."""
    title = settings.instruction or ", ".join(settings.regions)
    return Page(title, f"{settings.method} on {settings.prior}: {settings.recipe.says}")


def edit_cost(counts: Mapping[str, int], seconds: float, update: float) -> dict[str, object]:
    """The cost of an edit and the size of its change, for its report."""
    return {
        **cost_table(counts),
        "seconds": round(seconds, 1),
        "root mean square of the change in latents": update,
    }


def shown_size(image: Image.Image) -> Image.Image:
    """The image reduced to at most the size that a report shows."""
    fraction = SHOWN / max(image.size)
    if fraction >= 1:
        return image
    width, height = (max(1, round(side * fraction)) for side in image.size)
    return image.resize((width, height), Image.Resampling.LANCZOS)
