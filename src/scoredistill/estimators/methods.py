"""The published methods by name: short expressions in terms of `Residual` and its relatives, each with its reference.

Names are spelled out where acronyms clash: CSD is *Collaborative* score distillation; `ClassifierScore` is classifier
score distillation, for which others use the same acronym. Methods with a `scale` apply classifier-free guidance by
themselves and query the network behind a guided prior; the others use the prior as it is given. `weight` is the weight
w(t) of `Residual` in all of them. The time schedule that each method is usually run with is listed in docs/estimators.

To add a method, write its expression here and add its name to `__all__`: the package's exports, the tests and the index
of the documentation read that list.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from scoredistill.estimators.collaborative import CollaborativeMeanShift
from scoredistill.estimators.mean_shift import MeanShift
from scoredistill.estimators.noise import Fixed, Inverted, Predicted, Recycled
from scoredistill.estimators.ode_target import OdeTarget
from scoredistill.estimators.residual import Residual
from scoredistill.estimators.rows import Coefficient, Row, guided
from scoredistill.estimators.stein import Stein
from scoredistill.estimators.student import Student
from scoredistill.estimators.tracked import TrackedMSD
from scoredistill.kernels import RBF, Kernel
from scoredistill.priors.base import Prior
from scoredistill.priors.conditions import Cond
from scoredistill.rng import Rng, draw_noise
from scoredistill.sampling import FIRST
from scoredistill.schedule import Schedule, Weight, inverse_alpha
from scoredistill.schedule import noise_to_signal as ratio

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
    "CSDEdit",
    "ClassifierScore",
    "CollaborativeMSD",
    "FixedNoise",
    "FlowEdit",
    "RFDSRev",
    "RecycledNoise",
    "SDSBridge",
    "TrackedMSD",
]


def SDS(weight: Weight = "sigma2") -> Residual:
    """Score distillation sampling, w(t) (eps(x_t) - n). Poole et al. 2022, https://arxiv.org/abs/2209.14988."""
    return Residual(weight)


def SJC(reduced: bool = True) -> Residual:
    """Score Jacobian chaining: SDS with w = 1. Wang et al. 2022, https://arxiv.org/abs/2212.00774.

    Args:
        reduced: subtract the noise n, as SDS does. Without it the mean is the same, and on a Gaussian of variance v the
            variance is (r^2 / v)^2 times as large, r = sigma / alpha: larger at large t, smaller at small t.
    """
    return Residual("uniform", reference="noise" if reduced else "zero")


def FixedNoise(refresh: float = 0.0, weight: Weight = ratio) -> Residual:
    """Consistent flow distillation: SDS with one noise for the whole run, of which a fraction is refreshed per step.

    With a descending time schedule it is DDIM. Yan et al. 2025, https://arxiv.org/abs/2501.05445.

    Args:
        refresh: fraction of fresh noise per step, in [0, 1].
    """
    return Residual(weight, noise=Fixed(refresh))


def RecycledNoise(refresh: float = 0.0, weight: Weight = ratio) -> Residual:
    """SDS whose noise is the prediction of the previous step (StochSync, Yeo et al. 2025).

    Args:
        refresh: fraction of fresh noise that is mixed in per step, in [0, 1].
    """
    return Residual(weight, noise=Recycled(refresh))


def SDI(
    scale: float = 7.5,
    inversion_scale: float = -7.5,
    steps: int = 10,
    eta: float = 0.3,
    convention: str = "guided",
) -> Residual:
    """Score distillation via inversion: the noise is found by DDIM inversion of x at a negative guidance scale.

    x - grad is the denoised sample. Lukoianov et al. 2024, https://arxiv.org/abs/2405.15891.

    Args:
        scale: guidance scale of the prediction.
        inversion_scale: guidance scale of the inversion.
        steps: DDIM steps of the inversion.
        eta: amount of fresh noise per inversion step, in [0, 1].
        convention: what both scales mean. "guided": e_0 + s (e_c - e_0), as in `Guided`. "published": e_c + s' (e_c -
            e_0), as in threestudio and the released code, so that s = s' + 1: its (7.5, -7.5) is our (8.5, -6.5), in
            general (s, 2 - s).

    Raises:
        ValueError: for an unknown convention.
    """
    if convention not in ("guided", "published"):
        raise ValueError(f"unknown convention {convention!r}: use one of guided, published")
    if convention == "published":
        scale, inversion_scale = scale + 1, inversion_scale + 1
    return Residual(ratio, guided(scale), Inverted(steps, inversion_scale, eta))


