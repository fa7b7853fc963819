"""Runs on disk, whoever made them: the app, the command line or Python."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from functools import cached_property
from glob import escape
from pathlib import Path
from typing import Any

from scoredistill.tasks import gallery
from scoredistill.tasks.lock import Busy, Lock
from scoredistill.tasks.run_config import CONFIG, read_config
from scoredistill.ui.calls import Call, call_of, kind_of, title_of

LISTED = 60  # runs in a list
SHOWN = ("image_*.png", "icon_*.png", "edited.png", "result.png", "*.svg")  # what a run made, best first
VIDEOS = ("edited.mp4", "edited.webm", "edited.gif", "turntable.mp4", "turntable.gif")
SUFFIXES = (".mp4", ".webm", ".gif")  # of videos that the page can show
MODELS = ("mesh.glb", "textured.glb", "splats.ply")
BEHIND = ("config.json", "result.json", "metrics.jsonl")  # files that come last among the downloads
NEEDED = (".safetensors",)  # suffixes of files for the program only, but for scenes


class Stage(Enum):
    """What a run on disk is."""

    FINISHED = "finished"
    RUNNING = "running"
    INTERRUPTED = "interrupted"


@dataclass(frozen=True)
class Run:
    """A run in its output directory.

    Attributes:
        path: the directory.
        name: its path under the directory of all runs, which identifies it.
    """

    path: Path
    name: str

    @cached_property
    def config(self) -> dict[str, Any]:
        """config.json."""
        return read_config(self.path)

    @cached_property
    def result(self) -> dict[str, Any]:
        """result.json; empty while there is none."""
        try:
            result = json.loads((self.path / "result.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return result if isinstance(result, dict) else {}

    @property
    def stage(self) -> Stage:
        """Whether it is finished, running or interrupted."""
        if self.result:
            return Stage.FINISHED
        try:
            Lock(self.path).check()
        except (Busy, OSError):
            return Stage.RUNNING
        return Stage.INTERRUPTED

    @property
    def title(self) -> str:
        """What was asked for."""
        return title_of(self.config.get("request", {})) or self.path.name

    @property
    def method(self) -> str:
        """The method; "" if the run has none."""
        return str(self.config.get("request", {}).get("method", ""))

    @property
    def says(self) -> str:
        """What kind of run it is."""
        kind = kind_of(self.config.get("request", {}))
        return kind.says if kind else "run"

    @property
    def command(self) -> str:
        """The command that made it."""
        return str(self.config.get("command", ""))

    @property
    def call(self) -> Call | None:
        """The call that repeats it, if the app has a form for it."""
        return call_of(self.path)

    @property
    def image(self) -> Path | None:
        """The image that stands for it."""
        return self._first(gallery.IMAGES)

    @property
    def images(self) -> list[Path]:
        """The images that it made."""
        return next((found for pattern in SHOWN if (found := self._files(pattern))), [])

    @property
    def pair(self) -> tuple[Path, Path] | None:
        """The image before and after, of an edit of an image."""
        before, after = self._first(("source.png",)), self._first(("edited.png",))
        return (before, after) if before and after else None

    @property
    def video(self) -> Path | None:
        """The video that it made."""
        own = str(self.config.get("file", ""))
        return self._first((*((escape(own),) if own.endswith(SUFFIXES) else ()), *VIDEOS))

    @property
    def model(self) -> Path | None:
        """The 3-D model that it made."""
        return self._first(MODELS)

    @property
    def downloads(self) -> list[Path]:
        """All files for the user, results first."""
        files = [each for each in self._files("*") if not each.name.startswith(".")]
        files = [each for each in files if each.name == "scene.safetensors" or each.suffix not in NEEDED]
        return sorted(files, key=lambda path: (path.name in BEHIND, path.suffix in (".html", ".json"), path.name))

    def _files(self, pattern: str) -> list[Path]:
        """Files of the directory, without links."""
        try:
            return sorted(each for each in self.path.glob(pattern) if each.is_file() and not each.is_symlink())
        except (OSError, ValueError):
            return []

    def _first(self, names: tuple[str, ...]) -> Path | None:
        """The first file that there is."""
        plain = (name for name in names if Path(name).name == name)
        return next((found[0] for name in plain if (found := self._files(name))), None)


def runs(root: Path, most: int = LISTED) -> list[Run]:
    """The runs under a directory, the last one first.

    Args:
        root: the directory, whose subdirectories and theirs are looked at; links are not followed.
        most: largest number of runs.
    """
    dated = sorted(_dated(root), key=lambda pair: pair[0], reverse=True)
    found = (Run(path, path.relative_to(root).as_posix()) for _, path in dated)
    listed: list[Run] = []
    for run in found:
        if len(listed) == most:
            break
        if run.config:
            listed.append(run)
    return listed


def find(root: Path, name: object) -> Run | None:
    """The run of a name, which may come from a browser: it is compared with the runs that there are.

    Args:
        root: directory of all runs.
        name: name of a `Run`.
    """
    return next((Run(path, path.relative_to(root).as_posix()) for _, path in _dated(root)
                 if path.relative_to(root).as_posix() == name), None)  # fmt: skip


def _dated(root: Path) -> Iterator[tuple[float, Path]]:
    """(time of the beginning, directory) of what may be runs."""
    for pattern in (f"*/{CONFIG}", f"*/*/{CONFIG}"):
        for config in root.glob(pattern):
            folder = config.parent
            links = any(each.is_symlink() for each in (config, folder, folder.parent) if each != root)
            try:
                if not links and config.is_file():
                    yield config.stat().st_mtime, folder
            except OSError:
                continue
