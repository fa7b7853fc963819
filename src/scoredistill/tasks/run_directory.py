"""The output directory of a run: refused if it holds other files, opened, continued, and finished.

config.json                 the complete settings, the version and the command
metrics.jsonl               one line per step
preview.png                 what there is so far
report.html, result.json    written at the end, in this order
checkpoint.safetensors      and .frames/ exist while the run is unfinished
.lock                       names the process that writes
"""

import json
import shutil
import time
import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

from PIL import Image

from scoredistill import __version__
from scoredistill.files import atomic, remove_drafts, write_json
from scoredistill.media.images import save_image
from scoredistill.ranks import Ranks
from scoredistill.reports.page import Page
from scoredistill.tasks.lock import Lock
from scoredistill.tasks.output_paths import check_writable, is_vacant, unwritable
from scoredistill.tasks.request import RunOptions, described
from scoredistill.tasks.run_config import (
    CONFIG,
    command_line,
    differences,
    method_file,
    provenance,
    read_config,
    values_of,
)

R = TypeVar("R")
D = TypeVar("D", bound="RunDirectory[Any]")

WEIGHTS = ("variant", "revision", "config")  # options of loading that decide on the weights
MACHINE = {"dtype", "device"}  # facts in config.json about how a run is computed
CHECKPOINT_SECONDS = 5.0  # between checkpoints


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
        """The output directory that the options name; None without one, and for all ranks of a job but the first.

        Args:
            options: how the run is carried out.
            request: what is asked for.
            **more: further arguments of the directory.
        """
        if options.out is None or not Ranks.here().leads:
            return None
        made = cls(Path(options.out), request, options.resume, options.overwrite, **more)
        made.check_space(cls.space)
        made.loading = described(options)
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
            self.save(image, "preview.png")

    def save(self, image: Image.Image, name: str) -> None:
        """Write a PNG file of the run, which says how it was made."""
        save_image(image, self.path / name, provenance(read_config(self.path)))

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
        config: dict[str, Any] = {"request": values_of(settings), "prior_options": dict(self.loading)}
        command = self.command if self.resume else command_line()  # a command with --resume begins no run
        config |= {"version": __version__, "command": command, **method_file(settings), **facts}
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
        if same and method_file(request).get("method_sha256") != config.get("method_sha256"):
            what = config.get("method_file", "which is of no file")
            raise ValueError(
                f"the method of the run in {self.path}, {what}, has changed: restore it to resume, or start anew with "
                "--overwrite"
            )
        if different := differences(config, values_of(request)):
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
        """Write report.html, with links to all files, and then result.json, which says that the run is finished."""
        found = {path.name for path in self.path.iterdir() if path.is_file() and not path.name.startswith(".")}
        page.heading("Files").files(sorted(found - {self.checkpoint, "report.html"} | {"result.json"}))
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
