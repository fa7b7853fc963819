r"""One job on several processes (ranks), by `torch.distributed`.

    torchrun --nproc-per-node 2 -m scoredistill edit valley.jpg "make it night"

All ranks run the same program with the same random numbers, and each holds the whole state: particles, parameters,
optimizer, estimator. They divide only what is expensive: the batch rows of every evaluation of the prior
(`priors.shared`), and the views of generators that are expensive to render (`generators.shared`). n rows are divided
into consecutive parts,

    rank r of R:    rows floor(r n / R), ..., floor((r + 1) n / R) - 1,

and every rank receives the results of all rows. So neither estimators nor noise depend on the number of ranks, and a
checkpoint of one rank is the state of the job. Exchanged are

    predictions    all-gather, once per evaluation of the prior
    samples        all-gather, once per step, only of generators that are rendered in parts
    estimates      broadcast of the gradient on the particles, once per step, so that rounding on unlike machines does
                   not let the ranks drift apart
    gradients      all-reduce, once per optimizer step, only of the parameters of these

A rank that would have no rows evaluates the last one, for nothing: so all ranks take part in every exchange.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

T = TypeVar("T")

TIMEOUT = 600.0  # seconds without an answer after which another rank counts as lost
NO_TIME = "SCOREDISTILL_TIMEOUT"  # environment variable with another number of seconds


class Lost(ConnectionError):
    """Another rank has ended, or does not answer."""


_ALONE = ContextVar("scoredistill_alone", default=False)


@contextmanager
def alone() -> Iterator[None]:
    """Keep what runs in the body to this process, for programs whose processes have jobs of their own."""
    before = _ALONE.set(True)
    try:
        yield
    finally:
        _ALONE.reset(before)


@dataclass(frozen=True)
class Share:
    """The rows of one rank.

    Attributes:
        start, stop: the rank's rows are start, ..., stop - 1.
        total: number of rows of all ranks.
        spare: whether the rows belong to another rank, because there are fewer rows than ranks.
    """

    start: int
    stop: int
    total: int
    spare: bool = False

    def __len__(self) -> int:
        return self.stop - self.start

    @property
    def weight(self) -> float:
        """Fraction of all rows; 0 for a spare rank."""
        return 0.0 if self.spare else len(self) / self.total

    @property
    def others(self) -> int:
        """Number of rows of other ranks that this rank does not evaluate."""
        return self.total - len(self)

    def of(self, values: Tensor) -> Tensor:
        """The rank's rows of values with one row per row of the job."""
        return values[self.start : self.stop]


