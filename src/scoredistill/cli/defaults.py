"""Defaults that depend on the method, as --help shows them."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from typing import Any

from scoredistill.recipe import named
from scoredistill.tasks.image_editing.request import EditRequest
from scoredistill.tasks.image_generation.request import Request
from scoredistill.tasks.object_generation.request import ObjectRequest
from scoredistill.tasks.vector_graphics.request import VectorRequest

ANYTHING = "anything"  # a prompt
REQUESTS: Mapping[str, Any] = {
    "image": partial(Request, ANYTHING),
    "edit": partial(EditRequest, ANYTHING),
    "object": partial(ObjectRequest, ANYTHING),
    "svg": partial(VectorRequest, (ANYTHING,)),
}


def defaults_of(command: str, typed: Sequence[str]) -> dict[str, object]:
    """The defaults of a command, by name: those of the method that is typed, else of the usual one; none of the prompt.

    Raises:
        ValueError: if there is no such method.
    """
    if command not in REQUESTS:
        return {}
    given = [each.partition("=")[2] for each in typed if each.startswith("--method=")]
    given += [typed[at + 1] for at, each in enumerate(typed[:-1]) if each == "--method"]
    method = {"method": named(given[-1])} if given else {}
    settings = asdict(REQUESTS[command](**method).complete())
    return {name: value for name, value in settings.items() if value not in (ANYTHING, (ANYTHING,))}
