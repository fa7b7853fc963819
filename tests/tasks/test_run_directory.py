"""Output directories: no run replaces or disturbs another, nothing else is touched, and the right one is resumed."""

import errno
import inspect
import json
import os
import shutil
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors import SafetensorError

from scoredistill import checkpoint
from scoredistill.checkpoint import load_state, save_state
from scoredistill.files import write_json
from scoredistill.reports.page import Page
from scoredistill.tasks.lock import Busy, Lock
from scoredistill.tasks.output_paths import default_out, reserved
from scoredistill.tasks.request import RunOptions
from scoredistill.tasks.run_config import differences
from scoredistill.tasks.step_directory import StepDirectory


def test_a_run_without_out_never_replaces_another(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = []
    for _ in range(3):
        out = default_out("An owl!", "image", "-csd")
        out.mkdir(parents=True)
        names.append(out.as_posix())
    assert names == ["runs/an_owl-csd", "runs/an_owl-csd-2", "runs/an_owl-csd-3"]
    assert default_out("An owl", "image", "-sds") == Path("runs/an_owl-sds")
    assert default_out("!", "image") == Path("runs/image")
    Path("runs/image").symlink_to(tmp_path / "a disk that is not mounted")
    assert default_out("!", "image") == Path("runs/image-2")


def test_the_last_unfinished_run_is_resumed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert default_out("owl", "image", resume=True) == Path("runs/owl")  # refused later: there is nothing to resume
    for name, finished in (("owl", False), ("owl-2", False), ("owl-3", True)):
        (tmp_path / "runs" / name).mkdir(parents=True)
        if finished:
            (tmp_path / "runs" / name / "result.json").touch()
    assert default_out("owl", "image", resume=True) == Path("runs/owl-2")
    assert default_out("owl", "image") == Path("runs/owl-4")
    for name in ("owl", "owl-2"):
        (tmp_path / "runs" / name / "result.json").touch()
    assert default_out("owl", "image", resume=True) == Path("runs/owl-3")


# What is in a directory is kept


@dataclass(frozen=True)
class Asked:
    """What a run is asked for."""

    prompt: str = "an owl"
    steps: int | None = None


class Directory(StepDirectory[None]):
    """An output directory of nothing."""

    leftovers = ("image.png", "checkpoint.safetensors", "result.json", ".frames/[0-9]*.png")

    def finish(self, result):
        write_json(self.path / "result.json", {})
        self._clear()


def finished(path, asked=None, **facts):
    directory = Directory(path, asked or Asked())
    directory.open(asked or Asked(), **facts)
    (path / "image.png").write_text("finished")
    directory.finish(None)
    directory.release()


def interrupted(path, asked=None, **facts):
    directory = Directory(path, asked or Asked())
    directory.open(asked or Asked(), **facts)
    save_state({"next": 0}, path / "checkpoint.safetensors")
    directory.release()


def test_a_finished_or_resumable_run_is_replaced_only_if_asked(tmp_path):
    finished(tmp_path / "done")
    interrupted(tmp_path / "begun")
    for name, says in (("done", "finished run: add --overwrite"), ("begun", "interrupted run: add --resume")):
        before = contents(tmp_path / name)
        with pytest.raises(ValueError, match=says):
            Directory(tmp_path / name, Asked())
        assert contents(tmp_path / name) == before
        directory = Directory(tmp_path / name, Asked("a cat"), overwrite=True)
        directory.open(Asked("a cat"))
        directory.release()
        assert set(contents(tmp_path / name)) == {"config.json", "metrics.jsonl"}
    with pytest.raises(ValueError, match="either resumed or overwritten"):
        Directory(tmp_path / "done", Asked(), resume=True, overwrite=True)


def test_two_runs_of_one_directory_never_mix(tmp_path):
    """The second process is refused, at its start and if it looked before the first began; both name the first."""
    late = Directory(tmp_path / "run", Asked())
    first = Directory(tmp_path / "run", Asked())
    first.open(Asked())
    says = rf"in use by process {os.getpid()} on {socket.gethostname()} \(.*\): wait until it has ended"
    for resume in (False, True):
        with pytest.raises(Busy, match=says):
            Directory(tmp_path / "run", Asked(), resume=resume)
    with pytest.raises(Busy, match=says):
        late.open(Asked())
    (tmp_path / "run" / "image.png").write_text("finished")
    first.finish(None)
    first.release()
    with pytest.raises(ValueError, match="holds a finished run"):
        late.open(Asked())
    assert (tmp_path / "run" / "image.png").is_file()
    assert not (tmp_path / "run" / ".lock").exists()


def test_the_lock_of_a_killed_process_stops_nobody(tmp_path):
    """The child holds the lock until it is killed; its file stays and names it."""
    script = (
        "import pathlib, runpy, sys, time\nLock = runpy.run_path(sys.argv[2])['Lock']\n"
        "lock = Lock(pathlib.Path(sys.argv[1]), 'first')\nlock.acquire()\nprint('held', flush=True)\ntime.sleep(600)\n"
    )
    command = [sys.executable, "-c", script, str(tmp_path), inspect.getfile(Lock)]  # alone, without PyTorch
    child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert child.stdout.readline() == "held\n"
        with pytest.raises(Busy, match=rf"in use by process {child.pid} .*\(first\)"):
            Lock(tmp_path).acquire()
    finally:
        child.kill()
        child.communicate()
    assert json.loads((tmp_path / ".lock").read_text())["process"] == child.pid
    assert set(contents(tmp_path)) == {".lock"}
    Directory(tmp_path, Asked())  # vacant
    lock = Lock(tmp_path)
    lock.acquire()
    lock.release()
    assert not (tmp_path / ".lock").exists()


def test_the_lock_of_another_host_is_believed(tmp_path):
    owner = {"process": 7, "host": "elsewhere", "system": "another", "command": "scoredistill image"}
    (tmp_path / ".lock").write_text(json.dumps(owner))
    with pytest.raises(Busy, match=r"process 7 on elsewhere \(scoredistill image\), or was .* delete .*\.lock"):
        Lock(tmp_path).acquire()


def test_links_are_not_followed(tmp_path):
    """Neither those that stand where a run writes, nor those among an earlier run's files."""
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "000000.png").write_text("mine")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / ".frames").symlink_to(tmp_path / "outside")
    (tmp_path / "run" / "config.json").write_text(json.dumps({"request": {}, "version": "", "command": ""}))
    with pytest.raises(ValueError, match="is a symbolic link"):
        Directory(tmp_path / "run", Asked(), overwrite=True)
    (tmp_path / "run" / ".frames").unlink()
    (tmp_path / "run" / "image.png").symlink_to(tmp_path / "outside" / "000000.png")
    (tmp_path / "run" / ".draft-1-x").symlink_to(tmp_path / "outside")
    directory = Directory(tmp_path / "run", Asked(), overwrite=True)
    directory.open(Asked())
    directory.finish(None)
    directory.release()
    assert (tmp_path / "outside" / "000000.png").read_text() == "mine"
    assert set(contents(tmp_path / "run")) == {"config.json", "metrics.jsonl", "result.json"}


