"""Estimators turn scores into gradients. See `base` for the contract and `named` for the methods by name."""

from scoredistill.estimators.base import Batch, Estimate, Estimator
from scoredistill.estimators.mean_shift import MeanShift
from scoredistill.estimators.named import CSD, MSD, SDS
from scoredistill.estimators.residual import Residual
from scoredistill.estimators.stein import Stein

__all__ = ["CSD", "MSD", "SDS", "Batch", "Estimate", "Estimator", "MeanShift", "Residual", "Stein"]
