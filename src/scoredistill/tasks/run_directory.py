"""The output directory of a run: refused if it holds other files, opened, continued, and finished.

config.json                 the complete settings, the version and the command
metrics.jsonl               one line per step
preview.png                 what there is so far
report.html, result.json    written at the end, in this order
checkpoint.safetensors      and .frames/ exist while the run is unfinished
.lock                       names the process that writes
"""

import hashlib
import json
import os
import shlex
import shutil
import sys
import time
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

import torch
from PIL import Image
from torch import Tensor

from scoredistill import __version__
from scoredistill.checkpoint import load_state, save_state
from scoredistill.files import DRAFT, FULL, atomic, remove_drafts, slug, write_json, write_text
from scoredistill.loop import ADVICE, Step
from scoredistill.media.images import save_gif
from scoredistill.recipe import OwnMethod
from scoredistill.reports.page import Page
from scoredistill.tasks.lock import NAME as LOCK
from scoredistill.tasks.lock import Lock
from scoredistill.tasks.request import RunOptions, loading

R = TypeVar("R")
D = TypeVar("D", bound="RunDirectory[Any]")

WEIGHTS = ("variant", "revision", "config")  # options of loading that decide on the weights
RUNS = Path("runs")  # where the command line puts output directories
CONFIG = "config.json"
MACHINE = {"dtype", "device"}  # facts in config.json about how a run is computed
CHECKPOINT_SECONDS = 5.0  # between checkpoints
GIF_SIDE = 800  # largest side of the video of a run, in pixels


