"""A scene, given as photographs with known cameras, edited by an instruction, so that it can be seen from new sides.

result = edit_scene("runs/scene-toys", "make it night", out="runs/night")
result.scene.render(orbit(8, elevation=20))

The photographs are fitted by a radiance field, views are edited together and the field is fitted to them, in rounds
(`scenes.run`).
"""

import copy
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from scoredistill.media.images import resized
from scoredistill.priors.base import Prior
from scoredistill.priors.counted import Counted
from scoredistill.priors.pipelines import prior_folder
from scoredistill.tasks.image_editing.canvas import Canvas, work_size
from scoredistill.tasks.scene_editing.output import SceneFolder, SceneResult
from scoredistill.tasks.scene_editing.request import SceneRequest
from scoredistill.tasks.scene_editing.run import SceneEditing, spread_over, started
from scoredistill.tasks.session import editor
from scoredistill.three_d.capture import Capture, normalized, read_capture
from scoredistill.three_d.fitting import FitStep, PosedImages, fit, held_out_psnr, scene_of
from scoredistill.three_d.scenes.base import Scene
from scoredistill.three_d.scenes.nerf import NeRF


def edit_scene(
    capture: str | Path | Capture,
    instruction: str,
    prior: str | Path | Prior = "emoji-edit",
    method: str = "csd",
    *,
    fitted: Scene | None = None,
    out: str | Path | None = None,
    resume: bool = False,
    progress: bool = False,
    callback: Callable[[FitStep, Scene], None] | None = None,
    dtype: str | torch.dtype | None = None,
    device: str | torch.device | None = None,
    **settings: Any,
) -> SceneResult:
    """Edit a scene.

    Args:
        capture: a folder with transforms.json or COLMAP's text files, or what `read_capture` gave.
        instruction: what to do.
        prior: for `load_prior`, or a loaded prior; it must be an instruction editor.
        method: a name of `SCENE_METHODS`.
        fitted: a scene that was fitted to the photographs before (`fit_scene`), in the world of `normalized(capture)`;
            it is not changed.
        out: folder for videos, mesh, images, settings and report; nothing is written without it.
        resume: go on with an interrupted run in `out`: a finished fit is kept.
        progress: show progress bars.
        callback: called with every finished step of fitting to edited views, and the scene.
        dtype, device: of the networks, for `load_prior`.
        **settings: other fields of `SceneRequest`.

    Raises:
        ValueError: for impossible settings or an unreadable capture, before the model is loaded.
        FloatingPointError: if the edit stops being finite.
    """
    name = str(prior) if isinstance(prior, (str, Path)) else getattr(prior, "name", type(prior).__name__)
    request = SceneRequest(instruction, method, name, **settings).complete()
    if isinstance(prior, (str, Path)):
        prior_folder(prior)
    given = capture if isinstance(capture, Capture) else read_capture(Path(capture), request.size)
    spread_over(len(given.training), request.use)
    folder = None if out is None else SceneFolder(Path(out), request, resume)
    model = editor(prior, name, dtype, device)
    if request.size is None:
        request = replace(request, size=min(*model.image_size, *given.cameras.size))
        if not isinstance(capture, Capture):
            given = read_capture(Path(capture), request.size)
    assert request.size is not None
    world, _ = normalized(_reduced(given, request.size))
    start, counted = time.perf_counter(), Counted(model)
    kept = None if folder is None else folder.open(world)
    before = fit_scene(world, request, progress, kept, model.device) if fitted is None else copy.deepcopy(fitted)
    before = before.to(model.device)
    if folder is not None:
        folder.fitted(before)
    psnr = held_out_psnr(before, world) if world.held_out else None
    if progress and psnr is not None:
        print(f"fit: {psnr:.1f} dB on {len(world.held_out)} held-out views")
    editing, views = _prepared(world, request, before, model, counted)
    history = _run(editing, folder, progress, callback)
    counted.add({"encoded": editing.canvas.encoded, "decoded": editing.canvas.decoded})
    result = SceneResult(
        editing.scene, before, world, editing.request, counted.counts(), psnr, editing.photographs.images, views,
        time.perf_counter() - start, history,
    )  # fmt: skip
    if folder is not None:
        folder.finish(result)
    return result


def fit_scene(
    capture: Capture,
    request: SceneRequest | None = None,
    progress: bool = False,
    state: dict[str, Any] | None = None,
    device: torch.device | str = "cpu",
) -> NeRF:
    """A radiance field fitted to the training views of a capture, with a background of its own.

    Args:
        capture: with its thing in the unit ball, see `normalized`.
        request: whose settings of the fit count; the usual ones by default.
        progress: show a progress bar.
        state: parameters of an earlier fit, which is then not repeated.
        device: of the scene.
    """
    from tqdm.auto import tqdm

    request = request or SceneRequest("look")
    photographs = PosedImages.of(capture).to(device)
    scene = scene_of(photographs, samples=request.samples, seed=request.seed, background=None).to(device)
    if state is not None:
        scene.load_state_dict(state)
        return scene
    rng = torch.Generator().manual_seed(request.seed)
    steps = fit(scene, photographs, steps=request.fit_steps, rays=request.rays, rng=rng)
    for _ in tqdm(steps, "fit", request.fit_steps, disable=not progress, unit="step"):
        pass
    return scene


def _reduced(capture: Capture, shorter: int) -> Capture:
    """The capture with images whose shorter side is so many pixels at most; smaller ones stay."""
    size = work_size(capture.cameras.size, shorter, 1, False)
    if size == capture.cameras.size:
        return capture
    alpha = None if capture.alpha is None else resized(capture.alpha, size)
    images, cameras = resized(capture.images, size), capture.cameras.resized(size)
    return replace(capture, images=images, cameras=cameras, alpha=alpha, depth=None)


def _prepared(
    world: Capture, request: SceneRequest, before: Scene, model: Any, counted: Counted
) -> tuple[SceneEditing, tuple[int, ...]]:
    """The edit, and which views of the capture it is about."""
    views = tuple(world.training[k] for k in spread_over(len(world.training), request.use))
    alpha = None if world.alpha is None else world.alpha[list(views)]
    photographs = PosedImages(world.images[list(views)].clone(), world.cameras[list(views)], alpha).to(model.device)
    canvas = Canvas(model, photographs.images)
    text = model.encode_text([request.instruction])
    scene = copy.deepcopy(before)
    return SceneEditing(started(request, photographs), scene, photographs, canvas, counted, text), views


def _run(
    editing: SceneEditing,
    folder: SceneFolder | None,
    progress: bool,
    callback: Callable[[FitStep, Scene], None] | None,
) -> list[dict[str, float]]:
    """The loss of every step."""
    from tqdm.auto import tqdm

    losses: list[Tensor] = []
    for step in tqdm(
        editing.steps(), editing.request.method, editing.request.edit_steps, disable=not progress, unit="step"
    ):
        losses.append(step.loss)
        if callback is not None:
            callback(step, editing.scene)
        if folder is not None:
            folder.after(step, editing.scene)
    values = torch.stack(losses).tolist()
    if not all(abs(v) < float("inf") for v in values):
        raise FloatingPointError("the fit to the edited views is not finite: use smaller guidance scales")
    return [{"loss": v} for v in values]
