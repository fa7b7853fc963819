"""Runs of the command line with tiny settings, forked from one warm process and disturbed on purpose.

Importing torch and diffusers costs seconds, so a run is a fork of a process that has imported them, and calls
`scoredistill.cli.main` as the command does. In a forked run

- the bundled networks are loaded already,
- the clock of its cost stands still, so that reports can be compared byte for byte,
- a checkpoint is written after every step, not every five seconds,
- videos and meshes of 3-D results are smaller than usual.

Write events are counted by an audit hook: files opened to be written, renamed or removed, directories made or removed,
all inside the run's directory. Native writers (the video encoder, safetensors) are seen when Python makes, opens or
renames their files. Moments are counted in CPU time, so that they do not depend on how busy the machine is.
"""

import contextlib
import hashlib
import importlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

OUT = "out"  # the output directory of every run, in its own working directory
WRITES = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "os.symlink", "os.link"}
POLL = 0.01  # seconds
LONGEST = 600.0  # seconds of a run, after which it counts as hanging


@dataclass(frozen=True)
class Job:
    """A command whose endings are tried.

    Attributes:
        name: what it is called in tables.
        command: its arguments, with --out.
        resume: what is added to continue it.
    """

    name: str
    command: tuple[str, ...]
    resume: tuple[str, ...] = ("--resume",)


QUIET = ("--out", OUT, "--no-progress")
STUDY = ("--out", OUT, "--workers", "1")
JOBS = {
    job.name: job
    for job in (
        Job(
            "image",
            ("image", "a hamburger", "--method", "sds", "--image", "latents", "--steps", "5", "--particles", "1",
             *QUIET),
        ),
        Job("edit-image", ("edit", "../inputs/image.png", "make it night", "--sweeps", "3", *QUIET)),
        Job(
            "edit-video",
            ("edit", "../inputs/clip.mp4", "make it night", "--sweeps", "1", "--group", "3", "--overlap", "1", *QUIET),
        ),
        Job(
            "object",
            ("object", "an apple", "--method", "sds", "--steps", "5", "--views", "1", "--size", "16", *QUIET),
        ),
        Job(
            "edit-scene",
            ("edit", "../inputs/scene", "make it night", "--sweeps", "1", "--rounds", "2", "--views", "2", "--size",
             "16", "--fit-steps", "4", "--edit-steps", "4", "--rays", "64", "--samples", "16", *QUIET),
        ),
        Job(
            "toy",
            ("toy", "--set", "spiral", "--method", "sds", "ddim", "--denoiser", "exact", "--seeds", "2", "--quick",
             *STUDY),
            (),
        ),
        Job("study", ("bench", "edits", "--quick", "--methods", "uncoupled", *STUDY), ()),
    )
}  # fmt: skip


@dataclass
class End:
    """How a run ended.

    Attributes:
        code: exit code; minus the signal that ended it.
        said: what it wrote to standard error.
        cpu: CPU time in seconds.
        wall: wall time in seconds.
        after: seconds from the disturbance to the end, if a signal was sent.
        events: write events.
        orphans: processes of its session that were left.
    """

    code: int
    said: str
    cpu: float
    wall: float
    after: float | None = None
    events: int = 0
    orphans: list[str] = field(default_factory=list)


def make_inputs(folder: Path) -> None:
    """The image, the clip and the scene that are edited."""
    import numpy as np
    from PIL import Image

    from scoredistill.datasets import synthetic_scenes
    from scoredistill.media.video import VideoWriter

    if (folder / "scene" / "transforms.json").is_file():
        return
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    ramp = np.linspace(0, 255, 64).astype(np.uint8)
    still = np.stack([np.tile(ramp, (64, 1)), np.tile(ramp[:, None], (1, 64)), np.full((64, 64), 90, np.uint8)], -1)
    Image.fromarray(still).save(folder / "image.png")
    with VideoWriter(folder / "clip.mp4", 64, 64, times=[k / 8 for k in range(7)]) as out:
        for k in range(7):
            out.write(np.roll(still, 4 * k, 1))
    synthetic_scenes.make("toys", folder / "scene", 4, 1, 16, (-5.0, 60.0), 0)


def stand_still() -> None:
    """Stop the clock of costs, which differ from run to run; also in worker processes, which import the script anew."""
    time.perf_counter = lambda: 0.0


def make_small() -> None:
    """The tiny settings that have no option; see the module."""
    from datetime import date

    from scoredistill.studies.editing import setting
    from scoredistill.studies.harness import study
    from scoredistill.studies.toy2d import jobs
    from scoredistill.tasks import run_directory, step_directory, three_d_output
    from scoredistill.tasks.object_generation import output
    from scoredistill.three_d.turntable import contact_sheet

    class Day(date):
        @classmethod
        def today(cls) -> "Day":
            return cls(2000, 1, 1)

    stand_still()
    study.date = Day
    run_directory.CHECKPOINT_SECONDS, step_directory.GIF_SIDE = -1.0, 64
    three_d_output.VIDEO_SIZE, three_d_output.VIDEO_FPS = 32, 4
    three_d_output.MESH_CELLS, three_d_output.TEXTURE_SIDE = 12, 32
    output.contact_sheet = lambda render, n, size, device: contact_sheet(render, 2, 16, device=device)
    jobs.QUICK, jobs.TRUTH = jobs.Scale(particles=64, draws=2, points=4, side=8, rows=20, image=60), 128
    setting.QUICK_IMAGES, setting.QUICK_CLIPS = ("cat",), ("bikes",)
    setting.QUICK_INSTRUCTIONS = setting.INSTRUCTIONS[:1]
    setting.Setting.setup = property(lambda self: setting.Setup(self.prior, 96, 64, 2, 1, 1 if self.quick else 2))


