"""What the requests of all tasks share: how a run is carried out, how a request is completed, and checks of values.

Every task has three frozen dataclasses in its `request.py`:

- a *request*: what the user asks for; None stands for the default of the method or of the prior,
- *settings*: the same request with every None replaced; this is what config.json holds,
- *arguments*: the parameters of the task's function, that is the options of the request and `RunOptions`.

An option is declared and documented once, in the dataclass of options that request and arguments inherit. The command
line reads the same dataclasses.
"""

import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, fields
from functools import wraps
from inspect import getdoc, signature
from numbers import Integral
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import torch

from scoredistill.priors.base import Prior
from scoredistill.priors.pipelines import prior_folder

P = ParamSpec("P")
A = TypeVar("A")
R = TypeVar("R")
Q = TypeVar("Q")
S = TypeVar("S")

PriorSource = str | Path | Prior  # what the functions of tasks take as a prior

SEEDS = 2**62  # seeds are below this


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """How a run is carried out and where its results go.

    Attributes:
        out: Output directory for the results, the settings, the metrics and an HTML report.
        resume: Continue the interrupted run in the output directory.
        progress: Show a progress bar.
        dtype: Data type of the networks: float32, float16 or bfloat16; the optimized parameters stay in float32.
        device: Device of the networks, for example cpu, cuda or cuda:1; a GPU if one is available.
    """

    out: str | Path | None = None
    resume: bool = False
    progress: bool = False
    dtype: str | torch.dtype | None = None
    device: str | torch.device | None = None


def task(arguments: Callable[P, A]) -> Callable[[Callable[[A], R]], Callable[P, R]]:
    """Decorator that gives a function of one dataclass the dataclass's fields as its parameters.

    The decorated function has the signature of the dataclass, for readers, `inspect.signature` and type checkers, and
    the documentation of the fields is appended to its docstring.

    Args:
        arguments: the dataclass of the function's parameters.
    """

    def decorate(run: Callable[[A], R]) -> Callable[P, R]:
        accepted = signature(arguments)

        @wraps(run)
        def call(*args: P.args, **kwargs: P.kwargs) -> R:
            try:
                accepted.bind(*args, **kwargs)
            except TypeError as error:
                names = ", ".join(accepted.parameters)
                raise TypeError(f"{run.__name__}() {error}; its parameters are {names}") from None
            return run(arguments(*args, **kwargs))

        returned = run.__annotations__["return"]
        call.__signature__ = accepted.replace(return_annotation=returned)  # type: ignore[attr-defined]
        parts = [each for each in getattr(arguments, "__mro__", ())[:-1] if each.__doc__]
        call.__doc__ = "\n\n".join(filter(None, [getdoc(run), *map(getdoc, parts)]))
        return call

    return decorate


def prior_name(prior: PriorSource) -> str:
    """The name of a prior for requests and messages.

    Raises:
        ValueError: if the prior is given by a name or directory that cannot be a prior.
    """
    if isinstance(prior, Prior):
        return str(getattr(prior, "name", type(prior).__name__))
    prior_folder(prior)
    return str(prior)


def requested(kind: type[Q], arguments: RunOptions, prior: PriorSource) -> Q:
    """The request that a function's arguments contain.

    Args:
        kind: dataclass of the request; the arguments have all of its fields.
        arguments: parameters of the function.
        prior: the prior among the arguments, which the request holds by its name.
    """
    values = {field.name: getattr(arguments, field.name) for field in fields(kind)}  # type: ignore[arg-type]
    return kind(**{**values, "prior": prior_name(prior)})


def completed(request: Any, kind: type[S], defaults: Mapping[str, object]) -> S:
    """The settings of a request: what is None is replaced by its default.

    Args:
        request: the request, a dataclass.
        kind: dataclass of the settings, with the fields of the request.
        defaults: value of each field that may be None.
    """
    values = {field.name: getattr(request, field.name) for field in fields(request)}
    return kind(**{name: defaults[name] if value is None else value for name, value in values.items()})


def check_choice(settings: object, name: str, known: Collection[str], of: str = "") -> None:
    """Refuse a name that is not one of the known ones.

    Raises:
        ValueError: naming the field and all choices.
    """
    value = getattr(settings, name)
    if value not in known:
        raise ValueError(f"unknown {name} {value!r}{of}: use one of {', '.join(known)}")


def check_whole(settings: object, **least: int) -> None:
    """Refuse fields that are not whole numbers of at least the given values.

    Raises:
        ValueError: naming the field, the bound and the value.
    """
    for name, low in least.items():
        value = getattr(settings, name)
        if not isinstance(value, Integral) or value < low:
            raise ValueError(f"{name} must be a whole number of at least {low}, not {value}")


def check_real(settings: object, **least: int | float) -> None:
    """Refuse fields that are not finite numbers of at least the given values.

    Raises:
        ValueError: naming the field, the bound and the value.
    """
    for name, low in least.items():
        value = getattr(settings, name)
        if not (math.isfinite(value) and value >= low):
            raise ValueError(f"{name} must be a finite number of at least {low}, not {value}")


def check_seed(settings: object) -> None:
    """Refuse seeds that are not whole numbers in [0, 2^62).

    Raises:
        ValueError: naming the value.
    """
    check_whole(settings, seed=0)
    seed = getattr(settings, "seed")  # noqa: B009 (any request has one)
    if seed >= SEEDS:
        raise ValueError(f"seed must be below 2^62, not {seed}")


def check_text(value: object, what: str, advice: str) -> None:
    """Refuse a prompt or an instruction that is not a text or is blank.

    Args:
        value: what was given.
        what: what it is, for the message, for example "prompt".
        advice: what to do instead, as the end of the message.

    Raises:
        ValueError: in one sentence.
    """
    if not isinstance(value, str):
        raise ValueError(f"the {what} must be a single text, not a {type(value).__name__}")
    if not value.strip():
        raise ValueError(f"the {what} is empty: {advice}")
