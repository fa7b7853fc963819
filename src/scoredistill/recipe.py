"""Methods of one's own: an estimator, with the settings that it is run with, for every task and study.

    # mine.py
    class Mine(Estimator): ...
    SLOW = Recipe(Mine, times=Linear(0.98, 0.02), steps=800, says="my method with descending t")

The command line takes a name in a file, Python the object itself:

    scoredistill image "a hamburger" --method mine.py:Mine
    scoredistill bench images --methods sds msd mine.py:SLOW
    text_to_image("a hamburger", method=Mine)

What a recipe leaves open is the default of the task. A name in a file stands for the file's content: a run is resumed,
and a finished job of a study is used again, only with the same content.
"""

import copy
import hashlib
import re
import sys
import traceback
from collections.abc import Callable, Collection, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields, is_dataclass, replace
from functools import cache
from importlib.abc import SourceLoader
from importlib.util import module_from_spec, spec_from_file_location
from inspect import isclass, signature
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

from scoredistill.estimators import Estimator
from scoredistill.schedule import Schedule
from scoredistill.suggest import did_you_mean
from scoredistill.times import Bandwidth, Times

THROUGH = ("encoder", "decoder")
FORM = "FILE.py:NAME"  # how the command line names a method in a file
CLASS_OR_RECIPE = "a class of estimators, a function without arguments that makes one, or a Recipe"
NAME = re.compile(r"[\w .+-]{0,40}")  # of methods; it becomes part of file names
T = TypeVar("T")


@dataclass(frozen=True)
class Recipe:
    """How a method is run; None stands for the default of the task.

    Images and objects use all fields. Edits, which take a few plain gradient steps over the whole source, use the
    estimator and the time schedule only. Toy distributions use estimator, times, steps and learning rate; with a
    bandwidth, they anneal their own, in their own units.

    Args:
        estimator: makes the estimator: a class or a function without arguments. An estimator itself is copied for each
            run.
        name: of the method in tables and output directories; by default that of the estimator.
        says: description in a few words.
        times: time schedule (index, steps) -> t in [0, 1]; a random one gets the seed of the run. Uniform by default.
        bandwidth: in place of `times`: bandwidth sigma_t / alpha_t at the first and the last step, in units of
            samples with standard deviation 1, geometric in between. For mean shift.
        steps: number of gradients, at least 1.
        guidance: classifier-free guidance scale, at least 0; 1 for none.
        lr: learning rate of Adam, positive; 0 for plain steps of length 1, where latents or points are optimized.
        particles: number of images, or of views per step, at least 1.
        through: how gradients on latents reach images: through the "encoder" (chain rule) or "decoder" (`Decoded`).
        follow: inner optimizer steps per gradient, at least 1.

    Raises:
        ValueError: for impossible values.
    """

    estimator: Callable[[], Estimator]
    name: str = ""
    says: str = ""
    times: Times | None = None
    bandwidth: tuple[float, float] | None = None
    steps: int | None = None
    guidance: float | None = None
    lr: float | None = None
    particles: int | None = None
    through: str | None = None
    follow: int | None = None

    def __post_init__(self) -> None:
        if not NAME.fullmatch(self.name):
            raise ValueError(f"a method's name has up to 40 letters, digits, spaces and _ . + -, unlike {self.name!r}")
        if not callable(self.estimator):
            raise ValueError(f"estimator must be {CLASS_OR_RECIPE}, not {self.estimator!r}")
        if self.times is not None and self.bandwidth is not None:
            raise ValueError("a recipe has a time schedule or bandwidths: leave out times or bandwidth")
        if self.times is not None and not callable(self.times):
            raise ValueError(f"times must be a function (index, steps) -> t, not {self.times!r}")
        pair = self.bandwidth
        if pair is not None and not (isinstance(pair, (tuple, list)) and len(pair) == 2 and min(pair) > 0):
            raise ValueError(
                f"bandwidth must be two positive numbers, of the first and last step, not {self.bandwidth}"
            )
        for field, least in {"steps": 1, "particles": 1, "follow": 1, "guidance": 0, "lr": 0}.items():
            value = getattr(self, field)
            if value is not None and not (isinstance(value, (int, float)) and value >= least):
                raise ValueError(f"{field} must be at least {least}, not {value!r}")
        if self.through not in (None, *THROUGH):
            raise ValueError(f"unknown through {self.through!r}: use one of {', '.join(THROUGH)}")

    def make(self) -> Estimator:
        """A new estimator.

        Raises:
            ValueError: if what `estimator` makes is none, or it takes arguments.
        """
        if isinstance(self.estimator, Estimator):
            return copy.deepcopy(self.estimator)
        what = getattr(self.estimator, "__name__", repr(self.estimator))
        try:
            signature(self.estimator).bind()
        except TypeError as error:
            raise ValueError(
                f"{what} needs arguments ({error}): give a function without any, such as lambda: Mine(factor=2)"
            ) from error
        made = self.estimator()
        if not isinstance(made, Estimator):
            raise ValueError(
                f"{what} makes a {type(made).__name__}, which is no estimator: derive its class from "
                "scoredistill.estimators.Estimator"
            )
        return made

    def schedule(self, usual: Callable[[Schedule, int], Times]) -> Callable[[Schedule, int], Times]:
        """A function that makes the time schedule from a noise schedule and a seed.

        Args:
            usual: that of the task, for recipes without a time schedule.
        """
        if self.bandwidth is not None:
            first, last = self.bandwidth
            return lambda schedule, seed: Bandwidth(schedule, first, last)
        times = self.times
        return usual if times is None else lambda schedule, seed: seeded(times, seed)

    def given(self, **names: str) -> dict[str, Any]:
        """The numbers that the recipe sets, as keyword arguments.

        Args:
            **names: field of the recipe, by the keyword.
        """
        values = {keyword: getattr(self, field) for keyword, field in names.items()}
        return {keyword: value for keyword, value in values.items() if value is not None}


