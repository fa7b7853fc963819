"""Completion scripts for bash, zsh and fish, generated from the parameters of all commands.

A script holds all names, so that completion is instant: the program itself takes seconds to start.
"""

import shlex
from collections.abc import Mapping, Sequence

from scoredistill.cli.columns import first_sentence
from scoredistill.cli.command_names import summaries
from scoredistill.cli.method_names import SOURCES, names_of
from scoredistill.cli.parameters import Parameter

Commands = Mapping[str, Sequence[Parameter]]

EVERYWHERE = ("--help", "--help-all", "--quiet", "--json")
PRIORS = {"image": ("emoji",), "object": ("emoji",), "edit": ("emoji-edit",)}


def script(shell: str, commands: Commands) -> str:
    """The script of a shell.

    Args:
        shell: bash, zsh or fish.
        commands: parameters by the name of the command.
    """
    return {"bash": _bash, "zsh": _zsh, "fish": _fish}[shell](commands)


def values_of(command: str, each: Parameter) -> tuple[str, ...]:
    """The words that complete the value of a parameter; empty for files and texts."""
    if each.name == "method" and command in SOURCES:
        return tuple(names_of(command))
    if each.name == "prior":
        return PRIORS.get(command, ())
    return each.choices


def takes_file(each: Parameter) -> bool:
    """Whether a value can be a file."""
    return "PATH" in each.metavar.upper() or each.name in ("source", "run", "config", "prior", "region", "prompts")


def _bash(commands: Commands) -> str:
    lines = [
        "# bash completion of scoredistill: scoredistill completion bash",
        "_scoredistill() {",
        '    local word="${COMP_WORDS[COMP_CWORD]}" before="${COMP_WORDS[COMP_CWORD-1]}" command="${COMP_WORDS[1]}"',
        '    [[ "$before" == "=" ]] && before="${COMP_WORDS[COMP_CWORD-2]}"',
        '    [[ "$word" == "=" ]] && word=""',
        "    local options words",
        "    COMPREPLY=()",
        "    if (( COMP_CWORD == 1 )); then",
        f'        COMPREPLY=($(compgen -W {shlex.quote(" ".join([*commands, "--help", "--version"]))} -- "$word"))',
        "        return",
        "    fi",
        '    case "$command" in',
    ]
    for name, known in commands.items():
        flags = [flag for each in known for flag in each.flags]
        lines += [f"        {name})", f"            options={shlex.quote(' '.join([*flags, *EVERYWHERE]))}"]
        lines += ['            case "$before" in']
        for each in known:
            if each.flags and each.most != 0:
                words = values_of(name, each)
                choice = f"words={shlex.quote(' '.join(words))}" if words else ""
                files = "compopt -o default 2>/dev/null" if takes_file(each) else ""
                does = "; ".join(filter(None, [choice, files])) or "return"
                lines.append(f"                {'|'.join(each.flags)}) {does} ;;")
        lines += ["                *)"]
        first = next((values_of(name, each) for each in known if not each.flags), ())
        if first:
            lines.append(f"                    (( COMP_CWORD == 2 )) && words={shlex.quote(' '.join(first))}")
        lines += ['                    [[ "$word" == -* ]] && words="$options"']
        lines += ["                    compopt -o default 2>/dev/null ;;", "            esac ;;"]
    lines += [
        "    esac",
        '    COMPREPLY=($(compgen -W "$words" -- "$word"))',
        "}",
        "complete -F _scoredistill scoredistill",
    ]
    return "\n".join(lines)


def _zsh(commands: Commands) -> str:
    said = summaries()
    lines = [
        "#compdef scoredistill",
        "# zsh completion of scoredistill: scoredistill completion zsh",
        "_scoredistill() {",
    ]
    lines += ["    local -a commands=("]
    lines += [f"        {shlex.quote(f'{name}:{_plain(said.get(name, name))}')}" for name in commands]
    lines += [
        "    )",
        "    if (( CURRENT == 2 )); then",
        "        _describe command commands",
        "        return",
        "    fi",
    ]
    lines += ['    local command="${words[2]}"', "    (( CURRENT-- ))", "    shift words", '    case "$command" in']
    for name, known in commands.items():
        lines += [f"        {name})", "            _arguments \\"]
        for each in known:
            lines += [f"                {shlex.quote(_zsh_spec(name, each, flag))} \\" for flag in each.flags or ("",)]
        lines += [f"                {shlex.quote(flag)} \\" for flag in EVERYWHERE]
        lines += ["                && return ;;"]
    lines += ["    esac", "}", '_scoredistill "$@"']
    return "\n".join(lines)


def _zsh_spec(command: str, each: Parameter, flag: str) -> str:
    """One argument of `_arguments`."""
    words = values_of(command, each)
    action = f"({' '.join(words)})" if words else "_files" if takes_file(each) else ""
    if not flag:
        return f":{each.name}:{action}"
    says = _plain(each.says)
    value = "" if each.most == 0 else f":{each.name}:{action}"
    return f"*{flag}[{says}]{value}" if each.most is None else f"{flag}[{says}]{value}"


def _fish(commands: Commands) -> str:
    said = summaries()
    lines = ["# fish completion of scoredistill: scoredistill completion fish", "complete -c scoredistill -e"]
    for name, known in commands.items():
        about = shlex.quote(_plain(said.get(name, name)))
        lines.append(f"complete -c scoredistill -n __fish_use_subcommand -f -a {name} -d {about}")
        where = f"-n '__fish_seen_subcommand_from {name}'"
        for each in known:
            words = values_of(name, each)
            given = f" -f -a {shlex.quote(' '.join(words))}" if words else ""
            text = shlex.quote(_plain(each.says))
            for flag in each.flags:
                takes = "" if each.most == 0 else " -r"
                option = f"-l {flag[2:]}" if flag.startswith("--") else f"-s {flag[1:]}"
                lines.append(f"complete -c scoredistill {where} {option} -d {text}{takes}{given}")
            if not each.flags and words:
                lines.append(f"complete -c scoredistill {where}{given}")
        lines += [f"complete -c scoredistill {where} -l {flag[2:]}" for flag in EVERYWHERE]
    return "\n".join(lines)


def _plain(text: str) -> str:
    """The first sentence, without what shells give a meaning in descriptions."""
    return "".join(" " if letter in "[]:'\"\\`$" else letter for letter in first_sentence(text))[:80].strip()
