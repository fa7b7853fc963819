"""Every recipe of docs/extending.md works: applied to a copy of the package, what it adds runs and keeps the layers."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from import_graph import ImportGraph
from test_layers import misplaced, roundabout, upward

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "docs" / "extending.md").read_text()
RECIPES = dict(re.findall(r"^## (.*?)\n(.*?)(?=^## |\Z)", TEXT, re.MULTILINE | re.DOTALL))
FILE = re.compile(r"```python\n# ((?:src|tests)/\S+?)( \(append\))?\n(.*?)```", re.DOTALL)
DIFF = re.compile(r"```diff\n\+\+\+ (\S+)\n(.*?)```", re.DOTALL)
USE = re.compile(r"```python\n# use\n(.*?)```", re.DOTALL)
WEIGHTS = (".safetensors", ".json", ".txt")


def link_or_copy(source, target):
    """Copy a file; weights, which are large, are linked, and so is compiled code, which fits files of the same age."""
    if str(source).endswith((*WEIGHTS, ".pyc")):
        os.symlink(source, target)
    else:
        shutil.copy2(source, target)


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    """A copy of the package, with the tests of estimators and what they need, to which every recipe is applied."""
    ignored, root = shutil.ignore_patterns("*.pyc.*"), tmp_path_factory.mktemp("copy")  # drafts of compiled files
    shutil.copytree(ROOT / "src", root / "src", copy_function=link_or_copy, ignore=ignored)
    shutil.copytree(
        ROOT / "tests" / "estimators", root / "tests" / "estimators", copy_function=link_or_copy, ignore=ignored
    )
    for path in (*(ROOT / "tests").glob("*.py"), ROOT / "pyproject.toml"):
        shutil.copy2(path, root / path.relative_to(ROOT))
    for recipe in RECIPES.values():
        apply(recipe, root)
    return root


def apply(recipe, copy):
    """Write the files and insert the lines that a recipe shows."""
    for name, append, text in FILE.findall(recipe):
        path = copy / name
        assert path.exists() == bool(append), name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"{path.read_text()}\n\n{text}" if append else text)
    for name, lines in DIFF.findall(recipe):
        path, shown = copy / name, lines.splitlines()
        before = "".join(f"{line[1:]}\n" for line in shown if line.startswith(" "))
        after = "".join(f"{line[1:]}\n" for line in shown)
        assert path.read_text().count(before) == 1, (name, before)
        path.write_text(path.read_text().replace(before, after))


def run(command, copy):
    environment = {**os.environ, "PYTHONPATH": str(copy / "src")}
    done = subprocess.run([sys.executable, *command], cwd=copy, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"


def test_the_recipes_are_those_that_architecture_lists():
    listed = re.findall(r"docs/extending\.md#([\w-]+)", (ROOT / "ARCHITECTURE.md").read_text())
    assert [name.lower().replace(" ", "-") for name in RECIPES] == listed


def test_what_the_recipes_add_runs_and_a_new_estimator_is_held_to_its_identity(copy):
    """One process tests the estimator and runs the uses of all recipes, each in names of its own.

    Most of its time goes into imports. Shapes are checked in the uses too.
    """
    tests = ["-q", "tests/estimators/test_methods.py", "-k", "SnrSDS or every_method or exported"]
    tested = f"import pytest\nassert pytest.main({tests}) == 0\n"
    proof = "import scoredistill\nassert scoredistill.__file__.startswith(__import__('os').getcwd())\n"
    uses = {name: USE.findall(recipe) for name, recipe in RECIPES.items()}
    assert all(len(found) == 1 for found in uses.values()), uses
    used = "".join(f"print({name!r})\nexec({use!r}, {{}})\n" for name, (use,) in uses.items())
    run(["-c", tested + proof + used], copy)


def test_what_the_recipes_add_keeps_the_layers(copy):
    graph = ImportGraph(copy / "src" / "scoredistill")
    assert graph.cycles() == upward(graph) == roundabout(graph) == misplaced(graph) == []


def test_files_to_copy_exist():
    for name in re.findall(r"`((?:estimators|priors|generators|three_d|tasks|studies|cli)/[\w/.]+)`", TEXT):
        assert (ROOT / "src" / "scoredistill" / name).exists(), name
    table = (ROOT / "ARCHITECTURE.md").read_text().partition("## Where do I add")[2]
    for name in re.findall(r"`((?:estimators|priors|generators|three_d|tasks|studies|cli)/[\w/.]+)`", table):
        assert (ROOT / "src" / "scoredistill" / name).exists(), name


def test_what_the_recipes_write_passes_the_linter(copy):
    pytest.importorskip("ruff")
    run(["-m", "ruff", "check", "--no-cache", "src"], copy)
