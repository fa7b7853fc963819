"""What the page says of runs: states, causes, costs, and nothing that text of users could break."""

import re
import time
from dataclasses import asdict, replace

import pytest
from PIL import Image

from scoredistill.files import write_json
from scoredistill.tasks.image_editing.request import EditRequest
from scoredistill.tasks.image_generation.request import Request
from scoredistill.tasks.object_generation.request import ObjectRequest
from scoredistill.ui.calls import EDIT, IMAGE, OBJECT
from scoredistill.ui.jobs import ENDED, State
from scoredistill.ui.view import EMPTY, View, changes, view

LONGEST = 20.0  # seconds that a test waits
EVIL = "<img src=x onerror=alert(1)> \"' ${1}"


def until(condition):
    end = time.monotonic() + LONGEST
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def ended(desk, name):
    until(lambda: desk.job(name).state in ENDED)
    return desk.job(name).state


def finished(path, request, result, *names, size=(8, 8), **config):
    """A finished run on disk."""
    path.mkdir(parents=True)
    config = {"request": asdict(request), "version": "0", "command": "scoredistill image x", **config}
    write_json(path / "config.json", config)
    write_json(path / "result.json", result)
    for name in names:
        Image.new("RGB", size).save(path / name)
    return path.name


def words(html):
    return " ".join(re.sub(r"<[^>]*>", " ", html).split())


def test_nothing_is_chosen_at_first(desk):
    assert view(desk, []) == view(desk, ["../x", "missing"]) == View(stage=EMPTY)
    assert desk.newest() == []


def test_a_run_is_submitted_stopped_and_continued(desk):
    name = desk.submit(IMAGE, {"prompt": "wait", "method": "msd"}, suffix="-msd")
    assert name == "wait-msd"
    assert desk.newest() == [name]
    begun = desk.root / name / "begun"
    until(begun.exists)
    shown = view(desk, [name])
    assert (shown.stops, shown.resumes, shown.live) == (True, False, True)
    assert "running" in words(shown.headline)
    assert "msd: 1 of 4, about" in words(shown.progress)
    assert "aria-valuenow='25'" in shown.progress
    assert shown.command == f"scoredistill image wait --out {desk.root / name}"
    second = desk.submit(IMAGE, {"prompt": "wait", "method": "msd"}, suffix="-msd")
    assert second == "wait-msd-2"
    assert "waiting for 1 other run." in view(desk, [second]).progress
    desk.stop([second, name])
    shown = view(desk, [name])
    assert (shown.stops, shown.resumes, shown.live, shown.progress) == (False, True, False, "")
    assert "stopped" in words(shown.headline)
    until(lambda: not (desk.root / second).exists())  # nothing was written there
    begun.unlink()
    write_json(desk.root / name / "config.json", {"request": {}, "version": "0", "command": "x"})
    assert desk.resume(name) == name
    until(begun.exists)
    assert (desk.root / name / "arguments").read_text().endswith("--resume")
    with pytest.raises(ValueError, match="cannot be continued here"):
        desk.resume(name)


def test_a_failure_says_why_and_a_warning_is_a_note(desk):
    name = desk.submit(IMAGE, {"prompt": "fail"})
    assert ended(desk, name) is State.FAILED
    shown = view(desk, [name])
    assert "<p class='sd-note'>Emoji was not trained on it.</p>" in shown.headline
    assert "<p class='sd-error'>The disk is full: free some.</p>" in shown.headline
    assert not shown.resumes


def test_a_death_without_words_is_said(desk):
    name = desk.submit(IMAGE, {"prompt": "die"})
    assert ended(desk, name) is State.FAILED
    assert "ended without a word" in view(desk, [name]).headline


