"""The command `texture`."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tyro.conf import OmitArgPrefixes, Positional

from scoredistill.cli.live_view import Watch
from scoredistill.cli.options import CommandRun, LiveView, cost, ending, values
from scoredistill.files import slug
from scoredistill.recipe import named
from scoredistill.tasks.output_paths import reserved
from scoredistill.tasks.texturing.request import TextureOptions


@dataclass(frozen=True, kw_only=True)
class TextureCommand(TextureOptions):
    """The request as the command line takes it.

    Attributes:
        mesh: A .glb, .gltf, .obj, .ply, .stl or .off file.
        prompt: What it should look like, for example "a basketball".
        method: sds (score distillation sampling), csd (views share scores), msd (mean-shift distillation), sdi, or a
            method of your own as FILE.py:NAME.
        prior: emoji (bundled), a directory with a diffusers pipeline, a .safetensors file, or a hub name.
    """

    mesh: Positional[Path]
    prompt: Positional[str]
    method: str = "sds"
    prior: str = "emoji"


def texture(
    texture: OmitArgPrefixes[TextureCommand], live: OmitArgPrefixes[LiveView], run: OmitArgPrefixes[CommandRun]
) -> dict[str, Any]:
    """Texture a mesh by a prompt: the mesh with its texture, turntable videos and a report.

    Args:
        texture: What to texture, and how. "auto" is the default of the method or of the prior.
        live: Live view in a browser.
        run: How the run is carried out.
    """
    from scoredistill.tasks import texture_mesh

    texture = replace(texture, method=named(texture.method))
    about = f"{texture.mesh.stem} {texture.prompt}"
    asked = {name: value for name, value in values(texture).items() if name != "mesh"}
    with (
        Watch(live.port if live.view else None, texture.prompt) as watch,
        reserved(run.out, about, "texture", f"-texture-{slug(texture.method)}", run.resume, asked) as out,
    ):
        made = texture_mesh(**{**values(texture, run), "out": out, "callback": watch})
        what = f"{made.scene.coverage:.0%} of the surface seen, {cost(made.counts, made.seconds)}"
        answer = ending(what, out, made.verdict, sorted(out.glob("*.glb")))
        watch.stay(made.scene)
        return answer
