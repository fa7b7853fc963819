"""`doctor`: what is installed, what is missing and what that costs."""

import json
import shutil
from collections import namedtuple
from importlib import metadata

import pytest
import torch

from scoredistill import cli
from scoredistill.cli import doctor
from scoredistill.cli.doctor import PURPOSES

Usage = namedtuple("Usage", "total used free")


@pytest.fixture(autouse=True)
def _place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_everything_is_said_and_answered(capsys):
    cli.main(["doctor"])
    said = capsys.readouterr().out
    for part in (
        torch.__version__,
        "bfloat16",
        "emoji, emoji-edit",
        "GB free",
        "can be written",
        "[video]",
        "is in order",
    ):
        assert part in said
    cli.main(["doctor", "--json"])
    answer = json.loads(capsys.readouterr().out)
    assert answer["packages"]["torch"] == torch.__version__
    assert answer["models"] == {"emoji": True, "emoji-edit": True}
    assert answer["free_bytes"] > 0


def test_a_missing_extra_is_named_with_what_it_enables(capsys, monkeypatch):
    wanted = ["torch>=2.4", "nothing-like-it>=1; extra == 'video'", "numpy>=1; extra == 'nerf'", "x; extra == 'odd'"]
    monkeypatch.setattr(metadata, "requires", lambda name: wanted)
    cli.main(["doctor"])
    said = " ".join(capsys.readouterr().out.split())
    assert (
        f"[video] {PURPOSES['video']}: not installed (lacks nothing-like-it): pip install 'scoredistill[video]'" in said
    )
    assert f"[nerf] {PURPOSES['nerf']}: installed" in said
    assert "[odd] not installed (lacks x)" in said


def test_faults_end_with_exit_code_1(capsys, monkeypatch, tmp_path, refused):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(1e12, 1e12, 5e6))
    assert "only 5 MB of the disk are free: free some space" in refused("doctor", code=1)
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").write_text("a file")
    assert "runs is a file" in refused("doctor", code=1)
    (tmp_path / "runs").unlink()
    monkeypatch.setattr(doctor, "bundled_folder", lambda name: tmp_path / name)
    assert "the bundled model emoji is missing" in refused("doctor", code=1)


def test_extras_of_the_table_have_a_purpose():
    names = set(metadata.metadata("scoredistill").get_all("Provides-Extra"))
    assert {"video", "nerf", "scenes", "lora"} <= names & set(PURPOSES)