def test_a_full_disk_keeps_what_there_is(tmp_path, monkeypatch):
    """A new run that cannot write its settings removes nothing; one that cannot write a checkpoint keeps the last."""
    finished(tmp_path)
    before = contents(tmp_path)

    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        directory = Directory(tmp_path, Asked(), overwrite=True)
        with pytest.raises(ValueError, match=r"cannot write to .*: No space left on device; free some space"):
            directory.open(Asked())
        directory.release()
        assert contents(tmp_path) == before
    save_state({"next": 1}, tmp_path / "checkpoint.safetensors")
    monkeypatch.setattr(checkpoint, "save_file", lambda *_, **__: (_ for _ in ()).throw(SafetensorError("disk full")))
    with pytest.raises(OSError, match=r"cannot write .*checkpoint.safetensors: disk full"):
        save_state({"next": 2}, tmp_path / "checkpoint.safetensors")
    assert load_state(tmp_path / "checkpoint.safetensors") == {"next": 1}


class Full:
    """A file on a full disk, which fails when it is flushed, and again when it is closed."""

    def __init__(self, file):
        self.file = file

    def __getattr__(self, name):
        return getattr(self.file, name)

    def flush(self):
        raise OSError(errno.ENOSPC, "No space left on device")

    def close(self):
        self.file.close()
        self.flush()


