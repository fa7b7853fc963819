"""The output directory and the result of text-to-3D.

config.json      the complete settings and the exact command    metrics.jsonl    one line per step
preview.png      the object so far, from four sides             video.gif        the optimization
turntable.mp4, turntable.gif                                    sheet.png        colors, depths and normals
mesh.glb         of radiance fields, with a texture             splats.ply       of Gaussians
scene.safetensors  all parameters                               result.json      similarity, consistency, cost
report.html      all of it
checkpoint.safetensors and .frames/ exist while the run is unfinished.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from scoredistill.checkpoint import save_state
from scoredistill.media.images import to_tensor
from scoredistill.metrics import clip_similarity
from scoredistill.metrics.edits import neighbor_consistency
from scoredistill.priors.pipelines import BUNDLED
from scoredistill.reports.page import Page
from scoredistill.tasks.known_words import add_verdict
from scoredistill.tasks.object_generation.request import ObjectSettings
from scoredistill.tasks.object_generation.run import views_of
from scoredistill.tasks.run_report import add_curves, add_settings, in_words
from scoredistill.tasks.step_directory import StepDirectory
from scoredistill.tasks.three_d_output import exported, side_by_side, write_videos
from scoredistill.three_d.scenes.base import Scene
from scoredistill.three_d.turntable import contact_sheet


@dataclass(frozen=True)
class ObjectResult:
    """A 3-D object, and how it was made.

    Attributes:
        scene: the object; `scene.render(cameras)` renders it.
        images: views from all sides.
        request: the complete settings.
        counts: network evaluations ("rows"), network calls, images encoded and decoded.
        seconds: wall time of the optimization, without loading the prior.
        history: metrics of each step: t, grad_norm, and what the estimator reports.
        verdict: what the result is worth of a prompt that the prior was not trained on; else empty.
    """

    scene: Scene
    images: list[Image.Image]
    request: ObjectSettings
    counts: dict[str, int]
    seconds: float
    history: list[dict[str, float]] = field(default_factory=list)
    verdict: str = ""


class ObjectDirectory(StepDirectory[ObjectResult]):
    """Output directory of text-to-3D."""

    leftovers = (
        "checkpoint.safetensors", "metrics.jsonl", "result.json", "report.html", "video.gif", "preview.png",
        "turntable.mp4", "turntable.gif", "sheet.png", "mesh.glb", "splats.ply", "scene.safetensors",
        ".frames/[0-9]*.png",
    )  # fmt: skip
    frames = 40
    space = 1e7  # the scene, its checkpoint, a mesh with a texture, videos

    def finish(self, result: ObjectResult) -> None:
        scene = result.scene
        save_state(scene.state_dict(), self.path / "scene.safetensors")
        self._write_video()
        sheet = contact_sheet(scene.render, 8, 128, device=scene.device)
        self.save(sheet, "sheet.png")
        videos = write_videos(scene, self.path / "turntable")
        missing, again = exported(scene, self.path)
        settings = result.request
        summary = {
            **evaluated(result.images, settings.prompt, settings.prior),
            **result.counts,
            "seconds": round(result.seconds, 2),
            "missing": missing,
        }
        self._write_summary(summary, self._report(result, sheet, videos[0], summary))
        if not again:
            self._clear()

    def _report(self, result: ObjectResult, sheet: Image.Image, video: Path, summary: dict[str, Any]) -> Page:
        settings = result.request
        page = Page(settings.prompt, f"{settings.method} on {settings.prior}, shape {settings.shape}")
        add_verdict(page, summary, result.verdict)
        if video.suffix == ".gif":
            page.figure(video, "All sides.")
        else:
            page.videos({"all sides": video})
        page.figure(sheet, "Colors, depths (near is bright) and normals (right, away and up are red, green and blue).")
        page.command(self.command)
        self.add_optimization(page, "The optimization, from four sides.")
        add_curves(page, result.history, "views")
        page.heading("Result").key_values(in_words(summary))
        return add_settings(page, settings)


def four_sides(scene: Scene) -> Image.Image:
    """Views of an object from four sides, side by side."""
    return side_by_side(views_of(scene, 4))


def evaluated(images: Sequence[Image.Image], prompt: str, prior: str) -> dict[str, float]:
    """Similarity to the prompt and consistency of neighboring views by the bundled CLIP; empty for other priors.

    Args:
        images: views at equal distances all around.
        prompt: what they should show.
        prior: name of the prior.
    """
    if prior not in BUNDLED:
        return {}
    views = to_tensor(images)
    similarity = clip_similarity(views, prompt)
    return {
        "clip_sim": float(similarity.mean()),
        "clip_sim_worst_view": float(similarity.min()),
        "view_consistency": 100 * neighbor_consistency(torch.cat([views, views[:1]])),
    }
