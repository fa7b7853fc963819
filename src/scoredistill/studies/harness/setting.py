"""What a study is asked to measure, checks of it, and the prior it measures."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache
from typing import Any, TypeVar

from scoredistill.files import slug
from scoredistill.priors.pipelines import PipelinePrior, RecordedPrior, load_prior
from scoredistill.recipe import FORM, OwnMethod, check_method, named, versioned
from scoredistill.tasks.request import PriorOptions, described, loading
from scoredistill.tasks.session import editor

Self = TypeVar("Self", bound="ComparisonSetting")
Loaded = TypeVar("Loaded", bound="PriorSetting")

LAST_SEED = 10**6 - 1  # larger seeds are those of reference samples
SAVING = ("device", "offload", "max_rows")  # options of loading on which results depend by rounding only


@dataclass(frozen=True, kw_only=True)
class ComparisonSetting(ABC):
    """What to measure in a comparison of methods; a study adds what the methods are applied to.

    Args:
        methods: names of methods, or FILE.py:NAME of the user's own (see `scoredistill.recipe`); the study's own by
            default, and then with what belongs to no single method.
        seed: first seed; repetitions have the seeds that follow. References, data sets and trained networks do not
            depend on it. With another one, a study is repeated with seeds on which no setting was chosen.
        quick: measure a smaller version of everything.
    """

    methods: tuple[str, ...] = ()
    seed: int = 0
    quick: bool = False

    def complete(self: Self) -> Self:
        """The same setting with every default filled in, and with the recipes of methods of the user's own.

        Raises:
            ValueError: for what does not exist.
        """
        full = replace(self, methods=tuple(map(named, self.methods))).filled()
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
    def own(self) -> tuple[OwnMethod, ...]:
        """The methods of the user's own."""
        return tuple(method for method in self.methods if isinstance(method, OwnMethod))

    @property
    def whole(self) -> bool:
        """Whether what belongs to no single method is measured too: unless methods are chosen or `quick`."""
        return not self.quick and not self.methods


@dataclass(frozen=True, kw_only=True)
class PriorSetting(ComparisonSetting):
    """What to measure in a comparison of methods on a prior that is given by its name.

    Args:
        load: how the prior is loaded; what decides on the results belongs to the key of the study.
    """

    load: PriorOptions = PriorOptions()

    def complete(self: Loaded) -> Loaded:
        return replace(super().complete(), load=PriorOptions(**described(self.load)))


def decisive(load: PriorOptions) -> dict[str, Any]:
    """The options of loading that are given and decide on results."""
    return {name: value for name, value in loading(load).items() if name not in SAVING}


def identity(setup: Any) -> dict[str, Any]:
    """The fields of what all jobs of a study share, a dataclass with a field `load`, of which only what decides."""
    values = asdict(setup)
    del values["load"]
    return {**values, **decisive(setup.load)}


def check_names(what: str, given: Sequence[str], known: Iterable[str], more: str = "") -> None:
    """Refuse names that do not exist or are given twice.

    Args:
        what: the kind of name, for the message, for example "method".
        more: what else is possible, for the message.

    Raises:
        ValueError: if a name is not in `known`, or repeated.
    """
    known = list(known)
    if unknown := [name for name in given if name not in known]:
        raise ValueError(f"unknown {what} {', '.join(unknown)}: use any of {', '.join(known)}{more}")
    if len(set(given)) < len(given):
        raise ValueError(f"a {what} is named twice: give each once")


def check_methods(given: Sequence[str], known: Iterable[str]) -> None:
    """Refuse methods that do not exist, are given twice, or are the user's own with the name of another one.

    Raises:
        ValueError: naming them.
    """
    known = list(known)
    for method in given:
        if isinstance(method, OwnMethod):
            check_method(method, known)
    own = [method for method in given if isinstance(method, OwnMethod)]
    taken = {slug(name): name for name in known}
    for method in own:
        if (other := taken.setdefault(slug(versioned(method)), method)) != method:
            raise ValueError(f"the files of the methods {method} and {other} would have the same name: rename one")
    check_names("method", given, [*known, *own], f", or your own as {FORM}")


def check_seeds(seeds: int, seed: int = 0) -> None:
    """Refuse a number of seeds below 1, and seeds that are negative or those of reference samples.

    Args:
        seeds: number of seeds.
        seed: the first one.

    Raises:
        ValueError: if there is no seed, or one is outside 0 to LAST_SEED.
    """
    if seeds < 1:
        raise ValueError(f"seeds must be at least 1, not {seeds}")
    if not 0 <= seed <= LAST_SEED + 1 - seeds:
        raise ValueError(f"the first seed must be from 0 to {LAST_SEED + 1 - seeds} for {seeds} seeds, not {seed}")


def seeds_of(setting: ComparisonSetting, seeds: int) -> range:
    """The seeds of a number of repetitions."""
    return range(setting.seed, setting.seed + seeds)


def seeded(name: str, seed: int) -> str:
    """A name that tells the seed, unless it is 0."""
    return f"{name}-s{seed}" if seed else name


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


def loaded(name: str, load: PriorOptions = PriorOptions()) -> PipelinePrior | RecordedPrior:
    """The prior of that name or directory, loaded once per process."""
    return _loaded(name, load)


@cache
def _loaded(name: str, load: PriorOptions) -> PipelinePrior | RecordedPrior:
    return load_prior(name, **loading(load))


def check_text_prior(name: str, load: PriorOptions) -> None:
    """Refuse a prior that edits images.

    Raises:
        ValueError: if the prior needs a source image, or cannot be loaded so.
    """
    if loaded(name, load).needs_source:
        raise ValueError(f"{name} edits images: use a text-to-image model such as emoji")


def check_editor(name: str, load: PriorOptions) -> None:
    """Refuse a prior that does not edit images by instruction.

    Raises:
        ValueError: if the prior is no editor, or cannot be loaded so.
    """
    editor(loaded(name, load))
