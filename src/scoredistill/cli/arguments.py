"""The arguments of a command: split into options and positional arguments, and checked before the command runs."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from scoredistill.cli.parameters import Parameter, options, positionals
from scoredistill.suggest import did_you_mean

QUOTED = {"image": "prompt", "object": "prompt", "edit": "instruction"}  # what must be in quotes
EXAMPLE = {
    "image": 'scoredistill image "a hamburger"',
    "object": 'scoredistill object "a hamburger"',
    "edit": 'scoredistill edit photo.jpg "make it night"',
    "show": "scoredistill show runs/a_hamburger-msd",
}
NUMBER = re.compile(r"-\.?\d")
SAMPLES = {"INT": "10", "FLOAT": "0.5"}  # values in messages


@dataclass(frozen=True)
class Given:
    """What was typed behind the name of a command.

    Attributes:
        options: values by flag, as typed; of an option that is given twice, the last.
        words: positional arguments.
    """

    options: dict[str, tuple[str, ...]] = field(default_factory=dict)
    words: tuple[str, ...] = ()


def parsed(command: str, typed: Sequence[str], known: Sequence[Parameter]) -> Given:
    """The options and positional arguments of a command.

    Args:
        command: its name.
        typed: what was typed behind it.
        known: its parameters.

    Raises:
        ValueError: for unknown options, with the nearest known one, and for options without a value.
    """
    table, at = options(known), 0
    found: dict[str, tuple[str, ...]] = {}
    words: list[str] = []
    while at < len(typed):
        token = typed[at]
        at += 1
        if token == "--":
            words += typed[at:]
            break
        if not is_flag(token):
            words.append(token)
            continue
        flag, equals, value = token.partition("=")
        each = table.get(flag) or table.get(flag.replace("_", "-"))
        if each is None:
            near = did_you_mean(flag, table)
            raise ValueError(f"{command} has no {flag}{near}: see scoredistill {command} --help-all for its options")
        values = [value] if equals else []
        most = len(typed) if each.most is None else each.most
        while not equals and len(values) < most and at < len(typed) and not is_flag(typed[at]):
            values.append(typed[at])
            at += 1
        if len(values) < each.least:
            raise ValueError(_lacks(each, flag))
        found[flag if flag in table else flag.replace("_", "-")] = tuple(values)
    return Given(found, tuple(words))


def check(command: str, given: Given, known: Sequence[Parameter]) -> None:
    """Refuse values of the wrong kind, and missing or superfluous positional arguments.

    Raises:
        ValueError: in one sentence.
    """
    table = options(known)
    for flag, values in given.options.items():
        for value in values:
            _check_value(table[flag], flag, value)
    wanted = positionals(known)
    fixed = all(each.most is not None for each in wanted)
    if fixed and len(given.words) > sum(each.most or 0 for each in wanted):
        extra = given.words[sum(each.most or 0 for each in wanted)]
        what = QUOTED.get(command)
        advice = f"put the {what} in quotes, as in {EXAMPLE[command]}" if what else "leave it out"
        raise ValueError(f"{command} does not take {extra!r}: {advice}")
    missing = [each for each in wanted if each.required][len(given.words) :]
    if missing:
        such = f", as in {EXAMPLE[command]}" if command in EXAMPLE else f": {_lower(missing[0].says)}"
        raise ValueError(f"{command} needs {' and '.join(each.metavar for each in missing)}{such}")
    for each, value in zip(wanted, given.words, strict=False):
        if each.choices:
            _check_value(each, each.metavar, value)


def is_flag(token: str) -> bool:
    """Whether a token is the name of an option; numbers below zero are none."""
    return len(token) > 1 and token[0] == "-" and not NUMBER.match(token) and not any(c.isspace() for c in token)


def _check_value(each: Parameter, flag: str, value: str) -> None:
    fault = each.fault(value)
    if not fault:
        return
    if each.choices:
        listed = ", ".join(each.choices)
        raise ValueError(f"unknown {flag} {value!r}: use one of {listed}{did_you_mean(value, each.choices)}")
    sample = SAMPLES["FLOAT" if "FLOAT" in each.metavar.upper() else "INT"]
    raise ValueError(f"{flag} {fault}, not {value!r}: give {flag} {sample}, for example")


def _lacks(each: Parameter, flag: str) -> str:
    count = "a value" if each.least == 1 else f"{each.least} values"
    kind = next((kind for kind in SAMPLES if kind in each.metavar.upper()), "")
    sample = each.choices[0] if each.choices else SAMPLES.get(kind) or each.metavar
    return f"{flag} needs {count}: give {flag} {sample}, for example"


def _lower(text: str) -> str:
    return f"{text[:1].lower()}{text[1:]}".rstrip(".")
