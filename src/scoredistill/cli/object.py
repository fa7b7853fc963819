"""The command `object`."""

from dataclasses import dataclass, replace

from tyro.conf import OmitArgPrefixes, Positional

from scoredistill.cli.live_view import Watch
from scoredistill.cli.options import CommandRun, LiveView, cost, ending, values
from scoredistill.files import slug
from scoredistill.recipe import named
from scoredistill.tasks.object_generation.request import ObjectRequest
from scoredistill.tasks.output_paths import reserved


@dataclass(frozen=True, kw_only=True)
class ObjectCommand(ObjectRequest):
    """The request as the command line takes it."""

    prompt: Positional[str]


def object_(
    object: OmitArgPrefixes[ObjectCommand], live: OmitArgPrefixes[LiveView], run: OmitArgPrefixes[CommandRun]
) -> None:
    """Generate a 3-D object from a prompt: mesh or splats, turntable videos, depths, normals and a report.

    Args:
        object: What to generate, and how. "auto" is the default of the method or of the prior.
        live: Live view in a browser.
        run: How the run is carried out.
    """
    from scoredistill.tasks import text_to_3d

    object = replace(object, method=named(object.method))
    with (
        Watch(live.page, object.prompt) as watch,
        reserved(run.out, object.prompt, "object", f"-3d-{slug(object.method)}", run.resume, values(object)) as out,
    ):
        made = text_to_3d(**{**values(object, run), "out": out, "callback": watch})
        ending(cost(made.counts, made.seconds), out, made.verdict)
        watch.stay(made.scene)
