"""The output folder of an edit.

config.json   every setting and the exact command      metrics.jsonl   one line per step
preview.png   the edit now                              edited.png      the image, or edited.mp4 the video
report.html   before and after, to look at              result.json     cost and likeness
checkpoint.safetensors exists while the run is unfinished.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from jaxtyping import Float
from PIL import Image
from torch import Tensor

from scoredistill import __version__
from scoredistill.checkpoint import load_state, save_state
from scoredistill.loop import Step
from scoredistill.media.images import to_pil
from scoredistill.reports.page import Page
from scoredistill.tasks.image_editing.canvas import Canvas
from scoredistill.tasks.image_editing.request import EditRequest
from scoredistill.tasks.image_editing.run import canvas_of
from scoredistill.tasks.run_directory import RunFolder

SHOWN = 1600  # pixels of the longer side in a report


class EditFolder(RunFolder):
    """Writes an edited image as it comes about. Making the object checks, `open` begins."""

    leftovers = (
        "checkpoint.safetensors", "metrics.jsonl", "result.json", "report.html", "preview.png", "edited.png",
        "source.png",
    )  # fmt: skip

    request: EditRequest

    def open(self, image: Image.Image) -> tuple[dict[str, Any] | None, list[dict[str, float]], float]:
        """Begin writing; (state for `distill`, rows of metrics so far, seconds spent), empty for a new run.

        Raises:
            ValueError: if the run to go on with was of another image.
        """
        state, rows, shown = None, [], hashlib.sha256(image.tobytes()).hexdigest()
        if self.resume and self._checkpoint.is_file():
            if json.loads(self._config.read_text()).get("image") != shown:
                raise ValueError(f"the run in {self.path} edits another image: give the same to resume")
            state = load_state(self._checkpoint)
            rows = [json.loads(line) for line in self._metrics.read_text().splitlines()[: state["next"]]]
        self._begin(state is not None, {"image": shown})
        self._metrics.write_text("".join(json.dumps(row) + "\n" for row in rows))
        image.save(self.path / "source.png")
        return state, rows, state["seconds"] if state else 0.0

    def after(
        self, step: Step, canvas: Canvas, history: Sequence[dict[str, float]], counts: dict[str, int], seconds: float
    ) -> None:
        """Record a finished step; preview and checkpoint now and then."""
        with self._metrics.open("a") as file:
            file.write(json.dumps(history[-1]) + "\n")
        if step.index + 1 < step.steps and self._due():
            save_state({**step.state_dict(), "counts": counts, "seconds": seconds}, self._checkpoint)
            decoded = canvas.decoded
            to_pil(canvas.decode(canvas_of(step)))[0].save(self.path / "preview.png")
            canvas.decoded = decoded  # looking costs nothing that should be counted

    def finish(self, result: "EditResult") -> None:
        """Write the image and the report; remove what was needed to resume."""
        result.image.save(self.path / "edited.png")
        shown_size(result.image).save(self.path / "preview.png")
        summary = {**result.counts, "update": result.update, "seconds": round(result.seconds, 2)}
        (self.path / "result.json").write_text(json.dumps(summary, indent=2) + "\n")
        self._report(result).save(self.path / "report.html")
        self._checkpoint.unlink(missing_ok=True)

    def _report(self, result: "EditResult") -> Page:
        request = result.request
        title = request.instruction or ", ".join(request.regions)
        page = Page(title, f"{request.method} on {request.prior}: {request.recipe.says}").command(self.command)
        page.slider(shown_size(result.source), shown_size(result.image), "Move the divider.", ("source", "edited"))
        if result.history:
            rows = result.history
            page.curves({"gradient": [r["grad_norm"] for r in rows]}, "Gradient on the windows", "step", "RMS")
        page.heading("Cost").key_values(cost(result.counts, result.seconds, result.update))
        return page.heading("Settings").key_values({**asdict(request), "version": __version__})

    @property
    def _metrics(self) -> Path:
        return self.path / "metrics.jsonl"


def cost(counts: dict[str, int], seconds: float, update: float) -> dict[str, object]:
    """What an edit took, for its report."""
    return {
        "network rows (NFE)": counts["rows"],
        "network calls": counts["calls"],
        "seconds": round(seconds, 1),
        "root mean square of the change in latents": update,
    }


def shown_size(image: Image.Image) -> Image.Image:
    """An image no larger than a report needs."""
    share = SHOWN / max(image.size)
    if share >= 1:
        return image
    return image.resize((max(1, round(image.width * share)), max(1, round(image.height * share))), Image.LANCZOS)  # type: ignore[attr-defined]


@dataclass(frozen=True)
class EditResult:
    """What came out.

    Attributes:
        image: the edited image, of the source's size.
        source: the image it was made from.
        work: the edit at the working size through the autoencoder, without the source's detail, [1, 3, h, w].
        request: every setting filled in.
        counts: network rows and calls, images encoded and decoded.
        seconds: wall time without loading the model.
        latents: the edited canvas.
        history: one row per step: t, grad_norm, the kernel's mean.
        update: root mean square of the change of the latents.
    """

    image: Image.Image
    source: Image.Image
    work: Float[Tensor, "1 3 h w"]
    request: EditRequest
    counts: dict[str, int]
    seconds: float
    latents: Tensor
    update: float
    history: list[dict[str, float]] = field(default_factory=list)
