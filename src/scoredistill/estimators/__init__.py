"""Estimators turn scores into gradients. See `base` for the contract and `named` for the methods by name."""

from scoredistill.estimators.base import Batch, Estimate, Estimator
from scoredistill.estimators.decoded import Decoded
from scoredistill.estimators.mean_shift import CollaborativeMeanShift, MeanShift
from scoredistill.estimators.named import CSD, MSD, SDS, CollaborativeMSD
from scoredistill.estimators.residual import Residual
from scoredistill.estimators.stein import Stein

__all__ = [
    "CSD",
    "MSD",
    "SDS",
    "Batch",
    "CollaborativeMSD",
    "CollaborativeMeanShift",
    "Decoded",
    "Estimate",
    "Estimator",
    "MeanShift",
    "Residual",
    "Stein",
]
