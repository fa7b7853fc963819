"""Forms: a component for each option of a request, with the words that document the option."""

import re
from collections.abc import Mapping, Sequence
from inspect import cleandoc
from types import NoneType
from typing import Any, get_args, get_type_hints

from scoredistill.tasks.image_generation.request import IMAGES, THROUGH
from scoredistill.tasks.object_generation.request import BACKGROUNDS, ENCODINGS, SHADING, SHAPES
from scoredistill.tasks.vector_graphics.request import INITS, STYLES
from scoredistill.ui.calls import Kind

CHOICES: Mapping[str, Sequence[str]] = {
    "image": IMAGES, "through": THROUGH, "shape": SHAPES, "encoding": ENCODINGS, "shading": SHADING,
    "background": BACKGROUNDS, "style": STYLES, "init": INITS,
}  # fmt: skip
LABELS = {
    "lr": "Learning rate", "follow": "Inner optimizer steps", "image": "What is optimized", "kernel": "Kernel width",
    "through": "Path of the gradient", "flow": "Rounds along the optical flow", "group": "Frames edited together",
    "init": "Start", "together": "Icons share a palette",
}  # fmt: skip
AUTO = "auto"
ENTRY = re.compile(r"^    (\w+): (.*(?:\n {8,}.*)*)", re.MULTILINE)  # of "Attributes:" in a docstring


def described(request: type[Any]) -> dict[str, str]:
    """What each field of a dataclass is, by the docstrings of the class and its bases."""
    found: dict[str, str] = {}
    for kind in reversed(request.__mro__):
        text = cleandoc(kind.__dict__.get("__doc__") or "").partition("Attributes:")[2]
        found |= {name: " ".join(words.split()) for name, words in ENTRY.findall(text)}
    return found


class Form:
    """The components of a form and the fields of the request that they are for.

    Args:
        gr: gradio.
        kind: the task.
    """

    def __init__(self, gr: Any, kind: Kind):
        self.gr, self.kind = gr, kind
        self.fields: dict[str, Any] = {}
        self._open: dict[str, Any] = {}  # fields that may be left empty
        self._says = described(kind.request)
        self._types = get_type_hints(kind.request)

    def text(self, label: str, placeholder: str, examples: Sequence[str]) -> Any:
        """The prompt or the instruction, with examples to choose."""
        made = self.gr.Textbox(label=label, placeholder=placeholder, lines=2, max_lines=4, max_length=2000)
        rows = [[each] for each in examples]
        self.gr.Examples(rows, [made], label="Try", cache_examples=False, api_visibility="private")
        return self._add(self.kind.text, made)

    def method(self, recipes: Mapping[str, Any], also: Mapping[str, str] | None = None) -> Any:
        """The method, with what each does."""
        says = {**{name: recipe.says for name, recipe in recipes.items()}, **(also or {})}
        choices = [(f"{name}: {words}", name) for name, words in says.items()]
        return self._add("method", self.gr.Dropdown(choices, value=self._default("method"), label="Method"))

    def model(self, models: Sequence[str]) -> Any:
        """The model, if there is a choice."""
        usual = self._default("prior")
        choices = list(dict.fromkeys([usual, *models]))
        made = self.gr.Dropdown(choices, value=usual, label="Model", visible=len(choices) > 1)
        return self._add("prior", made)

    def option(self, name: str, **more: Any) -> Any:
        """A component for an option, by its type; what is left empty has the default of the method."""
        kinds, value = self._types[name], self._default(name)
        optional = NoneType in get_args(kinds)
        kind = next((each for each in get_args(kinds) if each is not NoneType), kinds) if optional else kinds
        label, info = LABELS.get(name, name.replace("_", " ").capitalize()), self._says.get(name, "")
        about = {"label": label, "info": info, **more}
        if name in CHOICES:
            choices = [*([AUTO] if optional else []), *CHOICES[name]]
            return self._add(name, self.gr.Dropdown(choices, value=AUTO if optional else value, **about))
        if kind is bool and optional:
            return self._add(name, self.gr.Dropdown([AUTO, "yes", "no"], value=AUTO, **about))
        if kind is bool:
            return self._add(name, self.gr.Checkbox(value=value, **about))
        if kind in (int, float) and not optional:  # an empty number of gradio is 0
            return self._add(name, self.gr.Number(value=value, precision=0 if kind is int else None, **about))
        made = self.gr.Textbox(value=value or "", placeholder=AUTO if optional else "", max_length=2000, **about)
        if optional:
            self._open[name] = made
        return self._add(name, made)

    def rest(self, models: Sequence[str], options: Sequence[str], *deciding: str) -> None:
        """The model, and further options that are folded up; call once, after all other fields.

        Args:
            models: that can be chosen beside the usual one.
            options: names of the further options.
            *deciding: names of the fields on which the defaults depend, which empty fields show.
        """
        self.model(models)
        with self.gr.Accordion("More options", open=False):
            for name in options:
                self.option(name)
        self.show_defaults(*deciding)

    def values(self, given: Sequence[Any]) -> dict[str, Any]:
        """The values of the fields of the request; options that are left empty are left out.

        Args:
            given: values of the components, in the order of `components`.

        Raises:
            ValueError: if something is no number, naming the option.
        """
        read = {name: self._read(name, value) for name, value in zip(self.fields, given, strict=True)}
        return {name: value for name, value in read.items() if value is not None}

    def show_defaults(self, *deciding: str) -> None:
        """Show in empty fields what they stand for, which changes with others; call once, after all fields.

        Args:
            *deciding: names of the fields on which the defaults depend.
        """
        names = [name for name in deciding if name in self.fields]
        usual = self.defaults({name: self._default(name) for name in names})
        for name, component in self._open.items():
            component.placeholder = usual[name]
        outputs = list(self._open.values())

        def follow(*given: Any) -> Any:
            hints = self.defaults(dict(zip(names, given, strict=True)))
            updates = [self.gr.update(placeholder=hints[name]) for name in self._open]
            return updates[0] if len(updates) == 1 else updates

        for name in names:
            inputs = [self.fields[each] for each in names]
            self.fields[name].change(follow, inputs, outputs, show_progress="hidden", api_visibility="private")

    def defaults(self, values: Mapping[str, Any]) -> dict[str, str]:
        """What the fields that may be left empty stand for, in words."""
        try:
            settings = self.kind.request(**{self.kind.text: self.kind.worded("x"), **values}).complete()
        except (ValueError, KeyError):
            return dict.fromkeys(self._open, AUTO)
        return {name: f"{AUTO}: {getattr(settings, name):g}" for name in self._open}

    def _read(self, name: str, value: Any) -> Any:
        """The value of a field; None for its default."""
        kinds = get_args(self._types[name]) or (self._types[name],)
        if value is None or (NoneType in kinds and value in (AUTO, "")):
            return None
        if bool in kinds and isinstance(value, str):
            return value == "yes"
        for kind, what in ((int, "a whole number"), (float, "a number")):
            if kind in kinds and not isinstance(value, bool):
                try:
                    return kind(value)
                except (ValueError, OverflowError):
                    said = repr(value)[:42]
                    raise ValueError(f"{name} must be {what}, not {said}: change it, or empty it") from None
        return value

    @property
    def components(self) -> list[Any]:
        """The components."""
        return list(self.fields.values())

    def _default(self, name: str) -> Any:
        return self.kind.request.__dataclass_fields__[name].default

    def _add(self, name: str, component: Any) -> Any:
        self.fields[name] = component
        return component
