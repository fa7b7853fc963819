"""Shares of a study's jobs, which several machines measure into one directory."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar, runtime_checkable


@runtime_checkable
class Costly(Protocol):
    """Something with an expected time."""

    @property
    def cost(self) -> float:
        """Expected time relative to the others."""


J = TypeVar("J", bound=Costly)


@dataclass(frozen=True)
class Shard:
    """One share of all jobs, of nearly equal costs; every job is in exactly one of `count` shares.

    Args:
        number: number of the share, from 1.
        count: number of shares.

    Raises:
        ValueError: if there is no such share.
    """

    number: int
    count: int

    def __post_init__(self) -> None:
        if not 1 <= self.number <= self.count:
            raise ValueError(f"there is no shard {self.number}/{self.count}: shards of 3 are 1/3, 2/3 and 3/3")

    @classmethod
    def parse(cls, text: str) -> "Shard":
        """The share that a text such as "2/3" names.

        Raises:
            ValueError: if it names none.
        """
        found = re.fullmatch(r"(\d+)/(\d+)", text.strip())
        if found is None:
            raise ValueError(f"a shard is a number of a count, such as 2/3, not {text!r}")
        return cls(int(found[1]), int(found[2]))

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"

    def of(self, jobs: Sequence[J]) -> list[J]:
        """The jobs of this share, in their order; a function of the list and its costs alone.

        The costliest job goes to the first share, and each next one to the share that costs least so far, or among
        equals to the one with the fewest jobs.
        """
        loads, mine = [(0.0, 0)] * self.count, set()
        for index in sorted(range(len(jobs)), key=lambda k: -jobs[k].cost):
            least = loads.index(min(loads))
            cost, number = loads[least]
            loads[least] = cost + jobs[index].cost, number + 1
            if least == self.number - 1:
                mine.add(index)
        return [job for index, job in enumerate(jobs) if index in mine]
