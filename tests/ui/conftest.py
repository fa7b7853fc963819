"""The app without a server, on a directory of its own."""

from pathlib import Path

import pytest

import fake_command
from scoredistill.ui.desk import Desk
from scoredistill.ui.files import Display
from scoredistill.ui.jobs import Queue


@pytest.fixture
def desk(tmp_path, monkeypatch):
    """A desk whose runs do what `fake_command` says, below runs/."""
    monkeypatch.chdir(tmp_path)
    for name in ("runs", "shown", "logs"):
        (tmp_path / name).mkdir()
    queue = Queue(fake_command.command, fake_command.nothing, tmp_path / "logs")
    yield Desk(Path("runs"), queue, Display(tmp_path / "shown"))
    queue.close()
