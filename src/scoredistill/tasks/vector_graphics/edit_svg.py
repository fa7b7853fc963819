"""Editing of vector graphics by an instruction: CSD-Edit on paths.

result = edit_svg("rocket.svg", "make it red")
Path("red.svg").write_text(result.svg)
"""

from scoredistill.generators import VectorGraphics
from scoredistill.media.images import to_tensor
from scoredistill.media.svg import Drawing, read_svg, to_svg
from scoredistill.tasks.known_words import verdict_on_edit, warn_of_unknown
from scoredistill.tasks.request import requested, task
from scoredistill.tasks.run_config import digest
from scoredistill.tasks.session import StepSession, editor
from scoredistill.tasks.vector_graphics.output import VectorEditDirectory, VectorEditResult, rendered
from scoredistill.tasks.vector_graphics.request import VectorEditArguments, VectorEditRequest
from scoredistill.tasks.vector_graphics.run import LEAST, VectorEdit


@task(VectorEditArguments)
def edit_svg(asked: VectorEditArguments) -> VectorEditResult:
    """Edit a vector drawing by an instruction; its paths stay, their shapes and colors change.

    Raises:
        ValueError: for impossible settings or an unreadable SVG, before the prior is loaded.
        FloatingPointError: if gradients or paths are not finite.
    """
    request = requested(VectorEditRequest, asked, asked.prior)
    request.complete(side=1)  # refuses what no prior could do
    source = asked.source if isinstance(asked.source, Drawing) else read_svg(asked.source)
    directory = VectorEditDirectory.of(asked, request)
    if directory is not None:
        directory.keep_safe(asked.source)
    prior = editor(asked.prior, asked)
    settings = request.complete(min(prior.image_size))
    unknown = warn_of_unknown(prior, settings.instruction)
    with StepSession(asked, prior, directory) as session:
        session.begin(settings, drawing=digest(to_svg(source).encode()))
        size = _size(source, settings.size, prior.image_size)
        graphics = VectorGraphics([source], size, opaque=True).to(prior.device)
        before = rendered(graphics)[0]
        steps = VectorEdit(settings, prior, session.counted, graphics, asked.on_nan).steps(session.state)
        session.follow(steps, settings.method, lambda step: rendered(graphics, small=True)[0], asked.callback)
        drawing = graphics.drawings(LEAST)[0]
        after = rendered(VectorGraphics([drawing], graphics.size))[0]
        small = [to_tensor(image.resize(prior.image_size[::-1])) for image in (before, after)]
        verdict = verdict_on_edit(prior, unknown, small[0], small[1])
        result = VectorEditResult(
            drawing, after, source, before, settings, session.counts, session.seconds, session.history, verdict
        )
        return session.finish(result)


def _size(drawing: Drawing, shorter: int, least: tuple[int, int]) -> tuple[int, int]:
    """(height, width) of the rendering that is edited: at least the model's own."""
    width, height = drawing.size
    factor = shorter / min(width, height)
    return max(least[0], round(height * factor)), max(least[1], round(width * factor))
