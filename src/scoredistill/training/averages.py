r"""Power-function averages of weights, from which an average of any length is reconstructed after training.

    theta_g(t) = (g + 1) / t^(g + 1) int_0^t s^g theta(s) ds,
    theta_g <- b theta_g + (1 - b) theta,   b = (1 - 1 / t)^(g + 1)   at step t

The length of an average is the standard deviation of its weights s^g on [0, 1], relative to the training so far:

    std^2 = (g + 1) / ((g + 2)^2 (g + 3)).

Two averages are kept while training, and snapshots of both are saved now and then. The weights p_i(s) of the snapshots
span many others: those of the average of any length at any time are approximated by sum_i x_i p_i with the least
squared error, where x solves A x = b,  A_ij = int p_i p_j,  b_i = int p_i p, which are known in closed form.

Reference: Analyzing and improving the training dynamics of diffusion models (Karras et al. 2024),
https://arxiv.org/abs/2312.02696.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from scoredistill.files import atomic

STDS = (0.05, 0.10)
"""Relative lengths of the two averages that are kept."""


def exponent(std: float) -> float:
    """The exponent g of an average of relative length `std`.

    Raises:
        ValueError: if `std` is not in (0, 0.28]: lengths beyond have no exponent.
    """
    if not 0 < std <= 0.28:
        raise ValueError(f"the relative length of an average must be in (0, 0.28], not {std:g}")
    roots = np.roots([1.0, 7.0, 16.0 - std**-2, 12.0 - std**-2])  # (g + 2)^2 (g + 3) = (g + 1) / std^2
    return float(roots.real.max())


def product(t: float, g: float, other_t: float, other_g: float) -> float:
    """The integral of the product of the weights of two averages, of exponents g at the times t (in steps)."""
    if t > other_t:
        t, g, other_t, other_g = other_t, other_g, t, g
    return (g + 1) * (other_g + 1) / (g + other_g + 1) * (t / other_t) ** other_g / other_t


def coefficients(snapshots: Sequence[tuple[int, float]], time: int, std: float) -> list[float]:
    """Coefficients x of snapshots, given as (step, relative length), for the average of length `std` at step `time`."""
    powers = [(float(t), exponent(length)) for t, length in snapshots]
    gram = np.array([[product(*one, *other) for other in powers] for one in powers])
    wanted = np.array([product(*one, float(time), exponent(std)) for one in powers])
    return [float(x) for x in np.linalg.lstsq(gram, wanted, rcond=1e-12)[0]]


class Averages:
    """The averages of a network in training.

    Args:
        network: in training; it is copied.

    Attributes:
        networks: for each length of `STDS` a copy of the network with averaged parameters, in evaluation mode.
    """

    def __init__(self, network: nn.Module) -> None:
        self.networks = {std: copy.deepcopy(network).requires_grad_(False).eval() for std in STDS}

    @torch.no_grad()
    def update(self, network: nn.Module, step: int) -> None:
        """Include the network after its step number `step`, from 1. Buffers are copied."""
        for std, mean in self.networks.items():
            rate = 1 - (1 - 1 / step) ** (exponent(std) + 1)
            torch._foreach_lerp_(list(mean.parameters()), list(network.parameters()), rate)
            for kept, buffer in zip(mean.buffers(), network.buffers(), strict=True):
                kept.copy_(buffer)

    def state_dict(self) -> dict[str, Any]:
        """The averaged networks by length."""
        return {f"{std:g}": mean.state_dict() for std, mean in self.networks.items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Load what `state_dict` returned."""
        for std, mean in self.networks.items():
            mean.load_state_dict(state[f"{std:g}"])

    def snapshot(self, folder: Path, step: int, dtype: torch.dtype = torch.float16) -> None:
        """Save the averages at a step as {folder}/{step}-{length}.safetensors."""
        folder.mkdir(parents=True, exist_ok=True)
        for std, mean in self.networks.items():
            weights = {name: value.detach().to(dtype).contiguous() for name, value in mean.named_parameters()}
            with atomic(folder / f"{step:08d}-{std:g}.safetensors") as draft:
                save_file(weights, draft)


def reconstruct(folder: Path, network: nn.Module, std: float, time: int | None = None) -> nn.Module:
    """A copy of a network with the average of relative length `std` from the snapshots in a folder.

    Args:
        folder: with snapshots.
        network: with the architecture and the buffers of the result.
        std: relative length, in (0, 0.28]. Between the lengths of `STDS` few snapshots are enough; others need more
            (with 4 snapshots an average of length 0.15 was far off, with 16 it is accurate).
        time: step of the average; that of the last snapshot by default.

    Raises:
        FileNotFoundError: if the folder has no snapshots up to that step.
    """
    found = {
        (int(path.stem.split("-")[0]), float(path.stem.split("-")[1])): path for path in folder.glob("*-*.safetensors")
    }
    found = {key: path for key, path in sorted(found.items()) if time is None or key[0] <= time}
    if not found:
        raise FileNotFoundError(f"{folder} has no snapshots of averages: train with snapshots > 0")
    last = max(step for step, _ in found) if time is None else time
    weights: dict[str, Tensor] = {}
    for factor, path in zip(coefficients(list(found), last, std), found.values(), strict=True):
        for name, value in load_file(path).items():
            weights[name] = weights.get(name, 0) + factor * value.double()
    result = copy.deepcopy(network).requires_grad_(False).eval()
    for name, value in result.named_parameters():
        value.copy_(weights[name])
    return result
