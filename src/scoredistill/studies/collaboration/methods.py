"""The methods that the study of collaboration compares, all in the loop of the image editor."""

from collections.abc import Callable
from dataclasses import replace

from scoredistill.estimators import Affine, Estimator, LowPass, Random, Residual, Stein, Tone
from scoredistill.estimators.shared import Basis
from scoredistill.kernels import RBF
from scoredistill.tasks.image_editing.recipes import EDIT_RECIPES, EDITING, FIXED_POINT, EditRecipe

SCALES, SWEPT = (1.0, 2.0, 8.0), ("whole", "means")  # of the kernel, and what is shared at all of them
SWEEPS = 8  # of the methods that optimize; those that sample get as many network evaluations
RELEASED = 0.45  # t below which windows are on their own, in the last two sweeps
AVERAGED = 0.25  # fraction of the sweeps, the last ones, whose results are averaged: after the choice is made


def optimizing(title: str, estimator: Callable[[], Estimator]) -> EditRecipe:
    """A method with another estimator, on a grid of windows that stays in place."""
    return EditRecipe(title, lambda scale: estimator(), sweeps=SWEEPS, jitter=False, averaged=AVERAGED)


def sampling(title: str, name: str) -> EditRecipe:
    """A method of `EDIT_RECIPES` that samples."""
    return replace(EDIT_RECIPES[name], says=title, jitter=False)


def coupled(
    scale: float, share: Basis | None = None, target: bool = False, noise: float = 0.0, until: float = 0.0
) -> Callable[[], Estimator]:
    """CSD-Edit that shares whole scores, or coefficients of gradients or targets, with a fraction of common noise."""
    base = lambda: Residual(FIXED_POINT, EDITING, reference="zero", noise=Random(shared=noise))
    return lambda: Stein(base(), RBF(scale=scale), share=share, target=target, until=until)


def alone(noise: float = 0.0) -> Callable[[], Estimator]:
    """The residual without coupling, with a fraction of common noise."""
    return lambda: Residual(FIXED_POINT, EDITING, reference="zero", noise=Random(shared=noise))


SHARED: dict[str, Basis | None] = {"whole": None, "means": LowPass(), "tone": Tone(), "affine": Affine()}
METHODS: dict[str, EditRecipe] = {
    "crops": sampling("DDIM on separate crops", "crops"),
    "windows": sampling("MultiDiffusion", "windows"),
    "uncoupled": optimizing("uncoupled", alone()),
    "half_noise": optimizing("uncoupled, half of the noise in common", alone(0.5)),
    "common_noise": optimizing("uncoupled, all noise in common", alone(1.0)),
    **{
        f"csd_{name}_{scale:g}": optimizing(f"CSD, {name}, scale {scale:g}", coupled(scale, share))
        for name, share in SHARED.items()
        for scale in (SCALES if name in SWEPT else SCALES[-1:])
    },
    **{
        f"target_{name}_8": optimizing(f"CSD, targets, {name}, scale 8", coupled(8.0, share, True))
        for name, share in SHARED.items()
        if share is not None
    },
    "target_affine_2": optimizing("CSD, targets, affine, scale 2", coupled(2.0, Affine(), True)),
    "target_affine_8_half": optimizing(
        "CSD, targets, affine, scale 8, half of the noise in common", coupled(8.0, Affine(), True, 0.5)
    ),
    "target_affine_8_until": optimizing(
        f"CSD, targets, affine, scale 8, until t = {RELEASED}", coupled(8.0, Affine(), True, until=RELEASED)
    ),
}
QUICK = ("crops", "uncoupled", "csd_whole_8", "target_affine_8")
PICTURED = ("crops", "windows", "uncoupled", "common_noise", "target_means_8", "target_affine_8")
