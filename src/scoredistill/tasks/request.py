"""What the requests of all tasks share: how a run is carried out, and how a request is completed.

Every task has three frozen dataclasses in its `request.py`:

- a *request*: what the user asks for; None stands for the default of the method or of the prior,
- *settings*: the same request with every None replaced; this is what config.json holds,
- *arguments*: the parameters of the task's function, that is the options of the request and `RunOptions`.

An option is declared and documented once, in the dataclass of options that request and arguments inherit. The command
line reads the same dataclasses.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from functools import wraps
from inspect import getdoc, signature
from pathlib import Path
from typing import Any, Literal, ParamSpec, Protocol, TypeVar, runtime_checkable

import torch

from scoredistill.priors.base import Prior
from scoredistill.priors.pipelines import prior_folder
from scoredistill.ranks import Ranks
from scoredistill.recipe import named

P = ParamSpec("P")
A = TypeVar("A")
R = TypeVar("R")
Q = TypeVar("Q")

PriorSource = str | Path | Prior  # what the functions of tasks take as a prior


@runtime_checkable
class Checkable(Protocol):
    """Complete settings that can check themselves."""

    def check_values(self) -> None:
        """Refuse impossible values.

        Raises:
            ValueError: in one sentence.
        """


S = TypeVar("S", bound=Checkable)


@dataclass(frozen=True, kw_only=True)
class PriorOptions:
    """How a prior is loaded, see `load_prior`. They are for priors given by a name, directory or file.

    Attributes:
        dtype: Data type of the networks: float32, float16 or bfloat16; the optimized parameters stay in float32.
        device: Device of the networks, for example cpu, cuda or cuda:1; a GPU if one is available.
        variant: Variant of the weights, for example fp16; found by itself where there is only one.
        revision: Revision of a model on the hub: a branch, a tag or a commit.
        config: Directory or hub name of a model with the configuration for a single file of weights (.safetensors).
        offload: Keep weights on the CPU between their uses: model (each network as a whole) or sequential (layer by
            layer, slow).
        max_rows: Maximum number of batch rows per network call, to bound memory; results differ by rounding only.
        window: Side in pixels of the windows in which larger images are encoded and decoded, to bound memory.
    """

    dtype: str | torch.dtype | None = None
    device: str | torch.device | None = None
    variant: str | None = None
    revision: str | None = None
    config: str | Path | None = None
    offload: Literal["model", "sequential"] | None = None
    max_rows: int | None = None
    window: int | None = None


def loading(options: PriorOptions) -> dict[str, Any]:
    """The options of loading that are given, as keyword arguments of `load_prior`."""
    values = {field.name: getattr(options, field.name) for field in fields(PriorOptions)}
    return {name: value for name, value in values.items() if value is not None}


def described(options: PriorOptions) -> dict[str, Any]:
    """The options of loading that are given, as JSON can hold them and `PriorOptions` takes them."""
    return {
        name: value if isinstance(value, int) else str(value).removeprefix("torch.")
        for name, value in loading(options).items()
    }


@dataclass(frozen=True, kw_only=True)
class RunOptions(PriorOptions):
    """How a run is carried out and where its results go.

    Attributes:
        out: Output directory for the results, the settings, the metrics and an HTML report.
        resume: Continue the interrupted run in the output directory.
        overwrite: Replace the run in the output directory.
        progress: Show a progress bar.
        on_nan: What to do when a gradient has values that are not finite: stop, with the last good state kept, or skip
            the step. No effect on methods that sample.
    """

    out: str | Path | None = None
    resume: bool = False
    overwrite: bool = False
    progress: bool = False
    on_nan: str = "stop"


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
            asked = arguments(*args, **kwargs)
            if isinstance(asked, RunOptions) and not Ranks.here().leads:
                asked = replace(asked, progress=False)
            return run(asked)

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

    Raises:
        ValueError: if the prior or the method cannot be one.
    """
    values = {field.name: getattr(arguments, field.name) for field in fields(kind)}  # type: ignore[arg-type]
    method = {"method": named(values["method"])} if "method" in values else {}
    return kind(**{**values, "prior": prior_name(prior), **method})


def completed(request: Any, kind: type[S], defaults: Mapping[str, object]) -> S:
    """The settings of a request: what is None is replaced by its default.

    Args:
        request: the request, a dataclass.
        kind: dataclass of the settings, with the fields of the request.
        defaults: value of each field that may be None.

    Raises:
        ValueError: for impossible values, see `Checkable`.
    """
    values = {field.name: getattr(request, field.name) for field in fields(request)}
    settings = kind(**{name: defaults[name] if value is None else value for name, value in values.items()})
    settings.check_values()
    return settings