def test_a_full_disk_leaves_no_lock(tmp_path, monkeypatch):
    opened = Lock._opened
    with monkeypatch.context() as patch:
        patch.setattr(Lock, "_opened", lambda self, mode: Full(opened(self, mode)))
        with pytest.raises(ValueError, match="No space left on device; free some space, or give another directory"):
            Directory(tmp_path / "run", Asked()).open(Asked())
        assert not contents(tmp_path / "run")
    interrupted(tmp_path / "run")


def test_a_run_begun_anew_by_resume_keeps_its_command(tmp_path, monkeypatch):
    """A command with --resume begins no run where nothing is: config.json and the report name the first command."""
    monkeypatch.setattr("sys.argv", ["scoredistill", "image", "an owl"])
    interrupted(tmp_path)
    (tmp_path / "checkpoint.safetensors").unlink()
    monkeypatch.setattr("sys.argv", ["scoredistill", "image", "an owl", "--resume"])
    directory = Directory(tmp_path, Asked(), resume=True)
    directory.open(Asked())
    assert directory.command == "scoredistill image 'an owl'"
    directory.release()


@pytest.mark.parametrize("damaged", [b"", b"{", b"\0\xff", b"7", b'{"request": 7, "version": "", "command": ""}'])
def test_damaged_settings_are_named_at_resume(tmp_path, damaged):
    interrupted(tmp_path)
    (tmp_path / "config.json").write_bytes(damaged)
    before = contents(tmp_path)
    with pytest.raises(ValueError, match=r"config.json is damaged, or .* another directory for --out"):
        Directory(tmp_path, Asked(), resume=True)
    assert contents(tmp_path) == before


def test_resuming_does_not_write_the_settings_again(tmp_path):
    """So that no kill can damage them; and a run killed before its report is written resumes."""
    interrupted(tmp_path)
    before = (tmp_path / "config.json").stat().st_ino
    directory = Directory(tmp_path, Asked(), resume=True)
    directory.open(Asked())
    directory.release()
    assert (tmp_path / "config.json").stat().st_ino == before
    (tmp_path / "checkpoint.safetensors").unlink()
    (tmp_path / ".draft-1-config.json").touch()
    Directory(tmp_path, Asked(), resume=True).open(Asked())
    assert not (tmp_path / ".draft-1-config.json").exists()


