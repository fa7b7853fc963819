"""The command and the Python that the app shows ask for exactly what the form asks for."""

import contextlib
import shlex
from pathlib import Path

import pytest

from scoredistill import tasks
from scoredistill.cli import commands
from scoredistill.cli import edit as edit_command
from scoredistill.ui.calls import EDIT, IMAGE, KINDS, OBJECT, SVG, VIDEO, Call

OUT = Path("runs/some run")
IMAGES = [
    {"prompt": "a hamburger"},
    {
        "prompt": "an 'owl' & $HOME \"x\"\n\\",
        "method": "sds",
        "steps": 3,
        "guidance": 7.5,
        "seed": 2**61,
        "particles": 4,
    },
    {"prompt": "-5 degrees", "negative_prompt": "--resume", "lr": 1e-05, "through": "decoder", "follow": 2},
    {"prompt": "a cactus", "method": "msd", "image": "latents", "prior": "some/model", "steps": None},
]
EDITS = [
    {"instruction": "make it night"},
    {"instruction": "", "regions": ("0-0.5: make it night", "m a.png: make it 'snowy'"), "wrap": True},
    {"instruction": "--wrap", "scales": (1, 2), "feather": 0.0, "sweeps": 3, "seed": 7, "negative_prompt": "x"},
]
VIDEOS = [{"instruction": "make it night", "group": 8, "overlap": 2, "flow": 1, "method": "csd_affine"}]
OBJECTS = [
    {"prompt": "a hamburger", "elevation": (-5.0, 25.0), "view_prompts": True, "perp_neg": True},
    {"prompt": "a hamburger", "view_prompts": False, "shape": "splats", "sparsity": 0.1, "background": "random"},
]
ICONS = [
    {"prompts": ("a rocket",), "style": "line", "paths": 16},
    {"prompts": ("a rocket", "-5 degrees", "an owl"), "together": False, "init": "noise", "lr": 0.01},
]
CALLS = [
    *(Call(IMAGE, each, OUT) for each in IMAGES),
    *(Call(EDIT, each, OUT, Path("valley.png")) for each in EDITS),
    *(Call(VIDEO, each, OUT, Path("-bikes.mp4")) for each in VIDEOS),
    *(Call(OBJECT, each, OUT) for each in OBJECTS),
    *(Call(SVG, each, OUT) for each in ICONS),
    Call(IMAGE, IMAGES[0], OUT, resume=True),
]
every_call = pytest.mark.parametrize("call", CALLS, ids=lambda call: f"{call.kind.function}-{call.text[:9]}")


class Reached(Exception):
    """Stands for the run."""


@pytest.fixture
def asked(monkeypatch):
    """A function that gives the name and the arguments with which a block calls a task."""
    seen = []

    def stand_in(name):
        def call(*args, **kwargs):
            kind = next(kind for kind in KINDS if kind.function == name)
            first = [*(["source"] if kind.source else []), kind.text]
            seen.append((name, {**dict(zip(first, args, strict=False)), **kwargs}))
            raise Reached

        return call

    for kind in KINDS:
        monkeypatch.setattr(tasks, kind.function, stand_in(kind.function))

    def during(block):
        with contextlib.suppress(Reached):
            block()
        return seen.pop()

    return during


def request_of(kind, arguments):
    """The request of a function's arguments, as the task makes it."""
    known = {name: value for name, value in arguments.items() if name in kind.names}
    return kind.request(**known)


@pytest.fixture(autouse=True)
def sources(tmp_path, monkeypatch):
    """Files with the names of the sources."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(edit_command, "is_video", lambda path: path.suffix == ".mp4")
    for name in ("valley.png", "-bikes.mp4", "m a.png"):
        (tmp_path / name).write_bytes(b"")


@every_call
def test_the_command_asks_for_the_same(call, asked):
    words = shlex.split(call.command())
    assert words[0] == "scoredistill"
    name, arguments = asked(lambda: commands.dispatch(words[1:]))
    assert name == call.kind.function
    assert request_of(call.kind, arguments) == call.request
    assert (arguments["out"], arguments["resume"], arguments["overwrite"]) == (OUT, call.resume, False)
    assert arguments.get("source") == call.source


@every_call
def test_the_python_asks_for_the_same(call, asked):
    name, arguments = asked(lambda: exec(call.python(), {}))
    assert name == call.kind.function
    assert request_of(call.kind, arguments) == call.request
    assert (arguments["out"], arguments.get("resume", False)) == (str(OUT), call.resume)
    assert arguments.get("source") == (None if call.source is None else str(call.source))
