"""What a form asks for, as a command and as Python.

The app runs the very command that it shows, so that a run can be repeated without the app.
"""

import shlex
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import Any, get_origin, get_type_hints

from scoredistill.tasks.image_editing.request import EditRequest
from scoredistill.tasks.image_generation.request import Request
from scoredistill.tasks.object_generation.request import ObjectRequest
from scoredistill.tasks.run_config import read_config
from scoredistill.tasks.vector_graphics.request import VectorRequest
from scoredistill.tasks.video_editing.request import VideoRequest

LINE = 100  # characters of a line of Python, above which each argument has a line of its own


@dataclass(frozen=True)
class Kind:
    """A task, as its command and as its function.

    Attributes:
        says: what it does, for lists of runs.
        command: name of the command.
        function: name of the function in `scoredistill.tasks`.
        request: dataclass of the request, whose defaults are those of the command.
        source: whether the first argument is the file to work on.
        text: field of the request that says what to make; the next argument.
        shows: a line of Python that shows the result.
        flags: flags of the command that are not called as their fields.
    """

    says: str
    command: str
    function: str
    request: type[Any]
    source: bool
    text: str
    shows: str
    flags: Mapping[str, str] = field(default_factory=dict)

    @property
    def names(self) -> set[str]:
        """Names of the fields of the request."""
        return {each.name for each in fields(self.request)}

    def worded(self, text: str) -> str | tuple[str, ...]:
        """A text as the request has it: some take several."""
        return (text,) if get_origin(get_type_hints(self.request)[self.text]) is tuple else text


REGION = {"regions": "region"}
IMAGE = Kind("image from text", "image", "text_to_image", Request, False, "prompt", "result.images[0].show()")
EDIT = Kind("edited image", "edit", "edit_image", EditRequest, True, "instruction", "result.image.show()", REGION)
VIDEO = Kind("edited video", "edit", "edit_video", VideoRequest, True, "instruction", "print(result.path)", REGION)
OBJECT = Kind(
    "object from text", "object", "text_to_3d", ObjectRequest, False, "prompt", "print(result.counts, result.seconds)"
)
SVG = Kind("icons from text", "svg", "text_to_svg", VectorRequest, False, "prompts", "print(result.drawings)")
KINDS = (IMAGE, EDIT, VIDEO, OBJECT, SVG)


@dataclass(frozen=True)
class Call:
    """One run: a task, what it is asked for, and where its results go.

    Attributes:
        kind: the task.
        values: fields of the request by name; those that are missing or None have their defaults.
        out: output directory.
        source: the file to work on, if the task has one.
        resume: continue the interrupted run in the output directory.
    """

    kind: Kind
    values: Mapping[str, Any]
    out: Path
    source: Path | None = None
    resume: bool = False

    @property
    def texts(self) -> tuple[str, ...]:
        """What to make or to change: one text, or several prompts."""
        given = self.values.get(self.kind.text, "")
        return tuple(map(str, given)) if isinstance(given, tuple) else (str(given),)

    @property
    def text(self) -> str:
        """The same in one text."""
        return " ".join(self.texts)

    @property
    def title(self) -> str:
        """What is asked for, for people."""
        return title_of(self.values)

    @property
    def request(self) -> Any:
        """The request, a dataclass."""
        return self.kind.request(**{self.kind.text: self.kind.worded(""), **self.values})

    def given(self) -> dict[str, Any]:
        """The options that differ from their defaults, without the text."""
        usual = {each.name: each.default for each in fields(self.kind.request) if each.default is not MISSING}
        return {
            name: value
            for name, value in self.values.items()
            if name != self.kind.text and value is not None and value != usual.get(name, MISSING)
        }

    def arguments(self) -> list[str]:
        """The arguments of the command `scoredistill`."""
        options = [part for name, value in self.given().items() for part in self._option(name, value)]
        options += ["--out", str(self.out), *(["--resume"] if self.resume else [])]
        first = [*([str(self.source)] if self.source is not None else []), *(each for each in self.texts if each)]
        if any(each.startswith("-") for each in first):  # it would be read as an option
            return [self.kind.command, *options, "--", *first]
        return [self.kind.command, *first, *options]

    def command(self) -> str:
        """The command, as it is typed in a shell."""
        return shlex.join(["scoredistill", *self.arguments()])

    def python(self) -> str:
        """The same run in Python."""
        first = [*([repr(str(self.source))] if self.source is not None else [])]
        first.append(repr(self.values.get(self.kind.text, "")))
        named = {**self.given(), "out": str(self.out), **({"resume": True} if self.resume else {})}
        arguments = [*first, *(f"{name}={value!r}" for name, value in named.items())]
        call = f"result = tasks.{self.kind.function}({', '.join(arguments)})"
        if len(call) > LINE:
            call = f"result = tasks.{self.kind.function}(\n" + "".join(f"    {each},\n" for each in arguments) + ")"
        return f"from scoredistill import tasks\n\n{call}\n{self.kind.shows}\n"

    def _option(self, name: str, value: Any) -> list[str]:
        """An option of the command."""
        flag = f"--{self.kind.flags.get(name, name).replace('_', '-')}"
        if isinstance(value, bool):
            usual = {each.name: each.default for each in fields(self.kind.request)}[name]
            if usual is None:  # an option that may be auto takes a word
                return [flag, str(value)]
            return [flag if value else f"--no-{flag[2:]}"]
        if isinstance(value, tuple):
            return [flag, *map(str, value)]
        return [f"{flag}={value}"] if str(value).startswith("-") else [flag, str(value)]

    def check(self) -> None:
        """Refuse impossible values.

        Raises:
            ValueError: in one sentence.
        """
        self.request.complete()


def title_of(request: Mapping[str, Any]) -> str:
    """What a request asks for, for people: its text, and the instructions of its regions; "" if it has none."""
    regions = [str(each).partition(":")[2].strip() for each in request.get("regions") or ()]
    texts = ", ".join(map(str, request.get("prompts") or ()))
    parts = [
        request.get("prompt") or request.get("instruction") or texts,
        *(f"{words} (in a region)" for words in regions),
    ]
    return "; ".join(str(part) for part in parts if part)


def kind_of(request: Iterable[str]) -> Kind | None:
    """The task that a run is of, by the names of the fields of its request; None if the app has no such form."""
    names = set(request)
    return next((kind for kind in KINDS if kind.names == names), None)


def call_of(path: Path) -> Call | None:
    """The call that repeats the run in a directory, from its config.json; None if that is of no task of the app.

    The source of an edit is the file that the command of the run names; without one, there is no call.
    """
    config = read_config(path)
    kind = kind_of(config["request"]) if config else None
    if kind is None:
        return None
    values = {name: tuple(each) if isinstance(each, list) else each for name, each in config["request"].items()}
    source = _source(str(config["command"])) if kind.source else None
    return None if kind.source and source is None else Call(kind, values, path, source)


def _source(command: str) -> Path | None:
    """The first argument of a command that names a file."""
    try:
        parts = shlex.split(command)
    except ValueError:
        return None
    after = parts[parts.index("edit") + 1 :] if "edit" in parts else []
    found = (Path(part) for part in after if "\0" not in part and len(part) < 1000)
    return next((path for path in found if path.exists()), None)
