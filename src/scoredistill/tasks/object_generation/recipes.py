"""Settings that work in three dimensions: for each method its estimator, time schedule, optimizer and length.

The values were chosen on the bundled prior (docs/results/objects.md) such that all methods use the same number of
network evaluations; for other priors they are a starting point. Guidance scales are those of `Guided`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from torch import Tensor

from scoredistill.estimators import CSD, MSD, SDI, SDS, VSD, CollaborativeMSD, Estimator
from scoredistill.kernels import RBF
from scoredistill.recipe import Recipe
from scoredistill.schedule import Schedule
from scoredistill.times import Bandwidth, Linear, Times, Uniform

Features = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class ObjectRecipe:
    """How a method is run in three dimensions.

    Attributes:
        says: description in a few words.
        estimator: makes the estimator from the guidance scale, which only estimators that guide by themselves use, and
            from features of the views' images, which only kernels use.
        times: makes the time schedule from the prior's noise schedule and a seed.
        steps: number of gradients.
        views: number of views rendered per step; they are the particles.
        guidance: classifier-free guidance scale.
        lr: learning rate of Adam.
        through: how the gradient on latents reaches the images: through the "encoder" or the "decoder".
        follow: inner optimizer steps per gradient, see `distill`.
        same_noise: whether all views of a step get the same noise, so that their targets agree.
    """

    says: str
    estimator: Callable[[float, Features], Estimator]
    times: Callable[[Schedule, int], Times]
    steps: int
    views: int
    guidance: float
    lr: float
    through: str = "encoder"
    follow: int = 1
    same_noise: bool = False


def _uniform(schedule: Schedule, seed: int) -> Times:
    return Uniform(0.02, 0.98, seed)


def _falling(end: float) -> Callable[[Schedule, int], Times]:
    return lambda schedule, seed: Linear(0.98, end)


def _shrinking(start: float, end: float) -> Callable[[Schedule, int], Times]:
    return lambda schedule, seed: Bandwidth(schedule, start, end)


SDS_RECIPE = ObjectRecipe(
    "score distillation sampling, random t", lambda scale, features: SDS(), _uniform, 144, 4, 7.5, 1e-2
)
SDI_RECIPE = ObjectRecipe(
    "score distillation via inversion",
    lambda scale, features: SDI(scale, -scale),
    _falling(0.25),
    13,
    4,
    3.0,
    2e-2,
    through="decoder",
    follow=10,
)
PUBLISHED_SDI = 8.5  # guidance of SDI as published, where it is called 7.5 (see `SDI`)
MSD_RECIPE = ObjectRecipe(
    "mean shift to draws of the product density",
    lambda scale, features: MSD(sampler="product", steps=12, levels="prior"),
    _shrinking(12.0, 1.0),
    12,
    4,
    7.5,
    5e-2,
    through="decoder",
    follow=12,
)

OBJECT_RECIPES: Mapping[str, ObjectRecipe] = {
    "sds": SDS_RECIPE,
    "annealed_sds": replace(SDS_RECIPE, says="SDS with descending t", times=_falling(0.02)),
    "sdi": SDI_RECIPE,
    "sdi_published": replace(
        SDI_RECIPE,
        says="the same with the published guidance, s and 2 - s",
        estimator=lambda scale, features: SDI(scale - 1, 1 - scale, convention="published"),
        guidance=PUBLISHED_SDI,
    ),
    "vsd": replace(
        SDS_RECIPE, says="variational score distillation, a student that learns along", estimator=lambda s, f: VSD()
    ),
    "csd": replace(
        SDS_RECIPE,
        says="collaborative score distillation, views share scores by how alike they look",
        estimator=lambda scale, features: CSD(RBF(features=features)),
    ),
    "msd": MSD_RECIPE,
    "msd_same_noise": replace(MSD_RECIPE, says="the same, all views with one noise", same_noise=True),
    "msd_mean": replace(
        MSD_RECIPE,
        says="mean shift by one call per gradient",
        estimator=lambda scale, features: MSD(),
        steps=48,
        views=12,
        follow=1,
    ),
    "collaborative": replace(
        MSD_RECIPE,
        says="collaborative mean shift: views that keep apart",
        estimator=lambda scale, features: CollaborativeMSD(beta=0.3, density="gaussian"),
        steps=48,
        views=12,
        follow=1,
    ),
}


def own(recipe: Recipe) -> ObjectRecipe:
    """A recipe of the caller's own; what it leaves open is that of SDS."""
    given = recipe.given(
        steps="steps", views="particles", guidance="guidance", lr="lr", through="through", follow="follow"
    )
    return replace(
        SDS_RECIPE,
        says=recipe.says or "a method of one's own",
        estimator=lambda scale, features: recipe.make(),
        times=recipe.schedule(SDS_RECIPE.times),
        **given,
    )
