"""What a study is asked to measure, checks of it, and the prior it measures."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TypeVar

from scoredistill.files import slug
from scoredistill.priors.pipelines import PipelinePrior, load_prior
from scoredistill.tasks.session import editor

Self = TypeVar("Self", bound="ComparisonSetting")


@dataclass(frozen=True, kw_only=True)
class ComparisonSetting(ABC):
    """What to measure in a comparison of methods; a study adds what the methods are applied to.

    Args:
        methods: names of methods; the study's own by default, and then with what belongs to no single method.
        quick: measure a smaller version of everything.
    """

    methods: tuple[str, ...] = ()
    quick: bool = False

    def complete(self: Self) -> Self:
        """The same setting with every default filled in.

        Raises:
            ValueError: for what does not exist.
        """
        full = self.filled()
        full.check()
        return full

    @abstractmethod
    def filled(self: Self) -> Self:
        """The same setting with every default filled in, unchecked."""

    @abstractmethod
    def check(self) -> None:
        """Refuse what does not exist.

        Raises:
            ValueError: for what does not exist.
        """

    @property
    def whole(self) -> bool:
        """Whether what belongs to no single method is measured too: unless methods are chosen or `quick`."""
        return not self.quick and not self.methods


def check_names(what: str, given: Sequence[str], known: Iterable[str]) -> None:
    """Refuse names that do not exist or are given twice.

    Args:
        what: the kind of name, for the message, for example "method".

    Raises:
        ValueError: if a name is not in `known`, or repeated.
    """
    known = list(known)
    if unknown := [name for name in given if name not in known]:
        raise ValueError(f"unknown {what} {', '.join(unknown)}: use any of {', '.join(known)}")
    if len(set(given)) < len(given):
        raise ValueError(f"a {what} is named twice: give each once")


def check_seeds(seeds: int) -> None:
    """Refuse a number of seeds below 1.

    Raises:
        ValueError: if there is no seed.
    """
    if seeds < 1:
        raise ValueError(f"seeds must be at least 1, not {seeds}")


def check_prompts(prompts: Sequence[str]) -> None:
    """Refuse prompts that are empty or whose files would have the same name.

    Raises:
        ValueError: if a prompt has no letter or digit, or two differ in nothing else.
    """
    names = [slug(prompt) for prompt in prompts]
    if not all(names):
        raise ValueError("a prompt is empty: describe what its images show")
    if len(set(names)) < len(names):
        raise ValueError("two prompts are the same: give each once")


@cache
def loaded(name: str) -> PipelinePrior:
    """The prior of that name or directory, loaded once per process."""
    return load_prior(name)


def check_text_prior(name: str) -> None:
    """Refuse a prior that edits images.

    Raises:
        ValueError: if the prior needs a source image.
    """
    if loaded(name).needs_source:
        raise ValueError(f"{name} edits images: use a text-to-image model such as emoji")


def check_editor(name: str) -> None:
    """Refuse a prior that does not edit images by instruction.

    Raises:
        ValueError: if the prior is no editor.
    """
    editor(loaded(name))
