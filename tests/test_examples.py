"""The scripts of examples/ run, in a reduced form, write what they say, and are as short as promised."""

import runpy
import sys
from pathlib import Path

import pytest
from PIL import Image

EXAMPLES = Path(__file__).parents[1] / "examples"
REDUCED = {  # argument, file written, its size, printed
    "1_text_to_image": ("3", "cactus.png", (64, 64), "48 network evaluations"),
    "2_compare_methods": ("0.01", "methods.png", (266, 84), "msd: CLIP score"),
    "3_custom_estimator": ("2", "hamburgers.png", (266, 68), "mean gradient at (3, 3): [0.5, 0.5]"),
    "4_edit_panorama": ("1", "panorama.png", (516, 440), "512 x 128 pixels"),
    "5_text_to_3d": ("1", "apple.gif", (256, 256), "CLIP score from 12 sides"),
}


def test_every_example_is_tested_and_listed():
    scripts = {path.stem for path in EXAMPLES.glob("*.py")}
    assert scripts == set(REDUCED)
    assert all(f"examples/{name}.py" in (EXAMPLES / "README.md").read_text() for name in scripts)


@pytest.mark.parametrize("name", REDUCED)
def test_an_example_runs(name, tmp_path, monkeypatch, capsys):
    argument, file, size, printed = REDUCED[name]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [f"{name}.py", argument])
    runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name="__main__")
    assert printed in capsys.readouterr().out
    with Image.open(file) as image:
        assert image.size == size
    assert [path.name for path in tmp_path.iterdir()] == [file]


@pytest.mark.parametrize("name", REDUCED)
def test_an_example_is_a_screen_long(name):
    text = (EXAMPLES / f"{name}.py").read_text()
    assert len(text.splitlines()) <= 80
    assert max(map(len, text.splitlines())) <= 120
    assert '"""' in text
