"""Commands as processes that a launcher starts: one voice, and sentences about the environment."""

import multiprocessing
import os
import socket
import sys

import pytest

import ranked
import tiny
from scoredistill import cli

pytestmark = ranked.forks


@pytest.mark.parametrize(
    ("variables", "line", "says"),
    [
        ({"WORLD_SIZE": "two"}, ["image", "a"], "the environment variable WORLD_SIZE must be a number, not 'two'"),
        ({"WORLD_SIZE": "2", "RANK": "0"}, ["image", "a"], "WORLD_SIZE is set without MASTER_ADDR, MASTER_PORT"),
        (
            {"WORLD_SIZE": "2", "RANK": "0"},
            ["bench", "images"],
            "bench does not run in several processes together, only image, object, svg, edit do",
        ),
    ],
)
def test_an_impossible_environment_is_one_sentence(variables, line, says, monkeypatch, tmp_path):
    for name in ("RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert ended([line], tmp_path) == [("", f"scoredistill: {says}", 2)]


def ended(lines, folder, **variables):
    """First lines of the output and of the errors, and the exit code, of a command on each rank."""
    context = multiprocessing.get_context("fork")
    work = [context.Process(target=_work, args=(k, line, folder, variables)) for k, line in enumerate(lines)]
    for process in work:
        process.start()
    for process in work:
        process.join()
    first = lambda path, start="": next((s for s in path.read_text().splitlines() if s.startswith(start)), "")
    said = lambda k: cut(first(folder / f"{k}.err", "scoredistill: "))  # PyTorch, too, writes of connections that end
    return [(first(folder / f"{k}.out"), said(k), process.exitcode) for k, process in enumerate(work)]


def cut(said):
    """A sentence without its advice."""
    head, colon, tail = said.partition(": ")
    return f"{head}{colon}{tail.partition(':')[0]}"


def _work(rank, line, folder, variables):
    for number, name in ((1, "out"), (2, "err")):
        os.dup2(os.open(folder / f"{rank}.{name}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    if variables:
        os.environ.update({**variables, "RANK": str(rank), "LOCAL_RANK": str(rank)})
    code = 0
    try:
        sys.stdout, sys.stderr = os.fdopen(1, "w", closefd=False), os.fdopen(2, "w", closefd=False)
        cli.main(line)
    except SystemExit as stop:
        code = stop.code or 0
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def free():
    """The environment of two ranks, with a port that is free."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = str(one.getsockname()[1])
    return {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "SCOREDISTILL_TIMEOUT": "60"}


def test_what_is_wrong_is_said_once(tmp_path):
    line = ["image", "a", "--method", "nosuch"]
    assert ended([line, line], tmp_path, **free()) == [("", "scoredistill: unknown method 'nosuch'", 2), ("", "", 2)]


@pytest.fixture(scope="module")
def command(tmp_path_factory):
    """A command with a small model."""
    model = tiny.saved(tmp_path_factory.mktemp("tiny"))
    return ["--prior", str(model), "--method", "sds", "--image", "latents", "--particles", "2", "--no-progress"]


def test_what_is_wrong_with_one_rank_is_said_by_it(command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    lines = [["image", "a", *command, "--steps", steps] for steps in ("1", "0")]
    found = ended(lines, tmp_path, **free())
    assert found[1] == ("", "scoredistill: rank 1", 2)
    assert "rank 1: steps must be a whole number of at least 1, not 0" in (tmp_path / "1.err").read_text()
    assert found[0] == (
        "",
        "scoredistill: another rank has ended, or has not answered for 60 seconds (SCOREDISTILL_TIMEOUT)",
        1,
    )
    assert not (tmp_path / "runs").exists()


def test_ranks_with_other_settings_are_refused_and_equal_ones_speak_once(command, tmp_path):
    lines = [["image", prompt, *command, "--steps", "1", "--out", str(tmp_path / "out")] for prompt in ("a", "b")]
    found = ended(lines, tmp_path, **free())
    assert found == [("", "scoredistill: rank 1 has another prompt (b) than rank 0 (a)", 2), ("", "", 2)]
    made, silent = ended([lines[0], lines[0]], tmp_path, **free())
    assert made[0].startswith("2 image(s), 4 network evaluations (NFE)")
    assert (made[2], silent) == (0, ("", "", 0))
    assert (tmp_path / "out" / "report.html").is_file()
