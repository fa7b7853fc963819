r"""What a pipeline does around its network, learned by running it.

Between two steps a pipeline arranges the noised sample x_t and the time for its network, and arranges the network's
output for the scheduler. A `Recorder` replaces both by stand-ins and runs the pipeline on probes, from which

    argument = c + a x_t[index],        model output = a output[index],        time argument = a t + b

are read off exactly (see `placements`). An argument that is unlike these, for example one that mixes elements, is
refused.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from scoredistill.priors.pipelines.argument_trees import Path, leaves, named, replaced
from scoredistill.priors.pipelines.placements import (
    Placement,
    Times,
    Unsupported,
    digits_of,
    placement,
    probes,
    times_of,
)
from scoredistill.priors.pipelines.recorder import Recorder, Step, like


@dataclass(frozen=True)
class Template:
    """How a pipeline calls its network for samples of one shape.

    Attributes:
        sample: paths of arguments that hold the sample.
        times: paths of arguments that hold the time.
        output: path in the network's output, of one sample, and placement of the model output therein.
        shape: of a batch of one sample, [1, *d]; where the scheduler sees the frames of a video as rows, [1, f, *d].
        arrangement: index of `arranged`.
    """

    sample: Mapping[Path, Placement]
    times: Mapping[Path, Times]
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
        shifted = outputs[step - 1] + 1  # no zeros, since some pipelines divide by norms of the output
        parts = shifted.split([leaf.numel() for leaf in ends.values()])
        new = {path: like(part, leaf) for part, (path, leaf) in zip(parts, ends.items(), strict=True)}
        return replaced(output, new)

    def follow(step: int, sample: Tensor) -> Tensor:
        return like(inputs[step - 1], sample)

    _, *probed = recorder.run({**call, "num_inference_steps": len(inputs) + 2}, len(inputs) + 1, answer, follow)
    template = Template(
        *_inputs(first.arguments[0], probed, inputs),
        _output(ends, [step.model_output for step in probed], outputs),
        torch.Size(first.sample.shape if len(first.sample) == 1 else (1, *first.sample.shape)),
    )
    return template, first.arguments[0], first.outputs[0]


def _inputs(
    arguments: Any, probed: list[Step], sources: list[Tensor]
) -> tuple[dict[Path, Placement], dict[Path, Times]]:
    """The arguments that hold the sample, and those that hold the time."""
    steps = [float(step.timestep) for step in probed]
    recorded = [leaves(step.arguments[0]) for step in probed]
    sample, times = {}, {}
    for path, leaf in leaves(arguments).items():
        if not isinstance(leaf, (Tensor, float, int)) or isinstance(leaf, bool):
            continue
        values = [torch.as_tensor(each[path]) for each in recorded]
        if (found := times_of(values, steps)) is not None:
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