def ISM(scale: float = 7.5, delta: float = 0.05, steps: int = 4, weight: Weight = ratio) -> Residual:
    """Interval score matching: w [e_scale(x_t, t) - e_0(x_s, s)] on a path of unconditional inversion, s = t - delta.

    Liang et al. 2023 (LucidDreamer), https://arxiv.org/abs/2311.11284.

    Args:
        scale: guidance scale of the prediction at t.
        delta: length of the interval in t.
        steps: DDIM steps of the inversion up to s.
    """
    earlier = lambda t, rng: (t - delta).clamp(min=FIRST)
    return Residual(weight, guided(scale), Inverted(steps, 0.0), "slope", second=earlier)


def ClassifierScore(negative: Cond | None = None, scale: float = 1.0, weight: Weight = "sigma2") -> Residual:
    """Classifier score distillation: w scale (e_c - e_0), the limit of SDS / scale for large scales.

    It has no fixed point on a Gaussian. Yu et al. 2023, https://arxiv.org/abs/2310.19415.

    Args:
        negative: a negative condition, in place of the null condition of e_0.
        scale: multiplies the difference.
    """
    rows = (Row(scale), Row(-scale, cond="null" if negative is None else negative))
    return Residual(weight, rows, reference="zero")


def NFSD(negative: Cond | None = None, scale: float = 7.5, weight: Weight = "sigma2", split: float = 0.2) -> Residual:
    """Noise-free score distillation: w [scale (e_c - e_0) + e_0 - (e_negative where t >= split)].

    Below the split, on a Gaussian of variance v, it has the mean of SDS and (r^2 / v)^2 times its variance,
    r = sigma / alpha. Katzir et al. 2023, https://arxiv.org/abs/2310.17590.

    Args:
        negative: the negative condition; by default the null condition.
        scale: guidance scale.
        split: time in [0, 1] from which the negative prediction is subtracted.
    """
    late = lambda schedule, t: -(t >= split).to(t.dtype)
    rows = (Row(scale), Row(1 - scale, cond="null"), Row(late, cond="null" if negative is None else negative))
    return Residual(weight, rows, reference="zero")


def SDSBridge(source: Cond | str = "null", scale: float = 40.0, weight: Weight = "sigma2") -> Residual:
    """Second stage of the SDS bridge: w scale (e_c - e_source). The first stage is SDS.

    McAllister et al. 2024, https://arxiv.org/abs/2406.09417.

    Args:
        source: condition that describes the defects of the current image; "null" for the null condition.
        scale: multiplies the difference.
    """
    return Residual(weight, (Row(scale), Row(-scale, cond=source)), reference="zero")


def Asynchronous(scale: float = 7.5, spread: float = 0.1, start: float = 0.02, weight: Weight = "sigma2") -> Residual:
    """Asynchronous score distillation: w [e_scale(x_t, t) - e_c(x_t', t')] with the same noise and a later time t'.

    On a Gaussian of variance S it repels where sigma < alpha sqrt(S). Ma et al. 2024 (ScaleDreamer),
    https://arxiv.org/abs/2407.02040.

    Args:
        scale: guidance scale of the prediction at t.
        spread, start: t' - t is uniform in [0, spread (t - start)].
    """

    def later(t: Tensor, rng: Rng) -> Tensor:
        share = 0.5 * (1 + torch.erf(draw_noise(t[:, None], rng)[:, 0] / math.sqrt(2)))
        return (t + share * spread * (t - start).clamp(min=0)).clamp(max=1)

    return Residual(weight, (*guided(scale), Row(-1.0, later=True)), reference="zero", second=later)


def PFD(scale: float = 7.5, steps: int = 4, inversion_steps: int = 10) -> OdeTarget:
    """Probability-flow distillation: x minus the end of a flow up at guidance 1 - scale and down at `scale`.

    With one step down it is SDI with eta = 0. https://arxiv.org/abs/2605.09071.

    Args:
        scale: guidance scale of the flow down.
        steps: DDIM steps down.
        inversion_steps: DDIM steps up.
    """
    return OdeTarget(Inverted(inversion_steps, 1 - scale), steps, scale)


def RFDS(weight: Weight = "uniform") -> Residual:
    """Rectified-flow distillation: w(t) [v - (n - x)], which is SDS with w(t) / alpha.

    Yang et al. 2024, https://arxiv.org/abs/2406.03293. Drawing t with a density proportional to w in place of the
    weight (`times.Weighted`) is W-RFSDS, with the same mean: Lyu et al. 2026, https://arxiv.org/abs/2601.04194.
    """
    if weight == "uniform":
        return Residual(inverse_alpha)
    if weight == "sigma2":
        return Residual(lambda alpha, sigma: sigma**2 / alpha)
    if not callable(weight):
        raise ValueError(f"unknown weight {weight!r}: use uniform, sigma2 or a function of (alpha, sigma)")
    given = weight
    return Residual(lambda alpha, sigma: given(alpha, sigma) / alpha)


