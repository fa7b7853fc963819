"""Shapes and types checked at run time (jaxtyping with beartype), at a cost that thousands of calls can bear.

jaxtyping's import hook decorates every function of the package with `jaxtyping.jaxtyped`, which binds the arguments and
checks them twice on each call, and compiles two checkers each time a nested function is made. Here

- a function without shapes in its annotations gets beartype alone, which checks the same types;
- a nested function without shapes is left to mypy;
- a nested function with shapes gets the checkers that were compiled when it was made for the first time;
- every other function gets its checkers at its first call: importing the package compiles none;
- arguments and results of a function with shapes are checked once for each combination of their types, shapes and
  element types: what has passed would pass again.
"""

from collections.abc import Callable, Collection, Hashable
from dataclasses import is_dataclass
from functools import update_wrapper, wraps
from types import FunctionType
from typing import Any, get_args

import jaxtyping
import numpy as np
import torch
from beartype import beartype

MANY = 64  # items of a container
_HANDLED: dict[str, tuple[type, ...]] = {
    "array": (torch.Tensor, np.ndarray),
    "value": (str, type),  # what `Literal` and `type[...]` ask for
    "mapping": (dict,),
    "items": (tuple, list),
    "unknown": (Collection,),
}
_kinds: dict[type, str] = {}
_checkers: dict[Hashable, Callable] = {}
_passed: dict[Hashable, tuple[set[Hashable], dict]] = {}
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
    if is_dataclass(decorated) and _made_for(decorated):
        decorated.__init__ = _checked(decorated.__init__, **options)
        return decorated
    with_shapes = _jaxtyped(**options)
    if not isinstance(decorated, FunctionType):
        return with_shapes(decorated)
    hints = decorated.__annotations__.values()
    if any(_has_shape(hint, "{") for hint in hints):
        return with_shapes(decorated)
    if any(map(_has_shape, hints)):
        return _each_form_once(decorated, with_shapes)
    return decorated if _nested(decorated) else _from_the_first_call(decorated)


def _made_for(dataclass: type) -> bool:
    """Whether the class has an `__init__` of its own that is not checked yet: the one that `dataclass` writes."""
    made = vars(dataclass).get("__init__")
    return made is not None and not hasattr(made, "__wrapped__")


def _from_the_first_call(function: FunctionType) -> Callable:
    """beartype(function), compiled when it is called for the first time."""
    checked: Callable | None = None

    @wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        nonlocal checked
        if checked is None:
            checked = beartype(function)
        return checked(*args, **kwargs)

    return call


def _each_form_once(function: FunctionType, checker: Callable) -> Callable:
    """The function, checked where the form of its arguments or of its result is new; see `_form`."""
    checked: Callable | None = None
    passed: set[Hashable] | None = None

    @wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        nonlocal checked, passed
        if passed is None:
            passed = _passed_before(function) if _nested(function) else set()
        given = _form(args), _form(kwargs)
        if given in passed:
            result = function(*args, **kwargs)
            form = given, _form(result)
            if form not in passed:
                checker(_returning(result, function))(*args, **kwargs)
                passed.add(form)
            return result
        if checked is None:
            checked = checker(function)
        result = checked(*args, **kwargs)
        passed.update((given, (given, _form(result))))
        return result

    return call


def _passed_before(nested: FunctionType) -> set[Hashable]:
    """What has passed in any function that was made from the same lines with the same annotations."""
    passed, _ = _passed.setdefault(_signature(nested), (set(), nested.__annotations__))  # which keep their identity
    return passed


def _returning(result: object, function: FunctionType) -> FunctionType:
    """A function with the signature of another that returns a result which is known."""
    body = lambda *_, **__: result
    return update_wrapper(FunctionType(body.__code__, function.__globals__, closure=body.__closure__), function)


def _form(value: Any) -> Hashable:
    """All that a check of a value can depend on: its type, an array's shape and element type, a container's items.

    Two values of one form pass or fail a check together, whose annotations name no values ("{n}" in a shape).
    """
    kind = type(value)
    handled = _kinds.get(kind)
    if handled is None:
        handled = _kinds[kind] = next((name for name, of in _HANDLED.items() if issubclass(kind, of)), "type")
    if handled == "type":
        return kind
    if handled == "array":
        return kind, value.shape, value.dtype
    if handled == "value":
        return value
    if handled == "unknown" or len(value) > MANY:
        return object()  # equal to nothing: checked each time
    if handled == "mapping":
        return kind, *value, *map(_form, value.values())
    return kind, *map(_form, value)


def _nested(function: FunctionType) -> bool:
    return "<locals>" in function.__qualname__


def _has_shape(hint: object, mark: str = "") -> bool:
    """Whether an annotation may say something of shapes, with a mark in them; one in quotes may."""
    if isinstance(hint, str):
        return mark in hint
    if isinstance(hint, type) and issubclass(hint, jaxtyping.AbstractArray):
        return mark in hint.dim_str
    parts = hint if isinstance(hint, list) else get_args(hint)  # a list: the arguments of a Callable
    return any(_has_shape(part, mark) for part in parts)


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