@pytest.mark.parametrize(
    ("kind", "values", "says"),
    [
        (IMAGE, {"prompt": " "}, "the prompt is empty"),
        (IMAGE, {"prompt": "x", "steps": 0}, "steps must be a whole number of at least 1, not 0"),
        (IMAGE, {"prompt": "x", "method": "sdz"}, "sdz"),
        (OBJECT, {"prompt": "x", "shape": "splats", "encoding": "hash"}, "splats have no encoding"),
        (EDIT, {"instruction": ""}, "the instruction is empty"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_written(desk, kind, values, says):
    with pytest.raises(ValueError, match=says):
        desk.submit(kind, values)
    assert not list(desk.root.iterdir())


def test_a_finished_run_shows_images_costs_and_downloads(desk):
    result = {"rows": 48, "seconds": 75.2, "clip_sim": [70.0, 74.0], "verdict": "CLIP similarity 72"}
    name = finished(desk.root / "a", Request("a hamburger", seed=3), result, "image_00.png", "image_01.png")
    shown = view(desk, [name])
    said = words(shown.headline)
    assert said == (
        "a hamburger finished image from text · msd · 48 network evaluations · 1 min 15 s · CLIP similarity 72 "
        "CLIP similarity 72."
    )
    assert shown.stage.count("<img ") == 2
    assert "alt='a hamburger (2 of 2)'" in shown.stage
    assert all(file in shown.downloads for file in ("image_00.png", "image_01.png", "config.json"))
    assert (shown.command, shown.live, shown.resumes) == ("scoredistill image x", False, False)
    assert "tasks.text_to_image('a hamburger', seed=3, out='runs/a')" in shown.python


def test_an_edit_shows_both_sides(desk):
    name = finished(desk.root / "e", EditRequest("make it night"), {"rows": 1}, "source.png", "edited.png")
    shown = view(desk, [name])
    assert [path.rpartition("/")[2].partition("-")[0] for path in shown.pair] == ["source", "edited"]
    assert "<img" not in shown.stage


def test_an_object_shows_its_model(desk):
    name = finished(desk.root / "o", ObjectRequest("an owl"), {"rows": 1}, "turntable.gif", "video.gif")
    (desk.root / "o" / "mesh.glb").touch()
    shown = view(desk, [name])
    assert shown.model == str((desk.root / "o" / "mesh.glb").absolute())
    assert "turntable.gif" in shown.stage
    assert "The optimization" in shown.stage


def test_several_runs_are_shown_side_by_side(desk):
    names = [
        finished(desk.root / method, Request("an owl", method), {"rows": 48}, "image_00.png", command=f"c {method}")
        for method in ("msd", "sds")
    ]
    shown = view(desk, names)
    assert words(shown.headline) == "an owl finished 2 of 2 runs are finished"
    assert "alt='an owl by sds'" in shown.stage
    assert shown.command == "c msd\nc sds"


def test_text_of_users_stays_text(desk):
    request = replace(Request(EVIL), method=EVIL)
    finished(desk.root / "x", request, {"rows": 1, "verdict": EVIL}, "image_00.png", command=EVIL)
    (desk.root / "x" / "<b>'.png").write_bytes(b"")
    for shown in (view(desk, ["x"]), view(desk, ["x", "x"])):
        for html in (shown.headline, shown.stage, shown.downloads):
            assert "<img src=x" not in html
            assert "<b>'" not in html
            assert not re.search(r"alt='[^']*\"' ", html)


def test_runs_of_others_are_not_continued_if_they_would_run_code(desk):
    path = desk.root / "r"
    finished(path, Request("an owl"), {})
    (path / "result.json").unlink()
    assert view(desk, ["r"]).resumes
    for changed in ({"method": "evil.py:X"}, {"prior": "some/model"}):
        write_json(path / "config.json", {"request": {**asdict(Request("an owl")), **changed}, "version": "0",
                                          "command": "x"})  # fmt: skip
        assert not view(desk, ["r"]).resumes
        with pytest.raises(ValueError, match="in a terminal"):
            desk.resume("r")
    assert view(replace(desk, models=("some/model",)), ["r"]).resumes


def test_changes_are_what_is_new_or_different():
    assert changes({"a": 1, "b": 2}, {"a": 1, "b": 3, "c": None}) == {"b": 3, "c": None}
