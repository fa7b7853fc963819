"""One random stream per purpose; drawing noise."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor


def seed_of(seed: int, index: int) -> int:
    """Seed of what is drawn at a step: a function of the step alone, so that nothing has to be stored to resume."""
    return (seed * 1_000_003 + index) % 2**63


Rng = torch.Generator | Sequence[torch.Generator] | None


def draw_noise(x: Float[Tensor, " b *d"], rng: Rng) -> Float[Tensor, " b *d"]:
    """Standard normal noise in the shape, dtype and device of x.

    Args:
        rng: one generator for the batch, or a list with one per sample; then a sample's noise does not depend on which
            others it is batched with. A CPU generator gives the same noise on every device.
    """
    if rng is None or isinstance(rng, torch.Generator):
        device = x.device if rng is None else rng.device
        return torch.randn(x.shape, generator=rng, dtype=x.dtype, device=device).to(x.device)
    if len(rng) != len(x):
        raise ValueError(f"rng lists {len(rng)} generators for {len(x)} samples: give one, or one per sample")
    return torch.cat([draw_noise(x[i : i + 1], g) for i, g in enumerate(rng)])
