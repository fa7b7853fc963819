"""--quiet and --json: what is printed where."""

import json

import pytest

from scoredistill import cli
from scoredistill.cli.manner import Manner


def test_the_flags_may_stand_anywhere_but_behind_two_dashes():
    assert Manner.of(["image", "--json", "x", "-q"]) == (Manner(quiet=True, json=True), ["image", "x"])
    assert Manner.of(["image", "--", "--json"]) == (Manner(), ["image", "--", "--json"])


@pytest.fixture
def command(monkeypatch):
    def run(arguments):
        print("for people")
        print(" ".join(arguments))
        return {"out": "runs/x", "seconds": 1.5}

    monkeypatch.setattr(cli, "_dispatch", run)


def test_json_is_one_object_on_standard_output(command, capsys):
    cli.main(["image", "x", "--json"])
    said = capsys.readouterr()
    assert json.loads(said.out) == {"command": "image", "out": "runs/x", "seconds": 1.5}
    assert said.out.count("\n") == 1
    assert said.err == "for people\nimage x\n"


def test_quiet_prints_nothing_and_shows_no_progress(command, capsys, monkeypatch):
    cli.main(["image", "x", "--quiet"])
    assert capsys.readouterr() == ("", "")
    monkeypatch.setattr(cli, "_dispatch", lambda arguments: print(arguments) or {"a": arguments})
    cli.main(["image", "x", "-q", "--json"])
    said = capsys.readouterr()
    assert said.err == ""
    assert json.loads(said.out)["a"] == ["image", "--quiet", "x"]  # which shows no progress


def test_a_command_without_an_answer_says_how_long_it_took(monkeypatch, capsys):
    monkeypatch.setattr(cli, "_dispatch", lambda arguments: None)
    cli.main(["toy", "--json"])
    made = json.loads(capsys.readouterr().out)
    assert made.pop("seconds") >= 0
    assert made == {"command": "toy"}


def test_an_error_is_an_object_too(monkeypatch, capsys):
    def fail(arguments):
        raise ValueError("the prompt is empty")

    monkeypatch.setattr(cli, "_dispatch", fail)
    with pytest.raises(SystemExit):
        cli.main(["image", "x", "--json"])
    said = capsys.readouterr()
    assert json.loads(said.out) == {"command": "image", "error": "the prompt is empty", "exit_code": 2}
    assert said.err == "scoredistill: the prompt is empty\n"


def test_quiet_reaches_commands_without_progress(capsys, monkeypatch):
    from scoredistill.cli import commands

    seen = []

    def scene(progress: bool = True) -> None:
        seen.append(progress)

    def prior() -> None:
        seen.append("none")

    monkeypatch.setitem(commands.COMMANDS, "scene", scene)
    monkeypatch.setitem(commands.COMMANDS, "prior", prior)
    cli.main(["scene", "--quiet"])
    cli.main(["prior", "--quiet"])
    assert seen == [False, "none"]
    assert capsys.readouterr().out == ""
