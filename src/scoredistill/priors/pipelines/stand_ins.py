"""Stand-ins for parts of a pipeline during recorded runs."""

import copy
import functools
import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn


@contextmanager
def changed(owner: Any, name: str, value: Any) -> Iterator[None]:
    """An object with another value of an attribute, in its own dictionary, which is as before afterwards."""
    own, missing = vars(owner), object()
    before = own.get(name, missing)
    own[name] = value
    try:
        yield
    finally:
        if before is missing:
            del own[name]
        else:
            own[name] = before


def tolerant(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function that takes, and leaves out, options that it does not know."""
    known = inspect.signature(function).parameters

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **{name: value for name, value in kwargs.items() if name in known})

    return call


def without_noise(encode: Callable[..., Any]) -> Callable[..., Any]:
    """The encoder of an autoencoder with the mode of its posterior in place of samples."""

    @functools.wraps(encode)
    def call(*args: Any, **kwargs: Any) -> Any:
        encoded = encode(*args, **kwargs)
        posterior: Any = encoded[0] if isinstance(encoded, tuple) else getattr(encoded, "latent_dist", None)
        if hasattr(posterior, "mode"):
            posterior.sample = lambda *_args, **_kwargs: posterior.mode()
        return encoded

    return call


def guiders(pipeline: Any) -> list[str]:
    """Names of the components of a pipeline that are guidance."""
    return [
        name for name, part in vars(pipeline).items() if hasattr(part, "prepare_inputs") and hasattr(part, "disable")
    ]


def without_guidance(guider: Any) -> Any:
    """A guider that evaluates the conditional prediction alone.

    Blocks before the loop still make what other predictions need, which some blocks ask for in any case.
    """
    from diffusers.guiders.guider_utils import GuiderOutput  # takes seconds to import

    class Conditional(type(guider)):  # type: ignore[misc]
        def prepare_inputs(self, *args: Any) -> Any:
            return super().prepare_inputs(*args)[:1]

        def prepare_inputs_from_block_state(self, *args: Any) -> Any:
            return super().prepare_inputs_from_block_state(*args)[:1]

        def prepare_models(self, denoiser: nn.Module) -> None:
            pass

        cleanup_models = prepare_models

        def __call__(self, data: Any) -> Any:
            return GuiderOutput(pred=data[0].noise_pred, pred_cond=data[0].noise_pred, pred_uncond=None)

    made = copy.copy(guider)
    made.__class__, made._enabled = Conditional, True
    return made
