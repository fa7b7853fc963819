"""Text to vector graphics, by score distillation of Bezier paths.

result = text_to_svg("a rocket")
Path("rocket.svg").write_text(result.svgs[0])
"""

from dataclasses import replace
from pathlib import Path

from scoredistill.generators import VectorGraphics
from scoredistill.media.svg import read_svg
from scoredistill.tasks import checks
from scoredistill.tasks.known_words import verdict_on_images, warn_of_unknown
from scoredistill.tasks.request import requested, task
from scoredistill.tasks.run_config import digest
from scoredistill.tasks.session import StepSession, text_prior
from scoredistill.tasks.vector_graphics.output import VectorDirectory, VectorResult, icon_grid, rendered
from scoredistill.tasks.vector_graphics.request import VectorArguments, VectorRequest
from scoredistill.tasks.vector_graphics.run import LEAST, VectorOptimization
from scoredistill.tasks.vector_graphics.starts import start


@task(VectorArguments)
def text_to_svg(asked: VectorArguments) -> VectorResult:
    """Generate icons of prompts as vector graphics.

    Raises:
        ValueError: for impossible settings, before the prior is loaded.
        FloatingPointError: if gradients or icons are not finite.
    """
    prompts = (asked.prompts,) if isinstance(asked.prompts, str) else tuple(asked.prompts)
    given = replace(asked, prompts=prompts, init=str(asked.init))
    settings = requested(VectorRequest, given, asked.prior).complete()
    checks.packages(settings)
    checks.steps_to_skip(asked.on_nan, settings.recipe is None, settings.method)
    facts = {} if settings.file is None else {"drawing": digest(_read(settings.file))}
    directory = VectorDirectory.of(asked, settings)
    if directory is not None and settings.file is not None:
        directory.keep_safe(settings.file)
    prior = text_prior(asked.prior, asked)
    unknown = warn_of_unknown(prior, *settings.prompts)
    with StepSession(asked, prior, directory) as session:
        session.begin(settings, **facts)
        graphics = start(settings, prior, session.counted if session.state is None else prior)
        if settings.recipe is not None:
            run = VectorOptimization(settings, settings.recipe, prior, session.counted, graphics, asked.on_nan)
            session.follow(
                run.steps(session.state), settings.method, lambda step: icon_grid(rendered(graphics, small=True)),
                asked.callback,
            )  # fmt: skip
        drawings = graphics.drawings(LEAST)
        images = rendered(VectorGraphics(drawings, graphics.size))
        verdict = verdict_on_images(prior, unknown, images) if len(settings.prompts) == 1 else ""
        result = VectorResult(drawings, images, settings, session.counts, session.seconds, session.history, verdict)
        return session.finish(result)


def _read(path: Path) -> bytes:
    """The bytes of an SVG file that can be read.

    Raises:
        ValueError: if it cannot.
    """
    read_svg(path)
    return path.read_bytes()
