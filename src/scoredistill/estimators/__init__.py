"""Estimators turn scores into gradients: see `base` for the contract and `methods` for the published methods."""

from scoredistill.estimators import methods
from scoredistill.estimators.averaged import Averaged
from scoredistill.estimators.base import Batch, Estimate, Estimator
from scoredistill.estimators.collaborative import CollaborativeMeanShift, annealing
from scoredistill.estimators.decoded import Decoded
from scoredistill.estimators.mean_shift import MeanShift
from scoredistill.estimators.methods import *  # noqa: F403 (listed once, in `methods.__all__`)
from scoredistill.estimators.noise import Fixed, Inverted, Noise, Predicted, Random, Recycled
from scoredistill.estimators.observed import AveragePool, GaussianBlur, Mask, Observed, known_noise
from scoredistill.estimators.ode_target import OdeTarget
from scoredistill.estimators.residual import Residual
from scoredistill.estimators.rows import Row, guided
from scoredistill.estimators.shared import Affine, LowPass, Tone
from scoredistill.estimators.stein import Stein
from scoredistill.estimators.student import Student

__all__ = [
    "Affine",
    "AveragePool",
    "Averaged",
    "Batch",
    "CollaborativeMeanShift",
    "Decoded",
    "Estimate",
    "Estimator",
    "Fixed",
    "GaussianBlur",
    "Inverted",
    "LowPass",
    "Mask",
    "MeanShift",
    "Noise",
    "Observed",
    "OdeTarget",
    "Predicted",
    "Random",
    "Recycled",
    "Residual",
    "Row",
    "Stein",
    "Student",
    "Tone",
    "annealing",
    "guided",
    "known_noise",
]
__all__ += methods.__all__
