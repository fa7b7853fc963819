"""What `scoredistill COMMAND --help` prints: its common options, in one screen; with --help-all, all of them."""

from collections.abc import Mapping, Sequence

from scoredistill.cli.columns import INDENT, first_sentence, rows, wrapped
from scoredistill.cli.method_names import SOURCES, descriptions
from scoredistill.cli.options import AUTO
from scoredistill.cli.overview import CODES
from scoredistill.cli.parameters import Parameter

EXAMPLES = {
    "image": ('"a hamburger"', '"a castle" --method csd --seed 3', '--prompts "a cat" "an owl" --seeds 4'),
    "edit": ('photo.jpg "make it night"', 'panorama.jpg "make it snowy" --wrap', 'clip.mp4 "make it sepia"'),
    "object": ('"a hamburger"', '"an owl" --shape splats --view'),
    "show": ("runs/a_hamburger-msd", "image_00.png"),
    "completion": ("bash >> ~/.bashrc",),
}
COMMON = {
    "image": (
        "prompt method prior image preset steps particles guidance negative-prompt seed seeds prompts out resume "
        "overwrite dry-run"
    ),
    "edit": (
        "source instruction method prior preset size sweeps text-scale image-scale region wrap detail seed seeds "
        "prompts file out resume overwrite dry-run"
    ),
    "object": (
        "prompt method prior shape preset steps views guidance seed seeds prompts view out resume overwrite dry-run"
    ),
}
EVERYWHERE = "--quiet (errors only), --json (the result as one JSON object), --help-all"
REPEATED = "--config RUN repeats a run."
NAMES = 23  # width of the column of names


def help_of(
    command: str, says: str, known: Sequence[Parameter], defaults: Mapping[str, object], everything: bool
) -> str:
    """The text.

    Args:
        command: name of the command.
        says: its description.
        known: its parameters.
        defaults: defaults that depend on the method, by the name of the option.
        everything: whether options that are rarely needed are listed too.
    """
    common = COMMON.get(command, "").split()
    some = bool(common) and not everything
    shown = sorted((each for each in known if each.name in common), key=lambda each: common.index(each.name))
    shown = shown if some else list(known)
    names = " ".join(each.metavar if each.required else f"[{each.metavar}]" for each in known if not each.flags)
    lines = [" ".join(f"usage: scoredistill {command} {names} [OPTIONS]".split()), "", *wrapped(says)]
    for title, flags in (("Arguments", False), ("Options", True)):
        pairs = [
            (_invocation(each), _described(each, defaults, not some)) for each in shown if bool(each.flags) == flags
        ]
        lines += ["", f"{title}:", *rows(pairs, NAMES)] if pairs else []
    if command in SOURCES:
        lines += ["", *_methods(command, everything)]
    if command in EXAMPLES:
        lines += ["", "Examples:", *(f"{' ' * INDENT}scoredistill {command} {each}" for each in EXAMPLES[command])]
    rest = len(known) - len(shown)
    more = f"{rest} more options: scoredistill {command} --help-all. " if rest else ""
    repeats = f" {REPEATED}" if "--config" in {flag for each in known for flag in each.flags} else ""
    return "\n".join([*lines, "", *wrapped(f"{more}Everywhere: {EVERYWHERE}.{repeats}"), CODES])


def _invocation(each: Parameter) -> str:
    choices = "|".join(choice for choice in each.choices if choice != AUTO)
    if not each.flags:
        return each.metavar
    value = choices if choices and len(choices) < NAMES else each.metavar
    return f"{each.flags[0]} {value}".strip()


def _described(each: Parameter, defaults: Mapping[str, object], everything: bool) -> str:
    """The description of a parameter with its default."""
    says = each.says if everything else "See below." if each.name == "method" else first_sentence(each.says)
    value = each.default if each.default not in ("", AUTO, "None") else defaults.get(each.name.replace("-", "_"), "")
    if value in ("", None, "False") or each.required:
        return says
    shown = " ".join(map(str, value)) if isinstance(value, (tuple, list)) else str(value)
    return f"{says.removesuffix('.')} (default: {shown})."


def _methods(command: str, everything: bool) -> list[str]:
    """The methods of a command: their names, or with descriptions."""
    known = descriptions(command)
    if everything:
        return ["Methods:", *rows([*known.items(), ("FILE.py:NAME", "a method of your own")], NAMES)]
    return wrapped(f"Methods: {', '.join(known)}, or your own as FILE.py:NAME.", INDENT)
