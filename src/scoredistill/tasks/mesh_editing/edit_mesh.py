"""Editing of the texture of a mesh by an instruction.

result = edit_mesh("house.glb", "make it snowy", out="runs/snowy")        # GLB, videos, report
result.scene.render(orbit(8, elevation=20))

Views of the mesh from all sides are edited together as the photographs of a scene are (`scene_editing.run`), and its
texture, which all of them share, is fitted to them, in rounds.
"""

import copy
import math
from dataclasses import replace

import torch

from scoredistill.tasks.known_words import verdict_on_edit, warn_of_unknown
from scoredistill.tasks.mesh_editing.output import MeshEditDirectory, MeshEditResult
from scoredistill.tasks.mesh_editing.request import MeshEditArguments, MeshEditRequest, MeshEditSettings
from scoredistill.tasks.object_generation.run import FOV, RADIUS
from scoredistill.tasks.request import task
from scoredistill.tasks.scene_editing.run import edit_fitted, prepared
from scoredistill.tasks.session import Session, editor
from scoredistill.tasks.texturing.run import GRIDS
from scoredistill.tasks.texturing.texture_mesh import mesh_of
from scoredistill.three_d.camera import Cameras, around
from scoredistill.three_d.capture import Capture
from scoredistill.three_d.mesh import MeshFile
from scoredistill.three_d.scenes.textured import Textured

HIGHEST = 0.9  # sine of the largest elevation of views, above and below
GOLDEN = 180 * (3 - math.sqrt(5))  # degrees between the azimuths of neighbors on a spiral
INSIDE = 0.999  # opacity of pixels that the texture is fitted to
RATES = (0.02, 0.05)  # learning rates of the grids and of the texels' own values


@task(MeshEditArguments)
def edit_mesh(asked: MeshEditArguments) -> MeshEditResult:
    """Edit the texture of a mesh by an instruction.

    Raises:
        ValueError: for impossible settings or a mesh that cannot be textured, before the prior is loaded.
        FloatingPointError: if the edit is not finite.
    """
    request = MeshEditRequest.of(asked)
    request.complete()  # refuses what no prior could do
    directory = MeshEditDirectory.of(asked, request)
    if directory is not None:
        directory.keep_safe(asked.mesh)
    source = mesh_of(asked.mesh, request)
    prior = editor(asked.prior, asked)
    settings = request.complete(min(prior.image_size))
    settings = replace(settings, views=min(settings.views, settings.use))
    unknown = warn_of_unknown(prior, settings.instruction)
    before, world = seen_from_all_sides(source, settings)
    with Session(asked, prior, directory) as session:
        _, done = (None, None) if directory is None else directory.open(settings, world, **session.machine)
        session.start(0.0 if done is None else done["seconds"])
        before = before.to(prior.device)
        editing, views = prepared(world, settings, before, prior, session.counted)
        editing = replace(editing, on_nan=asked.on_nan, rates=RATES)
        if done is None:
            record = None if directory is None else directory.record
            callbacks = [each for each in (asked.callback, record) if each is not None]
            history = edit_fitted(editing, asked.progress, callbacks)
            session.counted.add({"encoded": editing.canvas.encoded, "decoded": editing.canvas.decoded})
            scene, edited = editing.scene, editing.photographs.images
            if directory is not None:
                directory.keep_edit(scene, edited, history, session.counts, session.seconds)
        else:
            scene, edited, history = copy.deepcopy(before), done["edited"].to(prior.device), done["history"]
            scene.load_state_dict(done["scene"])
            session.counted.add(done["counts"])
        verdict = verdict_on_edit(prior, unknown, world.images, edited) if unknown else ""
        result = MeshEditResult(
            scene, before, world, settings, session.counts, None, edited, views, session.seconds, history, verdict,
            source=source,
        )  # fmt: skip
        session.finish(result)
        return result


def spiral(n: int, size: tuple[int, int], highest: float = HIGHEST) -> Cameras:
    """n cameras around the unit ball, evenly spread: elevations of equal areas, azimuths by the golden angle.

    Args:
        n: number of cameras.
        size: (height, width) of the images in pixels.
        highest: sine of the largest elevation, above and below.
    """
    sine = highest * (1 - 2 * (torch.arange(n) + 0.5) / n)
    elevation = torch.rad2deg(sine.asin())
    return around(torch.arange(n) * GOLDEN % 360, elevation, RADIUS, FOV, size)


@torch.no_grad()
def seen_from_all_sides(source: MeshFile, settings: MeshEditSettings) -> tuple[Textured, Capture]:
    """The mesh with its colors as a scene, and its renders from all sides as a capture."""
    size = (settings.size, settings.size)
    cameras = spiral(settings.use, size)
    scene = Textured(source.model, settings.texture, True, GRIDS, size=size, cameras=cameras)
    seen = scene.render(cameras)
    names = tuple(f"{k:04d}.png" for k in range(len(cameras)))
    inside = (seen.opacity > INSIDE).float()  # at the outline, edited views show the background
    return scene, Capture(seen.rgb.clamp(0, 1), cameras, names, mask=inside)
