"""Runs of a method in the plane: particles, moved on a prior, and the network evaluations they took."""

import copy
import math
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from scoredistill.datasets.toy2d import HALF_SIDE, grid_start
from scoredistill.estimators.collaborative import annealing
from scoredistill.generators import Latents
from scoredistill.loop import distill
from scoredistill.priors import Cond, Counted, Guided, Prior
from scoredistill.sampling import ddim
from scoredistill.schedule import Schedule
from scoredistill.studies.toy2d.methods import NOISY, Method
from scoredistill.times import Uniform, Window

FRAMES = 36  # at most, of an animation


@dataclass(frozen=True)
class Run:
    """The result of a run.

    Attributes:
        points: the final particles, [n, 2].
        frames: particles along the run, from the start to the end.
        rows: network evaluations (batch rows) per particle.
    """

    points: Float[Tensor, "n 2"]
    frames: tuple[Tensor, ...]
    rows: float


def seen_through(prior: Prior, schedule: Schedule) -> Prior:
    """The same distribution with another noise schedule."""
    other = copy.copy(prior)
    other.schedule = schedule
    return other


def run(
    method: Method,
    prior: Prior,
    n: int,
    seed: int,
    cond: Cond | None = None,
    scale: float = 1.0,
    rows: int | None = None,
    decay: bool = False,
) -> Run:
    """Run a method from particles on a jittered grid (DDIM from noise).

    Args:
        n: number of particles.
        seed: seed of the jitter and of all noise.
        cond, scale: the condition, and the guidance scale.
        rows: network evaluations per particle to spend; the method's own number of steps by default.
        decay: decay Adam's learning rate linearly to zero, so that noisy gradients converge.

    Raises:
        FloatingPointError: if particles become infinite or nan.
    """
    rng = torch.Generator().manual_seed(seed)
    counted = Counted(seen_through(prior, method.schedule))
    guided = counted if cond is None or scale == 1 or method.own_scale else Guided(counted, scale)
    if method.make is None:
        steps = method.steps if rows is None else max(1, rows // (1 if guided is counted else 2))
        x = ddim(guided, NOISY * torch.randn(n, 2, generator=rng, dtype=torch.float64), steps, cond)
        return Run(x, (x,), counted.rows / n)
    start = grid_start(n)
    start = start + (2 * HALF_SIDE / math.sqrt(n)) * (torch.rand(n, 2, generator=rng, dtype=torch.float64) - 0.5)
    steps = method.steps if rows is None else steps_for(method, prior, cond, scale, rows)
    estimator = method.make(scale=scale) if method.own_scale else method.make()
    latents = Latents.of(start)
    optimizer: torch.optim.Optimizer = torch.optim.SGD(latents.parameters(), lr=1.0)
    if method.lr:
        optimizer = torch.optim.Adam(latents.parameters(), lr=method.lr)
    frames = [start]
    times = annealing(guided, start, cond, rng) if method.times is None else method.times
    if isinstance(times, (Uniform, Window)):
        times = replace(times, seed=seed)
    for step in distill(latents, guided, estimator, cond, steps=steps, times=times, optimizer=optimizer, rng=rng):
        if decay and method.lr:
            optimizer.param_groups[0]["lr"] = method.lr * (1 - (step.index + 1) / steps)
        if not latents.values.isfinite().all():
            raise FloatingPointError(f"particles are not finite after step {step.index + 1} of {steps}")
        if step.index + 1 == steps or step.index % max(1, steps // FRAMES) == 0:
            frames.append(latents.values.detach().clone())
    return Run(latents.values.detach(), tuple(frames), counted.rows / n)


def steps_for(method: Method, prior: Prior, cond: Cond | None, scale: float, rows: int) -> int:
    """The number of steps at which a method spends about `rows` network evaluations per particle; at least 1."""
    cost = [run(replace(method, steps=steps), prior, 2, 0, cond, scale).rows for steps in (1, 2)]
    return max(1, round(rows / (cost[1] - cost[0])))
