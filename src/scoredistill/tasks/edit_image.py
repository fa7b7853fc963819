"""A photograph of any size, or a 360-degree panorama, edited by an instruction.

result = edit_image("valley.jpg", "make it night")
result.image.save("night.png")

The picture becomes a canvas of latents at the working size; overlapping windows of it are the particles of CSD-Edit;
the source's own detail comes back at full size (`editing.detail`).
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from scoredistill.loop import Step
from scoredistill.photograph import read_picture
from scoredistill.pictures import to_pil, to_tensor
from scoredistill.priors.base import Prior
from scoredistill.priors.counted import Counted
from scoredistill.priors.pipelines import load_prior, prior_folder
from scoredistill.tasks.editing import regions
from scoredistill.tasks.editing.canvas import Canvas, resized, work_size
from scoredistill.tasks.editing.detail import with_detail
from scoredistill.tasks.editing.folder import EditFolder
from scoredistill.tasks.editing.request import EditRequest
from scoredistill.tasks.editing.run import Edit, canvas_of, conditions, finite, optimised, sampled
from scoredistill.tasks.text_to_image import measure

WINDOWS = 4  # along the shorter side, at the default working size
MAX_ROWS = 64  # rows of one network call, unless the prior has a limit of its own


@dataclass(frozen=True)
class EditResult:
    """What came out.

    Attributes:
        image: the edited picture, of the source's size.
        source: the picture it was made from.
        work: the edit at the working size through the autoencoder, without the source's detail, [1, 3, h, w].
        request: every setting filled in.
        counts: network rows and calls, pictures encoded and decoded.
        seconds: wall time without loading the model.
        latents: the edited canvas.
        history: one row per step: t, grad_norm, the kernel's mean.
        update: root mean square of the change of the latents.
    """

    image: Image.Image
    source: Image.Image
    work: Float[Tensor, "1 3 h w"]
    request: EditRequest
    counts: dict[str, int]
    seconds: float
    latents: Tensor
    update: float
    history: list[dict[str, float]] = field(default_factory=list)


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
    """Edit a picture of any width and height.

    Args:
        image: a file or a PIL image.
        instruction: what to do; may be empty if there are regions.
        prior: for `load_prior`, or a loaded prior; it must be an instruction editor.
        method: a name of `EDIT_RECIPES`.
        out: folder for the pictures, settings and report; nothing is written without it.
        resume: go on with an interrupted run in `out`.
        progress: show a progress bar.
        callback: called with every finished step of methods that optimise.
        dtype, device: of the networks, for `load_prior`.
        **settings: other fields of `EditRequest`.

    Raises:
        ValueError: for impossible settings or an unreadable picture, before the model is loaded.
        FloatingPointError: if the latents stop being finite.
    """
    name = str(prior) if isinstance(prior, (str, Path)) else getattr(prior, "name", type(prior).__name__)
    request = EditRequest(instruction, method, name, **settings).complete()
    picture = read_picture(image)
    for text in request.regions:
        regions.parse(text, request.wrap)
    if isinstance(prior, (str, Path)):
        prior_folder(prior)
    folder = None if out is None else EditFolder(Path(out), request, resume)
    model = editor(prior, name, dtype, device)
    request = with_size(request, model, WINDOWS)
    state, history, spent = (None, [], 0.0) if folder is None else folder.open(picture)
    start, counted = time.perf_counter() - spent, Counted(model)
    counted.add(state["counts"] if state else {})
    full = to_tensor(picture)
    edit = _prepared(full, request, model, counted)
    latents = finite(_run(edit, state, history, counted, folder, start, progress, callback))
    work = edit.canvas.decode(latents)
    update = float((latents - edit.canvas.source).square().mean().sqrt())
    finished = to_pil(_finished(full, edit, work))[0]
    counted.add({"encoded": edit.canvas.encoded, "decoded": edit.canvas.decoded})
    result = EditResult(
        finished, picture, work, request, counted.counts(), time.perf_counter() - start, latents, update, history
    )
    if folder is not None:
        folder.finish(result)
    return result


def editor(prior: str | Path | Prior, name: str, dtype: Any = None, device: Any = None) -> Any:
    """A loaded editor, whose network calls are split so that memory is bounded.

    Raises:
        ValueError: the prior follows no instructions.
    """
    if not isinstance(prior, Prior):
        prior = load_prior(prior, dtype=dtype, device=device)
    if not getattr(prior, "editor", False):
        raise ValueError(f"{name} follows no instructions about a picture: use an editor such as emoji-edit")
    if getattr(prior, "max_rows", 1) is None:
        prior.max_rows = MAX_ROWS  # type: ignore[attr-defined]
    return prior


def with_size(request: EditRequest, prior: Any, windows: int) -> EditRequest:
    """The request with the working size filled in: so many of the model's pictures along the shorter side."""
    return replace(request, size=windows * min(prior.picture_size) if request.size is None else request.size)


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
    steps = optimised(edit, state)
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
