"""Network evaluations of a run before it is started, counted on a prior that costs nothing.

The estimator takes all its steps on samples of a few numbers, with a prior that predicts no noise: how often a method
evaluates the network depends on its steps and times, not on what the network predicts.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from scoredistill.generators import Latents
from scoredistill.loop import distill
from scoredistill.priors.base import TextPrior
from scoredistill.priors.conditions import Cond
from scoredistill.priors.counted import Counted
from scoredistill.priors.guidance import Guided, PerpNeg
from scoredistill.schedule import VP
from scoredistill.tasks import checks
from scoredistill.tasks.image_generation.request import Settings
from scoredistill.tasks.image_generation.run import Optimization, sample
from scoredistill.tasks.object_generation.request import ObjectSettings

SHAPE = (4, 2, 2)  # of a sample


class Silent(TextPrior):
    """A prior that predicts no noise, whatever the text."""

    name = "nothing"
    latent_shape = SHAPE
    schedule = VP()

    @property
    def image_size(self) -> tuple[int, int]:
        return SHAPE[1:]

    @property
    def device(self) -> torch.device:
        return torch.device("cpu")

    def eps(
        self, x_t: Float[Tensor, " b *d"], t: Float[Tensor, " b"], cond: Cond | None = None
    ) -> Float[Tensor, " b *d"]:
        return torch.zeros_like(x_t)

    def null(self, cond: Cond) -> Cond:
        return {name: torch.zeros_like(value) for name, value in cond.items()}

    def encode_text(self, prompts: str | Sequence[str]) -> Cond:
        return {"text": torch.ones(1 if isinstance(prompts, str) else len(prompts), 1, 1)}


def expected_cost(settings: Settings | ObjectSettings) -> dict[str, int] | None:
    """The network evaluations ("rows") and calls of a run; None for methods that train a network beside the prior.

    Args:
        settings: complete settings of text-to-image or text-to-3D.
    """
    if settings.method in checks.STUDENTS:
        return None
    counted = Counted(Silent())
    if isinstance(settings, ObjectSettings):
        _object(settings, counted)
    elif settings.method == "ddim":
        sample(settings, Silent(), counted)
    else:
        _images(settings, counted)
    return {name: count for name, count in counted.counts().items() if name in ("rows", "calls")}


def _images(settings: Settings, counted: Counted) -> None:
    recipe = settings.recipe
    if recipe is not None:
        free = Settings(**{**vars(settings), "image": "latents", "follow": 1, "lr": 0.0})
        for _ in Optimization(free, recipe, Silent(), counted).steps():
            pass


def _object(settings: ObjectSettings, counted: Counted) -> None:
    recipe, prior = settings.recipe, Silent()
    uncond = prior.encode_text([settings.negative_prompt]) if settings.negative_prompt else None
    guided: Guided | PerpNeg = Guided(counted, settings.guidance, uncond=uncond)
    if settings.perp_neg:
        guided = PerpNeg(counted, settings.guidance, [(lambda cond: cond, -1.0)] + ([(uncond, -1.0)] if uncond else []))
    steps = distill(
        Latents(settings.views, SHAPE, rng=torch.Generator().manual_seed(0)), guided,
        recipe.estimator(settings.guidance, lambda x: x.flatten(1)), prior.encode_text([settings.prompt]),
        steps=settings.steps, times=recipe.times(prior.schedule, settings.seed),
        optimizer=lambda parameters: torch.optim.SGD(parameters, lr=1.0), rng=torch.Generator().manual_seed(1),
    )  # fmt: skip
    for _ in steps:
        pass
