"""Text to image, by score distillation or, for comparison, by sampling.

result = text_to_image("a hamburger", method="msd", seed=3)
result.images[0].save("hamburger.png")
"""

from PIL import Image
from torch import Tensor

from scoredistill.tasks import checks
from scoredistill.tasks.image_generation.output import ImageDirectory, Result, image_grid
from scoredistill.tasks.image_generation.request import ImageArguments, Request
from scoredistill.tasks.image_generation.run import Optimization, enlarged, finite_images, sample
from scoredistill.tasks.known_words import verdict_on_images, warn_of_unknown
from scoredistill.tasks.request import requested, task
from scoredistill.tasks.session import StepSession, text_prior


@task(ImageArguments)
def text_to_image(asked: ImageArguments) -> Result:
    """Generate images of a prompt.

    Raises:
        ValueError: for impossible settings, before the prior is loaded.
        FloatingPointError: if the images or gradients are not finite.
    """
    settings = requested(Request, asked, asked.prior).complete(asked.recipe)
    recipe = asked.recipe or settings.recipe
    checks.packages(settings)
    checks.steps_to_skip(asked.on_nan, recipe is None, settings.method)
    directory = ImageDirectory.of(asked, settings)
    prior = text_prior(asked.prior, asked)
    unknown = warn_of_unknown(prior, settings.prompt)
    if recipe is None:
        prior.times(settings.steps)  # refuses more steps than the scheduler has
    with StepSession(asked, prior, directory) as session:
        session.begin(settings)
        samples: Tensor | None = None
        large: list[Image.Image] = []
        if recipe is None:
            samples = sample(settings, prior, session.counted)
            images = finite_images(session.counted.decode(samples))
        else:
            run = Optimization(settings, recipe, prior, session.counted, asked.on_nan)
            last = session.follow(
                run.steps(session.state), settings.method, lambda step: image_grid(finite_images(step.images())),
                asked.callback,
            )  # fmt: skip
            images = finite_images(last.images())
            large = enlarged(settings, last.generator)
            if settings.image == "latents":
                samples = last.generator(last.views).detach()
        result = Result(
            images, settings, session.counts, session.seconds, session.history, samples,
            verdict_on_images(prior, unknown, images), large,
        )  # fmt: skip
        return session.finish(result)
