"""`--config RUN`: the arguments of an earlier run, from its config.json.

A run of the command line is repeated from the command that is kept there and from its settings: whatever was a default
then and is another one now is written out, so that a run is the same after defaults have changed. A run from Python is
repeated from its settings alone.
"""

import json
import shlex
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from scoredistill.cli.arguments import Given, parsed
from scoredistill.cli.command_names import summaries
from scoredistill.cli.defaults import defaults_of
from scoredistill.cli.method_names import before_texts
from scoredistill.cli.parameters import Parameter, options, positionals
from scoredistill.tasks.run_config import CONFIG, read_config

FLAG = "--config"
NOT_REPEATED = {
    *("--out", "--resume", "--overwrite", "--progress", "--no-progress", "--dry-run", "--view", "--port", FLAG),
    "--preset",  # whose length the settings say
}  # of the command: how it was carried out
LENGTH = ("--steps", "--follow", "--sweeps")  # what a preset that is given replaces
SEVERAL = {"--prompts", "--seeds"}
FIELDS = {"regions": "region"}  # fields of settings whose options have another name
KINDS = (("prompts", "image"), ("instruction", "edit"), ("shape", "object"), ("particles", "image"))


def run_of(path: str) -> dict[str, Any]:
    """config.json of a run, by its path or that of the run's directory; empty if it is none."""
    place = Path(path)
    return read_config(place.parent if place.name == CONFIG or place.is_file() else place)


def command_of(config: Mapping[str, Any]) -> str:
    """The command that makes such runs; empty if it is not known."""
    words = _words(config)
    if words[:1] and words[0] in summaries():
        return words[0]
    return next((command for name, command in KINDS if name in config["request"]), "")


def repeated(command: str, typed: Sequence[str], known: Sequence[Parameter]) -> list[str]:
    """The arguments of a command with those of the run that --config names; without one, as they are.

    Options that are given replace those of the run, which is said.

    Raises:
        ValueError: if the file is missing, or holds a run of another command.
    """
    if not any(token == FLAG or token.startswith(f"{FLAG}=") for token in before_texts(typed)):
        return list(typed)
    given = parsed(command, typed, known)
    place = given.options[FLAG][-1]
    config = run_of(place)
    if not config:
        if place.endswith(".json"):
            missing = "is not the config.json of a run" if Path(place).exists() else "does not exist"
            raise ValueError(f"{place} {missing}: give --config the directory of a run, or its config.json")
        return list(typed)  # of a model, which the prior reads
    if command_of(config) != command:
        raise ValueError(f"{place} is of scoredistill {command_of(config) or '?'}, not {command}: repeat it with that")
    if "--method" not in given.options:
        _refuse_code(config)
    before = _before(command, config, Path(place), known)
    return _joined(given, before, known, place)


def _refuse_code(config: Mapping[str, Any]) -> None:
    """Refuse to execute a method in a file that only config.json names: it may be of strangers.

    Raises:
        ValueError: if it names one, wherever it does.
    """
    request = config["request"]
    places = [config, request, request.get("options", {}), config.get("prior_options", {})]
    named = [place.get(key) for place in places if isinstance(place, Mapping) for key in ("method", "method_file")]
    named += [word for word in _words(config) if word.startswith("--method=") or ".py:" in word]
    if file := next((str(each).removeprefix("--method=") for each in named if ".py" in str(each)), ""):
        raise ValueError(f"the run used a method in a file, {file}: give --method {file} to execute that file")


def _before(command: str, config: Mapping[str, Any], place: Path, known: Sequence[Parameter]) -> Given:
    """The options and positional arguments of a run."""
    table, words = options(known), _words(config)
    kept = Given()
    if words[:1] == [command]:
        with suppress(ValueError):  # of another version, whose options may be others
            kept = parsed(command, words[1:], known)
    request = config["request"]
    several = set() if "prompts" in request else SEVERAL  # of which this run is one
    found = {flag: values for flag, values in kept.options.items() if flag not in NOT_REPEATED | several}
    settings = {**request, **request.get("options", {}), **config.get("prior_options", {})}
    if config.get("method_file"):
        settings["method"] = config["method_file"]
    usual = _usual(command, settings)
    for name, value in settings.items():
        if name != "method" and usual.get(name, ...) == value:  # methods refuse options that they make no use of
            continue
        each = table.get(f"--{FIELDS.get(name, name).replace('_', '-')}")
        if each is not None and value is not None:
            for flag in each.flags:
                found.pop(flag, None)
            found.update(_option(each, value))
    names = [each.name for each in positionals(known)]
    texts = dict(zip(names, kept.words, strict=False))
    texts |= {name: str(settings[name]) for name in names if name in settings}
    if "source" in names:
        texts["source"] = _source(texts.get("source", ""), place)
    return Given(found, tuple(texts[name] for name in names if name in texts))


def _usual(command: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """The defaults of the method of a run, as config.json writes them; none if the method is not known."""
    method = settings.get("method")
    with suppress(ValueError):
        found = defaults_of(command, [] if method is None else ["--method", str(method)])
        return dict(json.loads(json.dumps(found, default=str)))
    return {}


def _source(path: str, place: Path) -> str:
    """The source of an edit; one that is no longer there is read from the run, which keeps images.

    Raises:
        ValueError: if there is neither.
    """
    folder = place if place.is_dir() else place.parent
    copies = [str(copy) for copy in sorted(folder.glob("source.*"))]
    if path and Path(path).exists():
        return path
    if not copies:
        raise ValueError(f"the source of {place} is not known: give it, as in scoredistill edit SOURCE --config RUN")
    return copies[0]


def _option(each: Parameter, value: object) -> dict[str, tuple[str, ...]]:
    """The option that has a value; none for empty lists and texts."""
    if each.most == 0:
        return {each.flags[0 if value else -1]: ()}
    values = tuple(map(str, value)) if isinstance(value, (list, tuple)) else (str(value),)
    return {each.flags[0]: values} if values not in ((), ("",)) else {}


def _joined(given: Given, before: Given, known: Sequence[Parameter], place: str) -> list[str]:
    """The tokens of a run with what is given in its place; says what is."""
    table = options(known)
    replaced = {table[flag] for flag in given.options}
    if "--preset" in given.options:
        replaced |= {table[flag] for flag in LENGTH if flag in table}
    named = [
        flag
        for flag, values in given.options.items()
        if flag not in NOT_REPEATED and before.options.get(flag) != values
    ]
    if named or given.words:
        what = [*named, *(each.metavar for each, _ in zip(positionals(known), given.words, strict=False))]
        print(f"scoredistill: as in {place}, but for {', '.join(what)}", file=sys.stderr)
    found = {flag: values for flag, values in before.options.items() if table[flag] not in replaced}
    found |= {flag: values for flag, values in given.options.items() if flag != FLAG}
    words = [*given.words, *before.words[len(given.words) :]]
    tokens: list[str] = []
    for flag, values in found.items():
        tokens += [f"{flag}={values[0]}"] if len(values) == 1 and table[flag].most == 1 else [flag, *values]
    return [*tokens, "--", *words]


def _words(config: Mapping[str, Any]) -> list[str]:
    """The words of the command that made a run, behind the program's name; empty for runs from Python."""
    try:
        words = shlex.split(str(config.get("command", "")))
    except ValueError:
        return []
    for program in (["scoredistill"], ["python", "-m", "scoredistill"]):
        if words[: len(program)] == program:
            return words[len(program) :]
    return []
