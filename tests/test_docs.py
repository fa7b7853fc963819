"""The pages of estimators and of errors in print: their examples run and print what they say, names and links exist."""

import contextlib
import io
import re
import time
from pathlib import Path

import pytest

from estimators.test_methods import BUDGETS, IDENTITIES
from scoredistill.estimators import methods as named

ROOT = Path(__file__).parents[1]
PAGES = [
    *sorted((ROOT / "docs" / "estimators").glob("*.md")),
    ROOT / "docs" / "errors_in_print.md",
    ROOT / "docs" / "priors.md",
]
BY_NAME = {path.stem: path for path in PAGES}
TESTS = "\n".join(path.read_text() for path in (ROOT / "tests").glob("*.py"))
BLOCK = re.compile(r"```python\n(.*?)```(?:\n\n```text\n(.*?)```)?", re.DOTALL)
NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:e[-+]?\d+)?")
SECONDS = 2.0  # of processor time for a page; all of them take about five
LOADING = 20.0  # for the page that loads pipelines, and diffusers with them

every_page = pytest.mark.parametrize("page", PAGES, ids=lambda path: path.stem)


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
    return re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)


@every_page
def test_examples_print_what_the_page_says(page):
    blocks, names, start = BLOCK.findall(page.read_text()), {"__name__": page.stem}, time.process_time()
    assert blocks
    for code, written in blocks:
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            exec(compile(code, str(page), "exec"), names)
        assert agree(out.getvalue(), written), f"printed:\n{out.getvalue()}\nwritten:\n{written}"
    assert time.process_time() - start < (LOADING if page.stem == "priors" else SECONDS)


def test_a_wrong_number_or_word_is_noticed():
    assert agree("bias 0.131, 3 rows", "bias 0.132, 3 rows")
    assert agree("1.06e+03 times", "1.05e+03 times")
    for printed in ("bias 0.151, 3 rows", "bias 0.131, 4 rows", "bias -0.131, 3 rows", "error 0.131, 3 rows", "bias"):
        assert not agree(printed, "bias 0.131, 3 rows")
    assert not agree("True", "False")


def test_every_method_has_a_page():
    """A link in the table of the index, and its name on the page it leads to."""
    index = BY_NAME["README"].read_text()
    for name in (*named.__all__, "PerpNeg", "Averaged", "Decoded"):
        links = re.findall(rf"\[[^\]]*`{name}`[^\]]*\]\((\w+)\.md\)", index)
        assert links, name
        assert re.search(rf"\b{name}\b", BY_NAME[links[0]].read_text()), name


def test_costs_in_the_index_are_the_counted_ones():
    rows = re.findall(r"^\| ([\w -]+) \| (\d+) \| (\d+) \|$", BY_NAME["README"].read_text(), re.MULTILINE)
    assert rows
    for name, network_rows, calls in rows:
        assert BUDGETS[name][2] == (int(network_rows), int(calls)), name


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
def test_tests_and_identities_that_are_named_exist(page):
    text = re.sub(r"\s+", " ", prose(page))
    for name in re.findall(r"`(test_\w+|TestStein)`", text):
        assert re.search(rf"(def|class) {name}\b", TESTS), name
    quoted = {words for words in re.findall(r'"([^"`]{8,80})"', text) if re.search(r" is | tends to ", words)}
    assert not quoted - set(IDENTITIES)


@every_page
def test_pages_keep_house(page):
    text = page.read_text()
    assert not re.search(r"(?<![\w.])/(work|home|tmp|root|Users|mnt)/", text)
    assert "\N{EM DASH}" not in text
    lines = len(text.splitlines())
    assert page.stem in ("README", "errors_in_print", "priors") or 30 <= lines <= 65, lines
