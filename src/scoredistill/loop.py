r"""The optimization loop: parameters make images, a prior scores them, an estimator turns scores into a gradient.

    for step in distill(generator, prior, SDS(), cond, steps=400):
        if step.index % 50 == 0:
            show(step.images())

`distill` is a Python generator: progress bars, checkpoints, images and early stopping belong in the caller's loop body.
"""

import copy
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from scoredistill.estimators import Batch, Decoded, Estimate, Estimator
from scoredistill.estimators.base import EstimatorWrapper
from scoredistill.generators import Generator
from scoredistill.generators.shared import SharedViews
from scoredistill.priors import Cond, Prior
from scoredistill.priors.base import check_instance, check_prior
from scoredistill.priors.conditions import check_cond
from scoredistill.priors.shared import shared
from scoredistill.ranks import Ranks
from scoredistill.rng import Rng, seed_of
from scoredistill.times import Times, Uniform

ON_NAN = ("stop", "skip")
CHECKED = 16  # steps between looks at whether gradients were finite
SKIPPED = 10  # skipped steps in a row that end a run
ADVICE = "use a smaller learning rate or guidance scale, or float32 networks"
Optimizer = torch.optim.Optimizer | Callable[[Iterable[Tensor]], torch.optim.Optimizer]


@dataclass(frozen=True)
class Step:
    """One finished step.

    Attributes:
        index: number of the step, from 0.
        steps: total number of steps.
        t: the diffusion time of the step, in [0, 1].
        estimate: the gradient on the particles and the estimator's diagnostics.
        views: the views that were rendered.
        generator, prior, optimizer, rng, estimator: the objects of the run.
    """

    index: int
    steps: int
    t: float
    estimate: Estimate
    views: Tensor
    generator: Generator
    prior: Prior
    optimizer: torch.optim.Optimizer
    rng: Sequence[torch.Generator]
    estimator: Estimator

    @property
    def grad_norm(self) -> Tensor:
        """Root mean square of the gradient on the particles; a tensor, so that only reading it waits for the device."""
        return self.estimate.grad.square().mean().sqrt()

    @torch.no_grad()
    def images(self) -> Tensor:
        """Render this step's views after its update, in [0, 1], [n, 3, h, w]."""
        return self.generator.images(self.views, self.prior.decode).clamp(0, 1)

    def state_dict(self) -> dict[str, Any]:
        """State from which `distill(..., state=)` continues after this step exactly as an uninterrupted run."""
        return {
            "next": self.index + 1,
            "generator": copy.deepcopy(self.generator.state_dict()),
            "optimizer": copy.deepcopy(self.optimizer.state_dict()),
            "rng": [g.get_state() for g in self.rng],
            "estimator": copy.deepcopy(self.estimator.state_dict()),
        }


