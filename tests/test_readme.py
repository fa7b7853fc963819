"""The examples of README and guide run, and commands and links exist."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
GUIDE = (ROOT / "docs" / "guide.md").read_text()
THREE_D = (ROOT / "docs" / "three_d.md").read_text()
EDITING = (ROOT / "docs" / "editing.md").read_text()


def run_example(text, folder):
    (example,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    run = subprocess.run([sys.executable, "-c", example], capture_output=True, text=True, cwd=folder)
    assert run.returncode == 0, run.stderr
    return example, run.stdout


def test_the_readme_example_makes_a_image(tmp_path):
    example, output = run_example(README, tmp_path)
    assert len([line for line in example.splitlines() if line.strip()]) <= 11
    assert "149: gradient" in output
    assert (tmp_path / "cactus.png").stat().st_size > 1000


def test_the_guides_own_estimator_finds_modes(tmp_path):
    _, output = run_example(GUIDE, tmp_path)
    ours, samples = (float(number) for number in re.findall(r"-?\d+\.\d+", output))
    assert ours > samples


def test_the_editing_page_edits_a_image(tmp_path):
    _, output = run_example(EDITING, tmp_path)
    assert output.startswith("(150, 90) ")
    assert int(output.split()[-1]) > 0


def test_the_page_on_three_dimensions_makes_a_red_thing(tmp_path):
    run_example(THREE_D, tmp_path)
    with Image.open(tmp_path / "apple.png") as image:
        red, green, blue = image.getpixel((32, 32))
    assert red > green + 50
    assert red > blue + 50


@pytest.mark.parametrize(
    ("text", "folder"),
    [(README, ROOT), (GUIDE, ROOT / "docs"), (EDITING, ROOT / "docs"), (THREE_D, ROOT / "docs")],
    ids=["README", "guide", "editing", "three_d"],
)
def test_links_exist(text, folder):
    for link in re.findall(r"\]\(([^)#]+)\)", text):
        assert link.startswith("https://arxiv.org/abs/") or (folder / link).exists(), link


def test_make_targets_exist():
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"^make (\w+)", README, re.MULTILINE)) <= targets
