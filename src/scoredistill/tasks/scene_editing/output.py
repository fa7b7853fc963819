"""The output directory and the result of an edit of a scene.

config.json      the complete settings and the exact command    preview.png    the scene so far, from four sides
before.mp4, after.mp4                                            videos of one turn around the scene
views/           the edited views and transforms.json           mesh.glb       the edited surface
before.safetensors, scene.safetensors                            all parameters, as fitted and as edited
result.json      cost, PSNR of the fit                           report.html    all of it
checkpoint.safetensors exists from the end of the edit until its results are written.
"""

import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from scoredistill.checkpoint import load_state, save_state
from scoredistill.media.images import to_pil
from scoredistill.reports.page import Page
from scoredistill.tasks.known_words import add_verdict
from scoredistill.tasks.run_config import digest
from scoredistill.tasks.run_directory import RunDirectory
from scoredistill.tasks.run_report import add_settings
from scoredistill.tasks.scene_editing.recipes import description
from scoredistill.tasks.scene_editing.request import SceneRequest, SceneSettings
from scoredistill.tasks.three_d_output import exported, side_by_side, write_videos
from scoredistill.three_d.camera import Cameras, around
from scoredistill.three_d.capture import Capture, write_transforms
from scoredistill.three_d.fitting import FitStep
from scoredistill.three_d.scenes.base import Scene

LEVELS = (0.5, 0.2)  # opacities of the surface of the mesh that are tried
PREVIEW_SECONDS = 5.0  # between previews


@dataclass(frozen=True)
class SceneResult:
    """An edited scene, and how it was made.

    Attributes:
        scene: the edited scene; `scene.render(cameras)` renders it.
        before: the scene as it was fitted to the photographs.
        capture: the photographs and their cameras, in the coordinates of the scene.
        request: the complete settings.
        counts: network evaluations ("rows"), network calls, images encoded and decoded.
        fit_psnr: PSNR of the fit on held-out photographs in dB; None if none are held out.
        edited: the views as they were edited last, [n, 3, h, w].
        views: their indices in the capture.
        seconds: wall time, without loading the prior.
        history: metrics of each step of fitting to edited views: loss.
        verdict: what the result is worth of an instruction that the prior was not trained on; else empty.
    """

    scene: Scene
    before: Scene
    capture: Capture
    request: SceneSettings
    counts: dict[str, int]
    fit_psnr: float | None
    edited: Tensor
    views: tuple[int, ...]
    seconds: float
    history: list[dict[str, float]] = field(default_factory=list)
    verdict: str = ""


