"""Nested arguments of networks: dictionaries and lists of tensors with one row per sample, or one value for all.

Which of the two a tensor is follows from two recordings of the same call, with one sample and with two: what has twice
as many rows (or list entries) has one per sample. `join` and `split` take these two recordings as `Layout`.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

Path = tuple[Any, ...]


class Layout(NamedTuple):
    """Arguments (or outputs) of the same call with one sample and with two."""

    one: Any
    two: Any


def leaves(tree: Any, path: Path = ()) -> dict[Path, Any]:
    """All values of nested mappings, lists and tuples, by their paths."""
    if isinstance(tree, Mapping):
        items: Any = tree.items()
    elif isinstance(tree, (list, tuple)):
        items = enumerate(tree)
    else:
        return {path: tree}
    return {below: leaf for key, each in items for below, leaf in leaves(each, (*path, key)).items()}


def replaced(tree: Any, new: Mapping[Path, Any], path: Path = ()) -> Any:
    """A copy of nested mappings, lists and tuples with the values at some paths replaced."""
    if path in new:
        return new[path]
    if isinstance(tree, Mapping):
        return _like(tree, {key: replaced(each, new, (*path, key)) for key, each in tree.items()})
    if isinstance(tree, (list, tuple)):
        return _like(tree, [replaced(each, new, (*path, index)) for index, each in enumerate(tree)])
    return tree


def join(rows: Sequence[Any], layout: Layout, forced: frozenset[Path] = frozenset(), path: Path = ()) -> Any:
    """Join the arguments of several calls of one sample each to those of one call.

    Args:
        rows: the arguments, of equal shapes.
        layout: of the call.
        forced: paths of tensors that have one row per sample, whatever the layout says.
        path: of `rows`.

    Raises:
        ValueError: for a value that depends on the number of samples in another way.
    """
    one, two, first = layout.one, layout.two, rows[0]
    if isinstance(first, Tensor):
        if path in forced or (one.ndim and len(two) == 2 * len(one) and one.shape[1:] == two.shape[1:]):
            return torch.cat(list(rows)) if len(rows) > 1 else first
        if one.shape == two.shape:
            return first
    elif isinstance(first, Mapping):
        return _like(
            first,
            {k: join([row[k] for row in rows], Layout(one[k], two[k]), forced, (*path, k)) for k in first},
        )
    elif isinstance(first, (list, tuple)):
        if len(two) == 2 * len(one) and len(one):
            return type(first)(each for row in rows for each in row)
        if len(two) == len(one):
            parts = [
                join([row[i] for row in rows], Layout(one[i], two[i]), forced, (*path, i)) for i in range(len(first))
            ]
            return _like(first, parts)
    elif one is two or one == two:
        return first
    elif isinstance(one, int) and two == 2 * one:
        return len(rows) * first
    raise ValueError(f"the argument {named(path)} depends on the number of samples in a way that is not understood")


def split(tree: Any, layout: Layout, rows: int) -> list[Any]:
    """Split the output of a call with several samples into outputs of one sample each, the inverse of `join`."""
    one, two = layout
    if isinstance(tree, Tensor):
        if one.ndim and len(two) == 2 * len(one):
            return list(tree.split(len(tree) // rows))
        return [tree] * rows
    if isinstance(tree, Mapping):
        parts = {key: split(each, Layout(one[key], two[key]), rows) for key, each in tree.items()}
        return [{key: part[row] for key, part in parts.items()} for row in range(rows)]
    if isinstance(tree, (list, tuple)):
        if len(two) == 2 * len(one) and len(one):
            size = len(tree) // rows
            return [list(tree[row * size : (row + 1) * size]) for row in range(rows)]
        columns = [split(each, Layout(one[i], two[i]), rows) for i, each in enumerate(tree)]
        return [[column[row] for column in columns] for row in range(rows)]
    return [tree] * rows


def named(path: Path) -> str:
    """A path in words, such as "added_cond_kwargs.time_ids"."""
    return ".".join(map(str, path))


def _like(tree: Any, parts: Any) -> Any:
    """Nested values in the type of `tree`: a named tuple or an output of diffusers keeps its type."""
    if isinstance(parts, dict):
        return parts if type(tree) is dict else type(tree)(**parts)
    if hasattr(tree, "_fields"):
        return type(tree)(*parts)
    return type(tree)(parts)
