"""How images are optimized by a method, or sampled with DDIM."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from PIL import Image
from torch import Tensor

from scoredistill.estimators import Decoded
from scoredistill.generators import CoordinateMLP, Encoded, Generator, Latents, Pixels
from scoredistill.loop import Step, distill
from scoredistill.media.images import to_pil
from scoredistill.priors.base import Prior, TextPrior
from scoredistill.priors.guidance import Guided
from scoredistill.priors.shared import shared
from scoredistill.sampling import ddim
from scoredistill.tasks.image_generation.recipes import ImageRecipe
from scoredistill.tasks.image_generation.request import Settings

SMALL, ENLARGED = 128, 4  # images of at most so many pixels are also shown at this multiple of their size


@dataclass(frozen=True)
class Optimization:
    """The optimization of images for a prompt.

    Attributes:
        settings: the settings.
        recipe: how the method is run.
        prior: the prior that knows the text.
        queried: the prior whose network is evaluated; `prior`, or a wrapper of it that counts.
        on_nan: see `distill`.
    """

    settings: Settings
    recipe: ImageRecipe
    prior: TextPrior
    queried: Prior
    on_nan: str = "stop"

    def steps(self, state: dict[str, Any] | None = None) -> Iterator[Step]:
        """The steps, from the beginning or from the state of an interrupted run."""
        settings = self.settings
        prior = guided(settings, self.prior, self.queried, self.recipe.interval)
        generator = make_generator(settings, self.prior, prior)
        estimator = self.recipe.estimator(settings.guidance)
        if settings.through == "decoder" and settings.image != "latents":
            estimator = Decoded(estimator)
        return distill(
            generator, prior, estimator, self.prior.encode_text([settings.prompt]), steps=settings.steps,
            times=self.recipe.times(self.prior.schedule, settings.seed), optimizer=_optimizer(generator, settings.lr),
            follow=settings.follow, rng=torch.Generator().manual_seed(settings.seed + 1), state=state,
            on_nan=self.on_nan, check=1,
        )  # fmt: skip


def sample(settings: Settings, prior: TextPrior, queried: Prior) -> Tensor:
    """Samples of the prompt by DDIM, one per particle, in the space of the prior.

    Args:
        settings: the settings.
        prior: the prior that knows the text.
        queried: the prior whose network is evaluated; `prior`, or a wrapper of it that counts.
    """
    generators = [torch.Generator().manual_seed(settings.seed + i) for i in range(settings.particles)]
    noise = torch.stack([torch.randn(prior.latent_shape, generator=g) for g in generators]).to(prior.device)
    return ddim(shared(guided(settings, prior, queried)), noise, settings.steps, prior.encode_text([settings.prompt]))


@runtime_checkable
class Guidance(Protocol):
    """Settings of guidance."""

    @property
    def guidance(self) -> float:
        """Classifier-free guidance scale."""

    @property
    def negative_prompt(self) -> str:
        """What images should not show; empty for nothing."""


def guided(settings: Guidance, prior: TextPrior, queried: Prior, interval: tuple[float, float] | None = None) -> Guided:
    """The prior with classifier-free guidance, away from the negative prompt if there is one."""
    uncond = prior.encode_text([settings.negative_prompt]) if settings.negative_prompt else None
    return Guided(queried, settings.guidance, interval, uncond=uncond)


def make_generator(settings: Settings, prior: TextPrior, codec: Prior | None = None) -> Generator:
    """The images to optimize, initialized from the seed.

    Args:
        settings: the settings.
        prior: says how large images and latents are.
        codec: encodes the images; `prior` by default. Not used if gradients come through the decoder: then the
            generator's output stays in pixels and the estimator is `Decoded`.
    """
    rng = torch.Generator().manual_seed(settings.seed)
    if settings.image == "latents":
        return Latents(settings.particles, prior.latent_shape, rng=rng).to(prior.device)
    kind = CoordinateMLP if settings.image == "mlp" else Pixels
    images = kind(settings.particles, prior.image_size, rng=rng)
    return (images if settings.through == "decoder" else Encoded(images, codec or prior)).to(prior.device)


@torch.no_grad()
def enlarged(settings: Settings, generator: Generator) -> list[Image.Image]:
    """Small images at `ENLARGED` times their size, rendered by their coordinate networks; empty for other images.

    Args:
        settings: the settings of the run, with the seed of the networks' frequencies.
        generator: the images after the last step.
    """
    images = generator.generator if isinstance(generator, Encoded) else generator
    if not isinstance(images, CoordinateMLP) or max(images.size) > SMALL:
        return []
    height, width = (ENLARGED * side for side in images.size)
    large = CoordinateMLP(settings.particles, (height, width), rng=torch.Generator().manual_seed(settings.seed))
    trained = {name: value for name, value in images.state_dict().items() if name != "positions"}
    large.load_state_dict(trained, strict=False)
    return finite_images(large(large.views()))


def finite_images(images: Tensor) -> list[Image.Image]:
    """A batch of images in [0, 1] as PIL images.

    Raises:
        FloatingPointError: if they are not finite.
    """
    if not bool(images.isfinite().all()):
        raise FloatingPointError("the images are not finite: use a float32 prior or a smaller guidance scale")
    return to_pil(images)


def _optimizer(generator: Generator, lr: float) -> torch.optim.Optimizer:
    """Adam, or for lr 0 plain gradient descent with steps of length 1."""
    if lr:
        return torch.optim.Adam(generator.parameters(), lr=lr)
    return torch.optim.SGD(generator.parameters(), lr=1.0)
