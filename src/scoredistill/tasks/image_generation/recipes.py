"""Settings that work: for each method its estimator, time schedule, optimizer and length.

Guidance scales are those of `Guided`. The values were chosen on the bundled prior (docs/results/text_to_2d.md) and are
a starting point for other priors; those of SDS, SDI, VSD and CSD are the published ones where they work on the bundled
prior.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from scoredistill.estimators import CSD, MSD, SDI, SDS, VSD, CollaborativeMSD, Estimator, TrackedMSD
from scoredistill.recipe import Recipe
from scoredistill.schedule import Schedule
from scoredistill.times import Bandwidth, Linear, Times, Uniform


@dataclass(frozen=True)
class ImageRecipe:
    """How a method is run.

    Attributes:
        says: description in a few words.
        estimator: makes the estimator from the guidance scale, which only estimators that guide by themselves use.
        times: makes the time schedule from the prior's noise schedule and a seed.
        steps: number of optimization steps, by kind of image ("mlp", "latents", "pixels").
        guidance: classifier-free guidance scale.
        lr: learning rate of Adam by kind of image; 0 for plain steps of length 1, x <- x - grad.
        particles: number of images, generated together.
        through: how the gradient on latents reaches the images: through the "encoder" or the "decoder" (`Decoded`).
        follow: inner optimizer steps per gradient, where images are optimized (see `distill`).
        interval: interval of times in which guidance acts, see `Guided`; all times by default.
    """

    says: str
    estimator: Callable[[float], Estimator]
    times: Callable[[Schedule, int], Times]
    steps: Mapping[str, int]
    guidance: float
    lr: Mapping[str, float]
    particles: int = 1
    through: str = "encoder"
    follow: int = 1
    interval: tuple[float, float] | None = None


def every(value: int) -> dict[str, int]:
    """The same number of steps for every kind of image."""
    return {"mlp": value, "latents": value, "pixels": value}


def shrinking(start: float, end: float) -> Callable[[Schedule, int], Times]:
    """A bandwidth that shrinks geometrically from start to end, in units of latents with standard deviation 1."""
    return lambda schedule, seed: Bandwidth(schedule, start, end)


def _even(schedule: Schedule, seed: int) -> Times:
    """A bandwidth that shrinks at even times, like the noise of a sampler; the run is over when it is below .05."""
    return Bandwidth(schedule, 60.0, 0.05, shape="time")


def _uniform(schedule: Schedule, seed: int) -> Times:
    return Uniform(0.02, 0.98, seed)


def _falling(end: float) -> Callable[[Schedule, int], Times]:
    return lambda schedule, seed: Linear(0.98, end)


SDS_LR = {"mlp": 5e-3, "latents": 3e-2, "pixels": 1e-2}
MSD_LR = {"mlp": 1e-2, "latents": 0.0, "pixels": 5e-2}


def _residual(
    says: str, estimator: Callable[[float], Estimator], times: Callable[[Schedule, int], Times]
) -> ImageRecipe:
    return ImageRecipe(says, estimator, times, every(400), 7.5, SDS_LR)


def _mean_shift(says: str, estimator: Callable[[float], Estimator]) -> ImageRecipe:
    """Two gradients of twelve calls; the first target keeps noise of .05 x 12, which suits the second bandwidth."""
    return ImageRecipe(says, estimator, shrinking(12.0, 0.45), every(2), 5.0, MSD_LR, through="decoder", follow=180)


def _paper(anchor: str = "x", interval: tuple[float, float] | None = None) -> Callable[[float], Estimator]:
    return lambda scale: MSD(sampler="paper", steps=12, anchor=anchor, interval=interval)


KERNEL_TERM = (0.0, 0.7)  # interval of times to which the paper's kernel term is limited

SDI_RECIPE = ImageRecipe(
    "score distillation via inversion",
    lambda scale: SDI(scale, -scale),
    _falling(0.25),
    every(20),
    3.0,
    {"mlp": 1e-2, "latents": 0.0, "pixels": 5e-2},
    through="decoder",
    follow=18,
)
PUBLISHED_SDI = 8.5  # guidance of SDI as published, where it is called 7.5 (see `SDI`)

MSD_RECIPE = ImageRecipe(
    "mean shift to a draw that is kept while the bandwidth shrinks",
    lambda scale: TrackedMSD(spread=0.5),
    _even,
    every(24),
    5.0,
    MSD_LR,
    through="decoder",
    follow=15,
)
DRAWS_RECIPE = _mean_shift("mean shift to two fresh draws", lambda scale: MSD(sampler="product", steps=12))

RECIPES: Mapping[str, ImageRecipe] = {
    "sds": _residual("score distillation sampling, random t", lambda scale: SDS(), _uniform),
    "annealed_sds": _residual("SDS with descending t", lambda scale: SDS(), _falling(0.02)),
    "sdi": SDI_RECIPE,
    "sdi_published": replace(
        SDI_RECIPE,
        says="the same with the published guidance, s and 2 - s",
        estimator=lambda scale: SDI(scale - 1, 1 - scale, convention="published"),
        guidance=PUBLISHED_SDI,
    ),
    "vsd": replace(
        _residual("variational score distillation, a student that learns along", lambda scale: VSD(), _uniform),
        steps=every(200),
        particles=4,
    ),
    "csd": replace(_residual("collaborative score distillation", lambda scale: CSD(), _uniform), particles=4),
    "msd": MSD_RECIPE,
    "msd_draws": DRAWS_RECIPE,
    "msd_mean": replace(
        DRAWS_RECIPE,
        says="mean shift by one call per gradient",
        estimator=lambda scale: MSD(),
        times=shrinking(12.0, 0.7),
        steps=every(24),
        follow=15,
        guidance=7.5,
    ),
    "msd_ancestral": replace(
        DRAWS_RECIPE,
        says="mean shift to an ancestral draw",
        estimator=lambda scale: MSD(sampler="ancestral", steps=12),
    ),
    "msd_paper": replace(DRAWS_RECIPE, says="the mean-shift paper's sampler", estimator=_paper()),
    "msd_paper_anchor": replace(
        DRAWS_RECIPE, says="the same with its noise-scaled anchor", estimator=_paper("inverted")
    ),
    "msd_paper_interval": replace(
        DRAWS_RECIPE, says="the same with its kernel term in an interval", estimator=_paper(interval=KERNEL_TERM)
    ),
    "msd_paper_both": replace(
        DRAWS_RECIPE, says="the same with both heuristics", estimator=_paper("inverted", KERNEL_TERM)
    ),
    "collaborative": replace(
        DRAWS_RECIPE,
        says="collaborative mean shift: particles that keep apart",
        estimator=lambda scale: CollaborativeMSD(beta=0.5, density="gaussian"),
        times=shrinking(12.0, 0.7),
        steps=every(24),
        follow=15,
        particles=4,
    ),
}


def own(recipe: Recipe) -> ImageRecipe:
    """A recipe of the caller's own; what it leaves open is that of SDS."""
    usual = RECIPES["sds"]
    given = recipe.given(guidance="guidance", particles="particles", through="through", follow="follow")
    return replace(
        usual,
        says=recipe.says or "a method of one's own",
        estimator=lambda scale: recipe.make(),
        times=recipe.schedule(usual.times),
        steps=usual.steps if recipe.steps is None else every(recipe.steps),
        lr=usual.lr if recipe.lr is None else dict.fromkeys(usual.lr, recipe.lr),
        **given,
    )
