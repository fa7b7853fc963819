"""The methods by name: short expressions in the algebra of this folder, each with its reference."""

import math

from scoredistill.estimators.mean_shift import CollaborativeMeanShift, MeanShift
from scoredistill.estimators.residual import Residual
from scoredistill.estimators.stein import Stein
from scoredistill.kernels import RBF
from scoredistill.schedule import Weight


def SDS(weight: Weight = "sigma2") -> Residual:
    """Score distillation sampling, w(t) (eps(x_t) - n). Poole et al. 2022, https://arxiv.org/abs/2209.14988."""
    return Residual(weight)


def MSD(
    bandwidth: float | None = None,
    sampler: str = "mean",
    steps: int = 8,
    samples: int = 1,
    antithetic: bool = False,
    lambda_: float | None = None,
) -> MeanShift:
    """Mean-shift distillation, see `MeanShift`. Thamizharasan et al. 2025, https://arxiv.org/abs/2502.15989.

    `lambda_` is the bandwidth as the paper writes it, lambda = sqrt(2) bandwidth; give one of the two.
    """
    if lambda_ is not None:
        if bandwidth is not None:
            raise ValueError("give bandwidth or lambda_, not both")
        bandwidth = lambda_ / math.sqrt(2)
    return MeanShift(bandwidth, sampler, steps, samples, antithetic)


def CSD(kernel: RBF | None = None, normalise: str = "row", weight: Weight = "sigma2") -> Stein:
    """Collaborative score distillation: Stein-coupled SDS. Kim et al. 2023, https://arxiv.org/abs/2307.04787."""
    return Stein(SDS(weight), RBF() if kernel is None else kernel, normalise)


def CollaborativeMSD(
    beta: float = 0.9,
    bandwidth: float | None = None,
    sampler: str = "mean",
    steps: int = 8,
    samples: int = 1,
    antithetic: bool = False,
) -> CollaborativeMeanShift:
    """Collaborative mean shift: MSD of particles that keep apart, the two papers united (see `mean_shift`)."""
    return CollaborativeMeanShift(MSD(bandwidth, sampler, steps, samples, antithetic), beta)
