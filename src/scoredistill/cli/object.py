"""The command `object`."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tyro.conf import OmitArgPrefixes, Positional

from scoredistill.cli.live_view import Watch
from scoredistill.cli.options import CommandPlan, CommandRun, LiveView, cost, ending, values
from scoredistill.cli.plan import OBJECT_FILES, planned
from scoredistill.cli.runs import Job, carried_out, variants
from scoredistill.files import slug
from scoredistill.recipe import named
from scoredistill.tasks.object_generation.request import ObjectRequest
from scoredistill.tasks.presets import at_preset


@dataclass(frozen=True, kw_only=True)
class ObjectCommand(ObjectRequest):
    """The request as the command line takes it."""

    prompt: Positional[str] = ""


def object_(
    object: OmitArgPrefixes[ObjectCommand],
    plan: OmitArgPrefixes[CommandPlan],
    live: OmitArgPrefixes[LiveView],
    run: OmitArgPrefixes[CommandRun],
) -> dict[str, Any]:
    """Generate a 3-D object from a prompt: mesh or splats, turntable videos, depths, normals and a report.

    Args:
        object: What to generate, and how. "auto" is the default of the method or of the prior.
        plan: Which runs are made.
        live: Live view in a browser.
        run: How the run is carried out.
    """
    object = replace(object, method=named(object.method))
    asked = [at_preset(each, plan.preset, "steps", least=4) for each in variants(object, "prompt", plan)]
    jobs = [Job(each, each.prompt, "object", f"-3d-{slug(each.method)}") for each in asked]
    if plan.dry_run:
        return planned(jobs, run, OBJECT_FILES)
    if live.view and len(jobs) > 1:
        raise ValueError("--view shows one object: leave it out, or give one prompt and one seed")
    with Watch(live.page, object.prompt) as watch:

        def make(request: ObjectCommand, run: CommandRun, out: Path) -> dict[str, Any]:
            from scoredistill.tasks import text_to_3d

            made = text_to_3d(**{**values(request, run), "out": out, "callback": watch})
            results = [path for path in (out / "mesh.glb", out / "splats.ply", out / "turntable.mp4") if path.is_file()]
            answer = ending(cost(made.counts, made.seconds), out, made.verdict, results)
            watch.stay(made.scene)
            return answer

        return carried_out(jobs, run, make)
