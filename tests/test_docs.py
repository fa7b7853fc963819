"""The documentation is true: examples run alone and print what the page says, commands parse, names and links exist."""

import contextlib
import io
import re
import shlex
from functools import cache
from pathlib import Path

import pytest
from PIL import Image

from estimators.test_methods import BUDGETS, IDENTITIES
from scoredistill.cli import main
from scoredistill.estimators import methods

ROOT = Path(__file__).parents[1]
ESTIMATORS = sorted((ROOT / "docs" / "estimators").glob("*.md"))
INDEX = ROOT / "docs" / "estimators" / "README.md"
THREE_D = ROOT / "docs" / "three_d.md"
EXTENDING = ROOT / "docs" / "extending.md"  # see test_extending.py
OWN_METHOD = ROOT / "docs" / "own_method.md"  # see test_own_method.py
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("[!.]*/*.md"), *ROOT.glob("docs/*/**/*.md")])
TESTS = "\n".join(path.read_text() for path in (ROOT / "tests").rglob("*.py"))
BLOCK = re.compile(r"```python\n(.*?)```(?:\n\n```text\n(.*?)```)?", re.DOTALL)
FENCED = re.compile(r"```.*?```", re.DOTALL)
NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:e[-+]?\d+)?")


def title(page):
    return str(page.relative_to(ROOT))


every_page = pytest.mark.parametrize("page", PAGES, ids=title)
every_estimator_page = pytest.mark.parametrize("page", ESTIMATORS, ids=lambda page: page.stem)


def examples():
    """Code and promised output of every example but two pages', whose images have tests of their own."""
    for page in PAGES:
        if page not in (ROOT / "README.md", THREE_D, EXTENDING, OWN_METHOD):
            for n, (code, printed) in enumerate(BLOCK.findall(page.read_text())):
                yield pytest.param(code, printed, id=f"{title(page)}-{n}")


def agree(printed, written):
    """The same words and whole numbers; others differ by a twentieth, or by two of the last digit written."""
    if NUMBER.sub("#", printed) != NUMBER.sub("#", written):
        return False
    pairs = zip(NUMBER.findall(printed), NUMBER.findall(written), strict=True)
    digit = lambda text: 0.0 if "e" in text else 10.0 ** -len(text.partition(".")[2])
    near = lambda a, b: abs(float(a) - float(b)) <= max(0.05 * abs(float(b)), 2.01 * digit(b))
    return all(near(a, b) if "." in b else a == b for a, b in pairs)


def slug(heading):
    """The anchor that GitHub gives a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-")


def prose(page):
    return FENCED.sub("", page.read_text())


@pytest.mark.parametrize(("code", "written"), examples())
def test_an_example_pasted_alone_prints_what_the_page_says(code, written, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        exec(compile(code, "example", "exec"), {"__name__": "example"})
    assert not written or agree(out.getvalue(), written), f"printed:\n{out.getvalue()}\nwritten:\n{written}"


def test_the_object_of_the_page_on_three_dimensions_is_a_red_apple(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, _ = BLOCK.findall(THREE_D.read_text())[0]
    exec(compile(code, "three_d.md", "exec"), {"__name__": "example"})
    with Image.open("apple.png") as image:
        red, green, blue = image.getpixel((32, 32))
    assert red > green + 50
    assert red > blue + 50


def test_the_mesh_of_the_page_on_three_dimensions_gets_a_texture(tmp_path, monkeypatch):
    trimesh = pytest.importorskip("trimesh")
    monkeypatch.chdir(tmp_path)
    trimesh.creation.icosphere(2).export("ball.glb")
    _, (code, _) = BLOCK.findall(THREE_D.read_text())
    exec(compile(code, "three_d.md", "exec"), {"__name__": "example"})
    found = trimesh.load("basketball.glb", force="mesh")
    assert found.visual.material.baseColorTexture.size == (256, 256)


def test_a_wrong_number_or_word_is_noticed():
    assert agree("bias 0.131, 3 rows", "bias 0.132, 3 rows")
    assert agree("1.06e+03 times", "1.05e+03 times")
    for printed in ("bias 0.151, 3 rows", "bias 0.131, 4 rows", "bias -0.131, 3 rows", "error 0.131, 3 rows", "bias"):
        assert not agree(printed, "bias 0.131, 3 rows")
    assert not agree("True", "False")


def commands(text, program):
    """Command lines of a program: in shell blocks, in indented lines and in `inline code`."""
    shell = "\n".join(re.findall(r"```sh\n(.*?)```", text, re.DOTALL))
    lines = [*shell.splitlines(), *re.findall(r"^ {4}(.*)$", FENCED.sub("", text), re.MULTILINE)]
    lines += re.findall(rf"`({program} [^`]+)`", re.sub(r"\s+", " ", FENCED.sub("", text)))
    return [shlex.split(line, comments=True) for line in lines if line.startswith(f"{program} ")]


@cache
def options(command):
    """The options of a command, as its --help-all lists them."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        main([command, "--help-all"])
    return frozenset(re.findall(r"--[a-z][a-z0-9-]*", out.getvalue()))