MethodSource = str | Recipe | Callable[[], Estimator]  # what tasks and studies take as a method


class OwnMethod(str):
    """The name of a method that brings its recipe.

    Attributes:
        recipe: how the method is run.
        file: the name as it was given, `FILE.py:NAME`; empty for a method of Python.
        sha256: hash of the file's content; empty for a method of Python.
    """

    recipe: Recipe
    file: str
    sha256: str

    def __new__(cls, recipe: Recipe, name: str, file: str = "", sha256: str = "") -> "OwnMethod":
        """A method called as its recipe says, else as given."""
        made = super().__new__(cls, recipe.name or name)
        made.recipe, made.file, made.sha256 = recipe, file, sha256
        return made

    @property
    def versioned(self) -> str:
        """The name with the beginning of the file's hash, for files that belong to this content."""
        return f"{self}-{self.sha256[:8]}" if self.sha256 else str(self)

    def __repr__(self) -> str:
        return repr(self.versioned)

    def __deepcopy__(self, memo: object) -> "OwnMethod":
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        """Methods of files are read again where they are unpickled, as their classes are not importable."""
        if self.file:
            return _same, (str(Path(self.file).absolute()), self.sha256)
        return type(self), (self.recipe, str(self))


def named(method: MethodSource) -> str:
    """The name of a method; one of the caller's own brings its recipe, see `OwnMethod`.

    Args:
        method: the name of a method of the task, FILE.py:NAME, a `Recipe`, or what makes an estimator.

    Raises:
        ValueError: if there is no such file or name in it, or it makes no estimator.
    """
    if isinstance(method, OwnMethod):
        return method
    if isinstance(method, str):
        return _from_file(method) if ".py" in method else method
    return _own(method, "", "")


def versioned(method: str) -> str:
    """The name of a method, with the version of its content if it comes from a file."""
    return method.versioned if isinstance(method, OwnMethod) else method


def check_method(method: str, known: Collection[str], of: str = "") -> None:
    """Refuse a name that is neither a method of the task nor one that brings its recipe.

    Args:
        method: the name.
        known: names of the task's methods.
        of: what they are for, for the message.

    Raises:
        ValueError: in one sentence.
    """
    if isinstance(method, OwnMethod):
        if method in known:
            raise ValueError(f"{method.file or method} has the name of another method, {method}: give it another one")
    elif method not in known:
        near = did_you_mean(method, known)
        raise ValueError(f"unknown method {method!r}{of}: use one of {', '.join(known)}, or your own as {FORM}{near}")


def recipe_of(method: str, table: Mapping[str, T], completed: Callable[[Recipe], T]) -> T:
    """The recipe of a method of a task.

    Args:
        method: the name of a method of the table, or one that brings its recipe.
        table: the recipes of the task.
        completed: makes a recipe of the task from one of the caller's own.
    """
    return completed(method.recipe) if isinstance(method, OwnMethod) else table[method]


def seeded(times: Times, seed: int) -> Times:
    """The time schedule with the seed of a run, if it or the one it is made from is random."""
    if not is_dataclass(times) or isclass(times):
        return times
    names = {field.name for field in fields(times)}
    changed: dict[str, Any] = {"seed": seed} if "seed" in names else {}
    if "base" in names:
        changed["base"] = seeded(times.base, seed)  # type: ignore[attr-defined]
    return replace(times, **changed) if changed else times  # type: ignore[type-var, return-value]