def distill(
    generator: Generator,
    prior: Prior,
    estimator: Estimator,
    cond: Cond | Callable[[Tensor], Cond] | None = None,
    *,
    steps: int = 400,
    particles: int | None = None,
    times: Times | Sequence[float] | None = None,
    optimizer: Optimizer | None = None,
    source: Tensor | Callable[[Tensor], Tensor] | None = None,
    source_cond: Cond | None = None,
    groups: Callable[[Tensor], Tensor] | None = None,
    follow: int = 1,
    rng: Rng = None,
    state: Mapping[str, Any] | None = None,
    on_nan: str = "stop",
    check: int = CHECKED,
    ranks: Ranks | None = None,
) -> Iterator[Step]:
    """Optimize a generator so that its views are likely under a prior.

    Inside a process group of `torch.distributed` all processes call it alike and divide the work, see
    `scoredistill.ranks`; the steps are those of a single process.

    Args:
        generator: the parameters and how they are rendered.
        prior: the diffusion model.
        estimator: turns the prior's scores into a gradient on the rendered samples.
        cond: the prior's condition, with one row or one per particle; or a function of the views, for conditions that
            depend on what is rendered.
        steps: number of steps, at least 1.
        particles: number of views rendered per step; all views of the generator by default.
        times: a time schedule (index, steps) -> t, or a list with one time per step; uniform in [.02, .98] by default.
        optimizer: an optimizer, or a function that makes one from parameters; Adam with lr .01 by default.
        source: samples that an edit starts from, in the prior's space; or a function of the views.
        source_cond: condition that describes the source; `cond` by default.
        groups: function of the views that returns the group number of each; see `Batch.group`.
        follow: inner optimizer steps per gradient, at least 1. The first uses the gradient; the others move on towards
            the same point x - grad without evaluating the prior. For generators that respond slowly, such as networks,
            and estimators whose x - grad is an estimate of the result, such as mean shift.
        rng: a generator, or a list with one per particle; one seeded with 0 by default. With one per particle, times
            and views do not depend on how the particles are split over processes.
        state: `Step.state_dict()` of the step to continue from.
        on_nan: what to do when a gradient has values that are not finite: "stop" ends the run with an error that names
            the step, the particle and t; "skip" leaves the step out, with a warning, which waits for the device in
            every step. The gradient of a skipped step is 0, and 10 of them in a row end the run.
        check: steps between two looks at whether gradients were finite, each of which waits for the device. With 1, the
            parameters, the optimizer and the random generators are as before the step when the error is raised.
        ranks: the processes that divide the work; by default those of the default process group, if there is one.
            `Ranks()` is this process alone.

    Yields:
        A `Step` after each update.

    Raises:
        ValueError: for invalid arguments or a state of another run, before any work.
        FloatingPointError: if a gradient is not finite.
        Lost: if another process ends.
    """
    _check_kinds(generator, prior, estimator, cond=cond, source_cond=source_cond)
    _check_numbers(on_nan, steps=steps, follow=follow, check=check)
    noise = torch.Generator().manual_seed(0) if rng is None else rng
    generators = [noise] if isinstance(noise, torch.Generator) else list(noise)
    made = optimizer if isinstance(optimizer, torch.optim.Optimizer) else (optimizer or _adam)(generator.parameters())
    if state is not None:
        _restore(state, generator, made, generators, estimator)
    seed = generators[0].initial_seed() if isinstance(noise, torch.Generator) else 0  # the same in every split
    ranks = Ranks.here() if ranks is None else ranks
    first = 0 if state is None else int(state["next"])
    time_schedule, choice = _times(times, steps, seed), torch.Generator()

    gradients = Gradients(on_nan == "skip")

    def run() -> Iterator[Step]:
        _agree(ranks, generator, generators, steps=steps, particles=particles, step=first, seed=seed, follow=follow)
        together = shared(prior, ranks)
        for index in range(first, steps):
            t = _time(time_schedule, index, steps)
            before = [g.get_state() for g in generators] if check == 1 else []
            views = generator.views(particles, choice.manual_seed(seed_of(seed, index)))
            parts = SharedViews(generator, views, ranks)
            x = parts.render()
            _check_samples(x, prior, estimator)
            whole = parts.whole(x)
            shown = cond(views) if callable(cond) else cond
            group = None if groups is None else groups(views)
            here = Batch(whole, shown, source(views) if callable(source) else source, source_cond, group)
            precise = torch.promote_types(x.dtype, torch.float32)  # bfloat16 cannot tell neighboring times apart
            estimate = estimator(together, here, torch.full((len(whole),), t, dtype=precise, device=x.device), noise)
            ranks.copy_first([estimate.grad])  # which rounding on unlike machines would let drift apart
            gradients.add(index, t, estimate.grad)
            try:
                due = on_nan == "skip" or (index + 1) % check == 0 or index + 1 == steps
                finite = not due or gradients.are_finite()
            except FloatingPointError:
                for g, saved in zip(generators, before, strict=False):
                    g.set_state(saved)
                raise
            if not finite:
                estimate = _nothing(estimate)
            grad = parts.own(estimate.grad)
            target = x.detach() - grad
            for again in range(follow if finite else 0):
                if again:
                    x = parts.render()
                    grad = x.detach() - target
                made.zero_grad(set_to_none=True)
                parts.backward(x, grad)
                if on_nan == "skip" and not gradients.reach(index, t, generator.parameters()):
                    break
                made.step()
                gradients.skipped = 0
            yield Step(index, steps, t, estimate, views, generator, prior, made, generators, estimator)

    return run()


