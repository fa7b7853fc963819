"""Editing of a 3-D scene, given as photographs with known cameras, by an instruction.

result = edit_scene("runs/scene-toys", "make it night", out="runs/night")
result.scene.render(orbit(8, elevation=20))

A radiance field is fitted to the photographs; then, in rounds, views are edited together and the field is fitted to
them (`run`).
"""

import copy
from dataclasses import replace
from pathlib import Path

from torch import Tensor

from scoredistill.media.images import resized
from scoredistill.priors.base import Editor
from scoredistill.tasks import checks
from scoredistill.tasks.image_editing.canvas import work_size
from scoredistill.tasks.known_words import verdict_on_edit, warn_of_unknown
from scoredistill.tasks.request import requested, task
from scoredistill.tasks.scene_editing.output import SceneDirectory, SceneResult
from scoredistill.tasks.scene_editing.recipes import ONE_VIEW
from scoredistill.tasks.scene_editing.request import SceneArguments, SceneRequest, SceneSettings
from scoredistill.tasks.scene_editing.run import edit_fitted, fit_scene, prepared, spread_over, views_to_edit
from scoredistill.tasks.session import Session, editor
from scoredistill.tasks.three_d_output import warn_of_lacking
from scoredistill.three_d.capture import Capture, capture_shape, normalized, read_capture
from scoredistill.three_d.fitting import held_out_psnr
from scoredistill.three_d.scenes.base import Scene


@task(SceneArguments)
def edit_scene(asked: SceneArguments) -> SceneResult:
    """Edit a scene by an instruction.

    Raises:
        ValueError: for impossible settings or an invalid capture, before the prior is loaded; for a corrupt image,
            before the fit.
        FloatingPointError: if the edit is not finite.
    """
    request = requested(SceneRequest, asked, asked.prior)
    request.complete()  # refuses what no prior could do
    checks.steps_to_skip(asked.on_nan, request.method == ONE_VIEW, request.method)
    training, full = _shape(asked.capture, request.outside)
    spread_over(training, request.use)
    directory = SceneDirectory.of(asked, request)
    if directory is not None:
        directory.keep_safe(asked.capture)
        warn_of_lacking()
    prior = editor(asked.prior, asked)
    settings = request.complete(min(*prior.image_size, *full), training)
    unknown = warn_of_unknown(prior, settings.instruction)
    world, _ = normalized(_reduced(_read(asked.capture, settings.size, settings.outside), settings.size))
    if asked.progress:
        sizes = [f"{width}x{height}" for height, width in (full, world.cameras.size)]
        print(f"{len(world)} photographs of {sizes[0]} pixels, edited at {sizes[1]}: size sets the shorter side")
    with Session(asked, prior, directory) as session:
        opening = lambda: (None, None) if directory is None else directory.open(settings, world, **session.machine)
        fit, done = session.opened(settings, opening)
        settings = replace(settings, views=min(settings.views, settings.use))
        session.start(0.0 if done is None else done["seconds"])
        before: Scene
        if asked.fitted is None:
            before = fit_scene(world, settings, asked.progress, fit, prior.device)
        else:
            before = copy.deepcopy(asked.fitted).to(prior.device)
        if directory is not None and fit is None:
            directory.keep_fit(before)
        seen = world.held_out and (world.mask is None or bool(world.mask[list(world.held_out)].any()))
        psnr = held_out_psnr(before, world) if seen else None
        if asked.progress and psnr is not None:
            print(f"fit: {psnr:.1f} dB on {len(world.held_out)} held-out views")
        if done is None:
            scene, edited, history = _edited(asked, session, directory, prior, world, settings, before)
        else:
            scene, edited, history = copy.deepcopy(before), done["edited"].to(prior.device), done["history"]
            scene.load_state_dict(done["scene"])
            session.counted.add(done["counts"])
        seconds, views = session.seconds, views_to_edit(world, settings)
        verdict = verdict_on_edit(prior, unknown, world.images[list(views)], edited) if unknown else ""
        result = SceneResult(
            scene, before, world, settings, session.counts, psnr, edited, views, seconds, history, verdict
        )
        return session.finish(result)


def _edited(
    asked: SceneArguments, session: Session[SceneResult], directory: SceneDirectory | None, prior: Editor,
    world: Capture, settings: SceneSettings, before: Scene,
) -> tuple[Scene, Tensor, list[dict[str, float]]]:  # fmt: skip
    """The edited scene, the views as they were edited last, and the metrics; kept in the directory."""
    editing, _ = prepared(world, settings, before, prior, session.counted)
    editing = replace(editing, on_nan=asked.on_nan)
    record = None if directory is None else directory.record
    history = edit_fitted(editing, asked.progress, [each for each in (asked.callback, record) if each is not None])
    session.counted.add({"encoded": editing.canvas.encoded, "decoded": editing.canvas.decoded})
    scene, edited = editing.scene, editing.photographs.images
    if directory is not None:
        directory.keep_edit(scene, edited, history, session.counts, session.seconds)
    return scene, edited, history


def _shape(capture: str | Path | Capture, outside: bool) -> tuple[int, tuple[int, int]]:
    """Number of images for training, and (height, width) of all."""
    if isinstance(capture, Capture):
        return len(capture.training), capture.cameras.size
    return capture_shape(capture, outside=outside)


def _read(capture: str | Path | Capture, size: int | None, outside: bool) -> Capture:
    """The capture, read with images of about the wanted size if it is a directory."""
    return capture if isinstance(capture, Capture) else read_capture(Path(capture), size, outside=outside)


def _reduced(capture: Capture, shorter: int) -> Capture:
    """The capture with images whose shorter side has at most so many pixels."""
    size = work_size(capture.cameras.size, shorter, 1, False)
    if size == capture.cameras.size:
        return capture
    alpha = None if capture.alpha is None else resized(capture.alpha, size)
    mask = None if capture.mask is None else (resized(capture.mask, size) > 1 - 1e-4).to(capture.mask)
    images, cameras = resized(capture.images, size), capture.cameras.resized(size)
    return replace(capture, images=images, cameras=cameras, alpha=alpha, depth=None, mask=mask)
