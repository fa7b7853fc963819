"""The methods by name: short expressions in the algebra of this folder, each with its reference."""

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
) -> MeanShift:
    """Mean-shift distillation, see `MeanShift`. Thamizharasan et al. 2025, https://arxiv.org/abs/2502.15989."""
    return MeanShift(bandwidth, sampler, steps, samples, antithetic)


def CSD(kernel: RBF | None = None, normalise: str = "row", weight: Weight = "sigma2") -> Stein:
    """Collaborative score distillation: Stein-coupled SDS. Kim et al. 2023, https://arxiv.org/abs/2307.04787."""
    return Stein(SDS(weight), RBF() if kernel is None else kernel, normalise)


def CollaborativeMSD(
    beta: float = 0.9, bandwidth: float | None = None, sampler: str = "mean", steps: int = 8, samples: int = 1
) -> CollaborativeMeanShift:
    """Collaborative mean shift: MSD of particles that keep apart, the two papers united (see `mean_shift`)."""
    return CollaborativeMeanShift(MSD(bandwidth, sampler, steps, samples), beta)
