"""How a texture is made: the mesh as a scene, and the steps that color it."""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from scoredistill.loop import Step
from scoredistill.priors import Cond
from scoredistill.priors.base import TextPrior
from scoredistill.priors.counted import Counted
from scoredistill.tasks.object_generation.run import FOV, RADIUS, shaped
from scoredistill.tasks.texturing.request import TextureSettings
from scoredistill.three_d.camera import RandomViews
from scoredistill.three_d.mesh import MeshFile
from scoredistill.three_d.scenes.base import Rendering, Viewpoint
from scoredistill.three_d.scenes.textured import Textured

GRIDS = (8, 16, 32, 64)  # vertices per axis of the grids in space
LIT = {"albedo": 0.5, "lambertian": 0.5}  # shadings of views that show roughness and metallic
LIGHT = (2.0, 4.0)  # distance of the light, outside the mesh


def make_scene(settings: TextureSettings, source: MeshFile, image: tuple[int, int]) -> Textured:
    """The mesh before the first step.

    Args:
        settings: the settings.
        source: the mesh as it was read.
        image: (height, width) of the prior's own images, to which renders are scaled.
    """
    cameras = RandomViews(settings.elevation, radius=(RADIUS - 0.1, RADIUS + 0.1), fov=(FOV, FOV), light=LIGHT)
    return Textured(
        source.model, settings.texture, settings.start, GRIDS, settings.finish,
        size=(settings.size, settings.size), image=image, cameras=cameras, shading=LIT if settings.finish else None,
    )  # fmt: skip


def colored(
    settings: TextureSettings,
    scene: Textured,
    prior: TextPrior,
    counted: Counted,
    state: dict[str, Any] | None = None,
    on_nan: str = "stop",
    conditions: Callable[[Rendering], Cond] | None = None,
) -> Iterator[Step]:
    """The steps of a run, which optimize the texture in place.

    Args:
        settings, scene, prior, counted, state, on_nan: see `object_generation.run.shaped`.
        conditions: further conditions of views by their rendering.
    """

    def of_views(views: Tensor) -> Cond:
        assert conditions is not None
        with torch.no_grad():
            cameras = Viewpoint.of(views, scene.size).cameras.to(scene.device)
            return conditions(scene.render(cameras, normals=True))

    more = None if conditions is None else of_views
    return shaped(settings, scene, prior, counted, state, on_nan, coarse=0.0, conditions=more)
