"""Shapes and types checked at run time (jaxtyping with beartype), at a cost that thousands of calls can bear.

jaxtyping's import hook decorates every function of the package with `jaxtyping.jaxtyped`, which binds the arguments and
checks them twice on each call, and compiles two checkers each time a nested function is made. Here

- a function without shapes in its annotations gets beartype alone, which checks the same types;
- a nested function without shapes is left to mypy;
- a nested function with shapes gets the checkers that were compiled when it was made for the first time.
"""

from collections.abc import Callable, Hashable
from types import FunctionType
from typing import get_args

import jaxtyping
from beartype import beartype

_checkers: dict[Hashable, Callable] = {}
_jaxtyped = jaxtyping.jaxtyped


def install(package: str) -> None:
    """Check all annotations of a package from its next import on."""
    jaxtyping.jaxtyped = _checked
    jaxtyping.install_import_hook(package, f"{__name__}.check")


def _checked(*args, **options):
    """In the place of `jaxtyping.jaxtyped`."""
    if not args:
        return lambda decorated: _checked(decorated, **options)
    (decorated,) = args
    if isinstance(decorated, FunctionType) and not any(map(_has_shape, decorated.__annotations__.values())):
        return decorated if _nested(decorated) else beartype(decorated)
    return _jaxtyped(decorated, **options)


def _nested(function: FunctionType) -> bool:
    return "<locals>" in function.__qualname__


def _has_shape(hint: object) -> bool:
    """Whether an annotation may say something of shapes; one in quotes may."""
    if isinstance(hint, str):
        return True
    if isinstance(hint, type) and issubclass(hint, jaxtyping.AbstractArray):
        return True
    parts = hint if isinstance(hint, list) else get_args(hint)  # a list: the arguments of a Callable
    return any(map(_has_shape, parts))


def check(stand_in: FunctionType) -> Callable:
    """beartype(stand_in), compiled once for each signature of a nested function.

    Args:
        stand_in: what jaxtyping makes of a function: its signature, without its body, so that stand-ins of one
            signature are interchangeable.
    """
    if not _nested(stand_in):
        return beartype(stand_in)
    key = _signature(stand_in)
    if key not in _checkers:
        _checkers[key] = beartype(stand_in)
    return _checkers[key]


def _signature(stand_in: FunctionType) -> Hashable:
    """Name, parameters, which of them have defaults, and annotations, by value."""
    defaults = len(stand_in.__defaults__ or ()), frozenset(stand_in.__kwdefaults__ or ())
    annotations = tuple((name, _hashable(hint)) for name, hint in stand_in.__annotations__.items())
    return stand_in.__module__, stand_in.__qualname__, stand_in.__code__, defaults, annotations


def _hashable(hint: object) -> Hashable:
    """The annotation itself; one that cannot be hashed (a list inside `Annotated`, say) counts by its identity."""
    try:
        hash(hint)
    except TypeError:
        return id(hint)
    return hint
