"""--help: all commands without torch, the common options of a command in one screen, all of them with --help-all."""

import re
import subprocess
import sys

import pytest

from scoredistill import cli
from scoredistill.cli.columns import first_sentence, rows
from scoredistill.cli.command_names import summaries
from scoredistill.cli.commands import COMMANDS
from scoredistill.cli.method_names import SOURCES, descriptions, names_of
from scoredistill.cli.parameters import parameters
from scoredistill.cli.usage import COMMON
from scoredistill.tasks.image_generation.recipes import RECIPES

SCREEN = 60  # lines


def shown(capsys, *arguments):
    cli.main([*arguments])
    return capsys.readouterr().out


@pytest.fixture(autouse=True)
def _terminal(monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")


def test_the_overview_names_every_command_and_imports_no_torch():
    script = "import sys\nfrom scoredistill import cli\ncli.main(sys.argv[1:])\nprint('torch' in sys.modules)"
    for line in ([], ["--help"], ["-h"]):
        made = subprocess.run([sys.executable, "-c", script, *line], capture_output=True, text=True, check=True).stdout
        assert made.endswith("False\n")
        for name in COMMANDS:
            assert re.search(rf"^  {name}\b", made, re.MULTILINE), name
    assert "Exit codes: 0 done" in made


def test_summaries_are_those_of_the_docstrings():
    assert list(summaries()) == list(COMMANDS)
    for name, says in summaries().items():
        assert " ".join(COMMANDS[name].__doc__.split()).startswith(says)
        assert says.endswith(".")


@pytest.mark.parametrize("command", list(COMMON))
def test_the_common_options_fit_on_a_screen_and_the_rest_is_counted(command, capsys):
    short, long = shown(capsys, command, "--help"), shown(capsys, command, "--help-all")
    assert len(short.splitlines()) <= SCREEN
    flags = lambda text: set(re.findall(r"^  (--[\w-]+)", text, re.MULTILINE))
    known = parameters(COMMANDS[command], command)
    assert flags(long) == {each.flags[0] for each in known if each.flags}
    assert {each.name for each in known} >= set(COMMON[command].split())
    assert flags(short) < flags(long)
    assert int(re.search(r"(\d+) more options", short)[1]) == len(flags(long)) - len(flags(short))
    for text in (short, long):
        assert "None" not in text
        for method in names_of(command):
            assert re.search(rf"\b{method}\b", text), method


@pytest.mark.parametrize("command", [name for name in COMMANDS if name not in COMMON])
def test_other_commands_show_everything_at_once(command, capsys):
    flags = lambda text: set(re.findall(r"^  (--[\w-]+)", text, re.MULTILINE))
    assert flags(shown(capsys, command, "--help")) == flags(shown(capsys, command, "--help-all"))


def test_defaults_are_those_of_the_method(capsys):
    msd, csd = (re.sub(r"\s+", " ", shown(capsys, "image", "--help", "--method", name)) for name in ("msd", "csd"))
    assert f"steps for ddim (default: {RECIPES['msd'].steps['mlp']})" in msd
    assert f"steps for ddim (default: {RECIPES['csd'].steps['mlp']})" in csd
    assert f"generated together (default: {RECIPES['csd'].particles})" in csd
    assert "(default: msd)" in msd


def test_methods_are_described():
    for command in SOURCES:
        found = descriptions(command)
        assert list(found) == names_of(command)
        assert command not in COMMON or all(found.values())


def test_rows_stay_within_the_terminal(monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")
    made = rows([("--name", "word " * 40), ("--a-name-that-is-longer-than-the-column", "text")], 20)
    assert max(map(len, made)) <= 60
    assert made[0].startswith("  --name              word")
    assert made[-2:] == ["  --a-name-that-is-longer-than-the-column", f"{' ' * 22}text"]


@pytest.mark.parametrize(
    ("text", "first"),
    [
        ("One. Two.", "One."),
        ("A file a.png. Then.", "A file a.png."),
        ("All (e.g. this. one) of it. More", "All (e.g. this. one) of it."),
        ("No end", "No end"),
        ("A; b", "A."),
    ],
)
def test_first_sentences(text, first):
    assert first_sentence(text) == first
