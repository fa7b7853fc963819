"""Presets of a request: draft for a first look, standard as the recipe says, best with twice the work.

Methods with few gradients, each of which the optimizer follows for many steps, get fewer or more of the latter.
"""

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, TypeVar

from scoredistill.suggest import did_you_mean

Q = TypeVar("Q", bound=Any)

PRESETS: Mapping[str, float] = {"draft": 1 / 3, "standard": 1.0, "best": 2.0}  # factor on the length of a run


def at_preset(request: Q, preset: str, *fields: str, least: int = 2) -> Q:
    """A request with the length of a preset.

    Args:
        request: the request; `complete` gives the numbers of its method.
        preset: a name of `PRESETS`.
        *fields: the fields that make a run longer, such as "steps" and "follow"; the largest of them is changed.
        least: lower bound of the field.

    Raises:
        ValueError: if there is no such preset, or the request has that length already.
    """
    if preset not in PRESETS:
        near = did_you_mean(preset, PRESETS)
        raise ValueError(f"unknown preset {preset!r}: use one of {', '.join(PRESETS)}{near}")
    if PRESETS[preset] == 1:
        return request
    usual = {name: getattr(request.complete(), name) for name in fields}
    longest = max(fields, key=lambda name: usual[name])
    if getattr(request, longest) is not None:
        raise ValueError(f"the preset {preset} sets {longest}, which is given too: leave out one of them")
    return replace(request, **{longest: max(least, math.ceil(PRESETS[preset] * usual[longest]))})
