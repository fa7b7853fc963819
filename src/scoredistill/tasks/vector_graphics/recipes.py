"""Settings that work for vector graphics: for each method its estimator, time schedules, optimizer and length.

A run that starts from a traced sample only refines it, from a small bandwidth or time; one that starts from random
paths has to find the shapes first. The values were chosen on the bundled prior.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from scoredistill.estimators import CSD, MSD, SDS, Estimator
from scoredistill.recipe import Recipe
from scoredistill.schedule import Schedule
from scoredistill.times import Bandwidth, Linear, Times

Schedules = Callable[[Schedule, int], Times]


@dataclass(frozen=True)
class VectorRecipe:
    """How a method is run.

    Attributes:
        says: description in a few words.
        estimator: makes the estimator.
        times: makes the time schedule from the prior's noise schedule and a seed, for a start from random paths.
        refining: the same for a start from a drawing.
        steps: number of gradients from random paths.
        few: number of gradients from a drawing.
        guidance: classifier-free guidance scale.
        follow: inner optimizer steps per gradient.
        lr: learning rate of Adam on positions, in fractions of the canvas; that of colors is larger by a factor.
        through: how the gradient on latents reaches the images: through the "encoder" or the "decoder".
    """

    says: str
    estimator: Callable[[], Estimator]
    times: Schedules
    refining: Schedules
    steps: int
    few: int
    guidance: float
    follow: int
    lr: float = 2e-3
    through: str = "decoder"


def _shrinking(start: float, end: float) -> Schedules:
    return lambda schedule, seed: Bandwidth(schedule, start, end)


def _falling(start: float, end: float) -> Schedules:
    return lambda schedule, seed: Linear(start, end)


def _target(alpha: object, sigma: object) -> object:
    """The weight sigma / alpha, with which x - grad is the predicted clean sample, up to noise."""
    return sigma / alpha  # type: ignore[operator]


VECTOR_RECIPES: Mapping[str, VectorRecipe] = {
    "msd": VectorRecipe(
        "mean shift to a draw of the product density",
        lambda: MSD(sampler="product", steps=12),
        _shrinking(12.0, 0.4),
        _shrinking(0.6, 0.2),
        4,
        2,
        7.5,
        40,
    ),
    "sds": VectorRecipe(
        "score distillation sampling with descending t",
        lambda: SDS(_target),  # type: ignore[arg-type]
        _falling(0.9, 0.1),
        _falling(0.6, 0.1),
        120,
        40,
        7.5,
        4,
    ),
    "csd": VectorRecipe(
        "collaborative score distillation: icons that share their gradients",
        lambda: CSD(weight=_target),  # type: ignore[arg-type]
        _falling(0.9, 0.1),
        _falling(0.6, 0.1),
        120,
        40,
        7.5,
        4,
    ),
}


def own(recipe: Recipe) -> VectorRecipe:
    """A recipe of the caller's own; what it leaves open is that of SDS."""
    usual = VECTOR_RECIPES["sds"]
    steps = {} if recipe.steps is None else {"steps": recipe.steps, "few": recipe.steps}
    given = recipe.given(guidance="guidance", through="through", follow="follow", lr="lr")
    return replace(
        usual,
        says=recipe.says or "a method of one's own",
        estimator=recipe.make,
        times=recipe.schedule(usual.times),
        refining=recipe.schedule(usual.refining),
        **{**steps, **given},
    )
