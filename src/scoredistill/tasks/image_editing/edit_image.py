"""Editing of an image of any size, or of a 360-degree panorama, by an instruction.

result = edit_image("valley.jpg", "make it night")
result.image.save("night.png")

The image becomes a canvas of latents at the working size; overlapping windows of it are the particles of CSD-Edit;
the source's own detail is restored at full size (`detail`).

A source with transparency is edited over white. The edit, as an affine function of the colors around every pixel, is
then applied to the colors without the white, and the result has the alpha of the source.
"""

from dataclasses import replace

from PIL import Image
from torch import Tensor

from scoredistill.loop import Step
from scoredistill.media.images import read_image, resized, to_pil, to_tensor
from scoredistill.media.limits import EDITING
from scoredistill.priors.base import Editor, Prior
from scoredistill.tasks import checks
from scoredistill.tasks.image_editing import regions
from scoredistill.tasks.image_editing.canvas import Canvas, work_size
from scoredistill.tasks.image_editing.detail import with_detail
from scoredistill.tasks.image_editing.output import EditDirectory, EditResult
from scoredistill.tasks.image_editing.request import EditArguments, EditRequest, EditSettings
from scoredistill.tasks.image_editing.run import Edit, canvas_of, conditions, finite, negative_of, optimized, sampled
from scoredistill.tasks.known_words import verdict_on_edit, warn_of_unknown
from scoredistill.tasks.request import requested, task
from scoredistill.tasks.run_config import digest
from scoredistill.tasks.session import StepSession, editor


@task(EditArguments)
def edit_image(asked: EditArguments) -> EditResult:
    """Edit an image of any width and height by an instruction.

    Raises:
        ValueError: for impossible settings or an unreadable image, before the prior is loaded.
        FloatingPointError: if the latents are not finite.
    """
    request = requested(EditRequest, asked, asked.prior)
    request.complete()  # refuses what no prior could do
    checks.steps_to_skip(asked.on_nan, request.recipe.estimator is None, request.method)
    source = read_image(asked.image, EDITING, transparency=True)
    regions.check(request.regions, request.wrap)
    directory = EditDirectory.of(asked, request)
    if directory is not None:
        directory.check_space(1e6 + 8 * source.width * source.height)  # the source, the edit, a report with both
        directory.keep_safe(asked.image, *regions.masks(request.regions, request.wrap))
    prior = editor(asked.prior, asked)
    settings = request.complete(min(prior.image_size))
    unknown = warn_of_unknown(prior, settings.instruction, *regions.instructions(settings.regions, settings.wrap))
    with StepSession(asked, prior, directory) as session:
        session.begin(settings, image=digest(source.tobytes()))
        if directory is not None:
            directory.keep_source(source, asked.image)
        full = to_tensor(source)
        edit = replace(_prepared(full, settings, prior, session.counted), on_nan=asked.on_nan)
        if settings.recipe.estimator is None:
            latents = sampled(edit)
        else:
            steps = optimized(edit, session.state, check=1)
            latents = canvas_of(
                session.follow(steps, settings.method, lambda step: _preview(step, edit), asked.callback)
            )
        latents = finite(latents)
        work = edit.canvas.decode(latents)
        update = float((latents - edit.canvas.source).square().mean().sqrt())
        image = to_pil(_finished(_colors(source), edit, work))[0]
        if source.mode == "RGBA":
            image.putalpha(source.getchannel("A"))
        session.counted.add({"encoded": edit.canvas.encoded, "decoded": edit.canvas.decoded})
        result = EditResult(
            image, source, work, settings, session.counts, session.seconds, latents, update, session.history,
            "" if settings.regions else verdict_on_edit(prior, unknown, _small(full, work), work),
        )  # fmt: skip
        return session.finish(result)


def _small(full: Tensor, work: Tensor) -> Tensor:
    """The source at the size of the work."""
    return resized(full, (work.shape[-2], work.shape[-1]))


def _colors(source: Image.Image) -> Tensor:
    """The colors of a source without its alpha, [1, 3, h, w]."""
    return to_tensor(source.convert("RGB"))


def _prepared(full: Tensor, settings: EditSettings, prior: Editor, queried: Prior) -> Edit:
    """The canvas at the working size, with its regions and instructions."""
    size = work_size((full.shape[-2], full.shape[-1]), settings.size, prior.factor, settings.wrap)
    where = regions.make(settings.instruction, settings.regions, size, settings.feather, settings.wrap)
    canvas = Canvas(prior, resized(full, size), settings.wrap)
    return Edit(settings, canvas, queried, conditions(prior, where), where, negative=negative_of(prior, settings))


def _preview(step: Step, edit: Edit) -> Image.Image:
    """The edit after a step, at the working size."""
    return to_pil(edit.canvas.uncounted().decode(canvas_of(step)))[0]


def _finished(full: Tensor, edit: Edit, work: Tensor) -> Tensor:
    """The edit at full size: with the source's detail, and the source itself outside the regions."""
    settings = edit.request
    before = edit.canvas.decode(edit.canvas.source) if settings.detail else work
    made = with_detail(full, before, work, settings.detail, settings.wrap)
    if edit.regions.everywhere:
        return made
    size = (full.shape[-2], full.shape[-1])
    shown = regions.make(settings.instruction, settings.regions, size, settings.feather, settings.wrap).shown
    return full + shown * (made - full)
