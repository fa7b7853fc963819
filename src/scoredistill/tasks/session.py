"""What every task does: prior, counts, progress, resume."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from scoredistill.loop import Step
from scoredistill.priors.base import Prior
from scoredistill.priors.pipelines import load_prior


def measure(step: Step) -> dict[str, float]:
    """The step's row of numbers; one wait for the device.

    Raises:
        FloatingPointError: if the gradient is not finite.
    """
    values: list[Tensor] = [step.grad_norm, *step.estimate.info.values()]
    numbers = torch.stack([v.detach().double().reshape(()) for v in values]).tolist()
    if not all(abs(v) < float("inf") for v in numbers):
        raise FloatingPointError(
            f"the gradient of step {step.index} is not finite: try a smaller learning rate or guidance scale, or "
            "float32 networks"
        )
    return {"t": step.t, "grad_norm": numbers[0], **dict(zip(step.estimate.info, numbers[1:], strict=True))}


MAX_ROWS = 64  # rows of one network call, unless the prior has a limit of its own


def editor(prior: str | Path | Prior, name: str, dtype: Any = None, device: Any = None) -> Any:
    """A loaded editor, whose network calls are split so that memory is bounded.

    Raises:
        ValueError: the prior follows no instructions.
    """
    if not isinstance(prior, Prior):
        prior = load_prior(prior, dtype=dtype, device=device)
    if not getattr(prior, "editor", False):
        raise ValueError(f"{name} follows no instructions about an image: use an editor such as emoji-edit")
    if getattr(prior, "max_rows", 1) is None:
        prior.max_rows = MAX_ROWS  # type: ignore[attr-defined]
    return prior
