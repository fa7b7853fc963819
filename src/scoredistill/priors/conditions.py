"""Conditions: mappings of names to tensors with one row per sample, or one row for all."""

from collections.abc import Mapping

import torch
from torch import Tensor

Cond = Mapping[str, Tensor]


def expand_cond(cond: Cond, rows: int) -> dict[str, Tensor]:
    """Expand a condition to `rows` rows.

    Raises:
        ValueError: if an entry has neither one row nor that many.
    """
    for name, value in cond.items():
        if len(value) not in (1, rows):
            raise ValueError(f"condition {name!r} has {len(value)} rows for {rows} samples: give 1 or {rows}")
    return {name: value.expand(rows, *value.shape[1:]) for name, value in cond.items()}


def cat_conds(*conds: Cond) -> dict[str, Tensor]:
    """Concatenate conditions along the batch axis.

    Raises:
        ValueError: if their names differ.
    """
    names = set(conds[0])
    if any(set(c) != names for c in conds):
        raise ValueError(f"conditions have different entries: {', '.join(str(sorted(c)) for c in conds)}")
    return {name: torch.cat([c[name] for c in conds]) for name in sorted(names)}
