r"""Methods of editing, by name, with the settings they are run with.

All methods work on a canvas of latents that starts at the source or, for those that sample, at noise. With D the
denoiser, the step of the optimizing methods is x <- x - lr w(t) d, where d is the residual of `estimators.CSDEdit`. For
w = sigma / alpha and lr = 1 it is a fixed-point iteration in clean coordinates,

    x <- source + [D(x_t; image, instruction) - D(source_t; image, no text)] + (what x and source have in common),

so a few sweeps from large to small t are enough; the paper takes 200 steps with w = sigma^2.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

from scoredistill.estimators import Affine, CSDEdit, Estimator, LowPass, Random, Residual, Row, Stein
from scoredistill.kernels import RBF
from scoredistill.recipe import Recipe
from scoredistill.times import Times

FIXED_POINT = lambda alpha, sigma: sigma / alpha
EDITING = (Row(guided=True), Row(-1.0, "source", cond="null", guided=True))  # the rows of CSD-Edit's residual


@dataclass(frozen=True)
class EditRecipe:
    """How a method is run.

    Attributes:
        says: description in a few words.
        estimator: makes the estimator from the kernel's bandwidth scale; None for methods that sample with DDIM.
        sweeps: number of passes over the canvas; of a sampling method, number of DDIM steps.
        stride: distance between windows, in windows.
        profile: weights of the mean over windows, see `Layout`.
        jitter: whether the grid of windows moves from sweep to sweep.
        times: t of the first and of the last sweep.
        random_times: whether t is drawn uniformly between these for each step.
        schedule: time schedule (sweep, sweeps) -> t, in place of these.
        lr: length of the plain gradient steps.
        decay: factor on the length per step.
        averaged: fraction of the sweeps, the last ones, whose results are averaged (`run.averaging`).
        particles: largest number of windows in a step.
        kernel: default bandwidth scale, see `EditOptions`.
        rows: network evaluations of a window in a step, if both guidance scales differ from 1 and from each other; None
            if they must be counted.
        same_noise: whether frames of a video are sampled from the same noise.
        flow: rounds of sharing gradients along the optical flow of a video (`video_editing.flow`).
        coupled: whether a kernel couples windows, whose bandwidth scale then matters.
    """

    says: str
    estimator: Callable[[float], Estimator] | None
    sweeps: int = 8
    stride: float = 0.5
    profile: str = "flat"
    jitter: bool = True
    times: tuple[float, float] = (0.95, 0.3)
    random_times: bool = False
    schedule: Times | None = None
    lr: float = 1.0
    decay: float = 1.0
    averaged: float = 0.5
    particles: int = 256
    kernel: float = 1.0
    rows: int | None = 5
    same_noise: bool = False
    flow: int = 0
    coupled: bool = True

    @property
    def unused(self) -> tuple[str, ...]:
        """The options of an edit that have no effect on the method."""
        if self.estimator is None:
            return ("kernel", "particles", "lr", "scales", "flow")
        return () if self.coupled else ("kernel",)


def _shared(scale: float) -> Estimator:
    return CSDEdit(RBF(scale=scale), weight=FIXED_POINT, share=LowPass())


def _coupled(scale: float) -> Estimator:
    return CSDEdit(RBF(scale=scale), weight=FIXED_POINT)


def _uncoupled(scale: float) -> Estimator:
    return CSDEdit(weight=FIXED_POINT, coupled=False)


def _affine(scale: float) -> Estimator:
    base = Residual(FIXED_POINT, EDITING, reference="zero", noise=Random(shared=0.5))
    return Stein(base, RBF(scale=scale), share=Affine(), target=True)


def _common_noise(scale: float) -> Estimator:
    return Residual(FIXED_POINT, EDITING, reference="zero", noise=Random(shared=True))


def _noise(scale: float) -> Estimator:
    return Stein(Residual(FIXED_POINT, (Row(guided=True),)), RBF(scale=scale), share=LowPass())


def _paper(scale: float) -> Estimator:
    return CSDEdit(RBF("paper", scale), normalize="paper")


EDIT_RECIPES: dict[str, EditRecipe] = {
    "csd": EditRecipe("CSD-Edit, windows agree on what is the same everywhere", _shared),
    "csd_full": EditRecipe("CSD-Edit, windows share their whole scores", _coupled),
    "csd_affine": EditRecipe(
        "CSD-Edit, windows agree on one linear map of the colors, for instructions with many answers",
        _affine,
        averaged=0.25,
        kernel=8.0,
    ),
    "csd_paper": EditRecipe(
        "CSD-Edit with the settings of the released code",
        _paper,
        sweeps=16,
        stride=0.25,
        jitter=False,
        times=(0.02, 0.5),
        random_times=True,
        lr=2.0,
        decay=0.9 ** (1 / 20),
        averaged=0.0,
        particles=4,
    ),
    "uncoupled": EditRecipe("the residual of CSD-Edit alone", _uncoupled, coupled=False),
    "common_noise": EditRecipe(
        "the residual alone, with one noise for all windows and frames", _common_noise, coupled=False
    ),
    "random_noise": EditRecipe("CSD-Edit against the noise instead of the image's own prediction", _noise, rows=3),
    "crops": EditRecipe("DDIM on separate crops", None, sweeps=20, stride=1.0, jitter=False, rows=3),
    "windows": EditRecipe(
        "DDIM on overlapping windows, averaged every step (MultiDiffusion)",
        None,
        sweeps=20,
        jitter=False,
        rows=3,
        same_noise=True,
    ),
    "per_frame": EditRecipe(
        "DDIM on overlapping windows of each frame, from noise of its own",
        None,
        sweeps=20,
        jitter=False,
        rows=3,
    ),
}
"""All methods of editing, as they are run on images."""


def own(recipe: Recipe) -> EditRecipe:
    """A recipe of the caller's own: its estimator and time schedule, with the windows of csd.

    Raises:
        ValueError: if it has bandwidths, as edits have time schedules only.
    """
    if recipe.bandwidth is not None:
        raise ValueError("an edit has no bandwidths: give the recipe a time schedule, such as times=Linear(0.95, 0.3)")
    return replace(
        EDIT_RECIPES["csd"],
        says=recipe.says or "a method of one's own",
        estimator=lambda scale: recipe.make(),
        schedule=recipe.times,
        rows=None,
        coupled=False,
    )