def _own(made: Any, name: str, file: str) -> OwnMethod:
    """A method of an object; checks that it makes an estimator.

    Raises:
        ValueError: if it makes none, naming `file`.
    """
    said = f"{file}: " if file else ""
    if not isinstance(made, Recipe) and not callable(made):
        raise ValueError(f"{said}a method is {CLASS_OR_RECIPE}, not {type(made).__name__}")
    try:
        recipe = made if isinstance(made, Recipe) else Recipe(made)
        recipe.make()
    except ValueError as error:
        raise ValueError(f"{said}{error}") from error
    except Exception as error:
        raise ValueError(f"{said}cannot make the estimator: {_reason(error)}") from error
    maker = recipe.estimator
    usual = type(maker).__name__ if isinstance(maker, Estimator) else getattr(maker, "__name__", "")
    return OwnMethod(recipe, name or ("own" if usual in ("", "<lambda>") else usual), file)


def _from_file(text: str) -> OwnMethod:
    """The method that FILE.py:NAME names.

    Raises:
        ValueError: if there is no such file, or no such method in it.
    """
    place, _, name = text.rpartition(":")
    if not place.endswith(".py"):
        raise ValueError(f"{text} names no method: write {FORM}, such as {text.partition(':')[0]}:Mine")
    path = Path(place)
    if not path.is_file():
        raise ValueError(f"there is no file {place}: check the path of the method {text}")
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ValueError(f"cannot read {place}: {error.strerror or error}") from error
    sha256 = hashlib.sha256(content).hexdigest()
    module = _module(path.resolve(), sha256, content)
    if not hasattr(module, name):
        found = ", ".join(sorted(_candidates(module))) or "none"
        raise ValueError(f"{place} has no {name or 'name after the colon'}: its methods are {found}")
    made = _own(getattr(module, name), name, text)
    made.sha256 = sha256
    return made


def _same(file: str, sha256: str) -> OwnMethod:
    """The method of a file whose content is known.

    Raises:
        ValueError: if the file has changed.
    """
    made = _from_file(file)
    if made.sha256 != sha256:
        raise ValueError(f"{file.rpartition(':')[0]} changed during the work: give the same command again")
    return made


class _Content(SourceLoader):
    """Imports a file from the bytes that were hashed, without Python's cache of bytecode, which may be of others."""

    def __init__(self, path: Path, content: bytes):
        self.path, self.content = path, content

    def get_filename(self, fullname: str) -> str:
        return str(self.path)

    def get_data(self, path: str | bytes) -> bytes:
        return self.content


@cache
def _module(path: Path, sha256: str, content: bytes) -> ModuleType:
    """The module of a file, executed once per content; imports of modules beside it work as in a script.

    Raises:
        ValueError: if it cannot be executed, with line and reason.
    """
    name = f"scoredistill_method_{sha256[:16]}"
    spec = spec_from_file_location(name, path, loader=_Content(path, content))
    if spec is None or spec.loader is None:
        raise ValueError(f"cannot read {path.name} as Python: give a .py file")
    module = module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look themselves up
    try:
        with _beside(path.parent):
            spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        raise ValueError(f"cannot import {path.name}{_line(error, path)}: {_reason(error)}") from error
    return module


@contextmanager
def _beside(folder: Path) -> Any:
    """Let modules in a directory be imported, as Python does for scripts, without hiding others of the same names."""
    before = set(sys.modules)
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        for name in set(sys.modules) - before:
            if Path(getattr(sys.modules[name], "__file__", None) or "").parent == folder:
                del sys.modules[name]
        if str(folder) in sys.path:
            sys.path.remove(str(folder))


def _line(error: BaseException, path: Path) -> str:
    """The line of a file where an error was raised, as the end of a phrase."""
    if isinstance(error, SyntaxError) and error.lineno is not None:
        return f", line {error.lineno}"
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if Path(frame.filename) == path]
    return f", line {lines[-1]}" if lines else ""


def _reason(error: BaseException) -> str:
    return f"{type(error).__name__}: {getattr(error, 'msg', None) or error}"


def _candidates(module: ModuleType) -> list[str]:
    """The names of a module that could be methods: recipes, estimators, and classes of them defined there."""
    return [
        name
        for name, value in vars(module).items()
        if not name.startswith("_")
        and (
            isinstance(value, (Recipe, Estimator))
            or (isclass(value) and issubclass(value, Estimator) and value.__module__ == module.__name__)
        )
    ]
