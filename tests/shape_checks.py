"""The type checker that tests install in the package: beartype, with one checker for each nested signature.

`jaxtyping` decorates a nested function each time its outer function runs. What it passes here is a stand-in without a
body, which checks arguments and result against the annotations alone, so stand-ins with one signature are
interchangeable, and beartype need not compile the same checker thousands of times.
"""

from collections.abc import Callable, Hashable
from types import FunctionType

from beartype import beartype

_checkers: dict[Hashable, Callable] = {}


def check(stand_in: FunctionType) -> Callable:
    """beartype(stand_in), made once for each signature of a nested function."""
    if "<locals>" not in stand_in.__qualname__:
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
