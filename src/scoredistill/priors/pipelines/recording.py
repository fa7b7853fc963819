r"""What a pipeline does around its network, learned by running it.

Between two steps a pipeline arranges the noised sample x_t and the time for its network, and arranges the network's
output for the scheduler. A `Recorder` replaces both by stand-ins and runs the pipeline on probes, from which

    argument = c + a x_t[index],        model output = a output[index],        time argument = a t + b

are read off exactly: zeros give c, ones give a, and the digits of the position of each element give the index. An
argument that is unlike these, for example one that mixes elements, is refused.
"""

import inspect
import math
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from scoredistill.priors.pipelines.argument_trees import Path, leaves, named, replaced

NETWORKS = ("transformer", "unet", "prior", "dit", "decoder")
"""Names that pipelines give their network."""
BASE = 128
"""Base of the digits of positions: integers up to 256 are exact in bfloat16."""
AFFINE = ((1.0, 0.0), (1e-3, 0.0), (-1e-3, 1.0), (-1.0, 1000.0), (1000.0, 0.0))
"""Usual maps (a, b) of times, tried before a fit, which rounding would spoil."""


class Unsupported(ValueError):
    """A pipeline does something that is not understood."""


class Stopped(Exception):
    """Ends a recorded run."""


@dataclass
class Step:
    """One step of a recorded run: the calls of the network, and what the scheduler was given.

    Attributes:
        arguments: of each call, by name.
        outputs: of each call.
        model_output, timestep, sample: arguments of the scheduler.
    """

    arguments: list[dict[str, Any]] = field(default_factory=list)
    outputs: list[Any] = field(default_factory=list)
    model_output: Tensor | None = None
    timestep: Any = None
    sample: Tensor | None = None


Answer = Callable[[int, Any], Any]  # (step, output of the first call) -> output
Follow = Callable[[int, Tensor], Tensor]  # (step, sample) -> next sample


