"""Cond: rows of conditioning tensors."""

from collections.abc import Mapping

import torch
from torch import Tensor

Cond = Mapping[str, Tensor]


def expand_cond(cond: Cond, rows: int) -> dict[str, Tensor]:
    """The condition with `rows` rows: conditions of one row are repeated, others must have that many."""
    for name, value in cond.items():
        if len(value) not in (1, rows):
            raise ValueError(f"condition {name!r} has {len(value)} rows for {rows} samples: give 1 or {rows}")
    return {name: value.expand(rows, *value.shape[1:]) for name, value in cond.items()}


def cat_conds(*conds: Cond) -> dict[str, Tensor]:
    """Stack conditions along the batch axis."""
    names = set(conds[0])
    if any(set(c) != names for c in conds):
        raise ValueError(f"conditions name different things: {', '.join(str(sorted(c)) for c in conds)}")
    return {name: torch.cat([c[name] for c in conds]) for name in sorted(names)}
