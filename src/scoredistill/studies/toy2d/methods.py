"""How each method is run in the plane: its estimator, its published noise and time schedules, and its optimizer.

Residual methods use a variance-preserving noise schedule, as published; sampling and mean shift use a
variance-exploding one from .002 to 5. The distribution is the same: with exact scores, the noise schedule only chooses
which noise levels a method evaluates, and how often.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from scoredistill.estimators import (
    CSD,
    ISM,
    MSD,
    NFSD,
    PFD,
    RFDS,
    SDI,
    SDS,
    SJC,
    VSD,
    Asynchronous,
    ClassifierScore,
    CollaborativeMSD,
    Estimator,
    FixedNoise,
    RecycledNoise,
    RFDSRev,
    SDSBridge,
)
from scoredistill.estimators.methods import ratio
from scoredistill.recipe import Recipe, recipe_of
from scoredistill.schedule import VE, VP, Flow, Schedule
from scoredistill.times import Bandwidth, Linear, Times, Uniform, Window

LAMBDA = 0.316  # as published for mean shift in the plane; the bandwidth is lambda / sqrt(2)
SHARP = 0.005  # bandwidth at which annealing ends: narrower than all branches but the finest
CLEAN, NOISY = 0.002, 5.0
STRAIGHT, VARIANCE_PRESERVING, EXPLODING = Flow(), VP(), VE(CLEAN, NOISY)


@dataclass(frozen=True)
class Method:
    """One way to move particles.

    Attributes:
        description: what it is, in a few words.
        make: the estimator; None samples with DDIM.
        schedule: the noise schedule through which the prior is seen.
        times: the time schedule; None for the annealing that `annealing` derives from the prior.
        steps: the method's own number of steps.
        lr: learning rate of Adam; 0 for plain steps x <- x - grad.
        own_scale: whether the estimator applies guidance itself, made by make(scale).
    """

    description: str
    make: Callable[..., Estimator] | None
    schedule: Schedule
    times: Times | None
    steps: int
    lr: float = 0.08
    own_scale: bool = False


def _anneal() -> Times:
    return Bandwidth(EXPLODING, LAMBDA / math.sqrt(2), SHARP, "linear")


def _residual(description: str, make: Callable[..., Estimator], times: Times, **how: object) -> Method:
    settings = {"schedule": VARIANCE_PRESERVING, "steps": 150, **how}
    return Method(description, make, times=times, **settings)  # type: ignore[arg-type]


UNIFORM, DOWN = Uniform(0.02, 0.98), Linear(0.98, 0.02)

TABLE: Mapping[str, Method] = {
    "ddim": Method("DDIM sampling", None, EXPLODING, DOWN, 32),
    "sds": _residual("score distillation sampling, random t", SDS, UNIFORM),
    "annealed_sds": _residual("SDS with descending t", SDS, DOWN),
    "sdi": _residual("score distillation via inversion", SDI, DOWN, own_scale=True, steps=100),
    "vsd": _residual("variational, with a student trained along", lambda: VSD(lr=3e-3, updates=2), UNIFORM),
    "csd": _residual("collaborative score distillation", CSD, DOWN),
    "msd": Method("mean shift, fixed point", MSD, EXPLODING, _anneal(), 20, 0.0),
    "msd_adam": Method("mean shift with Adam, the published optimizer", MSD, EXPLODING, _anneal(), 150),
    "msd_paper": Method(
        "mean shift with the published sampler and optimizer",
        lambda: MSD(sampler="paper", steps=16),
        EXPLODING,
        _anneal(),
        150,
    ),
    "collaborative": Method("collaborative mean shift", CollaborativeMSD, EXPLODING, None, 20, 0.0),
}

ZOO: Mapping[str, Method] = {
    **TABLE,
    "sds_plain": Method(
        "SDS as x <- D(x + r n; r): plain steps, w = sigma / alpha, geometric r",
        lambda: SDS(ratio),
        EXPLODING,
        Bandwidth(EXPLODING, 0.5, SHARP),
        48,
        0.0,
    ),
    "sjc": _residual("score Jacobian chaining", SJC, UNIFORM),
    "sjc_unreduced": _residual("SJC without its reference", lambda: SJC(False), UNIFORM),
    "ism": _residual("interval score matching", ISM, Window((0.02, 0.98), (0.02, 0.5), 0.3), own_scale=True),
    "classifier": _residual("classifier score", lambda scale: ClassifierScore(scale=scale), UNIFORM, own_scale=True),
    "nfsd": _residual("noise-free", lambda scale: NFSD(scale=scale), UNIFORM, own_scale=True),
    "bridge": _residual("SDS bridge, second stage", lambda scale: SDSBridge(scale=scale), UNIFORM, own_scale=True),
    "asynchronous": _residual("asynchronous", Asynchronous, Window((0.5, 0.98), (0.02, 0.5), 0.3), own_scale=True),
    "fixed_noise": _residual("fixed noise, descending t", FixedNoise, DOWN),
    "recycled_noise": _residual("recycled noise, descending t", RecycledNoise, DOWN, lr=0.0, steps=32),
    "pfd": _residual("probability-flow distillation", lambda scale: PFD(scale, 4), DOWN, own_scale=True, steps=30),
    "rfds": _residual("rectified flow", RFDS, UNIFORM, schedule=STRAIGHT),
    "rfds_rev": _residual("rectified flow, predicted noise", RFDSRev, UNIFORM, schedule=STRAIGHT),
    "msd_ancestral": Method(
        "mean shift by 4 ancestral calls", lambda: MSD(sampler="ancestral", steps=4), EXPLODING, _anneal(), 20, 0.0
    ),
    "msd_product": Method(
        "mean shift by 4 product calls", lambda: MSD(sampler="product", steps=4), EXPLODING, _anneal(), 20, 0.0
    ),
}


def own(recipe: Recipe) -> Method:
    """A recipe of the user's own; what it leaves open is that of SDS, and of bandwidths that of msd_adam."""
    anneals = recipe.bandwidth is not None
    usual = ZOO["msd_adam" if anneals else "sds"]
    return replace(
        usual,
        description=recipe.says or "a method of one's own",
        make=recipe.make,
        times=usual.times if recipe.times is None else recipe.times,
        **recipe.given(steps="steps", lr="lr"),
    )


def method_of(name: str) -> Method:
    """How a method is run: one of `ZOO`, or one of the user's own."""
    return recipe_of(name, ZOO, own)
