"""The command `image`."""

from dataclasses import dataclass, replace

from tyro.conf import OmitArgPrefixes, Positional

from scoredistill.cli.options import CommandRun, cost, ending, values
from scoredistill.files import slug
from scoredistill.recipe import named
from scoredistill.tasks.image_generation.request import Request
from scoredistill.tasks.output_paths import reserved


@dataclass(frozen=True, kw_only=True)
class ImageCommand(Request):
    """The request as the command line takes it."""

    prompt: Positional[str]


def image(image: OmitArgPrefixes[ImageCommand], run: OmitArgPrefixes[CommandRun]) -> None:
    """Generate images from a prompt by score distillation: PNGs, a video of the optimization, metrics and a report.

    Args:
        image: What to generate, and how. "auto" is the default of the method.
        run: How the run is carried out.
    """
    from scoredistill.tasks import text_to_image

    image = replace(image, method=named(image.method))
    with reserved(run.out, image.prompt, "image", f"-{slug(image.method)}", run.resume, values(image)) as out:
        result = text_to_image(**{**values(image, run), "out": out})
        ending(f"{len(result.images)} image(s), {cost(result.counts, result.seconds)}", out, result.verdict)
