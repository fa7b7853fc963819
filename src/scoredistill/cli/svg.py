"""The command `svg`."""

from dataclasses import dataclass, replace
from typing import Any

from tyro.conf import OmitArgPrefixes, Positional

from scoredistill.cli.options import CommandRun, cost, ending, values
from scoredistill.files import slug
from scoredistill.recipe import named
from scoredistill.tasks.output_paths import reserved
from scoredistill.tasks.vector_graphics.request import VectorRequest


@dataclass(frozen=True, kw_only=True)
class SvgCommand(VectorRequest):
    """The request as the command line takes it.

    Attributes:
        prompts: What the icon shows; several prompts make a set of icons.
    """

    prompts: Positional[tuple[str, ...]]
    init: str = "sample"


def svg(svg: OmitArgPrefixes[SvgCommand], run: OmitArgPrefixes[CommandRun]) -> dict[str, Any]:
    """Generate icons from prompts as vector graphics by score distillation: SVG files of paths, PNGs and a report.

    Args:
        svg: What to generate, and how. "auto" is the default of the method.
        run: How the run is carried out.
    """
    from scoredistill.tasks import text_to_svg

    svg = replace(svg, method=named(svg.method))
    about = " ".join(svg.prompts)
    with reserved(run.out, about, "svg", f"-svg-{slug(svg.method)}", run.resume, values(svg)) as out:
        result = text_to_svg(**{**values(svg, run), "out": out})
        paths = sum(len(drawing.paths) for drawing in result.drawings)
        what = f"{len(result.drawings)} icon(s) of {paths} paths, {cost(result.counts, result.seconds)}"
        return ending(what, out, result.verdict, sorted(out.glob("*.svg")))
