"""The output directory of a run: refused if it holds other files, opened, continued, and finished.

config.json                 the complete settings, the version and the command
metrics.jsonl               one line per step
preview.png                 what there is so far
result.json, report.html    written at the end
checkpoint.safetensors      and .frames/ exist while the run is unfinished
"""

import hashlib
import json
import shlex
import shutil
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

import torch
from PIL import Image

from scoredistill import __version__
from scoredistill.checkpoint import load_state, save_state
from scoredistill.files import atomic, slug, write_json, write_text
from scoredistill.loop import Step
from scoredistill.media.images import save_gif
from scoredistill.reports.page import Page
from scoredistill.tasks.request import RunOptions, loading

R = TypeVar("R")
D = TypeVar("D", bound="RunDirectory[Any]")

WEIGHTS = ("variant", "revision", "config")  # options of loading that decide on the weights
RUNS = Path("runs")  # where the command line puts output directories
CHECKPOINT_SECONDS = 5.0  # between checkpoints
GIF_SIDE = 800  # largest side of the video of a run, in pixels


class RunDirectory(ABC, Generic[R]):
    """Abstract base of output directories. Construction only checks; `open` begins to write.

    Args:
        path: the directory; created if missing.
        request: what is asked for, a dataclass; its None values are decided later and not compared.
        resume: continue the interrupted run in the directory.

    Attributes:
        leftovers: patterns of the files a run writes; a new run in the same directory removes them first.
        checkpoint: name of what exists while a run is unfinished, to resume it.
        loading: how the prior is loaded, for config.json.

    Raises:
        ValueError: if the directory cannot be used, or contains no such run to resume.
    """

    leftovers: ClassVar[tuple[str, ...]] = ()
    checkpoint: ClassVar[str] = "checkpoint.safetensors"
    loading: Mapping[str, Any] = {}

    def __init__(self, path: Path, request: object, resume: bool = False):
        self.path, self.resume = path, resume
        self._saved = time.monotonic()
        if path.exists() and not path.is_dir():
            raise ValueError(f"{path} is a file: give a directory for --out")
        if resume:
            self._check_same_run(request)
        elif path.is_dir() and any(path.iterdir()) and not self._is_ours():
            raise ValueError(f"{path} holds other files: give a new directory, or an earlier run's, for --out")

    @classmethod
    def of(cls: type[D], options: RunOptions, request: object) -> D | None:
        """The output directory that the options name; None without one."""
        if options.out is None:
            return None
        made = cls(Path(options.out), request, options.resume)
        made.loading = {
            name: str(value) if isinstance(value, Path | torch.dtype | torch.device) else value
            for name, value in loading(options).items()
        }
        if options.resume:
            made._check_same_weights()
        return made

    @abstractmethod
    def finish(self, result: R) -> None:
        """Write the results and the report; remove what was needed to resume."""

    def preview(self, image: Image.Image) -> None:
        """Replace preview.png."""
        save_image(image, self.path / "preview.png")

    def _begin(self, settings: object, continued: bool, facts: Mapping[str, Any]) -> None:
        """Create the directory, remove an earlier run's files unless it is continued, and write config.json.

        Raises:
            ValueError: if the directory is not writable, or the run to continue has other settings.
        """
        if self.resume:
            self._check_same_run(settings)
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            for pattern in () if continued else self.leftovers:
                for old in self.path.glob(pattern):
                    old.unlink(missing_ok=True)
            config: dict[str, Any] = {"request": _values(settings), "prior_options": dict(self.loading)}
            config = {**config, "version": __version__, "command": command_line(), **facts}
            write_json(self._config, config, indent=2)
        except OSError as error:
            raise ValueError(f"cannot write to {self.path}: {error.strerror}") from error

    def _check_source(self, what: str, facts: Mapping[str, Any]) -> None:
        """Refuse to continue a run whose facts are others.

        Raises:
            ValueError: saying what is another.
        """
        config = json.loads(self._config.read_text())
        if any(config.get(name) != value for name, value in facts.items()):
            raise ValueError(f"the run in {self.path} edits {what}: give the same to resume")

    def _due(self) -> bool:
        """Whether it is time for a checkpoint."""
        if time.monotonic() - self._saved <= CHECKPOINT_SECONDS:
            return False
        self._saved = time.monotonic()
        return True

    def _is_ours(self) -> bool:
        """Whether the directory contains a run; config.json alone does not say so, as models have one too."""
        try:
            config = json.loads(self._config.read_text())
        except (OSError, ValueError):
            return False
        return isinstance(config, dict) and {"request", "version", "command"} <= set(config)

    def _check_same_run(self, request: object) -> None:
        try:
            before = dict(json.loads(self._config.read_text())["request"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{self.path} holds no run to resume: leave out --resume") from error
        now = json.loads(json.dumps(_values(request)))
        different = [name for name, value in now.items() if value is not None and before.get(name) != value]
        if different:
            names = ", ".join(different)
            raise ValueError(f"the run in {self.path} has another {names}: give the same settings to resume")
        if self._result.is_file() and not self._checkpoint.exists():
            raise ValueError(f"the run in {self.path} is already finished: nothing to resume")

    def _check_same_weights(self) -> None:
        """Refuse to continue a run with other weights.

        Raises:
            ValueError: saying which option is another.
        """
        before = json.loads(self._config.read_text()).get("prior_options", self.loading)
        names = [name for name in WEIGHTS if before.get(name) != self.loading.get(name)]
        if names:
            raise ValueError(f"the run in {self.path} has another {', '.join(names)}: give the same to resume")

    def _write_summary(self, summary: Mapping[str, Any], page: Page) -> None:
        """Write result.json and report.html."""
        write_json(self._result, summary, indent=2)
        page.save(self.path / "report.html")

    @property
    def _checkpoint(self) -> Path:
        return self.path / self.checkpoint

    @property
    def _config(self) -> Path:
        return self.path / "config.json"

    @property
    def _result(self) -> Path:
        return self.path / "result.json"

    @property
    def command(self) -> str:
        """The command that started the run."""
        return str(json.loads(self._config.read_text())["command"])


class StepDirectory(RunDirectory[R]):
    """Abstract base of the directories of runs made of steps, with metrics, checkpoints and a video of the run.

    Attributes:
        frames: number of frames of the video of a run; 0 for no video, then previews are drawn at checkpoints.
        source: what the run was made from, for messages; "" for runs without a source.
    """

    frames: ClassVar[int] = 0
    source: ClassVar[str] = ""

    def open(self, settings: object, **facts: str) -> tuple[dict[str, Any] | None, list[dict[str, float]]]:
        """Begin to write.

        Args:
            settings: the complete settings.
            **facts: what else identifies the run, such as a hash of its source; kept in config.json.

        Returns:
            The state to continue from and the metrics up to there; None and no metrics for a new run.

        Raises:
            ValueError: if the directory is not writable, or the run to continue has other settings or another source.
        """
        state, rows = None, []
        if self.resume and self._checkpoint.is_file():
            self._check_source(self.source, facts)
            state = load_state(self._checkpoint)
            rows = [json.loads(line) for line in self._metrics.read_text().splitlines()[: state["next"]]]
        self._begin(settings, state is not None, facts)
        try:
            if self.frames:
                self._frames.mkdir(exist_ok=True)
            write_text(self._metrics, "".join(json.dumps(row) + "\n" for row in rows))
        except OSError as error:
            raise ValueError(f"cannot write to {self.path}: {error.strerror}") from error
        return state, rows

    def record(
        self, step: Step, row: Mapping[str, float], counts: Mapping[str, int], seconds: float,
        draw: Callable[[Step], Image.Image],
    ) -> None:  # fmt: skip
        """Record a finished step: its metrics always, a frame or a checkpoint from time to time.

        Args:
            step: the step.
            row: its metrics.
            counts, seconds: cost and wall time so far.
            draw: makes an image of what there is after the step.
        """
        with self._metrics.open("a") as file:
            file.write(json.dumps(row) + "\n")
        last = step.index + 1 == step.steps
        if self.frames and (last or step.index % max(1, step.steps // self.frames) == 0):
            frame = draw(step)
            frame.save(self._frames / f"{step.index:06d}.png")
            self.preview(frame)
        if not last and self._due():
            save_state({**step.state_dict(), "counts": counts, "seconds": seconds}, self._checkpoint)
            if not self.frames:
                self.preview(draw(step))

    def _write_video(self) -> None:
        """Write the optimization as video.gif; its last frame stays for a while."""
        frames = [Image.open(p) for p in sorted(self._frames.glob("*.png"))]
        if frames:
            still = [frames[-1]] * (len(frames) // 4)
            save_gif([*frames, *still], self.path / "video.gif", size=min(max(frames[0].size), GIF_SIDE))

    def _clear(self) -> None:
        """Remove what only an unfinished run needs."""
        shutil.rmtree(self._frames, ignore_errors=True)
        self._checkpoint.unlink(missing_ok=True)

    @property
    def _frames(self) -> Path:
        return self.path / ".frames"

    @property
    def _metrics(self) -> Path:
        return self.path / "metrics.jsonl"


def save_image(image: Image.Image, path: Path) -> None:
    """Write an image file atomically."""
    with atomic(path) as draft:
        image.save(draft)


def default_out(text: str, fallback: str, suffix: str = "", resume: bool = False) -> Path:
    """The output directory of a command without --out: one that does not exist, so that no earlier run is replaced.

    The second run about the same is numbered: runs/an_owl-csd, runs/an_owl-csd-2.

    Args:
        text: what the run is about, such as its prompt.
        fallback: used if no letter of the text can stand in a file name.
        suffix: what follows, such as the method.
        resume: the last existing directory instead, of those without result.json if there are any.
    """
    name = f"{slug(text) or fallback}{suffix}"
    existing: list[Path] = []
    while (path := RUNS / (name if not existing else f"{name}-{len(existing) + 1}")).exists():
        existing.append(path)
    if not resume or not existing:
        return path
    return ([each for each in existing if not (each / "result.json").is_file()] or existing)[-1]


def digest(values: bytes | memoryview) -> str:
    """Hash that identifies a source in config.json."""
    return hashlib.sha256(values).hexdigest()


def command_line() -> str:
    """The command that was typed, or how Python was started."""
    program = Path(sys.argv[0]).name
    if program == "-c":
        return "python -c ..."
    return shlex.join([*([] if program == "scoredistill" else ["python"]), program, *sys.argv[1:]])


TITLES = {"t": "Diffusion time", "bandwidth": "Bandwidth", "kernel": "Mean of the kernel"}


def add_curves(page: Page, history: Sequence[Mapping[str, float]], of: str) -> None:
    """Add a chart of each metric over the steps to a report.

    Args:
        page: the report.
        history: metrics of each step.
        of: what the gradient acts on, for the title of its chart.
    """
    norms = [row["grad_norm"] for row in history]
    page.curves({"gradient": norms}, f"Gradient on the {of}", "step", "RMS", log_y=True)
    for name in sorted(set(history[0]) - {"grad_norm"}):
        values = [row[name] for row in history]
        page.curves({name: values}, TITLES.get(name, name), "step", name, log_y=name == "bandwidth")


def add_settings(page: Page, settings: object) -> Page:
    """Add a table of all settings to a report."""
    return page.heading("Settings").key_values({**_values(settings), "version": __version__})


def cost_table(counts: Mapping[str, int]) -> dict[str, object]:
    """The cost of a run in network evaluations and calls, for its report."""
    return {"network evaluations (NFE)": counts["rows"], "network calls": counts["calls"]}


def _values(settings: object) -> dict[str, Any]:
    if not is_dataclass(settings) or isinstance(settings, type):
        raise TypeError(f"settings must be a dataclass, not {type(settings).__name__}")
    return asdict(settings)
