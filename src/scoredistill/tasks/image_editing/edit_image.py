"""A photograph of any size, or a 360-degree panorama, edited by an instruction.

result = edit_image("valley.jpg", "make it night")
result.image.save("night.png")

The image becomes a canvas of latents at the working size; overlapping windows of it are the particles of CSD-Edit;
the source's own detail comes back at full size (`editing.detail`).
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from scoredistill.loop import Step
from scoredistill.media.images import read_image, resized, to_pil, to_tensor
from scoredistill.priors.base import Prior
from scoredistill.priors.counted import Counted
from scoredistill.priors.pipelines import prior_folder
from scoredistill.tasks.image_editing import regions
from scoredistill.tasks.image_editing.canvas import Canvas, work_size
from scoredistill.tasks.image_editing.detail import with_detail
from scoredistill.tasks.image_editing.output import EditFolder, EditResult
from scoredistill.tasks.image_editing.request import EditRequest, with_size
from scoredistill.tasks.image_editing.run import Edit, canvas_of, conditions, finite, optimized, sampled
from scoredistill.tasks.session import editor, measure

WINDOWS = 4  # along the shorter side, at the default working size


def edit_image(
    image: str | Path | Image.Image,
    instruction: str,
    prior: str | Path | Prior = "emoji-edit",
    method: str = "csd",
    *,
    out: str | Path | None = None,
    resume: bool = False,
    progress: bool = False,
    callback: Callable[[Step], None] | None = None,
    dtype: str | torch.dtype | None = None,
    device: str | torch.device | None = None,
    **settings: Any,
) -> EditResult:
    """Edit an image of any width and height.

    Args:
        image: a file or a PIL image.
        instruction: what to do; may be empty if there are regions.
        prior: for `load_prior`, or a loaded prior; it must be an instruction editor.
        method: a name of `EDIT_RECIPES`.
        out: folder for the images, settings and report; nothing is written without it.
        resume: go on with an interrupted run in `out`.
        progress: show a progress bar.
        callback: called with every finished step of methods that optimize.
        dtype, device: of the networks, for `load_prior`.
        **settings: other fields of `EditRequest`.

    Raises:
        ValueError: for impossible settings or an unreadable image, before the model is loaded.
        FloatingPointError: if the latents stop being finite.
    """
    name = str(prior) if isinstance(prior, (str, Path)) else getattr(prior, "name", type(prior).__name__)
    request = EditRequest(instruction, method, name, **settings).complete()
    opened = read_image(image)
    for text in request.regions:
        regions.parse(text, request.wrap)
    if isinstance(prior, (str, Path)):
        prior_folder(prior)
    folder = None if out is None else EditFolder(Path(out), request, resume)
    model = editor(prior, name, dtype, device)
    request = with_size(request, model, WINDOWS)
    state, history, spent = (None, [], 0.0) if folder is None else folder.open(opened)
    start, counted = time.perf_counter() - spent, Counted(model)
    counted.add(state["counts"] if state else {})
    full = to_tensor(opened)
    edit = _prepared(full, request, model, counted)
    latents = finite(_run(edit, state, history, counted, folder, start, progress, callback))
    work = edit.canvas.decode(latents)
    update = float((latents - edit.canvas.source).square().mean().sqrt())
    finished = to_pil(_finished(full, edit, work))[0]
    counted.add({"encoded": edit.canvas.encoded, "decoded": edit.canvas.decoded})
    result = EditResult(
        finished, opened, work, request, counted.counts(), time.perf_counter() - start, latents, update, history
    )
    if folder is not None:
        folder.finish(result)
    return result


def _prepared(full: Tensor, request: EditRequest, prior: Any, counted: Counted) -> Edit:
    """The canvas at the working size, with its regions and instructions."""
    assert request.size is not None
    size = work_size((full.shape[-2], full.shape[-1]), request.size, prior.codec.factor, request.wrap)
    where = regions.make(request.instruction, request.regions, size, request.feather, request.wrap)
    canvas = Canvas(prior, resized(full, size), request.wrap)
    return Edit(request, canvas, counted, conditions(prior, where), where)


def _finished(full: Tensor, edit: Edit, work: Tensor) -> Tensor:
    """The edit at full size: with the source's detail, and where no region lies the source itself."""
    request = edit.request
    before = edit.canvas.decode(edit.canvas.source) if request.detail else work
    made = with_detail(full, before, work, request.detail, request.wrap)
    if edit.regions.everywhere:
        return made
    size = (full.shape[-2], full.shape[-1])
    shown = regions.make(request.instruction, request.regions, size, request.feather, request.wrap).shown
    return full + shown * (made - full)


def _run(
    edit: Edit,
    state: dict[str, Any] | None,
    history: list[dict[str, float]],
    counted: Counted,
    folder: EditFolder | None,
    start: float,
    progress: bool,
    callback: Callable[[Step], None] | None,
) -> Tensor:
    """The edited latents."""
    from tqdm.auto import tqdm

    if edit.request.recipe.estimator is None:
        return sampled(edit)
    steps = optimized(edit, state)
    bar = tqdm(steps, edit.request.method, None, initial=len(history), disable=not progress, unit="step")
    latents = edit.canvas.source
    for step in bar:
        bar.total = step.steps
        latents = canvas_of(step)
        history.append(measure(step))
        if callback is not None:
            callback(step)
        if folder is not None:
            folder.after(step, edit.canvas, history, counted.counts(), time.perf_counter() - start)
    return latents
