"""Runs on disk are found and shown as what they are, and names from a browser lead nowhere else."""

import os
from dataclasses import asdict

import pytest
from PIL import Image

from scoredistill.files import write_json
from scoredistill.tasks.image_editing.request import EditRequest
from scoredistill.tasks.image_generation.request import Request
from scoredistill.tasks.lock import Lock
from scoredistill.tasks.object_generation.request import ObjectRequest
from scoredistill.ui.calls import EDIT, IMAGE, KINDS, OBJECT, Call, call_of, kind_of
from scoredistill.ui.history import Run, Stage, find, runs

IMAGE_REQUEST = Request("a hamburger", seed=3)


def made(path, request, command="scoredistill image 'a hamburger'", age=0.0, **more):
    """A run of a request."""
    path.mkdir(parents=True)
    write_json(path / "config.json", {"request": asdict(request), "version": "0", "command": command, **more})
    os.utime(path / "config.json", (1e9 - age, 1e9 - age))
    return path


def finished(path, *names):
    write_json(path / "result.json", {"rows": 48})
    for name in names:
        Image.new("RGB", (8, 8)).save(path / name)
    return path


@pytest.fixture
def root(tmp_path):
    """Runs of several kinds, and other directories."""
    root = tmp_path / "runs"
    finished(made(root / "a", IMAGE_REQUEST, age=2), "image_01.png", "image_00.png", "preview.png")
    finished(made(root / "demo" / "b", IMAGE_REQUEST, age=1), "image_00.png")
    made(root / "c", ObjectRequest("an owl", method="sds"), "python -c ...", age=3)
    (root / "other").mkdir()
    (root / "other" / "config.json").write_text('{"model": 1}')
    (root / "broken").mkdir()
    (root / "broken" / "config.json").write_text("{")
    made(tmp_path / "outside", IMAGE_REQUEST)
    (root / "link").symlink_to(tmp_path / "outside")
    return root


def test_runs_are_listed_the_last_one_first(root):
    assert [run.name for run in runs(root)] == ["demo/b", "a", "c"]
    assert [run.name for run in runs(root, 1)] == ["demo/b"]
    assert runs(root / "missing") == []


def test_a_run_says_what_it_is(root):
    run = find(root, "a")
    assert (run.title, run.method, run.says, run.stage) == ("a hamburger", "msd", "image from text", Stage.FINISHED)
    assert [path.name for path in run.images] == ["image_00.png", "image_01.png"]
    assert run.image == root / "a" / "image_00.png"
    assert find(root, "demo/b").image.name == "image_00.png"
    assert [path.name for path in run.downloads][-2:] == ["config.json", "result.json"]


def test_a_run_without_result_is_interrupted_unless_a_process_holds_it(root):
    assert find(root, "c").stage is Stage.INTERRUPTED
    lock = Lock(root / "c")
    lock.acquire()
    assert find(root, "c").stage is Stage.RUNNING
    lock.release()


@pytest.mark.parametrize("name", ["link", "../outside", "a/../a", "/etc", "", ".", None, 3, ["a"], "a\0", "other/x"])
def test_names_from_a_browser_lead_nowhere_else(root, name):
    assert find(root, name) is None


@pytest.mark.parametrize("file", ["../outside/config.json", "/etc/passwd", "..", "*.json", "a\0b"])
def test_a_file_named_by_a_config_stays_inside(root, file):
    write_json(root / "c" / "config.json", {"request": {}, "version": "0", "command": "", "file": file})
    assert find(root, "c").video is None


def test_links_in_a_run_are_not_shown(root):
    (root / "a" / "image_02.png").symlink_to(root / "a" / "image_00.png")
    assert len(find(root, "a").images) == 2


def test_an_edit_has_two_sides_and_an_object_a_model(root):
    request = EditRequest("", regions=("0-0.5: make it night", "masks/a.png: make it red"))
    edit = finished(made(root / "e", request), "source.png", "edited.png")
    assert Run(edit, "e").pair == (edit / "source.png", edit / "edited.png")
    assert Run(edit, "e").title == "make it night (in a region); make it red (in a region)"
    (root / "c" / "mesh.glb").touch()
    (root / "c" / "turntable.gif").touch()
    thing = find(root, "c")
    assert (thing.model.name, thing.video.name, thing.pair) == ("mesh.glb", "turntable.gif", None)


def test_kinds_are_told_apart_by_their_requests():
    assert [kind_of(kind.names) for kind in KINDS] == list(KINDS)
    assert kind_of({"prompt", "seed"}) is None


def test_a_run_can_be_repeated(root, tmp_path):
    assert find(root, "a").call == Call(IMAGE, asdict(IMAGE_REQUEST), root / "a")
    assert find(root, "a").call.request == IMAGE_REQUEST
    thing = ObjectRequest("an owl", method="sds", elevation=(-5.0, 25.0))
    assert call_of(made(root / "t", thing)).request == thing
    assert call_of(root / "c").kind is OBJECT
    assert call_of(root / "other") is None


def test_an_edit_is_repeated_with_the_file_that_its_command_names(root, tmp_path):
    source = tmp_path / "my valley.png"
    source.touch()
    request = EditRequest("make it night", scales=(1, 2))
    command = f"scoredistill edit --seed 3 '{source}' 'make it night'"
    assert call_of(made(root / "e", request, command)) == Call(EDIT, asdict(request), root / "e", source)
    assert call_of(made(root / "f", request, "scoredistill edit gone.png 'make it night'")) is None
    assert call_of(made(root / "g", request, "scoredistill edit 'unclosed")) is None
