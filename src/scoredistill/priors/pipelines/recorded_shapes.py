"""What is known about samples of one shape: how the network is called for them, and the recordings made so far."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor

from scoredistill.priors.pipelines.argument_trees import Layout, leaves, split
from scoredistill.priors.pipelines.recorded_calls import Request
from scoredistill.priors.pipelines.recording import Template


class Recording(NamedTuple):
    """Arguments of the network for one sample, and their signature (see `Shape.signature`)."""

    arguments: Any
    signature: Any


@dataclass
class Shape:
    """What is known about samples of one shape, without a source image or with one of one size.

    Attributes:
        template: how the pipeline calls its network.
        size: arguments of the pipeline that give the shape.
        call: arguments of the pipeline for a run that makes samples of the shape.
        layout: of the arguments of the network; None if it takes one sample at a time.
        outputs: of its outputs, likewise.
        output: one output, for one sample.
        shift: of the time steps (see `recorded_schedule`).
        recordings: arguments of the network, by request.
    """

    template: Template
    size: dict[str, Any]
    call: dict[str, Any]
    layout: Layout | None
    outputs: Layout | None
    output: Any
    shift: float = 1.0
    recordings: dict[Request, Recording] = field(default_factory=dict)

    def add(self, request: Request, arguments: Any) -> None:
        """Keep the arguments of a request."""
        self.recordings[request] = Recording(arguments, self.signature(arguments))

    def signature(self, arguments: Any) -> Any:
        """Arguments with equal signatures can be joined to those of one call."""
        if self.layout is None:
            return object()
        one, two = (leaves(each) for each in self.layout)
        parts: list[tuple[Any, ...]] = []
        for path, leaf in leaves(arguments).items():
            known = path in self.template.times or path in self.template.sample
            if isinstance(leaf, (bool, int, float, str)):
                same = not known and path in one and path in two and one[path] == two[path]
                parts.append((path, (), str(leaf) if same else None))
            elif isinstance(leaf, Tensor):
                shared = path in two and path in one and one[path].shape == two[path].shape
                parts.append((path, tuple(leaf.shape), fingerprint(leaf) if shared and not known else None))
        return tuple(parts)

    def arranged(self, value: Tensor, rows: int) -> Tensor:
        """Samples of the scheduler in the layout of the prior, float32 [rows, *d]."""
        flat, index = value.float().reshape(rows, -1), self.template.arrangement
        if index is not None:
            flat = flat[:, index.to(flat.device)]
        return flat.reshape(rows, *self.template.shape[1:])

    def scheduled(self, value: Tensor) -> Tensor:
        """The inverse of `arranged`, flat: [rows, m]."""
        flat, index = value.flatten(1), self.template.arrangement
        return flat if index is None else flat[:, index.argsort().to(flat.device)]

    def rows(self, arguments: Any, one: Any) -> list[Any]:
        """The rows of a call of the network, given the arguments of one row."""
        path = next(iter(self.template.sample))
        known, single = leaves(arguments), leaves(one)
        rows = 1
        if path in known and isinstance(single[path], Tensor):
            rows = max(1, len(known[path]) // max(1, len(single[path])))
        if rows == 2:
            return split(arguments, Layout(one, arguments), 2)
        return split(arguments, self.layout, rows) if self.layout else [arguments]


def negative_of(shape: Shape, calls: list[Any], positive: Any) -> Any:
    """The arguments of the unconditional evaluation among those of a guided step; None if there is none.

    Args:
        shape: of the samples.
        calls: arguments of each call of the network in that step.
        positive: those for the prompt, of one sample.
    """
    skipped, known = set(shape.template.sample) | set(shape.template.times), leaves(positive)

    def differences(row: Mapping[str, Any]) -> int:
        return sum(
            path not in skipped and isinstance(leaf, Tensor) and not same(leaf, known.get(path))
            for path, leaf in leaves(row).items()
        )

    rows = sorted((row for arguments in calls for row in shape.rows(arguments, positive)), key=differences)
    return next((row for row in rows[1:] if differences(row)), None)  # the first is the conditional evaluation


def same(first: Tensor, second: Any) -> bool:
    """Whether two arguments are equal."""
    return isinstance(second, Tensor) and first.shape == second.shape and torch.equal(first, second)


def fingerprint(value: Tensor) -> bytes:
    """A hash of the values of a tensor."""
    return hashlib.sha256(value.detach().cpu().double().numpy().tobytes()).digest()
