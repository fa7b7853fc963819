"""Random streams and noise."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor


def seed_of(seed: int, index: int) -> int:
    """Seed of the random numbers of one step.

    It is a function of the run's seed and the step's index alone, so that a resumed run needs no stored state.
    """
    return (seed * 1_000_003 + index) % 2**63


Rng = torch.Generator | Sequence[torch.Generator] | None


def draw_noise(x: Float[Tensor, " b *d"], rng: Rng) -> Float[Tensor, " b *d"]:
    """Standard normal noise in the shape, dtype and device of x.

    Args:
        x: samples, [b, *d]; only shape, dtype and device matter.
        rng: one generator for the batch, or a list with one per sample, so that a sample's noise does not depend on the
            rest of its batch. A CPU generator gives the same noise on every device. None uses the global generator.

    Raises:
        ValueError: if the list has another length than x.
    """
    if rng is None or isinstance(rng, torch.Generator):
        device = x.device if rng is None else rng.device
        return torch.randn(x.shape, generator=rng, dtype=x.dtype, device=device).to(x.device)
    if len(rng) != len(x):
        raise ValueError(f"rng lists {len(rng)} generators for {len(x)} samples: pass one, or one per sample")
    return torch.cat([draw_noise(x[i : i + 1], g) for i, g in enumerate(rng)])
