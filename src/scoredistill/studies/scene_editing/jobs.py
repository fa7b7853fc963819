"""The jobs of the scene-editing study: fit a scene to its photographs, edit it, and measure edits and references.

The scenes are rendered, so the ground truth is known from any side: the procedural edit of an instruction, applied to
true images. Everything is evaluated on novel views, at equal steps around a circle.
"""

import os
import shutil
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from scoredistill.checkpoint import load_state, save_state
from scoredistill.datasets import synthetic_scenes
from scoredistill.datasets.procedural_edits import EDITS, Edit
from scoredistill.files import DRAFT, slug
from scoredistill.media.images import to_pil
from scoredistill.metrics import edits as metrics
from scoredistill.studies.editing.evaluation import edit_metrics
from scoredistill.studies.harness import jobs
from scoredistill.studies.harness.setting import loaded, seeded
from scoredistill.studies.harness.turntables import save_strip, save_turntable
from scoredistill.tasks.image_editing.canvas import Canvas
from scoredistill.tasks.request import PriorOptions
from scoredistill.tasks.scene_editing.edit_scene import edit_scene, fit_scene
from scoredistill.tasks.scene_editing.request import SceneRequest
from scoredistill.tasks.session import editor
from scoredistill.three_d.camera import Cameras, orbit
from scoredistill.three_d.capture import Capture, normalized, read_capture
from scoredistill.three_d.fitting import held_out_psnr
from scoredistill.three_d.scenes.base import Scene

REFERENCES = ("source", "truth")  # rows of the tables that no method made
NOVEL_VIEWS, ELEVATION, RADIUS, FOV = 12, 20.0, 3.0, 40.0
TURNTABLES = ("one_view", "csd")  # the methods whose edits get a turntable


@dataclass(frozen=True)
class Setup:
    """What all jobs of a study share.

    Args:
        prior: name or directory of the editor.
        size: side of photographs and of novel views, in pixels.
        views: photographs of a scene that are edited.
        held_out: further photographs, for evaluation.
        load: how the prior is loaded.
    """

    prior: str
    size: int = 64
    views: int = 40
    held_out: int = 8
    load: PriorOptions = PriorOptions()

    @property
    def around(self) -> Cameras:
        """Cameras of the novel views."""
        return orbit(NOVEL_VIEWS, ELEVATION, RADIUS, FOV, (self.size, self.size))


@dataclass(frozen=True)
class Case(jobs.Case):
    """One edit of one scene.

    Args:
        method: a name of `SCENE_METHODS`, "source" or "truth".
        scene: a name of `synthetic_scenes.SCENES`.
        instruction: the first one of an exact edit of `EDITS`.
        seed: seed of the run.
        settings: other fields of `SceneRequest`, as pairs.
    """

    scene: str
    instruction: str

    @property
    def name(self) -> str:
        """The name of its images."""
        return seeded("-".join([self.method, self.scene, slug(self.instruction), *self.changes]), self.seed)

    @cached_property
    def part(self) -> str:
        """The name of its job, which changes with the default settings."""
        if self.method in REFERENCES:
            return self.name
        request = SceneRequest(self.instruction, self.method, seed=self.seed, **dict(self.settings))
        return f"{self.name}-{jobs.fingerprint(request)}"

    @property
    def edit(self) -> Edit:
        """The edit that the instruction asks for."""
        return next(edit for edit in EDITS.values() if edit.instructions[0] == self.instruction)


def fitted(setup: Setup, scene: str, out: Path) -> dict[str, Any]:
    """Photograph a scene and fit a field to it; both are kept beside `out`, for the edits."""
    folder = out.parent / "scenes" / scene
    draft = folder.with_name(f"{DRAFT}{os.getpid()}-{scene}")
    folder.parent.mkdir(parents=True, exist_ok=True)
    synthetic_scenes.make(scene, draft, setup.views, setup.held_out, setup.size)
    shutil.rmtree(folder, ignore_errors=True)
    draft.rename(folder)
    capture = _capture(folder)
    field = fit_scene(capture)
    save_state(field.state_dict(), folder / "fit.safetensors")
    save_turntable(field, out / f"source-{scene}.gif", ELEVATION, RADIUS, FOV)
    truth, seen = _truth(scene, setup), _seen(field, setup.around)
    return {"fit_psnr": held_out_psnr(field, capture), "novel_psnr": float(metrics.psnr(seen, truth).mean())}


def edited(setup: Setup, case: Case, out: Path) -> dict[str, Any]:
    """Edit a scene and measure it; write a strip of its views and, for some methods, a turntable."""
    capture, before = _kept(out.parent / "scenes" / case.scene)
    if case.method == "source":
        return _evaluated(setup, case, before, capture, out)
    result = edit_scene(
        capture, case.instruction, loaded(setup.prior, setup.load), case.method, fitted=before, seed=case.seed,
        **dict(case.settings),
    )  # fmt: skip
    found = _evaluated(setup, case, result.scene, capture, out)
    if case.method in TURNTABLES and not case.settings:
        save_turntable(result.scene, out / f"{case.name}.gif", ELEVATION, RADIUS, FOV)
    return {**found, **result.counts, "seconds": result.seconds}


def reference(setup: Setup, case: Case, out: Path) -> dict[str, Any]:
    """The reference edit through the editor's autoencoder: an upper bound for methods that edit latents."""
    exact = case.edit(_truth(case.scene, setup), unit=setup.size / 64)
    canvas = Canvas(editor(loaded(setup.prior, setup.load)), exact)
    return _measured(setup, case, canvas.decode(canvas.source), out)


def _evaluated(setup: Setup, case: Case, scene: Scene, capture: Capture, out: Path) -> dict[str, float]:
    """Metrics on novel views, and PSNR on the held-out photographs."""
    kept = list(capture.held_out)
    exact = case.edit(capture.images[kept], unit=setup.size / 64)
    held = metrics.psnr(_seen(scene, capture.cameras[kept]), exact)
    return {**_measured(setup, case, _seen(scene, setup.around), out), "held_psnr": float(held.mean())}


def _measured(setup: Setup, case: Case, made: Tensor, out: Path) -> dict[str, float]:
    """Metrics of images at the novel views; their strip is written."""
    save_strip(to_pil(made), out / f"{case.name}.png")
    source = _truth(case.scene, setup)
    circle = torch.cat([made, made[:1]])
    truth = case.edit(source, unit=setup.size / 64)
    return {
        **edit_metrics(source, made, truth, case.edit),
        "consistency": 100 * metrics.neighbor_consistency(circle),
        "view_distance": float(metrics.perceptual_distance(circle[:-1], circle[1:]).mean()),
    }


@torch.no_grad()
def _seen(scene: Scene, cameras: Cameras) -> Tensor:
    device = next(scene.parameters()).device
    views = [scene.render(cameras[k].to(device)).rgb.clamp(0, 1).cpu() for k in range(len(cameras))]
    return torch.cat(views)


@cache
def _truth(scene: str, setup: Setup) -> Tensor:
    """Novel views of a scene before any edit."""
    return synthetic_scenes.render(scene, setup.around).rgb


def _capture(folder: Path) -> Capture:
    return normalized(read_capture(folder))[0]


def _kept(folder: Path) -> tuple[Capture, Scene]:
    """The capture and the fit that `fitted` kept.

    Raises:
        ValueError: if there is no fit.
    """
    file = folder / "fit.safetensors"
    if not file.is_file():
        raise ValueError(f"{folder.name} was not fitted")
    capture = _capture(folder)
    return capture, fit_scene(capture, state=load_state(file))
