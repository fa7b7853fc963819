"""The output folder of an edited scene.

config.json      every setting and the exact command     preview.png    the scene now, from four sides
before.mp4, after.mp4                                     videos of a turn around it
views/           the edited views and transforms.json     mesh.glb       the edited surface
before.safetensors, scene.safetensors                     all parameters, as fitted and as edited
result.json      cost, PSNR of the fit                    report.html    all of it, to look at
"""

import hashlib
import json
import time
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from scoredistill import __version__
from scoredistill.checkpoint import load_state, save_state
from scoredistill.media.images import grid, to_pil
from scoredistill.reports.page import Page
from scoredistill.tasks.run_directory import RunFolder
from scoredistill.tasks.scene_editing.request import SceneRequest
from scoredistill.tasks.three_d_output import large, videos_of
from scoredistill.three_d.camera import Cameras, around
from scoredistill.three_d.capture import Capture, write_transforms
from scoredistill.three_d.fitting import FitStep
from scoredistill.three_d.mesh import extract, write_glb
from scoredistill.three_d.scenes.base import Scene
from scoredistill.three_d.scenes.nerf import NeRF

LEVELS = (0.5, 0.2)  # opacities at which a mesh is tried
PREVIEW_SECONDS = 5.0


class SceneFolder(RunFolder):
    """Writes an edited scene as it comes about. Making the object checks, `open` begins."""

    leftovers = (
        "checkpoint.safetensors", "result.json", "report.html", "preview.png", "before.*", "after.*", "mesh.glb",
        "scene.safetensors", "views/*", "views/images/*", "views/masks/*",
    )  # fmt: skip

    request: SceneRequest

    def open(self, capture: Capture) -> dict[str, Any] | None:
        """Begin writing; the parameters of an interrupted run's fit if they are there.

        Raises:
            ValueError: if the run to go on with was of other photographs.
        """
        self._capture, state = capture, None
        shown = hashlib.sha256(capture.images.contiguous().numpy().tobytes()).hexdigest()
        if self.resume and (self.path / "before.safetensors").is_file():
            if json.loads(self._config.read_text()).get("photographs") != shown:
                raise ValueError(f"the run in {self.path} edits other photographs: give the same to resume")
            state = load_state(self.path / "before.safetensors")
        self._begin(state is not None, {"photographs": shown})
        self._shown = time.monotonic()
        return state

    def fitted(self, scene: Scene) -> None:
        """Keep the finished fit."""
        save_state(scene.state_dict(), self.path / "before.safetensors")

    def after(self, step: FitStep, scene: Scene) -> None:
        """A preview now and then."""
        if time.monotonic() - self._shown > PREVIEW_SECONDS or step.index + 1 == step.steps:
            self._shown = time.monotonic()
            device = next(scene.parameters()).device
            with torch.no_grad():
                seen = scene.render(self._circle(4).to(device)).rgb.clamp(0, 1)
            grid([large(p) for p in to_pil(seen)], columns=4, pad=2).save(self.path / "preview.png")

    def finish(self, result: "SceneResult") -> None:
        """Write videos, views, mesh and the report."""
        save_state(result.scene.state_dict(), self.path / "scene.safetensors")
        device = next(result.scene.parameters()).device
        videos = {
            name: videos_of(scene.render, self.path / name, device=device, elevation=self._elevation())[0]
            for name, scene in (("before", result.before), ("after", result.scene))
        }
        self._write_views(result)
        said = self._export(result.scene, device)
        summary: dict[str, Any] = {"fit_psnr": result.fit_psnr, **result.counts, "seconds": round(result.seconds, 2)}
        summary["missing"] = said
        self._report(result, videos, summary).save(self.path / "report.html")
        (self.path / "result.json").write_text(json.dumps(summary, indent=2) + "\n")

    def _write_views(self, result: "SceneResult") -> None:
        """The edited views as a capture of their own, for other programs."""
        some = list(result.views)
        capture = result.capture
        names = tuple(f"{Path(capture.names[i]).stem}.png" for i in some)
        if len(set(names)) < len(names):
            names = tuple(f"{k:04d}.png" for k in range(len(some)))
        alpha = None if capture.alpha is None else capture.alpha[some]
        edited = replace(
            capture, images=result.edited.cpu(), cameras=capture.cameras[some], names=names, held_out=(), alpha=alpha,
            depth=None,
        )  # fmt: skip
        write_transforms(edited, self.path / "views")

    def _export(self, scene: Scene, device: torch.device) -> str:
        said = "only radiance fields have meshes"
        if not isinstance(scene, NeRF):
            return said
        for level in LEVELS:
            try:
                mesh = extract(scene.field, 64, level, device=device)
            except ValueError as error:
                said = f"no mesh: {error}"
                continue
            write_glb(mesh, self.path / "mesh.glb", scene.field, 512, unlit=True, device=device)
            return ""
        return said

    def _report(self, result: "SceneResult", videos: dict[str, Path], summary: dict[str, Any]) -> Page:
        request, capture = result.request, result.capture
        page = Page(request.instruction, f"{request.method} on {request.prior}: a scene of {len(capture)} photographs")
        page.command(self.command)
        if all(video.suffix == ".mp4" for video in videos.values()):
            page.videos(videos)
        else:
            page.image_grid({name: [video] for name, video in videos.items()}, [])
        some = [result.views[k * len(result.views) // 6] for k in range(min(6, len(result.views)))]
        rows = {"photograph": capture.images[some], "edited view": result.edited[[result.views.index(i) for i in some]]}
        page.image_grid({name: to_pil(v.cpu()) for name, v in rows.items()}, [capture.names[i] for i in some])
        page.curves({"loss": [r["loss"] for r in result.history]}, "Fit to the edited views", "step", "loss", True)
        page.heading("Result").key_values(summary)
        return page.heading("Settings").key_values({**asdict(request), "version": __version__})

    def _elevation(self) -> float:
        return float(self._capture.cameras.elevation.mean())

    def _circle(self, n: int) -> Cameras:
        """Cameras around the scene at the mean elevation of the photographs."""
        azimuth = torch.arange(n) * (360.0 / n)
        return around(azimuth, self._elevation(), 3.0, 40.0, self._capture.cameras.size)


@dataclass(frozen=True)
class SceneResult:
    """What came out.

    Attributes:
        scene: the edited scene; `scene.render(cameras)` shows it.
        before: as it was fitted to the photographs.
        capture: the photographs and their cameras, in the scene's world.
        request: what made it, every setting filled in.
        counts: network rows and calls, images encoded and decoded.
        fit_psnr: of the fit on held-out photographs, dB; None if none are held out.
        edited: the views as they were edited last, [n, 3, h, w].
        views: their numbers in the capture.
        seconds: wall time, without loading the model.
        history: one row per step of fitting to edited views: loss.
    """

    scene: Scene
    before: Scene
    capture: Capture
    request: SceneRequest
    counts: dict[str, int]
    fit_psnr: float | None
    edited: Tensor
    views: tuple[int, ...]
    seconds: float
    history: list[dict[str, float]] = field(default_factory=list)
