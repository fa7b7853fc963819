"""Completion scripts: bash completes with them, and those of zsh and fish name every option."""

import re
import shutil
import subprocess

import pytest

from scoredistill import cli
from scoredistill.cli.commands import COMMANDS
from scoredistill.cli.method_names import names_of
from scoredistill.cli.parameters import parameters

SHELLS = ("bash", "zsh", "fish")


@pytest.fixture(scope="module")
def scripts():
    from scoredistill.cli.completion_scripts import script

    known = {name: parameters(function, name) for name, function in COMMANDS.items()}
    return {shell: script(shell, known) for shell in SHELLS}


def completed(script, *words):
    """What bash offers for the last word."""
    typed = " ".join(f"'{word}'" for word in words)
    shows = "printf '%s\\n' \"${COMPREPLY[@]}\""
    asks = f"COMP_WORDS=(scoredistill {typed})\nCOMP_CWORD={len(words)}\n_scoredistill\n{shows}"
    made = subprocess.run(["bash", "-c", f"{script}\n{asks}"], capture_output=True, text=True, check=True)
    assert not made.stderr
    return made.stdout.split()


@pytest.mark.skipif(not shutil.which("bash"), reason="bash is not installed")
@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (["im"], ["image"]),
        ([""], [*COMMANDS, "--help", "--version"]),
        (["image", "--method", ""], names_of("image")),
        (["image", "--method", "msd_p"], ["msd_paper", "msd_paper_anchor", "msd_paper_interval", "msd_paper_both"]),
        (["image", "x", "--method", "=", "csd"], ["csd"]),
        (["edit", "a.png", "x", "--method", "win"], ["windows"]),
        (["image", "x", "--see"], ["--seed", "--seeds"]),
        (["image", "x", "--preset", ""], ["draft", "standard", "best"]),
        (["image", "x", "--steps", ""], []),
        (["image", "x", "--qu"], ["--quiet"]),
        (["prior", "sh"], ["show"]),
        (["completion", ""], list(SHELLS)),
        (["nothing", "--x"], []),
    ],
)
def test_bash_offers(scripts, words, offered):
    assert completed(scripts["bash"], *words) == offered


@pytest.mark.parametrize("shell", SHELLS)
def test_every_option_is_in_the_script(scripts, shell):
    for name, function in COMMANDS.items():
        assert re.search(rf"\b{name}\b", scripts[shell])
        for each in parameters(function, name):
            for flag in each.flags:
                assert re.search(rf"{flag}\b" if shell != "fish" else rf"-l {flag[2:]}\b", scripts[shell]), flag


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_scripts_parse_where_the_shell_is_installed(scripts, shell):
    if not shutil.which(shell):
        pytest.skip(f"{shell} is not installed")
    subprocess.run([shell, "-n"], input=scripts[shell], text=True, check=True)


def test_the_command_prints_the_script(scripts, capsys):
    cli.main(["completion", "bash"])
    assert capsys.readouterr().out == f"{scripts['bash']}\n"
