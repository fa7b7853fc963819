"""What the output folders of all runs have in common: whose folder it is, whether a run can go on, the command."""

import json
from dataclasses import asdict
from typing import TYPE_CHECKING

from scoredistill import __version__

if TYPE_CHECKING:
    pass

import shlex
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from scoredistill.checkpoint import load_state

CHECKPOINT_SECONDS = 5.0


class RunFolder:
    """Abstract base of output folders: checked when made, so that nothing of the user's is ever replaced.

    Args:
        path: the folder; made if missing.
        request: the run's settings, complete; a dataclass.
        resume: go on with the interrupted run that is there.

    Raises:
        ValueError: if the folder cannot be used, or holds no such run to resume.
    """

    leftovers: tuple[str, ...] = ()  # patterns of the files a run writes, which a new one in the same folder removes

    def __init__(self, path: Path, request: Any, resume: bool = False):
        self.path, self.request, self.resume = path, request, resume
        self._saved = time.monotonic()
        if path.exists() and not path.is_dir():
            raise ValueError(f"{path} is a file: give a folder for --out")
        if resume:
            self._check_same_run()
        elif path.is_dir() and any(path.iterdir()) and not self._is_ours():
            raise ValueError(f"{path} holds other files: give a new folder, or an earlier run's, for --out")

    def _begin(self, continued: bool, facts: Mapping[str, Any] | None = None) -> None:
        """Make the folder, remove an earlier run's files unless it is continued, and write config.json."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            for pattern in () if continued else self.leftovers:
                for old in self.path.glob(pattern):
                    old.unlink(missing_ok=True)
            config = {"request": asdict(self.request), "version": __version__, "command": command_line()}
            self._config.write_text(json.dumps({**config, **(facts or {})}, indent=2) + "\n")
        except OSError as error:
            raise ValueError(f"cannot write to {self.path}: {error.strerror}") from error

    def _due(self) -> bool:
        """Whether it is time for a checkpoint."""
        if time.monotonic() - self._saved <= CHECKPOINT_SECONDS:
            return False
        self._saved = time.monotonic()
        return True

    def _is_ours(self) -> bool:
        """Whether the folder holds a run: many a model's folder has a config.json too."""
        try:
            config = json.loads(self._config.read_text())
        except (OSError, ValueError):
            return False
        return isinstance(config, dict) and {"request", "version", "command"} <= set(config)

    def _check_same_run(self) -> None:
        try:
            before = dict(json.loads(self._config.read_text())["request"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{self.path} holds no run to resume: leave out --resume") from error
        now = json.loads(json.dumps(asdict(self.request)))
        different = [name for name in now if before.get(name) != now[name]]
        if different:
            names = ", ".join(different)
            raise ValueError(f"the run in {self.path} has another {names}: give the same settings to resume")
        if (self.path / "result.json").is_file() and not self._checkpoint.exists():
            raise ValueError(f"the run in {self.path} is already finished: nothing to resume")

    @property
    def _checkpoint(self) -> Path:
        return self.path / "checkpoint.safetensors"

    @property
    def _config(self) -> Path:
        return self.path / "config.json"

    @property
    def command(self) -> str:
        """That of the run."""
        return json.loads(self._config.read_text())["command"]


class StepFolder(RunFolder):
    """Abstract base of folders of runs made of steps: metrics line by line, frames of a video, a checkpoint."""

    def open(self) -> tuple[dict[str, Any] | None, list[dict[str, float]], float]:
        """Begin writing; (state to go on from, rows of metrics so far, seconds spent), empty for a new run."""
        state, rows = None, []
        if self.resume and self._checkpoint.is_file():
            state = load_state(self._checkpoint)
            rows = [json.loads(line) for line in self._metrics.read_text().splitlines()[: state["next"]]]
        self._begin(continued=state is not None)
        try:
            self._frames.mkdir(exist_ok=True)
            self._metrics.write_text("".join(json.dumps(row) + "\n" for row in rows))
        except OSError as error:
            raise ValueError(f"cannot write to {self.path}: {error.strerror}") from error
        return state, rows, state["seconds"] if state else 0.0

    @property
    def _frames(self) -> Path:
        return self.path / ".frames"

    @property
    def _metrics(self) -> Path:
        return self.path / "metrics.jsonl"


def command_line() -> str:
    """The command that was typed, or how Python was started."""
    program = Path(sys.argv[0]).name
    if program == "-c":
        return "python -c ..."
    return shlex.join([*([] if program == "scoredistill" else ["python"]), program, *sys.argv[1:]])


TITLES = {"t": "Diffusion time", "bandwidth": "Bandwidth", "kernel": "Mean of the kernel"}
