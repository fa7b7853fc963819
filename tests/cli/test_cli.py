"""The command line as a whole."""

import runpy
import signal
import socket
import subprocess
import sys
import time
import warnings

import pytest

from scoredistill import cli
from scoredistill.cli.live_view import Watch
from scoredistill.cli.method_names import names_of
from scoredistill.tasks import METHODS
from scoredistill.tasks.image_editing.recipes import EDIT_RECIPES
from scoredistill.tasks.object_generation.recipes import OBJECT_RECIPES
from scoredistill.tasks.scene_editing.recipes import SCENE_METHODS
from scoredistill.tasks.video_editing.recipes import VIDEO_RECIPES


def test_warnings_are_one_sentence(monkeypatch, capsys):
    monkeypatch.setattr(cli, "_dispatch", lambda arguments: warnings.warn("keys have no effect: x", stacklevel=1))
    shown = warnings.showwarning
    cli.main(["image"])
    assert capsys.readouterr().err == "scoredistill: keys have no effect: x\n"
    assert warnings.showwarning is shown


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["prior", "list", "--seeds", "3"], "prior list has no --seeds: leave it out"),
        (["prior", "show", "emoji", "--sheet", "a.png", "--dtype", "float16"], "prior show has no --sheet, --dtype"),
        (["scene", "list", "--views", "3", "--seed", "1"], "scene list has no --seed, --views: leave them out"),
        (["object", "an owl", "--shape", "splats", "--encoding", "hash"], "splats have no encoding"),
        (["object", "an owl", "--port", "9000"], "a run without --view has no --port: leave it out"),
        (["image", "an owl", "--method", "ddim", "--lr", "0.1", "--follow", "2"], "ddim makes no use of lr, follow"),
        (["image", "an owl", "--method", "ddim", "--on-nan", "skip"], "ddim samples and has no steps"),
        (["image", "an owl", "--guidance", "1", "--negative-prompt", "fog"], "guidance 1 is none"),
        (["bench", "images", "--blocks", "ideal", "--seeds", "5"], "ideal has a number of images of its own"),
        (["prior", "list", "emoji-edit"], "prior list has no name"),
    ],
)
def test_options_without_effect_are_refused(arguments, says, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as end:
        cli.main(arguments)
    assert end.value.code == 2
    assert says in capsys.readouterr().err


def test_the_names_of_methods_are_those_of_the_recipes():
    assert names_of("image") == list(METHODS)
    assert set(names_of("edit")) == {*EDIT_RECIPES, *VIDEO_RECIPES, *SCENE_METHODS}
    assert names_of("object") == list(OBJECT_RECIPES)


@pytest.mark.parametrize(
    "arguments",
    [["image", "a", "--method", "sdz"], ["edit", "a.png", "b", "--method=sdz"], ["object", "a", "--method", "sdz"]],
)
def test_a_wrong_method_is_refused_before_torch_loads(arguments):
    script = (
        "import sys, time\nfrom scoredistill import cli\ntry:\n    cli.main(sys.argv[1:])\n"
        "finally:\n    print('torch' in sys.modules, time.process_time())"
    )
    ended = subprocess.run([sys.executable, "-c", script, *arguments], capture_output=True, text=True, check=False)
    loaded, seconds = ended.stdout.split()
    assert ended.returncode == 2
    assert ended.stderr.startswith("scoredistill: unknown method 'sdz': use one of ")
    assert ended.stderr.count("\n") == 1
    assert "(did you mean '" in ended.stderr
    assert loaded == "False"
    assert float(seconds) < 2  # about 0.3


@pytest.mark.parametrize(("name", "code"), [("SIGINT", 130), ("SIGTERM", 143), ("SIGHUP", 129)])
@pytest.mark.parametrize("work", ["hashlib.pbkdf2_hmac('sha256', b'x', b'y', 2**31 - 1)", "time.sleep(600)"])
def test_a_signal_ends_a_command_at_once(name, code, work):
    """In a call of a compiled library, during which Python cannot act, and in one that it can interrupt."""
    heard = "signal.signal(signal.SIGINT, signal.default_int_handler)\nsignal.signal(signal.SIGHUP, signal.SIG_DFL)\n"
    script = (  # signals that a job in the background ignores, as its parent may be, are heard
        f"import hashlib, signal, time\n{heard}from scoredistill import cli\ncli.PATIENCE = 0.1\n"
        f"cli._dispatch = lambda arguments: (print('begun', flush=True), {work})\ncli.main(['image'])\n"
    )
    child = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert child.stdout.readline() == "begun\n"
        child.send_signal(getattr(signal, name))
        start = time.monotonic()
        said = child.communicate(timeout=60)[1]
    finally:
        child.kill()
    assert time.monotonic() - start < 10  # hours without
    assert child.returncode == code
    assert said.startswith("scoredistill: interrupted")
    assert said.count("\n") == 1


def test_handlers_of_signals_are_put_back(monkeypatch):
    monkeypatch.setattr(cli, "_dispatch", lambda arguments: None)
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
    cli.main(["image"])
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)] == before
    assert signal.set_wakeup_fd(-1) == -1


def test_a_port_in_use_is_refused_before_the_work():
    pytest.importorskip("viser")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(ValueError, match="is in use by another program"), Watch(taken.getsockname()[1]):
            pytest.fail("the work began")
    with pytest.raises(ValueError, match="between 1 and 65535"), Watch(70000):
        pytest.fail("the work began")


def test_the_package_is_the_command_line(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["scoredistill", "--version"])
    runpy.run_module("scoredistill", run_name="__main__")
    assert capsys.readouterr().out.startswith("scoredistill ")


def test_options_before_an_action_that_reads_its_own_are_refused(capsys):
    with pytest.raises(SystemExit) as end:
        cli.main(["prior", "--data", "somewhere", "train"])
    assert end.value.code == 2
    assert "write the action first" in capsys.readouterr().err
