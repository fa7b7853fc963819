"""The output folder of a run in three dimensions.

config.json      every setting and the exact command        metrics.jsonl     one line per step
preview.png      the thing now, from four sides             video.gif          the optimization
turntable.mp4, turntable.gif                                sheet.png         colors, depths and normals
mesh.glb         of radiance fields, with a texture         splats.ply        of Gaussians
scene.safetensors  all parameters                           result.json       similarity, consistency, cost
report.html      all of it, to look at
checkpoint.safetensors and .frames/ exist while the run is unfinished.
"""

import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from scoredistill import __version__
from scoredistill.checkpoint import save_state
from scoredistill.loop import Step
from scoredistill.media.images import grid, save_gif, to_tensor
from scoredistill.metrics import clip_similarity
from scoredistill.metrics.edits import neighbor_consistency
from scoredistill.priors.pipelines import BUNDLED
from scoredistill.reports.page import Page
from scoredistill.tasks.object_generation.request import ObjectRequest
from scoredistill.tasks.run_directory import TITLES, StepFolder
from scoredistill.tasks.three_d_output import LEVELS, large, videos_of
from scoredistill.three_d.mesh import extract, write_glb
from scoredistill.three_d.scenes.base import Scene
from scoredistill.three_d.scenes.nerf import NeRF
from scoredistill.three_d.scenes.splats import Splats
from scoredistill.three_d.splatting import write_ply
from scoredistill.three_d.turntable import contact_sheet

FRAMES = 40  # of the video of a run


class ObjectFolder(StepFolder):
    """Writes a run to disk as it goes. Making the object checks, `open` begins."""

    leftovers = (
        "checkpoint.safetensors", "metrics.jsonl", "result.json", "report.html", "video.gif", "preview.png",
        "turntable.*", "sheet.png", "mesh.glb", "splats.ply", "scene.safetensors", ".frames/*",
    )  # fmt: skip

    def after(
        self, step: Step, scene: Scene, history: Sequence[dict[str, float]], counts: dict[str, int], seconds: float
    ) -> None:
        """Record a finished step; images and checkpoints now and then."""
        from scoredistill.tasks.object_generation.run import views_of

        with self._metrics.open("a") as file:
            file.write(json.dumps(history[-1]) + "\n")
        last = step.index + 1 == step.steps
        if last or step.index % max(1, step.steps // FRAMES) == 0:
            frame = grid([large(view) for view in views_of(scene, 4)], columns=4, pad=2)
            frame.save(self._frames / f"{step.index:06d}.png")
            frame.save(self.path / "preview.png")
        if not last and self._due():
            save_state({**step.state_dict(), "counts": counts, "seconds": seconds}, self._checkpoint)

    def finish(self, result: "ObjectResult") -> None:
        """Write videos, mesh or splats, and the report; remove what was needed to resume."""
        scene = result.scene
        device = next(scene.parameters()).device
        save_state(scene.state_dict(), self.path / "scene.safetensors")
        frames = [Image.open(p) for p in sorted(self._frames.glob("*.png"))]
        if frames:
            still = [frames[-1]] * (len(frames) // 4)
            save_gif([*frames, *still], self.path / "video.gif", size=min(max(frames[0].size), 800))
        sheet = contact_sheet(scene.render, 8, 128, device=device)
        sheet.save(self.path / "sheet.png")
        videos = videos_of(scene.render, self.path / "turntable", device)
        lacks = self._export(scene, device)
        summary = {**judged(result), **result.counts, "seconds": round(result.seconds, 2), "missing": lacks}
        (self.path / "result.json").write_text(json.dumps(summary, indent=2) + "\n")
        self._report(result, sheet, videos[0], summary).save(self.path / "report.html")
        shutil.rmtree(self._frames)
        self._checkpoint.unlink(missing_ok=True)

    def _export(self, scene: Scene, device: torch.device) -> str:
        """Mesh or splats; what could not be written, in a sentence, or nothing."""
        if isinstance(scene, Splats):
            write_ply(self.path / "splats.ply", scene.gaussians())
            return ""
        assert isinstance(scene, NeRF)
        field, said = scene.field, ""
        for level in LEVELS:
            try:
                mesh = extract(field, 64, level, device=device)
            except ValueError as error:
                said = str(error)
                continue
            write_glb(mesh, self.path / "mesh.glb", field, 512, unlit=True, device=device)
            return ""
        return f"no mesh: {said}"

    def _report(self, result: "ObjectResult", sheet: Image.Image, video: Path, summary: dict[str, Any]) -> Page:
        request = result.request
        page = Page(request.prompt, f"{request.method} on {request.prior}, a {request.shape}")
        page.command(self.command)
        if video.suffix == ".gif":
            page.figure(video, "All sides.")
        else:
            page.videos({"all sides": video})
        page.figure(sheet, "Colors, depths (near is bright) and normals (right, away and up are red, green and blue).")
        page.figure(self.path / "video.gif", "The optimization, from four sides.")
        rows = result.history
        page.curves({"gradient": [r["grad_norm"] for r in rows]}, "Gradient on the views", "step", "RMS", log_y=True)
        for name in sorted(set(rows[0]) - {"grad_norm"}):
            page.curves({name: [r[name] for r in rows]}, TITLES.get(name, name), "step", name, name == "bandwidth")
        page.heading("Result").key_values(summary)
        return page.heading("Settings").key_values({**asdict(request), "version": __version__})


def judged(result: "ObjectResult") -> dict[str, float]:
    """Similarity to the prompt and likeness of neighboring views, by the bundled CLIP; empty for other priors."""
    if result.request.prior not in BUNDLED:
        return {}
    views = to_tensor(result.images)
    similarity = clip_similarity(views, result.request.prompt)
    return {
        "clip_sim": float(similarity.mean()),
        "clip_sim_worst_view": float(similarity.min()),
        "view_consistency": 100 * neighbor_consistency(torch.cat([views, views[:1]])),
    }


@dataclass(frozen=True)
class ObjectResult:
    """What came out.

    Attributes:
        scene: the thing; `scene.render(cameras)` shows it.
        images: views from all sides.
        request: what made it, every setting filled in.
        counts: network rows and calls, images encoded and decoded.
        seconds: wall time of the optimization, without loading the model.
        history: one row per step: t, grad_norm, and what the estimator tells.
    """

    scene: Scene
    images: list[Image.Image]
    request: ObjectRequest
    counts: dict[str, int]
    seconds: float
    history: list[dict[str, float]] = field(default_factory=list)
