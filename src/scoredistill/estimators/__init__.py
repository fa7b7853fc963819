"""Estimators turn scores into gradients. See `base` for the contract and `named` for the methods by name."""

from scoredistill.estimators.averaged import Averaged
from scoredistill.estimators.base import Batch, Estimate, Estimator
from scoredistill.estimators.collaborative import CollaborativeMeanShift, annealing
from scoredistill.estimators.decoded import Decoded
from scoredistill.estimators.mean_shift import MeanShift
from scoredistill.estimators.methods import (
    CSD,
    DDS,
    DVRF,
    ESD,
    ISM,
    MSD,
    NFSD,
    PDS,
    PFD,
    RFDS,
    SDI,
    SDS,
    SJC,
    UCM,
    VSD,
    Asynchronous,
    ClassifierScore,
    CollaborativeMSD,
    CSDEdit,
    FixedNoise,
    FlowEdit,
    RecycledNoise,
    RFDSRev,
    SDSBridge,
)
from scoredistill.estimators.noise import Fixed, Inverted, Noise, Predicted, Random, Recycled
from scoredistill.estimators.ode_target import OdeTarget
from scoredistill.estimators.residual import Residual, Row, guided
from scoredistill.estimators.stein import LowPass, Stein
from scoredistill.estimators.student import Student

__all__ = [
    "CSD",
    "DDS",
    "DVRF",
    "ESD",
    "ISM",
    "MSD",
    "NFSD",
    "PDS",
    "PFD",
    "RFDS",
    "SDI",
    "SDS",
    "SJC",
    "UCM",
    "VSD",
    "Asynchronous",
    "Averaged",
    "Batch",
    "CSDEdit",
    "ClassifierScore",
    "CollaborativeMSD",
    "CollaborativeMeanShift",
    "Decoded",
    "Estimate",
    "Estimator",
    "Fixed",
    "FixedNoise",
    "FlowEdit",
    "Inverted",
    "LowPass",
    "MeanShift",
    "Noise",
    "OdeTarget",
    "Predicted",
    "RFDSRev",
    "Random",
    "Recycled",
    "RecycledNoise",
    "Residual",
    "Row",
    "SDSBridge",
    "Stein",
    "Student",
    "annealing",
    "guided",
]