def test_the_report_is_written_before_the_run_is_called_finished(tmp_path, monkeypatch):
    interrupted(tmp_path)
    directory = Directory(tmp_path, Asked(), resume=True)
    monkeypatch.setattr(Page, "save", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        directory._write_summary({}, Page("x"))
    assert not (tmp_path / "result.json").exists()


def test_another_precision_is_refused_and_another_device_is_said(tmp_path):
    interrupted(tmp_path, dtype="float32", device="cuda")
    with pytest.raises(ValueError, match=r"networks in float32, not float16: give --dtype float32"):
        Directory.of(RunOptions(out=tmp_path, resume=True, dtype=torch.float16), Asked())
    directory = Directory.of(RunOptions(out=tmp_path, resume=True, dtype="float32"), Asked())
    with pytest.raises(ValueError, match="networks in float32, not bfloat16"):
        directory.open(Asked(), dtype="bfloat16", device="cuda")
    with pytest.warns(UserWarning, match="was started on cuda and continues on cpu"):
        directory.open(Asked(), dtype="float32", device="cpu")
    directory.release()


def test_metrics_that_a_checkpoint_needs_are_missed(tmp_path):
    interrupted(tmp_path)
    save_state({"next": 2}, tmp_path / "checkpoint.safetensors")
    for damaged in ("", '{"t": 1}\n{"t": ', '{"t": 1}\n7\n', '{"t": 1}\n'):
        (tmp_path / "metrics.jsonl").write_text(damaged)
        directory = Directory(tmp_path, Asked(), resume=True)
        with pytest.raises(ValueError, match=r"lacks the metrics of the 2 steps .* --overwrite"):
            directory.open(Asked())
        directory.release()


def test_sources_in_the_output_directory_are_refused(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "clip.mp4").touch()
    (tmp_path / "link").symlink_to(tmp_path / "run")
    directory = Directory(tmp_path / "new", Asked())
    directory.path = tmp_path / "run"
    for source in ("run/clip.mp4", "link/clip.mp4", "run", "new/../run/clip.mp4"):
        with pytest.raises(ValueError, match="lies in the output directory"):
            directory.keep_safe(tmp_path / source)
    directory.keep_safe(tmp_path / "run" / "none.png", None, tmp_path)


def test_a_directory_that_cannot_be_written_is_refused_first(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="file is a file; give another directory"):
        Directory(tmp_path / "file" / "below" / "it", Asked())
    if os.geteuid():
        (tmp_path / "fixed").mkdir(mode=0o500)
        with pytest.raises(ValueError, match="no permission to write"):
            Directory(tmp_path / "fixed" / "run", Asked())


def test_commands_without_out_at_the_same_time_take_different_directories(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with reserved(None, "owl", "image") as first, reserved(None, "owl", "image") as second:
        assert (first, second) == (Path("runs/owl"), Path("runs/owl-2"))
        (second / "kept").touch()
    assert [path.name for path in tmp_path.rglob("*")] == ["runs", "owl-2", "kept"]
    with reserved(Path("mine"), "owl", "image") as given:
        assert given == Path("mine")
    assert not given.exists()


def test_the_run_with_the_same_settings_is_resumed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, steps in (("owl", 1), ("owl-2", 2), ("owl-3", 3)):
        interrupted(Path("runs") / name, Asked(steps=steps))
    resumed = lambda **asked: default_out("owl", "image", resume=True, request={"prompt": "an owl", **asked})
    assert resumed(steps=1) == Path("runs/owl")
    assert resumed(steps=2) == Path("runs/owl-2")
    assert resumed(steps=None) == Path("runs/owl-3")
    assert resumed(steps=4) == Path("runs/owl-3")  # refused later, with the reason


def test_a_disk_that_is_as_good_as_full_is_refused_first(tmp_path, monkeypatch):
    free = 2_000_000
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=free))
    Directory.of(RunOptions(out=tmp_path / "new" / "run"), Asked())
    free = 900_000
    with pytest.raises(ValueError, match=r"only 0.9 MB are free where .*run lies, and the run needs about 1.0 MB"):
        Directory.of(RunOptions(out=tmp_path / "new" / "run"), Asked())


def contents(path):
    files = [each for each in path.rglob("*") if each.is_file() and not each.is_symlink()]
    return {each.relative_to(path).as_posix(): each.read_bytes() for each in files}


def test_an_option_that_a_run_did_not_have_differs_if_it_is_used():
    config = {"request": {"method": "csd", "seed": 0}}
    assert differences(config, {"method": "csd", "seed": 0, "negative_prompt": ""}) == []
    assert differences(config, {"method": "csd", "seed": 1, "negative_prompt": "snow"}) == ["seed", "negative_prompt"]
    assert differences(config, {"method": None, "seed": None}) == []