@every_page
def test_commands_and_their_options_exist(page):
    for _, command, *words in commands(page.read_text(), "scoredistill"):
        if command.startswith("-"):
            assert command in ("--version", "--help", "--config")
        elif words[:1] != ["train"]:  # it has a parser of its own
            given = {word.partition("=")[0] for word in words if word.startswith("--")}
            assert given <= options(command) | {"--help"}, (command, given)


def test_an_option_that_does_not_exist_is_noticed():
    ((_, command, *words),) = commands(
        "```sh\nscoredistill image x --colour red  # no such option\n```", "scoredistill"
    )
    assert command == "image"
    assert "--colour" in words
    assert "--colour" not in options("image")
    assert "--seed" in options("image")


@every_page
def test_scripts_targets_and_extras_exist(page):
    text = page.read_text()
    for script in re.findall(r"python ((?:benchmarks|experiments|tools|examples)/\w+\.py)", text):
        assert (ROOT / script).exists(), script
    targets = re.findall(r"^([\w -]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    for _, target, *_ in commands(text, "make"):
        assert target in " ".join(targets).split(), target
    extras = re.search(
        r"\[project.optional-dependencies\]\n(.*?)\n\n", (ROOT / "pyproject.toml").read_text(), re.DOTALL
    )
    known = set(re.findall(r"^(\w+) =", extras[1], re.MULTILINE))
    assert {e for group in re.findall(r"scoredistill\[([\w,]+)\]", text) for e in group.split(",")} <= known


@every_page
def test_links_and_anchors_exist(page):
    for link in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if link.startswith("https://"):
            continue
        path, _, anchor = link.partition("#")
        target = page if not path else (page.parent / path).resolve()
        assert target.exists(), link
        if anchor:
            headings = re.findall(r"^#+ (.*)$", target.read_text(), re.MULTILINE)
            assert anchor in {slug(heading) for heading in headings}, link


@every_page
def test_tests_that_are_named_exist(page):
    for name in re.findall(r"`(test_\w+|TestStein)`", re.sub(r"\s+", " ", prose(page))):
        assert re.search(rf"(def|class) {name}\b", TESTS), name


@every_page
def test_no_page_names_a_machine(page):
    assert not re.search(r"(?<![\w.])/(work|home|tmp|root|Users|mnt)/", page.read_text())


@every_estimator_page
def test_an_estimator_page_has_an_example_and_names_real_identities(page):
    text = page.read_text()
    assert BLOCK.search(text)
    assert page == INDEX or 30 <= len(text.splitlines()) <= 90
    quoted = re.findall(r'"([^"`]{8,80})"', re.sub(r"\s+", " ", prose(page)))
    assert not {words for words in quoted if re.search(r" is | tends to ", words)} - set(IDENTITIES)


def test_every_method_has_a_page():
    """Whose first heading names it; the table of the index leads to every page."""
    titles = {page: page.read_text().partition("\n")[0] for page in ESTIMATORS if page != INDEX}
    for name in (*methods.__all__, "PerpNeg", "Averaged", "Decoded"):
        assert any(re.search(rf"\b{name}\b", heading.partition(":")[0]) for heading in titles.values()), name
    linked = re.findall(r"\]\((\w+\.md)\)", INDEX.read_text())
    assert {page.name for page in titles} <= set(linked)


def test_costs_in_the_index_are_the_counted_ones():
    rows = re.findall(r"^\| ([\w -]+) \| (\d+) \| (\d+) \|$", INDEX.read_text(), re.MULTILINE)
    assert rows
    for name, network_rows, calls in rows:
        assert BUDGETS[name][2] == (int(network_rows), int(calls)), name


def test_recipes_for_loops_of_ones_own_are_short():
    """At most fifteen lines besides imports; they are executed above."""
    page = (ROOT / "docs" / "own_loop.md").read_text()
    section = page.partition("## Recipes\n")[2].partition("\n## ")[0]
    recipes = dict(re.findall(r"### (.*?)\n(.*?)(?=\n### |\Z)", section, re.DOTALL))
    assert len(recipes) == 5
    for name, text in recipes.items():
        ((code, _),) = BLOCK.findall(text)
        lines = [line for line in code.splitlines() if line and not re.match(r"(from|import) ", line)]
        assert len(lines) <= 15, name
