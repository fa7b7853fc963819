"""The output folder of a run: what it writes while it goes, how it resumes, and its report.

    config.json      every setting and the exact command        metrics.jsonl   one line per step
    preview.png      the images now                           video.gif        the optimization
    image_00.png ... the images                               report.html     all of it, to look at
    result.json      similarity to the prompt, cost
    checkpoint.safetensors and .frames/ exist while the run is unfinished.

A folder that holds anything but an earlier run of ours is refused, so nothing of the user's is ever replaced.
"""

import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

from PIL import Image
from torch import Tensor

from scoredistill import __version__
from scoredistill.checkpoint import save_state
from scoredistill.loop import Step
from scoredistill.media.images import grid, save_gif, to_pil, to_tensor
from scoredistill.metrics import clip_similarity
from scoredistill.priors.pipelines import BUNDLED
from scoredistill.reports.page import Page
from scoredistill.tasks.image_generation.request import Request
from scoredistill.tasks.run_directory import TITLES, StepFolder

if TYPE_CHECKING:
    from scoredistill.tasks.image_generation.request import Request

FRAMES = 60  # of a video


class Folder(StepFolder):
    """Writes a run to disk as it goes. Making the object checks, `open` begins."""

    leftovers = (
        "checkpoint.safetensors", "metrics.jsonl", "result.json", "report.html", "video.gif", "preview.png",
        "image_[0-9]*.png", ".frames/*",
    )  # fmt: skip

    request: "Request"

    def after(self, step: Step, history: Sequence[dict[str, float]], counts: dict[str, int], seconds: float) -> None:
        """Record a finished step; images and checkpoints now and then."""
        with self._metrics.open("a") as file:
            file.write(json.dumps(history[-1]) + "\n")
        last = step.index + 1 == step.steps
        if last or step.index % max(1, step.steps // FRAMES) == 0:
            frame = image_grid(to_pil(step.images()))
            frame.save(self._frames / f"{step.index:06d}.png")
            frame.save(self.path / "preview.png")
        if not last and self._due():
            save_state({**step.state_dict(), "counts": counts, "seconds": seconds}, self._checkpoint)

    def finish(self, result: "Result") -> None:
        """Write the images, the video and the report; remove what was needed to resume."""
        for i, image in enumerate(result.images):
            image.save(self.path / f"image_{i:02d}.png")
        image_grid(result.images).save(self.path / "preview.png")
        frames = [Image.open(p) for p in sorted(self._frames.glob("*.png"))]
        if frames:
            still = [frames[-1]] * (len(frames) // 4)
            save_gif([*frames, *still], self.path / "video.gif", size=min(max(frames[0].size), 800))
        similarity = self._similarity(result)
        summary = {"clip_sim": similarity, **result.counts, "seconds": round(result.seconds, 2)}
        (self.path / "result.json").write_text(json.dumps(summary, indent=2) + "\n")
        self._report(result, similarity).save(self.path / "report.html")
        shutil.rmtree(self._frames)
        self._checkpoint.unlink(missing_ok=True)

    def _report(self, result: "Result", similarity: Sequence[float]) -> Page:
        request, counts = result.request, result.counts
        page = Page(request.prompt, f"{request.method} on {request.prior}")
        page.command(self.command)
        columns = [f"{value:.1f}" for value in similarity] or [""] * len(result.images)
        caption = "CLIP similarity to the prompt, by the bundled judge." if similarity else ""
        page.image_grid({"": result.images}, columns, caption)
        if result.history:
            page.figure(self.path / "video.gif", "The optimization.")
            rows = result.history
            norms = [r["grad_norm"] for r in rows]
            page.curves({"gradient": norms}, "Gradient on the samples", "step", "RMS", log_y=True)
            for name in sorted(set(rows[0]) - {"grad_norm"}):
                log = name == "bandwidth"
                page.curves({name: [r[name] for r in rows]}, TITLES.get(name, name), "step", name, log_y=log)
            if request.method == "msd":
                first, last = rows[0]["bandwidth"], rows[-1]["bandwidth"]
                page.text(f"The bandwidth shrank from {first:.3g} to {last:.3g}, which is where the run ends.")
        page.heading("Cost")
        per_step = result.seconds / max(1, request.steps or 1)
        page.key_values(
            {
                "network rows (NFE)": counts["rows"],
                "network calls": counts["calls"],
                "images encoded": counts["encoded"],
                "images decoded": counts["decoded"],
                "seconds": round(result.seconds, 2),
                "milliseconds per step": round(1000 * per_step, 1),
            }
        )
        return page.heading("Settings").key_values({**asdict(request), "version": __version__})

    def _similarity(self, result: "Result") -> list[float]:
        """By the bundled CLIP, which knows what the bundled models draw; empty for others."""
        if self.request.prior not in BUNDLED:
            return []
        return clip_similarity(to_tensor(result.images), self.request.prompt).tolist()


def image_grid(images: Sequence[Image.Image]) -> Image.Image:
    """The images side by side, small ones enlarged."""
    factor = max(1, round(192 / max(images[0].size)))
    large = [im.resize((im.width * factor, im.height * factor), Image.Resampling.LANCZOS) for im in images]
    return grid(large, columns=min(4, len(large)), pad=4)


@dataclass(frozen=True)
class Result:
    """What came out.

    Attributes:
        images: the images, one per particle.
        request: what made them, every setting filled in.
        counts: network rows and calls, images encoded and decoded.
        seconds: wall time of the optimization, without loading the model.
        history: one row per step: t, bandwidth or kernel mean where there is one, grad_norm.
        samples: what the images were decoded from, where that was optimized or sampled (latents); None otherwise.
    """

    images: list[Image.Image]
    request: Request
    counts: dict[str, int]
    seconds: float
    history: list[dict[str, float]] = field(default_factory=list)
    samples: Tensor | None = None