def preload() -> None:
    """Load the bundled networks once, for all forks."""
    import gc

    from scoredistill.metrics.clip import bundled_clip
    from scoredistill.priors.pipelines import load_prior
    from scoredistill.studies.harness import setting
    from scoredistill.tasks import session

    priors = {name: load_prior(name) for name in ("emoji", "emoji-edit")}

    def loaded(name: Any, **given: Any) -> Any:
        return load_prior(name, **given) if given or name not in priors else priors[name]

    session.load_prior = setting.load_prior = loaded
    bundled_clip()
    gc.collect()
    gc.freeze()  # so that no fork copies what the collector touches


class Events:
    """Counts write events of this process below a directory, and does something before one of them.

    Args:
        folder: the directory.
        at: index of the event, from 0; None to only count.
        action: what to do before it.
    """

    def __init__(self, folder: Path, at: int | None = None, action: Callable[[], None] = lambda: None):
        self.prefix, self.at, self.action = str(folder), at, action
        self.count, self._acting = 0, False

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self._acting or not (event in WRITES or (event == "open" and self._writes(arguments))):
            return
        with contextlib.suppress(TypeError, ValueError):
            path = os.path.abspath(os.fsdecode(arguments[0]))
            if path != self.prefix and not path.startswith(self.prefix + os.sep):
                return
            if self.count == self.at:
                self._acting = True
                self.action()
                self._acting = False
            self.count += 1

    @staticmethod
    def _writes(arguments: tuple[Any, ...]) -> bool:
        return bool(arguments[2] and arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_APPEND))


class Run:
    """A command that runs in a directory.

    Args:
        arguments: of the command.
        place: working directory.
        at_event: index of the write event before which `action` is called in the run.
        action: for example the end of the process.
        real: start `python -m scoredistill` instead of a fork, with the usual settings.
        before: called in a forked run before the command.
        logs: directory of what it writes to standard error, outside a disk that is filled; beside `place` by default.
    """

    def __init__(
        self, arguments: Sequence[str], place: Path, *, at_event: int | None = None,
        action: Callable[[], None] = lambda: os.kill(os.getpid(), signal.SIGKILL), real: bool = False,
        before: Callable[[], None] = lambda: None, logs: Path | None = None,
    ):  # fmt: skip
        logs = logs or place.parent / "logs"
        for folder in (place, logs):
            folder.mkdir(parents=True, exist_ok=True)
        stem = f"{time.monotonic_ns()}"
        self.log, self.count = logs / f"{stem}.stderr", logs / f"{stem}.events"
        self.start = time.monotonic()
        if real:
            self.pid = _started(arguments, place, self.log)
        elif not (pid := os.fork()):
            _forked(arguments, place, self.log, self.count, Events(place / OUT, at_event, action), before)
        else:
            self.pid = pid

    def is_stopped(self) -> bool:
        """Wait until the run has stopped itself (SIGSTOP): False if it has ended instead."""
        _, status = os.waitpid(self.pid, os.WUNTRACED)
        return os.WIFSTOPPED(status)

    def end(self, at_cpu: float | None = None, send: tuple[int, bool] = (signal.SIGKILL, False)) -> End:
        """Wait for the end.

        Args:
            at_cpu: CPU time in seconds after which a signal is sent.
            send: the signal, and whether the whole process group gets it, as by Ctrl-C in a terminal.
        """
        status, cpu, after = _watched(self.pid, at_cpu, send)
        wall = time.monotonic() - self.start
        events = int(self.count.read_text()) if self.count.is_file() else 0
        said = self.log.read_text(errors="replace")
        self.count.unlink(missing_ok=True)
        self.log.unlink()
        return End(os.waitstatus_to_exitcode(status), said, cpu, wall, after, events, _orphans(self.pid))


def _started(arguments: Sequence[str], place: Path, log: Path) -> int:
    with log.open("w") as said:
        made = subprocess.Popen(
            [sys.executable, "-m", "scoredistill", *arguments], cwd=place, stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, stderr=said, start_new_session=True,
        )  # fmt: skip
    made.returncode = 0  # waited for by `_watched`
    return made.pid