def RFDSRev(scale: float = 1.0) -> Residual:
    """RFDS whose noise is replaced by the prior's prediction of it (same paper as `RFDS`).

    Args:
        scale: guidance scale of that prediction alone; the residual has the guidance of the prior it is given.
    """
    return Residual(inverse_alpha, noise=Predicted(1, scale))


def UCM(steps: int = 3, scale: float = 1.0) -> Residual:
    """RFDS with the noise that inversion of x to t = 1 finds (FlowDreamer).

    For flow models: at t = 1 other schedules still hold signal. Li et al. 2024, https://arxiv.org/abs/2408.05008.

    Args:
        steps: DDIM steps of the inversion.
        scale: guidance scale of the inversion.
    """
    return Residual(inverse_alpha, noise=Inverted(steps, scale, to=1.0))


def DDS(weight: Weight = "uniform") -> Residual:
    """Delta denoising score: w (eps(x_t; y) - eps(source_t; y_source)), with the same noise in both.

    Hertz et al. 2023, https://arxiv.org/abs/2304.07090.
    """
    return Residual(weight, _delta_rows(), reference="zero")


def PDS(stride: float = 2 / 999, tick: float | None = None) -> Residual:
    """Posterior distillation sampling: chi(t) DDS + psi(t) (x - source), from matching DDPM posteriors t -> t - stride.

    With coefficients of that stride psi is 0, and PDS is a weighted DDS. The released code combines the step variance
    of one tick of 1 / 999 with a stride of two ticks. Koo et al. 2023, https://arxiv.org/abs/2311.13831.

    Args:
        stride: length of a posterior's step in t.
        tick: length of the step whose variance is used, as in the released code, which gives its anchor; by default the
            stride.
    """
    chi = lambda schedule, t: _posterior(schedule, t, stride, tick)[0]
    psi = 0.0 if tick is None else (lambda schedule, t: _posterior(schedule, t, stride, tick)[1])
    return Residual("uniform", _delta_rows(chi), reference="zero", anchor=psi)


def DVRF(shift: float = 1.0, slope: float | None = None) -> Residual:
    """Delta velocity of rectified flows: v(x_t + c (x - source); y) - v(source_t; y_source) + (1 - c') (x - source).

    c = shift * t, and c' is its slope. For flow models. Beaudouin et al. 2025, https://arxiv.org/abs/2509.05342.

    Args:
        shift: slope of c(t); 0 is DDS with w = 1 / alpha.
        slope: c' in the anchor; `shift` by default.
    """
    rate = shift if slope is None else slope
    c = (lambda schedule, t: shift * t) if shift else 0.0
    kappa = lambda schedule, t: -(shift * t / schedule(t)[0] + rate)
    return Residual(inverse_alpha, _delta_rows(), reference="zero", anchor=kappa if shift or rate else 0.0, shift=c)


def FlowEdit() -> Residual:
    """Editing along the path between two flows: DVRF with c = t.

    To be run with descending times and plain gradient steps of length t_k - t_{k+1}. Kulikov et al. 2024,
    https://arxiv.org/abs/2412.08629.
    """
    return DVRF(1.0)


def VSD(student: Prior | None = None, weight: Weight = "sigma2", lr: float = 1e-3, updates: int = 1) -> Student:
    """Variational score distillation, see `Student`. Wang et al. 2023, https://arxiv.org/abs/2305.16213."""
    return Student(student, weight, lr, updates)


def ESD(
    student: Prior | None = None, eta: float = 0.5, weight: Weight = "sigma2", lr: float = 1e-3, updates: int = 1
) -> Student:
    """Entropic score distillation: VSD with a weight `eta` of the student's prediction without the view; 0 is VSD.

    See `Student`. Wang et al. 2024, https://arxiv.org/abs/2401.00909.
    """
    return Student(student, weight, lr, updates, eta=eta)


def MSD(
    bandwidth: float | None = None,
    sampler: str = "mean",
    steps: int = 8,
    samples: int = 1,
    antithetic: bool = False,
    lambda_: float | None = None,
    dt: str = "sigma2",
    anchor: str = "x",
    interval: tuple[float, float] | None = None,
    levels: str = "kernel",
) -> MeanShift:
    """Mean-shift distillation, see `MeanShift`. Thamizharasan et al. 2025, https://arxiv.org/abs/2502.15989.

    `lambda_` is the bandwidth in the paper's notation, lambda = sqrt(2) bandwidth; pass one of the two.
    """
    if lambda_ is not None:
        if bandwidth is not None:
            raise ValueError("bandwidth and lambda_ are two notations of one number: pass one, not both")
        bandwidth = lambda_ / math.sqrt(2)
    return MeanShift(bandwidth, sampler, steps, samples, antithetic, dt, anchor, interval, levels)


