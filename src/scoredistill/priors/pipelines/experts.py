"""Two networks that divide the times among them, as one."""

from typing import Any

import torch
from torch import Tensor, nn

from scoredistill.priors.pipelines.argument_trees import Path, leaves
from scoredistill.priors.pipelines.placements import Unsupported
from scoredistill.priors.pipelines.recorder import Step


class Experts(nn.Module):
    """Calls the first network at time steps of at least a boundary, and the second below it.

    Args:
        networks: both.
        boundary: time step.
        path: of an argument that is the scheduler's time step.
    """

    def __init__(self, networks: list[nn.Module], boundary: float, path: Path):
        super().__init__()
        self.networks, self.boundary, self.path = nn.ModuleList(networks), boundary, path

    @property
    def config(self) -> Any:
        """Configuration of the first."""
        return self.networks[0].config

    @property
    def device(self) -> Any:
        """Device of the first."""
        return self.networks[0].device

    @property
    def dtype(self) -> torch.dtype:
        """Floating-point type of the first."""
        return self.networks[0].dtype  # type: ignore[return-value]

    def side(self, step: Tensor) -> int:
        """The number of the network for a time step."""
        return int(float(step.flatten().max()) < self.boundary)

    def forward(self, **arguments: Any) -> Any:
        """Call the network of the rows' time, which is on one side of the boundary for all."""
        return self.networks[self.side(torch.as_tensor(leaves(arguments)[self.path]))](**arguments)


def boundary(pipeline: Any, steps: list[Step], last: float) -> float:
    """The time step from which on the first network is called.

    Args:
        pipeline: the pipeline.
        steps: of a run over all times.
        last: the greatest time step.

    Raises:
        Unsupported: if the networks are not divided by one time.
    """
    told = [float(torch.as_tensor(step.timestep).flatten()[0]) for step in steps]
    side = [step.networks[0] for step in steps]
    ratio = pipeline.config.get("boundary_ratio")
    if ratio is None and 1 in side and 0 in side:
        ratio = (min(t for t, n in zip(told, side, strict=True) if n == 0) / last
                 + max(t for t, n in zip(told, side, strict=True) if n == 1) / last) / 2  # fmt: skip
    if ratio is None or any((t >= ratio * last) != (n == 0) for t, n in zip(told, side, strict=True)):
        raise Unsupported(f"{type(pipeline).__name__} has two networks, which one boundary of times does not divide")
    return ratio * last
