r"""Where the elements of a tensor come from, read off from its values for known sources.

    value = c + a source[index]

Zeros as source give c, ones give a, and the digits of the position of each element give the index. Times are read off
likewise, from two or more of them: each element of an argument is a t + b, where a = 0 for those that do not depend on
t.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

BASE = 128
"""Base of the digits of positions: integers up to 256 are exact in bfloat16."""
AFFINE = ((1.0, 0.0), (1e-3, 0.0), (-1e-3, 1.0), (-1.0, 1000.0), (1000.0, 0.0))
"""Usual maps (a, b) of times, tried before a fit, which rounding would spoil."""


class Unsupported(ValueError):
    """A pipeline does something that is not understood."""


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


@dataclass(frozen=True)
class Times:
    """An argument that holds the time: a t + b, for the scheduler's time step t.

    Attributes:
        a, b: one number each, or one per element of the argument, such as a time per token.
    """

    a: float | Tensor
    b: float | Tensor

    def fill(self, recorded: object, t: Tensor, device: torch.device) -> Tensor:
        """The argument at a time step t, in the shape and type of a recorded one, with one row.

        Whole numbers become float32.
        """
        a, b = (each.to(device) if isinstance(each, Tensor) else each for each in (self.a, self.b))
        value = a * t + b
        if not isinstance(recorded, Tensor):
            return value.reshape(1).to(device)
        kind = recorded.dtype if recorded.is_floating_point() else torch.float32
        return value.to(recorded.device, kind).expand(recorded.shape if recorded.ndim else (1,))


def times_of(argument: list[Tensor], steps: list[float]) -> Times | None:
    """How an argument depends on the time; None if it does not, or in another way.

    Args:
        argument: its values in each step, of any shape.
        steps: the scheduler's time steps.
    """
    if argument[0].numel() == 0 or any(value.shape != argument[0].shape for value in argument):
        return None
    columns = torch.stack([value.detach().flatten().cpu() for value in argument])
    moving = (columns != columns[:1]).any(0)
    if not bool(moving.any()):
        return None
    seen = columns[:, moving].unique(dim=1)
    if seen.shape[1] > 1:  # elements that depend on the time in different ways
        return None
    found = affine(seen[:, 0], steps)
    if found is None or bool(moving.all()):
        return found and Times(*found)
    a, b = torch.where(moving, found[0], 0.0), torch.where(moving, found[1], columns[0].double())
    return Times(a.reshape(argument[0].shape), b.reshape(argument[0].shape))


def affine(values: Tensor, steps: list[float]) -> tuple[float, float] | None:
    """(a, b) of values a t + b, one per time step t; None if they are not so."""
    kind = values.dtype if values.is_floating_point() else torch.float64
    seen = values.tolist()
    for a, b in AFFINE:
        guess = [float(torch.tensor(a * t + b, dtype=torch.float64).to(kind)) for t in steps]
        if all(
            math.isclose(x, y, rel_tol=2 * torch.finfo(kind).eps, abs_tol=1e-6)
            for x, y in zip(guess, seen, strict=True)
        ):
            return a, b
    t, y = torch.tensor(steps).double(), values.double()
    a = float(((t - t.mean()) * (y - y.mean())).sum() / ((t - t.mean()) ** 2).sum())
    b = float(y.mean() - a * t.mean())
    return (a, b) if float((a * t + b - y).abs().max()) < 1e-4 * float(y.abs().max()) else None
