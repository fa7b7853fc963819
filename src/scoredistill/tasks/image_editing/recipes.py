r"""Methods of editing, by name, with the settings they are run with.

All work on a canvas of latents that starts at the source, or, for the two that sample, at noise. With D the denoiser,
the step of the optimizing ones is x <- x - lr w(t) d, where d is the residual of `estimators.CSDEdit`. For w = sigma /
alpha and lr 1 it is a fixed point in clean coordinates,

    x <- source + [D(x_t; image, instruction) - D(source_t; image, no text)] + (what x and source keep in common),

so a handful of sweeps from large to small t do; the paper takes 200 steps of w = sigma^2.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

from scoredistill.estimators import CSDEdit, Estimator, LowPass, Random, Residual, Row, Stein
from scoredistill.kernels import RBF

FIXED_POINT = lambda alpha, sigma: sigma / alpha


@dataclass(frozen=True)
class EditRecipe:
    """How a method is run.

    Attributes:
        says: the method in words.
        estimator: made from the kernel's bandwidth scale; None for methods that sample by DDIM.
        sweeps: over the canvas; of a sampling method, the steps of DDIM.
        stride: between windows, in windows.
        profile: of the mean over windows, see `Layout`.
        jitter: move the grid of windows from sweep to sweep.
        times: t of the first and the last sweep.
        random_times: draw t uniformly between these for each step.
        lr: of plain gradient steps, and the factor on it per step.
        averaged: share of the sweeps, the last ones, of whose results the edit is the mean (`run.averaging`).
        particles: windows in a step at most.
        kernel: usual bandwidth scale.
        rows: network rows of a window in a step, with both guidance scales different from 1 and each other.
        same_noise: frames of a video are sampled from the same noise.
        flow: rounds of sharing gradients along the optical flow of a video (`editing.flow`).
    """

    says: str
    estimator: Callable[[float], Estimator] | None
    sweeps: int = 8
    stride: float = 0.5
    profile: str = "flat"
    jitter: bool = True
    times: tuple[float, float] = (0.95, 0.3)
    random_times: bool = False
    lr: float = 1.0
    decay: float = 1.0
    averaged: float = 0.5
    particles: int = 256
    kernel: float = 1.0
    rows: int = 5
    same_noise: bool = False
    flow: int = 0


def _shared(scale: float) -> Estimator:
    return CSDEdit(RBF(scale=scale), weight=FIXED_POINT, share=LowPass())


def _coupled(scale: float) -> Estimator:
    return CSDEdit(RBF(scale=scale), weight=FIXED_POINT)


def _uncoupled(scale: float) -> Estimator:
    return CSDEdit(weight=FIXED_POINT, coupled=False)


def _common_noise(scale: float) -> Estimator:
    rows = (Row(guided=True), Row(-1.0, "source", cond="null", guided=True))
    return Residual(FIXED_POINT, rows, reference="zero", noise=Random(shared=True))


def _noise(scale: float) -> Estimator:
    return Stein(Residual(FIXED_POINT, (Row(guided=True),)), RBF(scale=scale), share=LowPass())


def _paper(scale: float) -> Estimator:
    return CSDEdit(RBF("paper", scale), normalize="paper")


EDIT_RECIPES: dict[str, EditRecipe] = {
    "csd": EditRecipe("CSD-Edit, windows agree on what is the same everywhere", _shared),
    "csd_full": EditRecipe("CSD-Edit, windows share their whole scores", _coupled),
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
    "uncoupled": EditRecipe("the residual of CSD-Edit alone", _uncoupled),
    "common_noise": EditRecipe("the residual alone, with one noise for all windows and frames", _common_noise),
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

VIDEO_RECIPES: dict[str, EditRecipe] = {
    **{name: replace(r, stride=1.0, sweeps=6) if r.estimator and r.jitter else r for name, r in EDIT_RECIPES.items()},
    "csd": replace(EDIT_RECIPES["csd_full"], says="CSD-Edit, frames share their whole scores", stride=1.0, sweeps=6),
}
"""The same on videos: what frames show at one place is comparable, so they share all of it."""