def CSD(
    kernel: Kernel | None = None, normalize: str = "row", weight: Weight = "sigma2", normalise: str | None = None
) -> Stein:
    """Collaborative score distillation: SDS whose particles are coupled by a kernel, see `Stein`.

    A wider kernel (`RBF(scale=)`) makes particles agree only where the task has many answers in a common direction, see
    `Stein`. `normalise` is an alias of `normalize`. Kim et al. 2023, https://arxiv.org/abs/2307.04787.
    """
    return Stein(SDS(weight), RBF() if kernel is None else kernel, normalize, normalise=normalise)


def CSDEdit(
    kernel: Kernel | None = None,
    normalize: str = "row",
    weight: Weight = "sigma2",
    coupled: bool = True,
    share: Callable[[Tensor], Tensor] | None = None,
    normalise: str | None = None,
) -> Stein | Residual:
    """Editing by collaborative score distillation: w (eps(x_t; image, y) - eps(source_t; image, no text)), coupled.

    For `ImageGuided` priors, whose condition holds the source image: five batch rows per particle, in one call of the
    network. Kim et al. 2023, https://arxiv.org/abs/2307.04787.

    Args:
        kernel: between particles; `RBF()` by default, and `RBF("paper")` for normalize="paper". A wider one makes
            particles agree only where the edit has many answers in a common direction, see `Stein`.
        normalize: "row", or "paper" for the step of the released code, w/N sum_j (K_ij d_j - grad_{x_j} K_ij), whose
            kernel sees the noised particles.
        coupled: False gives the residual alone, without the kernel.
        share: the part of a gradient that particles share, see `Stein`; all of it by default. Not with "paper".
        normalise: alias of `normalize`.
    """
    normalize = normalize if normalise is None else normalise
    rows = (Row(1.0, guided=True), Row(-1.0, "source", cond="null", guided=True))
    if not coupled:
        return Residual(weight, rows, reference="zero")
    if normalize == "paper":
        if share is not None:
            raise ValueError('normalize="paper" shares whole scores, as the released code does: leave out share')
        bare = Residual("uniform", rows, reference="zero")
        return Stein(bare, RBF("paper") if kernel is None else kernel, "paper", noised=True, weight=weight)
    return Stein(Residual(weight, rows, reference="zero"), RBF() if kernel is None else kernel, normalize, share=share)


def CollaborativeMSD(
    beta: float = 1.0,
    bandwidth: float | None = None,
    sampler: str = "mean",
    steps: int = 8,
    samples: int = 1,
    antithetic: bool = False,
    kernel: Kernel | None = None,
    denoised: bool = False,
    density: str = "kernel",
    law: str | None = None,
) -> CollaborativeMeanShift:
    """Collaborative mean shift: `MSD` with particles that repel each other, see `CollaborativeMeanShift`.

    It combines mean-shift distillation (https://arxiv.org/abs/2502.15989) with the idea of collaborative score
    distillation (https://arxiv.org/abs/2307.04787). `law` is the former name of `density`.
    """
    density = density if law is None else law
    return CollaborativeMeanShift(MSD(bandwidth, sampler, steps, samples, antithetic), beta, kernel, denoised, density)


def _delta_rows(coefficient: Coefficient = 1.0) -> tuple[Row, Row]:
    """The batch's prediction minus the source's."""
    minus = (lambda schedule, t: -coefficient(schedule, t)) if callable(coefficient) else -coefficient
    return Row(coefficient, guided=True), Row(minus, "source", cond="source", guided=True)


def _posterior(schedule: Schedule, t: Tensor, stride: float, tick: float | None) -> tuple[Tensor, Tensor]:
    r"""(chi, psi) of the DDPM posterior N(a x_0 + b x_t, post^2) of x_s, s = t - stride, given x_0 and x_t.

    a = alpha_s beta / sigma_t^2, b = sqrt(1 - beta) sigma_s^2 / sigma_t^2, post^2 = beta sigma_s^2 / sigma_t^2,
    with beta = 1 - alpha_t^2 / alpha_s^2, or that of one tick.
    """
    (alpha, sigma), (alpha_s, sigma_s) = schedule(t), schedule(t - stride)
    before = alpha_s if tick is None else schedule(t - tick)[0]
    beta = 1 - (alpha / before) ** 2
    a, b = alpha_s * beta / sigma**2, (1 - beta).sqrt() * (sigma_s / sigma) ** 2
    post = beta.sqrt() * sigma_s / sigma
    return a * sigma / alpha / post, (alpha_s - a - b * alpha) / post