class SceneDirectory(RunDirectory[SceneResult]):
    """Output directory of an edit of a scene."""

    leftovers: ClassVar[tuple[str, ...]] = (
        "checkpoint.safetensors", "result.json", "report.html", "preview.png", "before.mp4", "before.gif",
        "before.safetensors", "after.mp4", "after.gif", "mesh.glb", "scene.safetensors", "views/transforms.json",
        "views/images/*.png", "views/masks/*.png", "views/train_masks/*.png",
    )  # fmt: skip
    space = 1e7  # two scenes, a mesh with a texture, videos
    folders = ("views", "views/images", "views/masks", "views/train_masks")
    other: ClassVar[str] = "other photographs"  # what another source is called in messages
    photographs: ClassVar[str] = "photographs"  # what the images of the capture are called

    def __init__(self, path: Path, request: SceneRequest, resume: bool = False, overwrite: bool = False):
        super().__init__(path, request, resume, overwrite)
        self._previewed = time.monotonic()

    def open(
        self, settings: SceneSettings, capture: Capture, **machine: str
    ) -> tuple[dict[str, Any] | None, dict[str, Any] | None]:
        """Begin to write.

        Args:
            settings: the complete settings.
            capture: the photographs.
            **machine: data type and device of the networks.

        Returns:
            What the interrupted run left: the parameters of its fit, and its finished edit (`keep_edit`); None for what
            there is not.

        Raises:
            ValueError: if the directory is not writable, or the run to continue has other settings or photographs.
        """
        self._capture, fitted, edited = capture, None, None
        facts = {"photographs": digest(capture.images.contiguous().numpy().data), **machine}
        if self.resume:
            self._check_source(self.other, facts)
        self._claim(settings)
        if self.resume:
            fitted = load_state(self._fit) if self._fit.is_file() else None
            edited = load_state(self._checkpoint) if self._checkpoint.is_file() else None
        self._begin(settings, fitted is not None, facts)
        self._previewed = time.monotonic()
        return fitted, edited

    def keep_fit(self, scene: Scene) -> None:
        """Keep the finished fit to the photographs."""
        with self.told():
            save_state(scene.state_dict(), self._fit)

    def keep_edit(
        self, scene: Scene, edited: Tensor, history: list[dict[str, float]], counts: dict[str, int], seconds: float
    ) -> None:
        """Keep the finished edit, so that nothing is lost if its results cannot be written."""
        state = {"scene": scene.state_dict(), "edited": edited, "history": history, "counts": counts}
        with self.told():
            save_state({**state, "seconds": seconds}, self._checkpoint)

    def record(self, step: FitStep, scene: Scene) -> None:
        """Draw a preview from time to time."""
        if time.monotonic() - self._previewed > PREVIEW_SECONDS or step.index + 1 == step.steps:
            self._previewed = time.monotonic()
            with torch.no_grad():
                seen = scene.render(self._circle(4).to(scene.device)).rgb.clamp(0, 1)
            self.preview(side_by_side(to_pil(seen)))

    def finish(self, result: SceneResult) -> None:
        save_state(result.scene.state_dict(), self.path / "scene.safetensors")
        videos = {
            name: write_videos(self._shown(scene), self.path / name, self._elevation)[0]
            for name, scene in (("before", result.before), ("after", result.scene))
        }
        self._write_views(result)
        found, again = self._export(result)
        summary = {**result.counts, "seconds": round(result.seconds, 2), **found}
        self._write_summary(summary, self._report(result, videos, summary))
        if not again:
            self._checkpoint.unlink(missing_ok=True)

    def _shown(self, scene: Scene) -> Scene:
        """The scene as videos show it."""
        return scene

    def _export(self, result: SceneResult) -> tuple[dict[str, Any], bool]:
        """Write files for other programs; return entries of result.json, and whether another attempt can help."""
        missing, again = exported(result.scene, self.path, LEVELS)
        return {"fit_psnr": result.fit_psnr, "missing": missing}, again

    def _write_views(self, result: SceneResult) -> None:
        """Write the edited views as a capture, for other programs."""
        some, capture = list(result.views), result.capture
        names = tuple(f"{Path(capture.names[i]).stem}.png" for i in some)
        if len(set(names)) < len(names):
            names = tuple(f"{k:04d}.png" for k in range(len(some)))
        alpha = None if capture.alpha is None else capture.alpha[some]
        edited = replace(
            capture, images=result.edited.cpu(), cameras=capture.cameras[some], names=names, held_out=(), alpha=alpha,
            depth=None, mask=None if capture.mask is None else capture.mask[some],
        )  # fmt: skip
        write_transforms(edited, self.path / "views")

    def _report(self, result: SceneResult, videos: dict[str, Path], summary: dict[str, Any]) -> Page:
        settings, capture = result.request, result.capture
        method = f"{settings.method} on {settings.prior}: {description(settings.method)}"
        page = Page(settings.instruction, f"{method}; {len(capture)} {self.photographs}").command(self.command)
        add_verdict(page, summary, result.verdict)
        if all(video.suffix == ".mp4" for video in videos.values()):
            page.videos(videos)
        else:
            page.image_grid({name: [video] for name, video in videos.items()}, [])
        n = len(result.views)
        some = [k * n // 6 for k in range(min(6, n))]
        shown = [result.views[k] for k in some]
        rows = {self.photographs.removesuffix("s"): capture.images[shown], "edited view": result.edited[some]}
        page.image_grid({name: to_pil(v.cpu()) for name, v in rows.items()}, [capture.names[i] for i in shown])
        page.curves({"loss": [r["loss"] for r in result.history]}, "Fit to the edited views", "step", "loss", True)
        page.heading("Result").key_values(summary)
        return add_settings(page, settings)

    @property
    def _interrupted(self) -> bool:
        return super()._interrupted or (self._fit.is_file() and not self._result.is_file())

    @property
    def _fit(self) -> Path:
        return self.path / "before.safetensors"

    @property
    def _elevation(self) -> float:
        """Mean elevation of the photographs in degrees."""
        return float(self._capture.cameras.elevation.mean())

    def _circle(self, n: int) -> Cameras:
        """n cameras around the scene at the mean elevation of the photographs."""
        azimuth = torch.arange(n) * (360.0 / n)
        return around(azimuth, self._elevation, 3.0, 40.0, self._capture.cameras.size)