def _forked(
    arguments: Sequence[str], place: Path, log: Path, count: Path, events: Events, before: Callable[[], None]
) -> None:
    """The command, in the forked process; does not return."""
    code = 1
    try:
        os.setsid()
        os.chdir(place)
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
        for number, path in ((0, os.devnull), (1, os.devnull), (2, str(log))):
            opened = os.open(path, os.O_RDWR | os.O_CREAT | (os.O_TRUNC if number == 2 else 0), 0o644)
            os.dup2(opened, number)
        sys.stdout = os.fdopen(1, "w", closefd=False)
        sys.stderr = os.fdopen(2, "w", buffering=1, closefd=False)
        sys.argv = ["scoredistill", *arguments]
        make_small()
        before()
        sys.addaudithook(events)
        from scoredistill.cli import main

        main(list(arguments))
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(BaseException):
            sys.stderr.flush()
            count.write_text(str(events.count))
            (count.parent / "modules.txt").write_text("\n".join(sys.modules))
        os._exit(code)


def _watched(pid: int, at_cpu: float | None, send: tuple[int, bool]) -> tuple[int, float, float | None]:
    """Wait for a process, and send it a signal: its status, CPU time, and seconds from the signal to its end."""
    began, sent, end = time.monotonic(), None, 0.0
    while True:
        found, status, usage = os.wait4(pid, os.WNOHANG)
        if found:
            end = time.monotonic()
            break
        if at_cpu is not None and sent is None and cpu_time(pid) >= at_cpu:
            sent = time.monotonic()
            (os.killpg if send[1] else os.kill)(pid, send[0])
        if time.monotonic() - began > LONGEST:
            os.killpg(pid, signal.SIGKILL)
        time.sleep(POLL)
    return status, usage.ru_utime + usage.ru_stime, None if sent is None else end - sent


def cpu_time(pid: int) -> float:
    """CPU time of a process and of its children in seconds."""
    try:
        values = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return 0.0
    own = sum(map(int, values[11:15])) / os.sysconf("SC_CLK_TCK")
    return own + sum(cpu_time(int(child)) for child in children)


def _orphans(session: int, patience: float = 2.0) -> list[str]:
    """The processes of a session that are left after some seconds."""
    end = time.monotonic() + patience
    while left := list(_members(session)):
        if time.monotonic() > end:
            for pid, _ in left:
                with contextlib.suppress(OSError):
                    os.kill(pid, signal.SIGKILL)
            break
        time.sleep(0.05)
    return [f"{pid} {name}" for pid, name in left]


def _members(session: int) -> Iterator[tuple[int, str]]:
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with contextlib.suppress(OSError, IndexError):
                head, _, values = (folder / "stat").read_text().rpartition(")")
                state, _, _, its = values.split()[:4]
                if int(its) == session and state not in "ZX":
                    yield int(folder.name), head.partition("(")[2]


def warm(logs: Path) -> None:
    """Import what the last run had imported at its end, for the runs after it.

    Args:
        logs: where it left the names.
    """
    for name in (logs / "modules.txt").read_text().splitlines():
        if name not in sys.modules and not name.startswith("__"):
            with contextlib.suppress(BaseException):
                importlib.import_module(name)


def contents(folder: Path) -> dict[str, str]:
    """Relative path -> hash of each file; empty directories and links by their names."""
    found = {}
    for path in sorted(folder.rglob("*")) if folder.is_dir() else ():
        name = str(path.relative_to(folder))
        if path.is_file() and not path.is_symlink():
            found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
        elif path.is_symlink() or not any(path.iterdir()):
            found[name] = "link" if path.is_symlink() else "empty"
    return found


def differences(found: dict[str, str], expected: dict[str, str]) -> list[str]:
    """What is missing, more or different."""
    made = [f"{name} is missing" for name in expected if name not in found]
    made += [f"{name} is left" for name in found if name not in expected]
    return made + [f"{name} differs" for name in expected if found.get(name, expected[name]) != expected[name]]


DRAFTS = re.compile(r"(^|/)\.draft-")


def damaged(folder: Path) -> list[str]:
    """Files that have their final names but cannot be read."""
    from PIL import Image
    from safetensors import safe_open

    readers: dict[str, Callable[[Path], object]] = {
        ".json": lambda path: json.loads(path.read_text()),
        ".jsonl": lambda path: [json.loads(line) for line in path.read_text().split("\n")[:-1]],
        ".html": lambda path: _ends(path, "</html>"),
        ".png": lambda path: Image.open(path, formats=("PNG",)).load(),
        ".gif": lambda path: Image.open(path, formats=("GIF",)).load(),
        ".safetensors": lambda path: safe_open(path, "pt"),
        ".mp4": lambda path: _video(path),
    }
    found = []
    for name in contents(folder):
        path = folder / name
        if path.suffix in readers and path.is_file() and not DRAFTS.search(name):
            try:
                readers[path.suffix](path)
            except Exception as error:
                found.append(f"{name} is damaged ({type(error).__name__})")
    return found


def _ends(path: Path, with_: str) -> None:
    if not path.read_text().rstrip().endswith(with_):
        raise ValueError("cut")


def _video(path: Path) -> None:
    from scoredistill.media.video.reading import open_video

    for _ in open_video(path).frames():
        pass