@dataclass(frozen=True)
class Ranks:
    """The processes of a job, seen by one of them; the default is a single process.

    Attributes:
        rank: number of this process, from 0.
        size: number of processes.
        group: process group; None for the default group, or for a single process.
    """

    rank: int = 0
    size: int = 1
    group: dist.ProcessGroup | None = None

    @classmethod
    def here(cls) -> "Ranks":
        """The ranks of the default process group; a single process without one, and in `alone`."""
        if not _ALONE.get() and dist.is_available() and dist.is_initialized():
            return cls(dist.get_rank(), dist.get_world_size())
        return cls()

    @classmethod
    def of(cls, group: dist.ProcessGroup) -> "Ranks":
        """The ranks of a process group that this process belongs to."""
        return cls(dist.get_rank(group), dist.get_world_size(group), group)

    @property
    def leads(self) -> bool:
        """Whether this rank writes files and shows progress."""
        return self.rank == 0

    def share(self, n: int) -> Share:
        """This rank's share of n rows, n at least 1."""
        start, stop = self._bounds(n)[self.rank]
        return Share(n - 1, n, n, True) if start == stop else Share(start, stop, n)

    def gather(self, own: Tensor, share: Share) -> Tensor:
        """The rows of all ranks, [n, *d], given those of this rank's share, [k, *d]; without gradient."""
        if self.size == 1:
            return own.detach()
        bounds = self._bounds(share.total)
        width = max(stop - start for start, stop in bounds)
        padded = own.new_zeros(width, *own.shape[1:])
        if not share.spare:
            padded[: len(own)] = own.detach()
        sent = self._movable(padded.reshape(-1).view(torch.uint8))  # as bytes, because backends lack some types
        received = [torch.empty_like(sent) for _ in bounds]
        with _answered():
            dist.all_gather(received, sent, group=self.group)
        rows = [each.to(own.device).view(own.dtype).reshape(padded.shape) for each in received]
        return torch.cat([each[: stop - start] for each, (start, stop) in zip(rows, bounds, strict=True)])

    def add(self, values: Tensor) -> Tensor:
        """The sum over ranks of floating-point values, equal on all ranks; without gradient."""
        if self.size == 1:
            return values.detach()
        total = self._movable(values.detach().clone())
        with _answered():
            dist.all_reduce(total, group=self.group)
        return total.to(values.device)

    def add_gradients(self, parameters: Iterable[Tensor]) -> None:
        """Replace the gradient of each parameter by its sum over ranks; None stays where no rank has one."""
        if self.size == 1:
            return
        some = [p for p in parameters if p.requires_grad]
        if not some:
            return
        precise = torch.float64 if any(p.dtype == torch.float64 for p in some) else torch.float32
        given = torch.tensor([p.grad is not None for p in some], dtype=precise, device=some[0].device)
        parts = [torch.zeros_like(p, dtype=precise) if p.grad is None else p.grad.to(precise) for p in some]
        total = self.add(torch.cat([*(part.reshape(-1) for part in parts), given]))
        sums, counts = total.split([len(total) - len(some), len(some)])
        for p, part, count in zip(some, sums.split([p.numel() for p in some]), counts.tolist(), strict=True):
            p.grad = part.view_as(p).to(p) if count else None

    def first(self, make: Callable[[], T]) -> T:
        """What `make` returns on rank 0, where alone it is called; if it raises an error, all ranks raise it."""
        if self.size == 1:
            return make()
        found: list[Any] = [None, None]
        if self.leads:
            try:
                found[0] = make()
            except Exception as error:
                found[1] = _portable(error)
                self._broadcast(found)
                raise
        self._broadcast(found)
        if found[1] is not None:
            raise found[1]
        return found[0]  # type: ignore[no-any-return]

    @torch.no_grad()
    def copy_first(self, tensors: Iterable[Tensor]) -> None:
        """Replace tensors by those of rank 0, in place."""
        if self.size == 1:
            return
        for tensor in tensors:
            sent = self._movable(tensor.detach().contiguous())
            with _answered():
                dist.broadcast(sent, self._source, group=self.group)
            if sent.data_ptr() != tensor.data_ptr():
                tensor.copy_(sent)

    def check_same(self, facts: Mapping[str, object]) -> None:
        """Refuse a job whose ranks differ in one of the facts.

        Raises:
            ValueError: naming the fact, on all ranks.
        """
        if self.size == 1:
            return
        found: list[Any] = [None] * self.size
        with _answered():
            dist.all_gather_object(found, dict(facts), group=self.group)
        for rank, other in enumerate(found):
            if different := [name for name in facts if other.get(name) != found[0].get(name)]:
                raise ValueError(
                    f"rank {rank} has another {different[0]} ({other.get(different[0])}) than rank 0 "
                    f"({found[0].get(different[0])}): give all the same, or run jobs of their own in ranks.alone()"
                )

    @property
    def _source(self) -> int:
        return 0 if self.group is None else dist.get_global_rank(self.group, 0)

    def _bounds(self, n: int) -> list[tuple[int, int]]:
        return [(r * n // self.size, (r + 1) * n // self.size) for r in range(self.size)]

    def _broadcast(self, values: list[Any]) -> None:
        with _answered():
            dist.broadcast_object_list(values, self._source, group=self.group)

    def _movable(self, tensor: Tensor) -> Tensor:
        """The tensor on a device whose backend of the group is gloo on the CPU, or NCCL."""
        backends = dict(each.split(":") for each in str(dist.get_backend_config(self.group)).split(","))
        if backends.get(tensor.device.type) == ("gloo" if tensor.device.type == "cpu" else "nccl"):
            return tensor
        return tensor.cpu() if backends.get("cpu") == "gloo" else tensor.cuda()


@contextmanager
def _answered() -> Iterator[None]:
    """Turn an error of the connection into one sentence.

    Raises:
        Lost: if the block raises one.
    """
    try:
        yield
    except RuntimeError as error:
        raise Lost(
            f"another rank has ended, or has not answered for {timeout().total_seconds():g} seconds ({NO_TIME})"
        ) from error


def _portable(error: Exception) -> Exception:
    """An error of the same kind and message that every process can read."""
    kinds = (OSError, FloatingPointError, ImportError, ValueError)
    return next((kind for kind in kinds if isinstance(error, kind)), RuntimeError)(str(error))


def timeout() -> timedelta:
    """How long an answer of another rank may take.

    Raises:
        ValueError: if the environment does not name a number of seconds.
    """
    said = os.environ.get(NO_TIME, str(TIMEOUT))
    try:
        seconds = float(said)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise ValueError(f"{NO_TIME} must be a number of seconds above 0, not {said!r}")
    return timedelta(seconds=seconds)


def join() -> dist.Store:
    """Join the process group that `torchrun` or `accelerate launch` describes in the environment.

    Every process takes the GPU of its local rank; gloo connects CPUs, and NCCL GPUs where each process has its own.

    Returns:
        The store of the job, in which processes leave each other messages.

    Raises:
        Lost: if the other processes do not join.
        ValueError: if the environment is incomplete.
    """
    if missing := [name for name in ("RANK", "MASTER_ADDR", "MASTER_PORT") if name not in os.environ]:
        raise ValueError(f"WORLD_SIZE is set without {', '.join(missing)}: start the command by torchrun, or unset it")
    local, gpus = int(os.environ.get("LOCAL_RANK", "0")), torch.cuda.device_count()
    backend = "gloo"
    if gpus:
        torch.cuda.set_device(local % gpus)
        if int(os.environ.get("LOCAL_WORLD_SIZE", os.environ["WORLD_SIZE"])) <= gpus and dist.is_nccl_available():
            backend = "cpu:gloo,cuda:nccl"
    with _answered():
        store, rank, size = next(dist.rendezvous("env://", timeout=timeout()))
        dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=timeout())
    return store


def leave() -> None:
    """Leave the process group."""
    dist.destroy_process_group()