def _agree(ranks: Ranks, generator: Generator, rng: Sequence[torch.Generator], **facts: object) -> None:
    """Give all ranks the parameters and random generators of rank 0.

    Raises:
        ValueError: if one of the facts, or the shape of a parameter, is another on another rank.
    """
    if ranks.size == 1:
        return
    tensors = [*generator.parameters(), *generator.buffers()]
    ranks.check_same({**facts, "generator": [tuple(each.shape) for each in tensors], "number of noises": len(rng)})
    ranks.copy_first(tensors)
    states = ranks.first(lambda: [g.get_state() for g in rng])
    for g, state in zip(rng, states, strict=True):
        g.set_state(state)


def _check_numbers(on_nan: str, **numbers: int) -> None:
    """Refuse numbers below 1, and an unknown `on_nan`.

    Raises:
        ValueError: naming the argument.
    """
    for name, value in numbers.items():
        if value < 1:
            raise ValueError(f"{name} must be at least 1, not {value}")
    if on_nan not in ON_NAN:
        raise ValueError(f"unknown on_nan {on_nan!r}: use {' or '.join(ON_NAN)}")


def _time(times: Times, index: int, steps: int) -> float:
    """The time of a step.

    Raises:
        ValueError: if it is not in [0, 1].
    """
    t = float(times(index, steps))
    if not 0 <= t <= 1:
        raise ValueError(f"times must be in [0, 1], not {t:g} at step {index}: divide time steps by their number")
    return t


class Gradients:
    """Whether the gradients of the last steps were finite; looking waits for the device, adding does not.

    Args:
        skip: warn of a step that is not finite instead of raising an error.
    """

    def __init__(self, skip: bool = False):
        self.skip, self.skipped = skip, 0
        self._flags: list[tuple[int, float, Tensor]] = []

    def add(self, index: int, t: float, grad: Tensor) -> None:
        """Add the gradient of a step on the particles, [n, *d]."""
        self._flags.append((index, t, grad.detach().reshape(len(grad), -1).mul(0).sum(1)))  # 0 for finite particles

    def are_finite(self) -> bool:
        """Whether all gradients since the last look were finite.

        Raises:
            FloatingPointError: naming the first step that was not, its particle and its t, unless it is to be skipped
                and fewer than 10 were in a row.
        """
        flags, self._flags = self._flags, []
        if flags[0][-1].is_meta:  # there are no values to look at
            return True
        bad = torch.cat([flag for *_, flag in flags]).isfinite().logical_not().nonzero()[:1].flatten().tolist()
        if not bad:
            return True
        places = [(index, particle, t) for index, t, flag in flags for particle in range(len(flag))]
        index, particle, t = places[bad[0]]
        self._stop_or_skip(f"the gradient of step {index} is not finite (particle {particle}, t = {t:.4g})")
        return False

    def reach(self, index: int, t: float, parameters: Iterable[Tensor]) -> bool:
        """Whether the gradients of a step on the parameters are finite.

        Raises:
            FloatingPointError: if too many steps in a row were skipped.
        """
        flags = [p.grad.detach().mul(0).sum() for p in parameters if p.grad is not None]
        if not flags or bool(torch.stack([flag.double() for flag in flags]).isfinite().all()):
            return True
        self._stop_or_skip(f"the gradient of step {index} on the parameters is not finite (t = {t:.4g})")
        return False

    def _stop_or_skip(self, said: str) -> None:
        self.skipped += 1
        if not self.skip:
            raise FloatingPointError(f"{said}: {ADVICE}, or skip such steps (on_nan)")
        if self.skipped == SKIPPED:
            raise FloatingPointError(f"{said}, and neither were the {SKIPPED - 1} before it: {ADVICE}")
        warnings.warn(f"{said}: the step is skipped", stacklevel=2)


