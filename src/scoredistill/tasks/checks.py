"""Checks of the values of a request, used as `checks.whole(settings, steps=1)`."""

import math
from collections.abc import Collection, Iterable
from dataclasses import fields
from numbers import Integral
from typing import Any

from scoredistill.optional import require
from scoredistill.suggest import did_you_mean

SEEDS = 2**62  # seeds are below this
STUDENTS = ("vsd",)  # methods that train a LoRA adapter beside the network
GUIDES_ITSELF = ("sdi", "sdi_published")  # methods that apply guidance to the plain network


def choice(settings: object, name: str, known: Collection[str], of: str = "") -> None:
    """Refuse a name that is not one of the known ones.

    Raises:
        ValueError: naming the field and all choices.
    """
    value = getattr(settings, name)
    if value not in known:
        raise ValueError(
            f"unknown {name} {value!r}{of}: use one of {', '.join(known)}{did_you_mean(str(value), known)}"
        )


def whole(settings: object, **least: int) -> None:
    """Refuse fields that are not whole numbers of at least the given values.

    Raises:
        ValueError: naming the field, the bound and the value.
    """
    for name, low in least.items():
        value = getattr(settings, name)
        if not isinstance(value, Integral) or value < low:
            raise ValueError(f"{name} must be a whole number of at least {low}, not {value}")


def real(settings: object, **least: int | float) -> None:
    """Refuse fields that are not finite numbers of at least the given values.

    Raises:
        ValueError: naming the field, the bound and the value.
    """
    for name, low in least.items():
        value = getattr(settings, name)
        if not (math.isfinite(value) and value >= low):
            raise ValueError(f"{name} must be a finite number of at least {low}, not {value}")


def seed(settings: object) -> None:
    """Refuse seeds that are not whole numbers in [0, 2^62).

    Raises:
        ValueError: naming the value.
    """
    whole(settings, seed=0)
    value = getattr(settings, "seed")  # noqa: B009 (any request has one)
    if value >= SEEDS:
        raise ValueError(f"seed must be below 2^62, not {value}")


def text(value: object, what: str, advice: str) -> None:
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
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as error:
        raise ValueError(f"the {what} is not valid UTF-8: type it in a terminal whose encoding is UTF-8") from error


def packages(settings: Any) -> None:
    """Refuse a method or an option that needs a package which is not installed.

    Raises:
        MissingExtra: naming the package and what installs it.
    """
    students([getattr(settings, "method", "")])
    if getattr(settings, "flow", 0):
        require("skimage.registration", "video", "optical flow")


def students(methods: Iterable[str]) -> None:
    """Refuse methods that train an adapter, if the package for it is not installed.

    Raises:
        MissingExtra: naming the package and what installs it.
    """
    for method in methods:
        if method in STUDENTS:
            require("peft", "lora", f"the method {method}")


def own_guidance(settings: Any) -> None:
    """Refuse a negative prompt that would be ignored: without guidance, or by a method that guides by itself.

    Raises:
        ValueError: in one sentence.
    """
    if not settings.negative_prompt:
        return
    if settings.method in GUIDES_ITSELF:
        raise ValueError(f"{settings.method} guides by itself: leave out the negative prompt, or use another method")
    if settings.guidance == 1 and not getattr(settings, "perp_neg", False):
        raise ValueError(
            "guidance 1 is none, and a negative prompt has an effect through guidance only: give another guidance, or "
            "leave out the negative prompt"
        )


def unused(request: Any, names: Iterable[str], of: str, instead: str = "another method") -> None:
    """Refuse options that have no effect.

    Args:
        request: what is asked for, a dataclass; options that it does not have, or that are not given, are passed over.
        names: the options without effect.
        of: what does not use them, for the message.
        instead: what does.

    Raises:
        ValueError: naming those that are given.
    """
    names = set(names)
    given = [f.name for f in fields(request) if f.name in names and getattr(request, f.name) not in (None, f.default)]
    if given:
        out = "leave it out" if len(given) == 1 else "leave them out"
        raise ValueError(f"{of} makes no use of {', '.join(given)}: {out}, or use {instead}")


def steps_to_skip(on_nan: str, samples: bool, method: str) -> None:
    """Refuse to skip steps where a method samples and has none.

    Args:
        on_nan: see `distill`.
        samples: whether the method samples.

    Raises:
        ValueError: in one sentence.
    """
    if samples and on_nan == "skip":
        raise ValueError(f"{method} samples and has no steps that could be skipped: leave out on_nan")


def elevation(settings: Any) -> None:
    """Refuse elevations that are no interval of degrees.

    Raises:
        ValueError: naming them.
    """
    if len(settings.elevation) != 2 or not -90 <= settings.elevation[0] <= settings.elevation[1] <= 90:
        raise ValueError(f"elevation must be two rising numbers in [-90, 90], not {settings.elevation}")


def perp_neg(settings: Any) -> None:
    """Refuse Perp-Neg where it cannot guide.

    Raises:
        ValueError: in one sentence.
    """
    if settings.perp_neg and not settings.view_prompts:
        raise ValueError("Perp-Neg guides views away from other views and needs view prompts: leave them on")
    if settings.perp_neg and settings.method in GUIDES_ITSELF:
        raise ValueError(f"{settings.method} guides by itself: leave out Perp-Neg, or use another method")
