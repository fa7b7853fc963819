"""Carried here by the move."""

from collections.abc import Iterable, Sequence
from functools import cache

from scoredistill.priors.pipelines import PipelinePrior, load_prior


def refuse(what: str, given: Sequence[str], known: Iterable[str]) -> None:
    """Complain of names that do not exist or are given twice.

    Raises:
        ValueError: in one sentence.
    """
    known = list(known)
    if unknown := [name for name in given if name not in known]:
        raise ValueError(f"unknown {what} {', '.join(unknown)}: use any of {', '.join(known)}")
    if len(set(given)) < len(given):
        raise ValueError(f"a {what} is named twice: give each once")


@cache
def loaded(name: str) -> PipelinePrior:
    """The prior, once per process."""
    return load_prior(name)


def slug(text: str) -> str:
    """A prompt or a method as part of a file's name."""
    return "".join(c if c.isalnum() else "_" for c in text.lower())[:60].strip("_")
