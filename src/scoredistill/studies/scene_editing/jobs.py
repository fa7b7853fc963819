"""What the study measures, one function a job: a scene fitted to its photographs, its edits, and what they should be.

The scenes are rendered (`studio`), so the truth is known from any side: an instruction's own function, applied to true
images. Everything is judged on views that were never photographed, at equal steps of a circle.
"""

import os
import shutil
import zlib
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from scoredistill.checkpoint import load_state, save_state
from scoredistill.datasets import synthetic_scenes as studio
from scoredistill.datasets.procedural_edits import EDITS, Edit
from scoredistill.media.images import to_pil
from scoredistill.metrics import edits as figures
from scoredistill.studies.harness.setting import loaded, slug
from scoredistill.studies.harness.turntables import strip, video
from scoredistill.tasks.image_editing.canvas import Canvas
from scoredistill.tasks.scene_editing.edit_scene import edit_scene, fit_scene
from scoredistill.tasks.scene_editing.request import SceneRequest
from scoredistill.tasks.session import editor
from scoredistill.three_d.camera import Cameras, orbit
from scoredistill.three_d.capture import Capture, normalized, read_capture
from scoredistill.three_d.fitting import held_out_psnr
from scoredistill.three_d.scenes.base import Scene

LOOKS, ELEVATION, RADIUS, FOV = 12, 20.0, 3.0, 40.0  # views that are judged
VIDEOED = ("one_view", "csd")


@dataclass(frozen=True)
class World:
    """What all jobs of a study share.

    Args:
        prior: name or folder of the editor.
        size: side of photographs and of judged views, in pixels.
        views: photographs of a scene that are edited.
        held_out: further ones, to judge by.
    """

    prior: str
    size: int = 64
    views: int = 40
    held_out: int = 8

    @property
    def around(self) -> Cameras:
        """Where the judges stand."""
        return orbit(LOOKS, ELEVATION, RADIUS, FOV, (self.size, self.size))


@dataclass(frozen=True)
class Case:
    """One edit of one scene.

    Args:
        method: a name of `SCENE_METHODS`, "source" or "truth".
        scene: a name of `studio.SCENES`.
        instruction: the first one of an exact edit of `EDITS`.
        seed: of the run.
        settings: other fields of `SceneRequest`, as pairs.
    """

    method: str
    scene: str
    instruction: str
    seed: int = 0
    settings: tuple[tuple[str, Any], ...] = ()

    @property
    def name(self) -> str:
        """Of its images."""
        extra = [f"{k}{v}" for k, v in self.settings]
        seeds = [f"s{self.seed}"] if self.seed else []
        return "-".join([self.method, self.scene, slug(self.instruction), *extra, *seeds])

    @cached_property
    def part(self) -> str:
        """Of its part: another one as soon as the usual settings change."""
        if self.method in ("source", "truth"):
            return self.name
        request = SceneRequest(self.instruction, self.method, seed=self.seed, **dict(self.settings))
        return f"{self.name}-{zlib.crc32(repr(request).encode()):08x}"

    @property
    def edit(self) -> Edit:
        """The edit that the instruction asks for."""
        return next(edit for edit in EDITS.values() if edit.instructions[0] == self.instruction)


def fitted(world: World, scene: str, out: Path) -> dict[str, Any]:
    """Photograph a scene and fit a field to it; both are kept beside `out`, for the edits."""
    folder = out.parent / "scenes" / scene
    draft = folder.with_name(f".{scene}.{os.getpid()}")
    studio.make(scene, draft, world.views, world.held_out, world.size)
    shutil.rmtree(folder, ignore_errors=True)
    draft.rename(folder)
    capture = _capture(folder)
    field = fit_scene(capture)
    save_state(field.state_dict(), folder / "fit.safetensors")
    video(field, out / f"source-{scene}.gif", ELEVATION, RADIUS, FOV)
    truth, seen = _truth(scene, world), _seen(field, world.around)
    return {"fit_psnr": held_out_psnr(field, capture), "novel_psnr": float(figures.psnr(seen, truth).mean())}


def edited(world: World, case: Case, out: Path) -> dict[str, Any]:
    """Edit a scene and measure it; a strip of its views, and of some methods a video, are left in `out`."""
    capture, before = _kept(out.parent / "scenes" / case.scene)
    if case.method == "source":
        return _judged(world, case, before, capture, out)
    result = edit_scene(
        capture, case.instruction, loaded(world.prior), case.method, fitted=before, seed=case.seed,
        **dict(case.settings),
    )  # fmt: skip
    found = _judged(world, case, result.scene, capture, out)
    if case.method in VIDEOED and not case.seed and not case.settings:
        video(result.scene, out / f"{case.name}.gif", ELEVATION, RADIUS, FOV)
    return {**found, **result.counts, "seconds": result.seconds}


def true(world: World, case: Case, out: Path) -> dict[str, Any]:
    """The true edit as far as the editor's autoencoder can show it: nobody who edits latents gets above that."""
    exact = case.edit(_truth(case.scene, world), unit=world.size / 64)
    canvas = Canvas(editor(loaded(world.prior)), exact)
    return _figures(world, case, canvas.decode(canvas.source), out)


def _judged(world: World, case: Case, scene: Scene, capture: Capture, out: Path) -> dict[str, float]:
    """Figures on novel views, and PSNR on the held-out photographs."""
    kept = list(capture.held_out)
    exact = case.edit(capture.images[kept], unit=world.size / 64)
    held = figures.psnr(_seen(scene, capture.cameras[kept]), exact)
    return {**_figures(world, case, _seen(scene, world.around), out), "held_psnr": float(held.mean())}


def _figures(world: World, case: Case, made: Tensor, out: Path) -> dict[str, float]:
    """Figures of images from around; their strip is written."""
    strip(to_pil(made)).save(draft := out / f".{case.name}.{os.getpid()}.png")
    draft.replace(out / f"{case.name}.png")
    source = _truth(case.scene, world)
    circle = torch.cat([made, made[:1]])
    texts = ("a picture", f"a picture, {case.edit.caption}")
    truth = case.edit(source, unit=world.size / 64)
    return {
        "truth_psnr": float(figures.psnr(made, truth).clamp(max=99).mean()),
        "direction": 100 * float(figures.directional_similarity(source, made, *texts).mean()),
        "source": 100 * float(figures.source_similarity(source, made).mean()),
        "consistency": 100 * figures.neighbor_consistency(circle),
        "view_distance": float(figures.perceptual_distance(circle[:-1], circle[1:]).mean()),
    }


@torch.no_grad()
def _seen(scene: Scene, cameras: Cameras) -> Tensor:
    device = next(scene.parameters()).device
    views = [scene.render(cameras[k].to(device)).rgb.clamp(0, 1).cpu() for k in range(len(cameras))]
    return torch.cat(views)


@cache
def _truth(scene: str, world: World) -> Tensor:
    """True images of a scene from around, before any edit."""
    return studio.render(scene, world.around).rgb


def _capture(folder: Path) -> Capture:
    return normalized(read_capture(folder))[0]


def _kept(folder: Path) -> tuple[Capture, Scene]:
    """What `fitted` left.

    Raises:
        ValueError: it left nothing.
    """
    file = folder / "fit.safetensors"
    if not file.is_file():
        raise ValueError(f"{folder.name} was not fitted")
    capture = _capture(folder)
    return capture, fit_scene(capture, state=load_state(file))
