"""The command `image`."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tyro.conf import OmitArgPrefixes, Positional

from scoredistill.cli.options import CommandPlan, CommandRun, cost, ending, quoted, values
from scoredistill.cli.plan import IMAGE_FILES, planned
from scoredistill.cli.runs import Job, carried_out, variants
from scoredistill.files import slug
from scoredistill.recipe import named
from scoredistill.tasks.image_generation.request import Request
from scoredistill.tasks.presets import at_preset


@dataclass(frozen=True, kw_only=True)
class ImageCommand(Request):
    """The request as the command line takes it."""

    prompt: Positional[str] = ""


def image(
    image: OmitArgPrefixes[ImageCommand], plan: OmitArgPrefixes[CommandPlan], run: OmitArgPrefixes[CommandRun]
) -> dict[str, Any]:
    """Generate images from a prompt by score distillation: PNGs, a video of the optimization, metrics and a report.

    Args:
        image: What to generate, and how. "auto" is the default of the method.
        plan: Which runs are made.
        run: How the run is carried out.
    """
    image = replace(image, method=named(image.method))
    asked = [at_preset(each, plan.preset, "steps", "follow") for each in variants(image, "prompt", plan)]
    jobs = [Job(each, each.prompt, "image", f"-{slug(each.method)}") for each in asked]
    return planned(jobs, run, IMAGE_FILES) if plan.dry_run else carried_out(jobs, run, _make)


def _make(request: ImageCommand, run: CommandRun, out: Path) -> dict[str, Any]:
    from scoredistill.tasks import text_to_image

    result = text_to_image(**{**values(request, run), "out": out})
    count = len(result.images)
    what = f"{count} image(s), {cost(result.counts, result.seconds)}"
    more = [quoted("image", request.prompt, "--seeds", 4), quoted("object", request.prompt)]
    return ending(what, out, result.verdict, [out / f"image_{i:02d}.png" for i in range(count)], more)