def _restore(
    state: Mapping[str, Any],
    generator: Generator,
    optimizer: torch.optim.Optimizer,
    rng: Sequence[torch.Generator],
    estimator: Estimator,
) -> None:
    """Restore what `Step.state_dict` returned.

    Raises:
        ValueError: if it is of another run.
    """
    try:
        generator.load_state_dict(state["generator"])
        optimizer.load_state_dict(state["optimizer"])
        for g, saved in zip(rng, state["rng"], strict=True):
            g.set_state(saved)
        estimator.load_state_dict(state.get("estimator", {}))
    except (RuntimeError, KeyError, ValueError, TypeError, AttributeError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"the state does not fit this run, as that of another version may not: {reason}") from error


def _nothing(estimate: Estimate) -> Estimate:
    """The estimate of a skipped step."""
    info = {name: value.nan_to_num(0, 0, 0) for name, value in estimate.info.items()}
    return replace(estimate, grad=torch.zeros_like(estimate.grad), info=info)


def _check_kinds(generator: object, prior: object, estimator: object, **conditions: object) -> None:
    """Refuse what is often given by mistake.

    Raises:
        ValueError: in one sentence that says what to give.
    """
    check_prior(prior)
    check_instance("generator", generator, "Pixels(...)")
    check_instance("estimator", estimator, "MSD()")
    if isinstance(generator, torch.nn.Module) and not isinstance(generator, Generator):
        raise ValueError(
            f"generator is a network ({type(generator).__name__}), whose views are not known: give a Generator, such "
            "as Pixels or CoordinateMLP, or a subclass with views() and forward()"
        )
    for name, value in conditions.items():
        if not callable(value):
            check_cond(value, name)


def _check_samples(x: Tensor, prior: Prior, estimator: Estimator) -> None:
    """Refuse samples with another number of channels than the prior's, such as pixels for a prior of latents.

    Raises:
        ValueError: in one sentence.
    """
    if _takes_images(estimator):
        return
    inner: Any = prior
    while not hasattr(inner, "latent_shape") and hasattr(inner, "prior"):
        inner = inner.prior
    shape = getattr(inner, "latent_shape", None)
    if shape is not None and len(shape) == 3 and (x.ndim != 4 or x.shape[1] != shape[0]):
        hint = ": encode its images, by Encoded(generator, prior)" if x.ndim == 4 and x.shape[1] == 3 else ""
        raise ValueError(
            f"the generator makes samples {list(x.shape[1:])}, but those of the prior are {list(shape)}{hint}"
        )


def _takes_images(estimator: Estimator) -> bool:
    """Whether an estimator encodes samples itself, or one that it wraps does."""
    while not isinstance(estimator, Decoded) and isinstance(estimator, EstimatorWrapper):
        estimator = estimator.base
    return isinstance(estimator, Decoded)


def _adam(parameters: Iterable[Tensor]) -> torch.optim.Optimizer:
    return torch.optim.Adam(parameters, lr=1e-2)


def _times(times: Times | Sequence[float] | None, steps: int, seed: int) -> Times:
    if times is None:
        return Uniform(seed=seed)
    if callable(times):
        return times
    fixed = [float(t) for t in times]
    if len(fixed) != steps:
        raise ValueError(f"times lists {len(fixed)} times for {steps} steps")
    if not all(0 <= t <= 1 for t in fixed):
        raise ValueError("times must lie in [0, 1]")
    return lambda index, _: fixed[index]
