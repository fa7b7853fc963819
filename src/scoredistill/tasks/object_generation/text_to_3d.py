"""Text to 3D: an image prior shapes a radiance field or Gaussians, view by view.

result = text_to_3d("a hamburger", out="runs/hamburger")        # GLB, videos, report
result.scene.render(orbit(8))
"""

from scoredistill.tasks import checks
from scoredistill.tasks.known_words import verdict_on_images, warn_of_unknown
from scoredistill.tasks.object_generation.output import ObjectDirectory, ObjectResult, four_sides
from scoredistill.tasks.object_generation.request import ObjectArguments, ObjectRequest
from scoredistill.tasks.object_generation.run import make_scene, shaped, views_of
from scoredistill.tasks.request import requested, task
from scoredistill.tasks.session import StepSession, text_prior
from scoredistill.tasks.three_d_output import warn_of_lacking


@task(ObjectArguments)
def text_to_3d(asked: ObjectArguments) -> ObjectResult:
    """Generate a 3-D object from a prompt.

    Raises:
        ValueError: for impossible settings, before the prior is loaded.
        FloatingPointError: if gradients are not finite.
    """
    request = requested(ObjectRequest, asked, asked.prior)
    checks.packages(request.complete())  # refuses what no prior could do
    directory = ObjectDirectory.of(asked, request)
    if directory is not None:
        warn_of_lacking(request.shape)
    prior = text_prior(asked.prior, asked)
    settings = request.complete(min(prior.image_size))
    unknown = warn_of_unknown(prior, settings.prompt)
    with StepSession(asked, prior, directory) as session:
        scene = make_scene(settings, prior.image_size).to(prior.device)
        session.begin(settings)
        callback = asked.callback
        session.follow(
            shaped(settings, scene, prior, session.counted, session.state, asked.on_nan),
            settings.method,
            lambda step: four_sides(scene),
            None if callback is None else lambda step: callback(step, scene),
        )
        seconds, views = session.seconds, views_of(scene)
        verdict = verdict_on_images(prior, unknown, views)
        result = ObjectResult(scene, views, settings, session.counts, seconds, session.history, verdict)
        return session.finish(result)