class Recorder:
    """Runs a pipeline and records the arguments of its network and its scheduler.

    The pipeline is as before after each run.

    Args:
        pipeline: the diffusers pipeline.
        network: its UNet or transformer.
        scheduler: the scheduler of recorded runs.
    """

    def __init__(self, pipeline: Any, network: nn.Module, scheduler: Any):
        self.pipeline, self.network, self.scheduler = pipeline, network, scheduler
        self.names = set(inspect.signature(pipeline.__call__).parameters)

    @torch.no_grad()
    def run(
        self,
        call: Mapping[str, Any],
        steps: int = 1,
        answer: Answer | None = None,
        follow: Follow | None = None,
        only_call: bool = False,
        output: Any = None,
    ) -> list[Step]:
        """Run the pipeline for some steps.

        Args:
            call: arguments of the pipeline; those that it does not take are left out.
            steps: number of recorded steps, after which the run ends.
            answer: replaces the network from the second step on.
            follow: replaces the scheduler's step.
            only_call: end at the first call of the network, without evaluating it.
            output: an output of the network that stands in for it in all steps.
        """
        seen: list[Step] = [Step()]

        def forward(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
            bound = inspect.signature(original).bind(*args, **kwargs)
            arguments = dict(bound.arguments)
            for name, parameter in bound.signature.parameters.items():
                if parameter.kind is inspect.Parameter.VAR_KEYWORD:
                    arguments.update(arguments.pop(name, {}))
            seen[-1].arguments.append(kept(arguments))
            if only_call:
                raise Stopped
            index = len(seen) - 1
            if output is not None:
                given = kept(output)
            elif answer is not None and index > 0:
                given = answer(index, seen[0].outputs[len(seen[-1].arguments) - 1])
            else:
                given = original(*args, **kwargs)
            seen[-1].outputs.append(kept(given))
            return given

        def step(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
            given = inspect.signature(original).bind(*args, **kwargs).arguments
            last = seen[-1]
            last.model_output, last.timestep, last.sample = (
                kept(given[name]) for name in ("model_output", "timestep", "sample")
            )
            if len(seen) == steps:
                raise Stopped
            seen.append(Step())
            if follow is None:
                return original(*args, **kwargs)
            after = follow(len(seen) - 1, given["sample"])
            return _step_output(after, kwargs.get("return_dict", True))

        with self._patched(forward, step, follow is not None):
            try:
                self.pipeline(**{name: value for name, value in call.items() if name in self.names})
            except Stopped:
                return seen
        raise Unsupported(f"{type(self.pipeline).__name__} ends without {steps} steps of its scheduler")

    @torch.no_grad()
    def decoded(self, call: Mapping[str, Any], output: Any, sample: Tensor) -> tuple[Tensor, dict[str, Any]]:
        """Run the pipeline to its end, as if `sample` were its result, up to the decoder of its autoencoder.

        Args:
            call: arguments of the pipeline.
            output: an output of the network, which stands in for it.
            sample: the last sample.

        Returns:
            What the decoder is given, and its further arguments.
        """
        vae, given = self.pipeline.vae, []
        decode = vae.decode

        def capture(z: Tensor, *args: Any, **kwargs: Any) -> Any:
            bound = inspect.signature(decode).bind(z, *args, **kwargs).arguments
            given.append((kept(z), {name: kept(value) for name, value in list(bound.items())[1:]}))
            raise Stopped

        vae.decode = capture
        try:
            self.run(call, sys.maxsize, follow=lambda step, before: _like(sample, before), output=output)
        except Unsupported:
            pass
        finally:
            del vae.__dict__["decode"]
        if not given:
            raise Unsupported(f"{type(self.pipeline).__name__} does not decode its result with its vae")
        return given[0]

    @contextmanager
    def _patched(self, forward: Callable[..., Any], step: Callable[..., Any], unscaled: bool) -> Iterator[None]:
        pipeline, network, scheduler = self.pipeline, self.network, self.scheduler
        own = pipeline.scheduler
        bar = getattr(pipeline, "_progress_bar_config", None)
        before = network.__dict__.get("forward")
        original, stepped = network.forward, scheduler.step
        pipeline.set_progress_bar_config(disable=True)
        try:
            pipeline.scheduler = scheduler
            network.forward = lambda *args, **kwargs: forward(original, *args, **kwargs)  # type: ignore[method-assign]
            scheduler.step = lambda *args, **kwargs: step(stepped, *args, **kwargs)
            if unscaled and hasattr(scheduler, "scale_model_input"):
                scheduler.scale_model_input = lambda sample, *args, **kwargs: sample
            yield
        finally:
            pipeline.scheduler = own
            if before is None:
                del network.__dict__["forward"]
            else:
                network.forward = before  # type: ignore[method-assign]
            for name in ("step", "scale_model_input"):
                scheduler.__dict__.pop(name, None)
            if bar is None:
                del pipeline._progress_bar_config
            else:
                pipeline._progress_bar_config = bar


def network_of(pipeline: Any) -> nn.Module:
    """The network that a pipeline calls in its loop.

    Raises:
        Unsupported: if there is none under the usual names, or two, of which each takes a part of the times.
    """
    found = [name for name in NETWORKS if isinstance(getattr(pipeline, name, None), nn.Module)]
    if not found:
        raise Unsupported(
            f"{type(pipeline).__name__} has no network named {', '.join(NETWORKS[:-1])} or {NETWORKS[-1]}"
        )
    if isinstance(getattr(pipeline, f"{found[0]}_2", None), nn.Module):
        raise Unsupported(f"{type(pipeline).__name__} divides the times among {found[0]} and {found[0]}_2")
    return getattr(pipeline, found[0])


@dataclass(frozen=True)
class Placement:
    """Where the elements of a tensor come from: value = c + scale source[index], per sample.

    Attributes:
        index: position in the flattened source, int64 [n]; 0 where the value is constant.
        scale: a, [n]; 0 where the value is constant.
        count: number of elements of the source.
        plain: whether the value is the source itself, in its order.
    """

    index: Tensor
    scale: Tensor
    count: int
    plain: bool

    @classmethod
    def of(cls, index: Tensor, scale: Tensor, count: int) -> "Placement":
        """The placement of elements of a source of `count` elements."""
        plain = len(index) == count and bool((scale == 1).all()) and torch.equal(index, torch.arange(count))
        return cls(torch.where(scale == 0, 0, index), scale, count, plain)

    def moved(self, index: Tensor) -> "Placement":
        """The placement with other positions in a source of as many elements."""
        return Placement.of(index, self.scale, self.count)

    def chosen(self, order: Tensor) -> "Placement":
        """The placement of some of the elements, in the given order."""
        return Placement.of(self.index[order], self.scale[order], self.count)

    def fill(self, constant: Tensor, source: Tensor) -> Tensor:
        """The values for one sample, in the shape, dtype and device of `constant`.

        Args:
            constant: recorded values.
            source: flattened, [m].
        """
        if self.plain:
            return source.reshape(constant.shape).to(constant)
        index, scale = self.index.to(source.device), self.scale.to(source)
        moved = scale * source.take(index)
        return torch.where(scale == 0, constant.flatten().to(moved), moved).reshape(constant.shape).to(constant)


@dataclass(frozen=True)
class Template:
    """How a pipeline calls its network for samples of one shape.

    Attributes:
        sample: paths of arguments that hold the sample.
        times: paths of arguments that hold the time, with (a, b) of a t + b, where t is the scheduler's time step.
        output: path in the network's output, of one sample, and placement of the model output therein.
        shape: of a batch of one sample, [1, *d].
        arrangement: index of `arranged`.
    """

    sample: Mapping[Path, Placement]
    times: Mapping[Path, tuple[float, float]]
    output: tuple[Path, Placement]
    shape: torch.Size
    arrangement: Tensor | None = None

    def arranged(self, index: Tensor, shape: torch.Size) -> "Template":
        """The template for samples y = x[index] in place of x, a rearrangement, of another shape [1, *d]."""
        inverse = torch.empty_like(index)
        inverse[index] = torch.arange(len(index))
        sample = {path: place.moved(inverse[place.index]) for path, place in self.sample.items()}
        path, place = self.output
        return Template(sample, self.times, (path, place.chosen(index)), shape, index)


def digits_of(count: int) -> int:
    """Number of digits of the positions of `count` elements."""
    digits = 1
    while BASE**digits < count:
        digits += 1
    return digits


def probes(count: int, digits: int) -> list[Tensor]:
    """Zeros, ones, the digits of the position of each of `count` elements, and random numbers; float64 [count]."""
    position = torch.arange(count)
    values = [((position // BASE**k) % BASE).double() for k in range(digits)]
    random = torch.randn(count, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return [torch.zeros(count).double(), torch.ones(count).double(), *values, random]


def placement(values: list[Tensor], sources: list[Tensor], what: str) -> Placement | None:
    """Read off where the elements of a tensor come from, from its values for all probes.

    Args:
        values: of the tensor, of any shape, one for each probe.
        sources: the probes.
        what: name of the tensor, for messages.

    Returns:
        The placement, or None if the tensor does not depend on the probes.

    Raises:
        Unsupported: if it depends on them in another way.
    """
    values = [value.detach().double().flatten().cpu() for value in values]
    zero, one, *digits, random = values
    scale = one - zero
    moved = scale != 0
    if not bool(moved.any()) and all(torch.equal(value, zero) for value in values):
        return None
    index = torch.zeros(len(zero), dtype=torch.int64)
    for k, digit in enumerate(digits):
        index += ((digit - zero) / torch.where(moved, scale, 1.0)).round().long() * BASE**k
    index = torch.where(moved, index, 0)
    if bool(((index < 0) | (index >= len(sources[-1]))).any()):
        raise Unsupported(f"{what} is no rearrangement of the sample")
    expected = zero + torch.where(moved, scale, 0.0) * sources[-1][index]
    if bool((expected - random).abs().max() > 0.02 * (1 + random.abs().max())):
        raise Unsupported(f"{what} is no rearrangement of the sample")
    return Placement.of(index, torch.where(moved, scale, 0.0), len(sources[-1]))


def affine(argument: list[Tensor], times: list[float]) -> tuple[float, float] | None:
    """(a, b) of an argument a t + b that has one value per step; None if it is not so.

    Args:
        argument: its values in each step, of any shape.
        times: the scheduler's time steps.
    """
    if any(value.numel() == 0 or bool((value != value.flatten()[0]).any()) for value in argument):
        return None
    seen = [float(value.flatten()[0]) for value in argument]
    if len(set(seen)) == 1:
        return None
    kind = argument[0].dtype if argument[0].is_floating_point() else torch.float64
    for a, b in AFFINE:
        guess = [float(torch.tensor(a * t + b, dtype=torch.float64).to(kind)) for t in times]
        if all(
            math.isclose(x, y, rel_tol=2 * torch.finfo(kind).eps, abs_tol=1e-6)
            for x, y in zip(guess, seen, strict=True)
        ):
            return a, b
    t, y = torch.tensor(times).double(), torch.tensor(seen).double()
    a = float(((t - t.mean()) * (y - y.mean())).sum() / ((t - t.mean()) ** 2).sum())
    b = float(y.mean() - a * t.mean())
    return (a, b) if float((a * t + b - y).abs().max()) < 1e-4 * float(y.abs().max()) else None


def learn(recorder: Recorder, call: Mapping[str, Any]) -> tuple[Template, dict[str, Any], Any]:
    """Learn how the pipeline calls its network, from one evaluation of it and a run on probes.

    Returns:
        The template, and the arguments and the output of the network for one sample.

    Raises:
        Unsupported: if the pipeline calls the network more than once a step, or in a way that is not understood.
    """
    (first,) = recorder.run(call)
    if len(first.arguments) != 1:
        raise Unsupported(f"the network is evaluated {len(first.arguments)} times per step")
    assert first.sample is not None
    assert first.model_output is not None
    ends = {path: leaf for path, leaf in leaves(first.outputs[0]).items() if isinstance(leaf, Tensor)}
    counts = first.sample.numel(), sum(leaf.numel() for leaf in ends.values())
    inputs, outputs = (probes(count, digits_of(max(counts))) for count in counts)

    def answer(step: int, output: Any) -> Any:
        parts = outputs[step - 1].split([leaf.numel() for leaf in ends.values()])
        new = {path: _like(part, leaf) for part, (path, leaf) in zip(parts, ends.items(), strict=True)}
        return replaced(output, new)

    def follow(step: int, sample: Tensor) -> Tensor:
        return _like(inputs[step - 1], sample)

    _, *probed = recorder.run({**call, "num_inference_steps": len(inputs) + 2}, len(inputs) + 1, answer, follow)
    template = Template(
        *_inputs(first.arguments[0], probed, inputs),
        _output(ends, [step.model_output for step in probed], outputs),
        first.sample.shape,
    )
    return template, first.arguments[0], first.outputs[0]


def _inputs(
    arguments: Any, probed: list[Step], sources: list[Tensor]
) -> tuple[dict[Path, Placement], dict[Path, tuple[float, float]]]:
    """The arguments that hold the sample, and those that hold the time."""
    steps = [float(step.timestep) for step in probed]
    recorded = [leaves(step.arguments[0]) for step in probed]
    sample, times = {}, {}
    for path, leaf in leaves(arguments).items():
        if not isinstance(leaf, (Tensor, float, int)) or isinstance(leaf, bool):
            continue
        values = [torch.as_tensor(each[path]) for each in recorded]
        if (found := affine(values, steps)) is not None:
            times[path] = found
        elif (place := placement(values, sources, f"the argument {named(path)}")) is not None:
            sample[path] = place
    for found_paths, what in ((sample, "sample"), (times, "time")):
        if not found_paths:
            raise Unsupported(f"no argument of the network holds the {what}")
    return sample, times


def _output(ends: Mapping[Path, Tensor], results: list[Any], sources: list[Tensor]) -> tuple[Path, Placement]:
    """The tensor of the network's output that becomes the model output, and its elements."""
    found = placement(results, sources, "the model output")
    if found is None or not bool((found.scale != 0).all()):
        raise Unsupported("the model output does not depend on the network's output alone")
    start = 0
    for path, leaf in ends.items():
        index = found.index - start
        if bool(((index >= 0) & (index < leaf.numel())).all()):
            return path, Placement.of(index, found.scale, leaf.numel())
        start += leaf.numel()
    raise Unsupported("the model output consists of several outputs of the network")


def kept(tree: Any) -> Any:
    """Copies of all tensors of a tree, which pipelines may change in place later."""
    return replaced(tree, {p: leaf.detach().clone() for p, leaf in leaves(tree).items() if isinstance(leaf, Tensor)})


def _like(values: Tensor, tensor: Tensor) -> Tensor:
    """Flat values in the shape, dtype and device of a tensor."""
    return values.reshape(tensor.shape).to(tensor)


def _step_output(sample: Tensor, return_dict: bool) -> Any:
    """A sample as a scheduler returns it."""
    if not return_dict:
        return sample, sample
    from diffusers.schedulers.scheduling_utils import SchedulerOutput  # takes seconds to import

    return SchedulerOutput(prev_sample=sample)
