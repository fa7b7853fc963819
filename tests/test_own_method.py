"""docs/own_method.md, as a reader follows it: the file is saved, the examples run beside it, the commands take it."""

import re
import sys
from pathlib import Path

import pytest

import test_docs
from scoredistill import cli
from scoredistill.recipe import OwnMethod, named
from scoredistill.studies.toy2d import jobs

PAGE = Path(__file__).parents[1] / "docs" / "own_method.md"
FIRST, *EXAMPLES = test_docs.BLOCK.findall(PAGE.read_text())


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A directory with the file of the page, in which commands and examples run."""
    (tmp_path / "my_method.py").write_text(FIRST[0])
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "my_method", raising=False)
    yield tmp_path
    sys.modules.pop("my_method", None)


@pytest.mark.parametrize(("code", "written"), EXAMPLES)
def test_an_example_beside_the_file_prints_what_the_page_says(code, written, place, capsys):
    exec(compile(code, "example", "exec"), {"__name__": "example"})
    printed = capsys.readouterr().out
    assert not written or test_docs.agree(printed, written), printed


def test_the_commands_of_the_page_name_methods_of_the_file(place):
    lines = test_docs.commands(PAGE.read_text(), "scoredistill")
    given = {word for line in lines for word in line if word.startswith("my_method.py:")}
    assert given == {"my_method.py:Antithetic", "my_method.py:FALLING"}
    assert [named(each) for each in sorted(given)] == ["Antithetic", "falling"]
    assert all(isinstance(named(each), OwnMethod) for each in given)


def test_the_command_on_a_known_distribution_makes_the_table(place, monkeypatch):
    monkeypatch.setattr(jobs, "QUICK", jobs.Scale(particles=64, draws=4, points=9, side=16, rows=24, image=96))
    monkeypatch.setattr(jobs, "TRUTH", 256)
    (line,) = [each for each in test_docs.commands(PAGE.read_text(), "scoredistill") if each[1] == "toy"]
    cli.main([*line[1:], "--workers", "1"])
    table = (place / "runs" / "toy" / "tables.md").read_text()
    nll = dict(re.findall(r"^\| (sds|annealed_sds|Antithetic|falling) \| (-?[\d.]+) \|", table, re.MULTILINE))
    assert float(nll["Antithetic"]) < float(nll["sds"])
