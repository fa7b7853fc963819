"""The gallery of all runs: complete, escaped, relative, safe for files of others and with several commands at once."""

import inspect
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from scoredistill.tasks import gallery
from scoredistill.tasks.lock import Lock


def run(folder, name, image="image_00.png", size=(64, 32), finished=True, **request):
    path = folder / name
    path.mkdir(parents=True)
    config = {"request": {"method": "msd", "seed": 3, **request}, "version": "1", "command": "scoredistill image"}
    (path / "config.json").write_text(json.dumps(config))
    Image.new("RGB", size, "red").save(path / image)
    if finished:
        (path / "report.html").write_text("")
        (path / "result.json").write_text('{"clip_sim": [50.0, 70.0]}')
    return path


def test_every_run_is_listed_with_its_image_and_a_relative_link(tmp_path):
    runs = tmp_path / "runs"
    run(runs, "an_owl-msd", prompt="an owl")
    run(runs, "photo_night", image="edited.png", size=(640, 320), instruction="make it night")
    run(runs, "begun", image="preview.png", finished=False, prompt="a cat")
    (runs / "notes").mkdir()
    page = gallery.update(runs)
    text = page.read_text()
    assert page == runs / "index.html"
    assert 'href="an_owl-msd/report.html"' in text
    assert "msd, seed 3, CLIP 60" in text
    assert "unfinished" in text
    assert "notes" not in text
    assert {*re.findall(r'src="([^"]+)"', text)} == {
        f".gallery/{n}.jpg" for n in ("an_owl-msd", "photo_night", "begun")
    }
    for thumbnail in (runs / ".gallery").glob("*.jpg"):
        with Image.open(thumbnail) as shown:
            assert max(shown.size) == gallery.SIDE
        assert thumbnail.stat().st_size < 20_000
    assert not list(runs.glob("**/.lock"))


def test_text_and_names_of_others_are_escaped(tmp_path):
    runs = tmp_path / "runs"
    run(runs, 'a "b" <i>#%', prompt='<script>alert("x")</script>')
    text = gallery.update(runs).read_text()
    assert "<script>alert" not in text
    assert "&lt;script&gt;alert" in text
    assert 'href="a%20%22b%22%20%3Ci%3E%23%25/report.html"' in text


def test_the_newest_run_comes_first(tmp_path):
    runs = tmp_path / "runs"
    for age, name in enumerate(("b", "c", "a")):
        os.utime(run(runs, name, prompt=name) / "config.json", (1e9 - age, 1e9 - age))
    assert re.findall(r'href="(\w)/', gallery.update(runs).read_text()) == ["b", "c", "a"]


def test_pages_and_directories_of_others_are_left_alone(tmp_path):
    for folder in (tmp_path / "photos", tmp_path / "runs"):
        run(folder, "an_owl", prompt="an owl")
    assert gallery.update(tmp_path / "photos") is None
    assert {path.name for path in (tmp_path / "photos").iterdir()} == {"an_owl"}
    for content in ("", "<html>my own page</html>", "binary \udcff".encode("utf-8", "surrogateescape")):
        own = tmp_path / "runs" / "index.html"
        own.write_bytes(content if isinstance(content, bytes) else content.encode())
        before = own.read_bytes()
        assert gallery.update(tmp_path / "runs") is None
        assert own.read_bytes() == before
    own.unlink()
    own.symlink_to(tmp_path / "elsewhere.html")
    assert gallery.update(tmp_path / "runs") is None
    assert not (tmp_path / "elsewhere.html").exists()


def test_a_gallery_elsewhere_is_kept_up_to_date(tmp_path):
    (tmp_path / "runs").mkdir()
    gallery.update(tmp_path / "runs")
    moved = (tmp_path / "runs").rename(tmp_path / "kept")
    run(moved, "an_owl", prompt="an owl")
    assert "an_owl/report.html" in gallery.update(moved).read_text()


def test_thumbnails_are_made_once(tmp_path):
    made = run(tmp_path / "runs", "an_owl", prompt="an owl")
    gallery.update(tmp_path / "runs")
    thumbnail = tmp_path / "runs" / ".gallery" / "an_owl.jpg"
    thumbnail.write_bytes(b"kept")
    gallery.update(tmp_path / "runs")
    assert thumbnail.read_bytes() == b"kept"
    Image.new("RGB", (8, 8), "blue").save(made / "image_00.png")
    os.utime(made / "image_00.png", (2e9, 2e9))
    gallery.update(tmp_path / "runs")
    assert thumbnail.read_bytes() != b"kept"


def test_an_image_that_cannot_be_read_is_left_out(tmp_path):
    (run(tmp_path / "runs", "an_owl", prompt="an owl") / "image_00.png").write_bytes(b"no image")
    assert "<img" not in gallery.update(tmp_path / "runs").read_text()


def test_a_busy_gallery_is_waited_for_and_then_left(tmp_path, monkeypatch):
    """The other command lists what lies there."""
    runs = tmp_path / "runs"
    gallery.update(run(runs, "an_owl", prompt="an owl").parent)
    run(runs, "a_cat", prompt="a cat")
    script = (
        "import pathlib, runpy, sys\nLock = runpy.run_path(sys.argv[2])['Lock']\n"
        "lock = Lock(pathlib.Path(sys.argv[1]))\nlock.acquire()\nprint('held', flush=True)\nsys.stdin.readline()\n"
    )
    command = [sys.executable, "-c", script, str(runs / ".gallery"), inspect.getfile(Lock)]  # alone, without PyTorch
    child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert child.stdout.readline() == "held\n"
        monkeypatch.setattr(gallery, "WAIT", 0.0)
        assert gallery.update(runs) == runs / "index.html"
        assert "a_cat" not in (runs / "index.html").read_text()
    finally:
        child.communicate("end\n")
    gallery.update(runs)
    assert "a_cat" in (runs / "index.html").read_text()
    assert Lock(runs / ".gallery").file.exists() is False


@pytest.mark.parametrize(
    ("summary", "value"),
    [({}, None), ({"clip_sim": []}, None), ({"clip_sim": [1.0, 2.0]}, 1.5), ({"clip_sim": 3.0}, 3.0)],
)
def test_scores(summary, value):
    assert gallery.score(summary) == value


def test_results_stand_for_a_run_before_previews(tmp_path):
    for name in ("preview.png", "image_00.png"):
        Path(tmp_path / name).touch()
    assert gallery.image_of(tmp_path).name == "image_00.png"
