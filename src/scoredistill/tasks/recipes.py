"""Settings that work: for each method its estimator, clock, optimiser and length.

Guidance scales count as in `Guided`. Numbers were chosen on the bundled prior (docs/results/text_to_2d_first_look.md)
and are a start, not a law, for others.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from scoredistill.clock import Bandwidth, Clock, Uniform
from scoredistill.estimators import CSD, MSD, SDS, Estimator
from scoredistill.schedule import Schedule


@dataclass(frozen=True)
class Recipe:
    """How a method is run.

    Attributes:
        estimator: makes the estimator.
        clock: makes the clock from the prior's schedule and a seed.
        steps: optimisation steps, by kind of image ("mlp", "latents", "pixels").
        guidance: classifier-free guidance scale.
        lr: learning rate by kind of image, for Adam; 0 means plain steps of length one, x <- x - grad.
        particles: pictures made at once.
        through: how the gradient on latents comes back to pictures, through the "encoder" or the "decoder" (`Decoded`).
        follow: optimiser steps per gradient, where pictures are optimised (see `distill`).
    """

    estimator: Callable[[], Estimator]
    clock: Callable[[Schedule, int], Clock]
    steps: Mapping[str, int]
    guidance: float
    lr: Mapping[str, float]
    particles: int = 1
    through: str = "encoder"
    follow: int = 1


def _uniform(schedule: Schedule, seed: int) -> Clock:
    return Uniform(0.02, 0.98, seed)


def _shrinking(schedule: Schedule, seed: int) -> Clock:
    return Bandwidth(schedule, 12.0, 0.7)


SDS_STEPS = {"mlp": 400, "latents": 400, "pixels": 400}
SDS_LR = {"mlp": 5e-3, "latents": 3e-2, "pixels": 1e-2}
MSD_STEPS = {"mlp": 24, "latents": 24, "pixels": 24}
MSD_LR = {"mlp": 1e-2, "latents": 0.0, "pixels": 5e-2}

RECIPES = {
    "sds": Recipe(SDS, _uniform, SDS_STEPS, 7.5, SDS_LR),
    "csd": Recipe(CSD, _uniform, SDS_STEPS, 7.5, SDS_LR, particles=4),
    "msd": Recipe(MSD, _shrinking, MSD_STEPS, 7.5, MSD_LR, through="decoder", follow=15),
}
