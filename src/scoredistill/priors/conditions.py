"""Conditions: mappings of names to tensors with one row per sample, or one row for all.

Embeddings of texts, [b, tokens, features], may differ in their number of tokens: `cat_conds` then pads them and keeps
the numbers in an entry named after them, "text" + `TOKENS`. Padding is never shown to a network.
"""

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn.functional import pad

Cond = Mapping[str, Tensor]
TOKENS = "_tokens"  # ends the name of the entry that counts the tokens of each row of embeddings, [b] on the CPU


def check_cond(cond: object, name: str = "cond") -> None:
    """Refuse what is no condition, such as a prompt or embeddings without their name; None is one.

    Raises:
        ValueError: in one sentence that says what to give.
    """
    if cond is None or isinstance(cond, Mapping):
        return
    if isinstance(cond, str) or (isinstance(cond, (list, tuple)) and all(isinstance(v, str) for v in cond)):
        raise ValueError(f"{name} is a text, and must be a condition: give prior.encode_text({cond!r})"[:300])
    if isinstance(cond, torch.Tensor):
        raise ValueError(f'{name} is a tensor without a name, and must be a condition: give {{"text": embeddings}}')
    raise ValueError(
        f"{name} is of the type {type(cond).__name__}, and must be a condition: give prior.encode_text(...)"
    )


def expand_cond(cond: Cond, rows: int) -> dict[str, Tensor]:
    """Expand a condition to `rows` rows.

    Raises:
        ValueError: if an entry has neither one row nor that many.
    """
    for name, value in cond.items():
        if len(value) not in (1, rows):
            raise ValueError(f"condition {name!r} has {len(value)} rows for {rows} samples: give 1 or {rows}")
    return {name: value.expand(rows, *value.shape[1:]) for name, value in cond.items()}


def replaced(cond: Cond, other: Cond) -> dict[str, Tensor]:
    """The condition with the entries of another, and without its own counts of tokens for those."""
    kept = {name: value for name, value in cond.items() if name.removesuffix(TOKENS) not in other}
    return {**kept, **other}


def cat_conds(*conds: Cond) -> dict[str, Tensor]:
    """Concatenate conditions along the batch axis; embeddings of fewer tokens are padded with zeros, and counted.

    Raises:
        ValueError: if their names or the shapes of their entries differ.
    """
    names = _names(conds[0])
    if any(_names(c) != names for c in conds):
        raise ValueError(f"conditions have different entries: {', '.join(str(sorted(c)) for c in conds)}")
    made = {}
    for name in sorted(names):
        values, count = [c[name] for c in conds], name + TOKENS
        unlike = len({value.shape[1:] for value in values}) > 1
        if unlike and any(value.ndim != 3 or value.shape[2] != values[0].shape[2] for value in values):
            shapes = ", ".join(str(list(value.shape)) for value in values)
            raise ValueError(f"entries {name!r} of conditions have different shapes: {shapes}")
        if unlike or any(count in c for c in conds):
            made[count] = torch.cat([c.get(count, _tokens(c[name])) for c in conds])
            longest = max(value.shape[1] for value in values)
            values = [pad(value, (0, 0, 0, longest - value.shape[1])) for value in values]
        made[name] = torch.cat(values)
    return made


def _names(cond: Cond) -> set[str]:
    """The names of a condition's entries, without counts of tokens."""
    return {name for name in cond if not (name.endswith(TOKENS) and name.removesuffix(TOKENS) in cond)}


def _tokens(value: Tensor) -> Tensor:
    return torch.full((len(value),), value.shape[1])