class RunDirectory(ABC, Generic[R]):
    """Abstract base of output directories. Construction only checks; `open` begins to write.

    One process at a time writes (`lock`), from `open` to `release`. A finished or resumable run is replaced only if the
    user asks for it, and only files that a run writes are ever removed: never through a symbolic link.

    Args:
        path: the directory; created if missing.
        request: what is asked for, a dataclass; its None values are decided later and not compared.
        resume: continue the interrupted run in the directory.
        overwrite: replace the run in the directory.

    Attributes:
        leftovers: patterns of the files a run writes; a run that replaces another removes them first.
        folders: directories in which a run writes.
        checkpoint: name of what exists while a run is unfinished, to resume it.
        space: the least that a run writes in bytes; checked before the work.
        loading: how the prior is loaded, for config.json.

    Raises:
        ValueError: if the directory cannot be used, or contains no such run to resume.
    """

    leftovers: ClassVar[tuple[str, ...]] = ()
    folders: ClassVar[tuple[str, ...]] = ()
    checkpoint: ClassVar[str] = "checkpoint.safetensors"
    space: ClassVar[float] = 1e6
    loading: Mapping[str, Any] = {}

    def __init__(self, path: Path, request: object, resume: bool = False, overwrite: bool = False):
        self.path, self.resume, self.overwrite = path, resume, overwrite
        self._saved = time.monotonic()
        self._lock = Lock(path, command_line())
        if resume and overwrite:
            raise ValueError("a run is either resumed or overwritten: leave out --resume or --overwrite")
        check_writable(path)
        self._lock.check()
        self._check(request)

    @classmethod
    def of(cls: type[D], options: RunOptions, request: object, **more: Any) -> D | None:
        """The output directory that the options name; None without one.

        Args:
            options: how the run is carried out.
            request: what is asked for.
            **more: further arguments of the directory.
        """
        if options.out is None:
            return None
        made = cls(Path(options.out), request, options.resume, options.overwrite, **more)
        made.check_space(cls.space)
        made.loading = {
            name: str(value) if isinstance(value, Path | torch.dtype | torch.device) else value
            for name, value in loading(options).items()
        }
        if options.resume:
            made._check_same_weights()
        if options.resume and options.dtype is not None:
            made._check_precision(options.dtype)
        return made

    @abstractmethod
    def finish(self, result: R) -> None:
        """Write the results and the report; remove what was needed to resume."""

    def release(self) -> None:
        """Let other processes use the directory."""
        self._lock.release()

    def preview(self, image: Image.Image) -> None:
        """Replace preview.png."""
        with self.told():
            save_image(image, self.path / "preview.png")

    def check_space(self, needed: float) -> None:
        """Refuse to begin on a disk that is as good as full.

        Args:
            needed: estimate of what the run writes in bytes.

        Raises:
            ValueError: saying how much there is, and how much is needed.
        """
        above = next((each for each in (self.path, *self.path.absolute().parents) if each.exists()), None)
        if above is None:
            return
        with suppress(OSError):
            free = shutil.disk_usage(above).free
            if free < needed:
                raise ValueError(
                    f"only {free / 1e6:.1f} MB are free where {self.path} lies, and the run needs about "
                    f"{max(0.1, needed / 1e6):.1f} MB: free some space, or give another directory for --out"
                )

    def keep_safe(self, *sources: object) -> None:
        """Refuse sources of the run that lie in its output directory, where results could replace them.

        Args:
            *sources: paths of files and directories; what is no path is skipped.

        Raises:
            ValueError: naming the source.
        """
        inside = self.path.resolve()
        for source in sources:
            here = Path(source).resolve() if isinstance(source, (str, Path)) else None
            if here is not None and here.exists() and inside in (here, *here.parents):
                raise ValueError(
                    f"{source} lies in the output directory {self.path}, where results could replace it: give another "
                    "directory for --out"
                )

    @contextmanager
    def told(self) -> Iterator[None]:
        """Turn an error of the disk into one sentence that says how to go on.

        Raises:
            OSError: if the block raises one.
        """
        try:
            yield
        except OSError as error:
            reason = error.strerror or str(error)
            raise OSError(
                f"cannot write to {self.path}: {reason}; free space or give write permission, then --resume continues"
            ) from error

    def _claim(self, settings: object) -> None:
        """Create the directory and take its lock, then check again what another process may have done meanwhile.

        Raises:
            ValueError: if the directory is not writable, in use, or the run to continue has other settings.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._lock.acquire()
        except OSError as error:
            raise unwritable(self.path, error) from error
        try:
            self._check(settings)
            for folder in (".", *self.folders):
                remove_drafts(self.path / folder)
        except BaseException:
            self.release()
            raise

    def _begin(self, settings: object, continued: bool, facts: Mapping[str, Any]) -> None:
        """Claim the directory; unless a run is continued, replace an earlier run's files by a new config.json.

        Args:
            settings: the complete settings.
            continued: whether the run starts from what an interrupted one left.
            facts: what else identifies the run, such as a hash of its source; kept in config.json.

        Raises:
            ValueError: if the directory cannot be used, or the run to continue has other settings.
        """
        self._claim(settings)
        config: dict[str, Any] = {"request": _values(settings), "prior_options": dict(self.loading)}
        command = self.command if self.resume else command_line()  # a command with --resume begins no run
        config |= {"version": __version__, "command": command, **_method(settings), **facts}
        try:
            if continued:
                return
            with atomic(self._config) as draft:
                write_json(draft, config, indent=2)  # fails before anything is lost
                self._remove_results()
        except OSError as error:
            raise unwritable(self.path, error) from error

    def _remove_results(self) -> None:
        """Remove the files of an earlier run, that it is finished first."""
        self._result.unlink(missing_ok=True)
        for pattern in self.leftovers:
            for old in self.path.glob(pattern):
                if old.is_symlink() or not old.is_dir():
                    old.unlink(missing_ok=True)

    def _check_source(self, what: str, facts: Mapping[str, Any]) -> None:
        """Refuse to continue a run whose facts are others.

        Raises:
            ValueError: saying what is another.
        """
        config = read_config(self.path)
        if any(config.get(name) != value for name, value in facts.items() if name not in MACHINE):
            raise ValueError(f"the run in {self.path} edits {what}: give the same to resume")
        if "dtype" in facts:
            self._check_precision(facts["dtype"])
        for name, said in (("device", "on"), ("version", "by scoredistill")):
            now = {**facts, "version": __version__}.get(name)
            if now is not None and config.get(name) not in (None, now):
                warnings.warn(
                    f"the run in {self.path} was started {said} {config[name]} and continues {said} {now}: its result "
                    "can differ from that of an uninterrupted run",
                    stacklevel=2,
                )

    def _check_precision(self, dtype: object) -> None:
        """Refuse to continue a run with networks of another precision.

        Raises:
            ValueError: naming both.
        """
        before, now = read_config(self.path).get("dtype"), str(dtype).removeprefix("torch.")
        if before not in (None, now):
            raise ValueError(
                f"the run in {self.path} has networks in {before}, not {now}: give --dtype {before} to resume"
            )

    def _due(self) -> bool:
        """Whether it is time for a checkpoint."""
        if time.monotonic() - self._saved <= CHECKPOINT_SECONDS:
            return False
        self._saved = time.monotonic()
        return True

    def _check(self, request: object) -> None:
        """Refuse a directory with other files, with a run that would be lost, or with links instead of directories.

        Raises:
            ValueError: saying what to do instead.
        """
        if self.path.exists() and not self.path.is_dir():
            raise ValueError(f"{self.path} is a file: give a directory for --out")
        for name in (*self.folders, self.checkpoint):
            if (self.path / name).is_symlink():
                raise ValueError(
                    f"{self.path / name} is a symbolic link: remove it, or give another directory for --out"
                )
        if self.resume:
            self._check_same_run(request)
        elif not is_vacant(self.path):
            if not read_config(self.path):
                raise ValueError(f"{self.path} holds other files: give a new directory, or an earlier run's, for --out")
            if not self.overwrite:
                self._check_replaceable()

    def _check_replaceable(self) -> None:
        """Refuse to replace a run of which something would be lost.

        Raises:
            ValueError: saying how to continue or replace it.
        """
        if self._interrupted:
            raise ValueError(
                f"{self.path} holds an interrupted run: add --resume to continue it, --overwrite to replace it, or "
                "give another directory for --out"
            )
        if self._result.exists():
            raise ValueError(
                f"{self.path} holds a finished run: add --overwrite to replace it, or give another directory for --out"
            )

    def _check_same_run(self, request: object) -> None:
        config = read_config(self.path)
        if not config and self._config.is_file():
            raise ValueError(
                f"{self._config} is damaged, or belongs to another program: what is in {self.path} cannot be resumed; "
                "leave out --resume and give another directory for --out"
            )
        if not config:
            raise ValueError(f"{self.path} holds no run to resume: leave out --resume")
        same = config["request"].get("method") == getattr(request, "method", None)
        if same and _method(request).get("method_sha256") != config.get("method_sha256"):
            what = config.get("method_file", "which is of no file")
            raise ValueError(
                f"the method of the run in {self.path}, {what}, has changed: restore it to resume, or start anew with "
                "--overwrite"
            )
        if different := differences(config, _values(request)):
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
        """Write report.html, and then result.json, which says that the run is finished."""
        page.save(self.path / "report.html")
        write_json(self._result, summary, indent=2)

    @property
    def _interrupted(self) -> bool:
        """Whether there is something to resume."""
        return self._checkpoint.exists()

    @property
    def _checkpoint(self) -> Path:
        return self.path / self.checkpoint

    @property
    def _config(self) -> Path:
        return self.path / CONFIG

    @property
    def _result(self) -> Path:
        return self.path / "result.json"

    @property
    def command(self) -> str:
        """The command that started the run."""
        return str(json.loads(self._config.read_text(encoding="utf-8"))["command"])


class StepDirectory(RunDirectory[R]):
    """Abstract base of the directories of runs made of steps, with metrics, checkpoints and a video of the run.

    Attributes:
        frames: number of frames of the video of a run; 0 for no video, then previews are drawn at checkpoints.
        source: what another source is called in messages, for example "another image".
    """

    frames: ClassVar[int] = 0
    source: ClassVar[str] = "something else"
    folders = (".frames",)

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
        self._claim(settings)
        state, rows = None, []
        if self.resume:
            self._check_source(self.source, facts)
        if self.resume and self._checkpoint.is_file():
            state = load_state(self._checkpoint)
            rows = self._rows(state["next"])
        self._begin(settings, state is not None, facts)
        try:
            if self.frames:
                self._frames.mkdir(exist_ok=True)
            write_text(self._metrics, "".join(json.dumps(row) + "\n" for row in rows))
        except OSError as error:
            raise unwritable(self.path, error) from error
        return state, rows

    def _rows(self, count: int) -> list[dict[str, float]]:
        """The metrics of the first steps.

        Raises:
            ValueError: if the file does not hold them.
        """
        try:
            lines = self._metrics.read_text(encoding="utf-8").splitlines()[:count]
            rows = [dict(json.loads(line)) for line in lines]
        except (OSError, ValueError, TypeError):
            rows = []
        if len(rows) < count:
            raise ValueError(
                f"{self._metrics} lacks the metrics of the {count} steps before the checkpoint: start the run anew "
                "with --overwrite"
            )
        return rows

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
        with self.told():
            with self._metrics.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
            last = step.index + 1 == step.steps
            if self.frames and (last or step.index % max(1, step.steps // self.frames) == 0):
                frame = draw(step)
                save_image(frame, self._frames / f"{step.index:06d}.png")
                save_image(frame, self.path / "preview.png")
            due = not last and self._due()
            if due or step.index + 2 == step.steps:  # a failing export then costs the last step
                self.keep(step, counts, seconds)
            if due and not self.frames:
                save_image(draw(step), self.path / "preview.png")

    def keep(self, step: Step, counts: Mapping[str, int], seconds: float) -> None:
        """Write a checkpoint, from which the run continues after the step.

        Args:
            step: the step.
            counts, seconds: cost and wall time so far.

        Raises:
            OSError: if it cannot be written; the checkpoint before is kept.
            FloatingPointError: if the state is not finite; the checkpoint before is kept.
        """
        state = step.state_dict()
        if not all_finite(state):
            raise FloatingPointError(
                f"the parameters are not finite after step {step.index} (t = {step.t:.4g}): {ADVICE}; --resume "
                "continues from the checkpoint before, if there is one"
            )
        save_state({**state, "counts": counts, "seconds": seconds}, self._checkpoint)

    def _write_video(self) -> None:
        """Write the optimization as video.gif; its last frame stays for a while."""
        frames = [Image.open(p, formats=("PNG",)) for p in sorted(self._frames.glob("*.png"))]
        if frames:
            still = [frames[-1]] * (len(frames) // 4)
            save_gif([*frames, *still], self.path / "video.gif", size=min(max(frames[0].size), GIF_SIDE))

    def _clear(self) -> None:
        """Remove what only an unfinished run needs."""
        if not self._frames.is_symlink():
            shutil.rmtree(self._frames, ignore_errors=True)
        self._checkpoint.unlink(missing_ok=True)

    @property
    def _frames(self) -> Path:
        return self.path / ".frames"

    @property
    def _metrics(self) -> Path:
        return self.path / "metrics.jsonl"


def all_finite(state: object) -> bool:
    """Whether the tensors of nested dictionaries and lists are finite."""
    if isinstance(state, Tensor):
        return not state.is_floating_point() or bool(state.isfinite().all())
    if isinstance(state, Mapping):
        return all(map(all_finite, state.values()))
    return not isinstance(state, (list, tuple)) or all(map(all_finite, state))


def save_image(image: Image.Image, path: Path) -> None:
    """Write an image file atomically."""
    with atomic(path) as draft:
        image.save(draft)


def read_config(path: Path) -> dict[str, Any]:
    """config.json of a run; empty without one, as models have a config.json too."""
    try:
        config = json.loads((path / CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    known = isinstance(config, dict) and {"request", "version", "command"} <= set(config)
    return config if known and isinstance(config["request"], dict) else {}


def differences(config: Mapping[str, Any], request: Mapping[str, Any]) -> list[str]:
    """The names of the values of a request that differ from those of a run; None stands for any value.

    An option that the run's version did not have differs if it is used.

    Args:
        config: config.json of the run.
        request: the values.
    """
    before, now = config["request"], json.loads(json.dumps(dict(request), default=str))
    differs = lambda name, value: before[name] != value if name in before else bool(value)
    return [name for name, value in now.items() if value is not None and differs(name, value)]


def is_vacant(path: Path) -> bool:
    """Whether a path is missing, or a directory with nothing but what a killed process left before it began."""
    return not path.exists() or all(p.name == LOCK or p.name.startswith(DRAFT) for p in path.iterdir())


def unwritable(path: Path, error: OSError) -> ValueError:
    """What is said when an output directory cannot be written."""
    advice = "free some space, or " if error.errno in FULL else ""
    return ValueError(f"cannot write to {path}: {error.strerror or error}; {advice}give another directory for --out")


def check_writable(path: Path) -> None:
    """Refuse a directory that cannot be written or created.

    Raises:
        ValueError: in one sentence.
    """
    if path.exists() and not path.is_dir():
        raise ValueError(f"{path} is a file: give a directory for --out")
    above = path
    while not above.exists() and above != above.parent:
        above = above.parent
    if not above.is_dir():
        raise ValueError(f"cannot write to {path}: {above} is a file; give another directory for --out")
    if not os.access(above, os.W_OK | os.X_OK):
        raise ValueError(f"cannot write to {path}: no permission to write in {above}; give another directory for --out")


@contextmanager
def reserved(
    given: Path | None, text: str, fallback: str, suffix: str = "", resume: bool = False,
    request: Mapping[str, Any] | None = None,
) -> Iterator[Path]:  # fmt: skip
    """The output directory of a command, held from now on, so that another command without --out takes another one.

    It is removed again if nothing is written.

    Args:
        given: --out.
        text, fallback, suffix, resume, request: see `default_out`.
    """
    made: list[Path] = []
    path = given
    while path is None:
        path = default_out(text, fallback, suffix, resume, request)
        if not resume:
            try:
                made = [each for each in (path, *path.parents) if not each.exists()]
                path.mkdir(parents=True)
            except FileExistsError:
                path = None
            except OSError:
                made = []  # the run says why
    try:
        yield path
    finally:
        with suppress(OSError):
            for each in made:
                each.rmdir()


def default_out(
    text: str, fallback: str, suffix: str = "", resume: bool = False, request: Mapping[str, Any] | None = None
) -> Path:
    """The output directory of a command without --out: one that does not exist, so that no earlier run is replaced.

    The second run about the same is numbered: runs/an_owl-csd, runs/an_owl-csd-2.

    Args:
        text: what the run is about, such as its prompt.
        fallback: used if no letter of the text can stand in a file name.
        suffix: what follows, such as the method.
        resume: an existing directory instead: the last one of an unfinished run with the same settings, else the last
            unfinished one, else the last.
        request: the settings as far as they are given, to find the run to resume.
    """
    name = f"{slug(text) or fallback}{suffix}"
    existing: list[Path] = []
    while os.path.lexists(path := RUNS / (name if not existing else f"{name}-{len(existing) + 1}")):
        existing.append(path)
    if not resume or not existing:
        return path
    unfinished = [each for each in existing if not (each / "result.json").is_file()]
    same = [each for each in unfinished if (config := read_config(each)) and not differences(config, request or {})]
    return (same or unfinished or existing)[-1]


def digest(values: bytes | memoryview) -> str:
    """Hash that identifies a source in config.json."""
    return hashlib.sha256(values).hexdigest()


def command_line() -> str:
    """The command that was typed, or how Python was started."""
    program = Path(sys.argv[0]).name
    if program == "-c":
        return "python -c ..."
    if program == "__main__.py":
        return shlex.join(["python", "-m", "scoredistill", *sys.argv[1:]])
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


def _method(settings: object) -> dict[str, str]:
    """The file of a method of the user's own and the hash of its content, for config.json."""
    method = getattr(settings, "method", None)
    if not isinstance(method, OwnMethod) or not method.sha256:
        return {}
    return {"method_file": method.file, "method_sha256": method.sha256}


def _values(settings: object) -> dict[str, Any]:
    if not is_dataclass(settings) or isinstance(settings, type):
        raise TypeError(f"settings must be a dataclass, not {type(settings).__name__}")
    return asdict(settings)
