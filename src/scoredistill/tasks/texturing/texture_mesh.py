"""Texturing: an image prior colors a given mesh, view by view.

result = texture_mesh("ball.glb", "a basketball", out="runs/basketball")        # GLB, videos, report
result.scene.render(orbit(8))
"""

from pathlib import Path

from scoredistill.tasks import checks
from scoredistill.tasks.known_words import verdict_on_images, warn_of_unknown
from scoredistill.tasks.object_generation.output import four_sides
from scoredistill.tasks.object_generation.run import views_of
from scoredistill.tasks.request import requested, task
from scoredistill.tasks.run_config import digest
from scoredistill.tasks.session import StepSession, text_prior
from scoredistill.tasks.texturing.output import TextureDirectory, TextureResult, with_filled
from scoredistill.tasks.texturing.request import MeshOptions, TextureArguments, TextureRequest
from scoredistill.tasks.texturing.run import colored, make_scene
from scoredistill.three_d.mesh import MeshFile, read_mesh


@task(TextureArguments)
def texture_mesh(asked: TextureArguments) -> TextureResult:
    """Texture a mesh by a prompt.

    Raises:
        ValueError: for impossible settings or a mesh that cannot be textured, before the prior is loaded.
        FloatingPointError: if gradients are not finite.
    """
    request = requested(TextureRequest, asked, asked.prior)
    checks.packages(request.complete())  # refuses what no prior could do
    directory = TextureDirectory.of(asked, request)
    if directory is not None:
        directory.keep_safe(asked.mesh)
    source = mesh_of(asked.mesh, request)
    prior = text_prior(asked.prior, asked)
    settings = request.complete(min(prior.image_size))
    unknown = warn_of_unknown(prior, settings.prompt)
    with StepSession(asked, prior, directory) as session:
        scene = make_scene(settings, source, prior.image_size).to(prior.device)
        session.begin(settings, mesh=fingerprint(source))
        callback = asked.callback
        session.follow(
            colored(settings, scene, prior, session.counted, session.state, asked.on_nan, asked.conditions),
            settings.method,
            lambda step: four_sides(scene),
            None if callback is None else lambda step: callback(step, scene),
        )
        seconds, views = session.seconds, views_of(with_filled(scene))
        verdict = verdict_on_images(prior, unknown, views)
        result = TextureResult(scene, source, views, settings, session.counts, seconds, session.history, verdict)
        return session.finish(result)


def mesh_of(mesh: str | Path | MeshFile, options: MeshOptions) -> MeshFile:
    """The mesh that a task is given, read if it is a file."""
    if isinstance(mesh, MeshFile):
        return mesh
    return read_mesh(mesh, options.texture, options.up, options.layout)


def fingerprint(source: MeshFile) -> str:
    """Hash that identifies a mesh in config.json."""
    model = source.model
    values = (model.mesh.vertices, model.mesh.faces, model.uv, model.texture)
    return digest(b"".join(value.contiguous().numpy().tobytes() for value in values))
