"""Faults of runs, and what must hold after them: each function disturbs one run and returns what was found.

What must hold: one sentence and the right exit code, soon; no processes left; no file with its final name damaged, and
nothing deleted; and the run continues to the files of an undisturbed run, byte for byte, with nothing left over.
"""

import os
import random
import shutil
import signal
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from reliability_runs import DRAFTS, OUT, End, Job, Run, contents, damaged, differences

SOON = 2.0  # seconds from a signal to the end of the process
BALLAST = "ballast"  # file that fills the disk
BAR = ("measuring", "\n")  # how lines of progress bars begin
CORE = ("image_", "edited.", "scene.safetensors", "before.safetensors")  # files that do not hold the time a run took


@dataclass
class Found:
    """What one trial found.

    Attributes:
        at: where the run was disturbed.
        outcome: how it went on.
        problems: what did not hold.
        said: the last sentence of the disturbed run.
        code: its exit code.
        after: seconds from a signal to its end.
    """

    at: str
    outcome: str = ""
    problems: list[str] = field(default_factory=list)
    said: str = ""
    code: int = 0
    after: float | None = None

    def saw(self, end: End) -> None:
        """Note how the disturbed run ended."""
        said = sentences(end)
        self.said, self.code, self.after = said[-1][:300] if said else "", end.code, end.after
        if "Traceback" in end.said:
            self.problems.append(f"a traceback: {self.said}")
        elif len(said) > 1:
            self.problems.append(f"{len(said)} sentences: {' / '.join(said)[:300]}")
        self.problems += [f"left running: {each}" for each in end.orphans]

    def result(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Trial:
    """One trial of a fault.

    Attributes:
        job: what is disturbed.
        place: an empty directory beside `inputs`.
        expected: contents of the output directory of an undisturbed run.
        events, cpu, size: write events, CPU seconds, and bytes of the output of the undisturbed run.
        index, count: number of the trial, and of trials.
        rng: random numbers of this trial.
        disk: a directory of a small disk of its own (tmpfs), beside `inputs` too; None if none can be mounted.
    """

    job: Job
    place: Path
    expected: Mapping[str, str]
    events: int
    cpu: float
    size: int
    index: int
    count: int
    rng: random.Random
    disk: Path | None

    @property
    def out(self) -> Path:
        """The output directory."""
        return self.place / OUT

    @property
    def event(self) -> int:
        """A random write event."""
        return self.rng.randrange(self.events)

    @property
    def moment(self) -> float:
        """A random moment in CPU seconds, evenly spread over the trials."""
        return max(0.05, self.cpu * (self.index + self.rng.random()) / self.count * 0.97)

    def run(self, *more: str, **how: Any) -> End:
        """Run the command to its end."""
        return Run((*self.job.command, *more), self.place, **how).end()

    def interrupted(self, found: Found) -> None:
        """Leave a run that was killed in its second half."""
        end = self.run(at_event=self.rng.randrange(self.events // 2, self.events * 4 // 5))
        if end.code != -signal.SIGKILL:
            found.problems.append(f"the run to interrupt ended with {end.code}: {end.said[-200:]}")

    def goes_on(self, found: Found, **how: Any) -> None:
        """Continue the run, and compare what it makes with the undisturbed run."""
        end = self.run(*self.job.resume, **how)
        outcome = "continued"
        if self.job.resume and end.code == 2 and "no run to resume" in end.said:
            if "continues" in found.said:
                found.problems.append("a resume was promised, and there is nothing to resume")
            outcome, end = "begun anew", self.run(**how)
        elif end.code == 2 and "already finished" in end.said:
            outcome = "was finished"
        if end.code and outcome != "was finished":
            found.problems.append(f"continuing ended with {end.code}: {end.said[-400:].strip()}")
        found.outcome = found.outcome or outcome
        self.compare(found)

    def compare(self, found: Found) -> None:
        """Note what differs from the undisturbed run.

        The file .lock of a process that was killed after its run had finished stays, and stops nobody.
        """
        found.problems += differences(contents(self.out), self.expected)
        if found.outcome == "was finished" and ".lock is left" in found.problems:
            found.problems.remove(".lock is left")


Fault = Callable[[Trial], Found]


def sentences(end: End) -> list[str]:
    """The lines that a run wrote, without progress bars."""
    lines = [line.strip() for line in end.said.replace("\r", "\n").split("\n")]
    return [line for line in lines if line and not line.startswith(BAR)]


def kill(trial: Trial) -> Found:
    """kill -9: one half before random write events, the other at random moments."""
    if trial.index % 2:
        at = trial.event
        found = Found(f"before write event {at} of {trial.events}")
        end = trial.run(at_event=at)
    else:
        moment = trial.moment
        found = Found(f"after {moment:.2f} s of {trial.cpu:.2f} s")
        end = Run(trial.job.command, trial.place).end(moment)
    if end.code not in (0, -signal.SIGKILL):
        found.problems.append(f"exit code {end.code}: {end.said[-300:]}")
    found.code = end.code
    found.problems += [f"left running: {each}" for each in end.orphans] + damaged(trial.out)
    trial.goes_on(found)
    return found


def _signal(trial: Trial, number: int, group: bool) -> Found:
    workers = not trial.job.resume and trial.index % 2 == 1
    command = (*trial.job.command, "--workers", "2") if workers else trial.job.command
    moment = trial.moment
    found = Found(f"after {moment:.2f} s of {trial.cpu:.2f} s" + (", two workers" if workers else ""))
    end = Run(command, trial.place).end(moment, (number, group))
    found.saw(end)
    if end.code == 0:
        found.outcome = "had finished"
    elif end.code != 128 + number:
        found.problems.append(f"exit code {end.code} instead of {128 + number}: {end.said[-300:]}")
    elif "interrupted" not in found.said:
        found.problems.append(f"it said {found.said!r}")
    if end.after is not None and end.after > SOON:
        found.problems.append(f"the prompt came back after {end.after:.1f} s")
    found.problems += damaged(trial.out)
    if trial.index % 4 < 2:
        trial.goes_on(found)
    found.outcome = found.outcome or "ended"
    return found


def sigint(trial: Trial) -> Found:
    """Ctrl-C at random moments; half of the runs are continued, half of the studies have two workers."""
    return _signal(trial, signal.SIGINT, True)


def sigterm(trial: Trial) -> Found:
    """`kill` at random moments; half of the runs are continued, half of the studies have two workers."""
    return _signal(trial, signal.SIGTERM, False)


def fill(ballast: Path, left: int) -> None:
    """Fill the disk except for so many bytes."""
    free = os.statvfs(ballast.parent).f_bavail * os.statvfs(ballast.parent).f_frsize
    made = os.open(ballast, os.O_WRONLY | os.O_CREAT)
    os.posix_fallocate(made, 0, max(1, free - left))
    os.close(made)


def disk(trial: Trial) -> Found:
    """A disk that fills up: when the run begins to write, a fraction of what it writes is free."""
    left = int(trial.size * trial.index / trial.count)
    found = Found(f"{left / 1e3:.0f} kB free of {trial.size / 1e3:.0f} kB")
    if trial.disk is None:
        return replace(found, outcome="not tried: no disk can be mounted here")
    trial = replace(trial, place=trial.disk)
    (trial.place / "neighbor.txt").write_text("untouched")
    ballast = trial.place / BALLAST
    end = trial.run(at_event=0, action=lambda: fill(ballast, left))
    _full(trial, found, end)
    ballast.unlink(missing_ok=True)
    trial.goes_on(found)
    return found


def _full(trial: Trial, found: Found, end: End) -> None:
    """Check the end of a run on a full disk."""
    found.saw(end)
    if end.code == 0:
        found.outcome = "had room"
    elif end.code not in (1, 2) or "Traceback" in end.said:
        found.problems.append(f"exit code {end.code}: {end.said[-400:]}")
    elif not any(word in found.said.lower() for word in ("space", "full")):
        found.problems.append(f"the sentence does not name the disk: {found.said}")
    found.problems += damaged(trial.out)
    found.problems += [f"{name} is left" for name in contents(trial.out) if end.code and DRAFTS.search(name)]
    if (trial.place / "neighbor.txt").read_text() != "untouched":
        found.problems.append("a file beside the output directory was changed")


def overwrite(trial: Trial) -> Found:
    """A full disk when a finished run is replaced (`--overwrite`), or a study started again: all its files stay."""
    found = Found("at the start")
    if trial.disk is None:
        return replace(found, outcome="not tried: no disk can be mounted here")
    trial = replace(trial, place=trial.disk)
    (trial.place / "neighbor.txt").write_text("untouched")
    trial.run()
    ballast = trial.place / BALLAST
    end = trial.run(*(["--overwrite"] if trial.job.resume else []), at_event=0, action=lambda: fill(ballast, 0))
    _full(trial, found, end)
    trial.compare(found)
    found.outcome = "all files of the finished run are there"
    return found


def _remount(place: Path, how: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{how}", str(place)], check=True)


def readonly(trial: Trial) -> Found:
    """A disk that cannot be written: at the start, and when an interrupted run is resumed."""
    found = Found("at the start and at --resume")
    if trial.disk is None:
        return replace(found, outcome="not tried: no disk can be mounted here")
    trial = replace(trial, place=trial.disk)
    trial.interrupted(found)
    before = contents(trial.out)
    for name, more in ((OUT, trial.job.resume), ("other", ())):
        command = [name if each == OUT else each for each in trial.job.command]
        _remount(trial.disk, "ro")
        try:
            end = Run((*command, *more), trial.place).end()
        finally:
            _remount(trial.disk, "rw")
        found.saw(end)
        if end.code != 2 or "cannot write" not in found.said:
            found.problems.append(f"exit code {end.code}: {end.said[-400:]}")
    found.problems += differences(contents(trial.out), before)
    trial.goes_on(found)
    return found


def together(trial: Trial) -> Found:
    """Two runs in one directory: the second is refused with the first one's process named, and the first finishes."""
    at = trial.rng.randrange(4, trial.events)
    found = Found(f"before write event {at} of {trial.events}")
    first = Run(trial.job.command, trial.place, at_event=at, action=lambda: os.kill(os.getpid(), signal.SIGSTOP))
    if not first.is_stopped():
        return replace(found, problems=["the first run ended early"])
    for more in ((), trial.job.resume) if trial.job.resume else ((),):
        end = trial.run(*more)
        found.saw(end)
        if end.code != 2 or f"process {first.pid} " not in found.said:
            found.problems.append(f"exit code {end.code}: {end.said[-400:]}")
    os.kill(first.pid, signal.SIGCONT)
    if code := first.end().code:
        found.problems.append(f"the first run ended with {code}")
    trial.compare(found)
    found.outcome = "refused"
    return found


def changed(trial: Trial) -> Found:
    """Other settings: refused at --resume and at a new start in the directory, and nothing is lost."""
    found = Found("another seed" if trial.job.resume else "without --quick")
    trial.interrupted(found)
    before = contents(trial.out)
    if trial.job.resume:
        others = [(*trial.job.command, *trial.job.resume, "--seed", "7"), (*trial.job.command, "--seed", "7")]
        words = ["another seed", "add --resume to continue"]
    else:
        others, words = [tuple(each for each in trial.job.command if each != "--quick")], ["study with another"]
    for command, word in zip(others, words, strict=True):
        end = Run(command, trial.place).end()
        found.saw(end)
        if end.code != 2 or word not in found.said:
            found.problems.append(f"exit code {end.code}: {end.said[-400:]}")
    found.problems += differences(contents(trial.out), before)
    trial.goes_on(found)
    return found


DAMAGES: dict[str, Callable[[bytes, random.Random], bytes]] = {
    "empty": lambda data, rng: b"",
    "truncated": lambda data, rng: data[: rng.randrange(1, len(data) - 1)],
    "zeros": lambda data, rng: bytes(len(data)),
    "random bytes": lambda data, rng: rng.randbytes(len(data)),
    "another type": lambda data, rng: b"[1]\n",
    "a bit flipped in its first tenth": lambda data, rng: _flipped(data, rng.randrange(0, len(data) // 10)),
    "a bit flipped in its last nine tenths": lambda data, rng: _flipped(
        data, rng.randrange(len(data) // 10, len(data))
    ),
}


def _flipped(data: bytes, at: int) -> bytes:
    made = bytearray(data)
    made[at] ^= 1 << (at % 7)
    return bytes(made)


def damage(trial: Trial) -> Found:
    """A damaged file of those that a run continues from: refused in a sentence that names it; intact, it goes on.

    Bits are flipped in checkpoints only, which have a checksum; a digit of a JSON file that is another one cannot be
    found.
    """
    name, change = list(DAMAGES.items())[trial.index % len(DAMAGES)]
    found = Found(name)
    trial.interrupted(found)
    kept = [path for path in sorted(trial.out.rglob("*")) if _state(path)]
    kept = [path for path in kept if "bit" not in name or path.suffix == ".safetensors"]
    if not kept:
        return replace(found, outcome="not tried: no file with a checksum")
    path = trial.rng.choice(kept)
    found.at = f"{path.relative_to(trial.out)}: {name}"
    intact = path.read_bytes()
    path.write_bytes(change(intact, trial.rng))
    before = contents(trial.out)
    end = trial.run(*trial.job.resume)
    found.saw(end)
    if end.code != 2 or path.name not in found.said:
        found.problems.append(f"exit code {end.code}: {end.said[-300:]}")
        found.problems += differences(contents(trial.out), trial.expected) if end.code == 0 else []
    gone = [each for each in differences(contents(trial.out), before) if "missing" in each]
    found.problems += [each for each in gone if not each.startswith((".lock", ".draft-"))]
    if path.suffix == ".safetensors":
        path.unlink()  # as the sentence says
    else:
        path.write_bytes(intact)
    trial.goes_on(found)
    found.outcome = f"refused; then {found.outcome}"
    return found


def _state(path: Path) -> bool:
    """Whether a run continues from a file."""
    inside = path.parent.name in ("parts", ".groups") or path.parent.name == OUT
    names = path.suffix in (".safetensors", ".json") or path.name == "setting"
    return path.is_file() and inside and names and not DRAFTS.search(path.name)


def links(trial: Trial) -> Found:
    """A symbolic link where a run keeps its state: refused, and nothing outside is touched."""
    found = Found("a link to a directory outside")
    outside = trial.place / "outside"
    outside.mkdir(parents=True)
    for name in ("000000.png", "00000.safetensors", "mine.json"):
        (outside / name).write_text("mine")
    before = contents(outside)
    trial.interrupted(found)
    for name in (".frames", ".groups", "checkpoint.safetensors", "views", "parts", "images"):
        path = trial.out / name
        if path.exists() or (name in (".frames", "views") and trial.job.resume):
            path.rename(trial.place / "moved") if path.exists() else None
            path.symlink_to(outside)
            end = trial.run(*trial.job.resume)
            if end.code == 2 and "symbolic link" in end.said:
                found.saw(end)
            elif differences(contents(outside), before):
                found.problems.append(f"{name}: {end.said[-300:]}")
            path.unlink(missing_ok=True)
            if (trial.place / "moved").exists():
                (trial.place / "moved").rename(path)
    found.problems += differences(contents(outside), before)
    found.outcome = "refused or not followed"
    return found


def real(trial: Trial) -> Found:
    """`python -m scoredistill` itself, not a fork: killed, interrupted, resumed, with usual settings."""
    kinds = [(signal.SIGKILL, False), (signal.SIGINT, True), (signal.SIGTERM, False)]
    number, group = kinds[trial.index % 3]
    moment = trial.rng.uniform(1, 12)
    found = Found(f"{signal.Signals(number).name} after {moment:.1f} s of CPU time")
    end = Run(trial.job.command, trial.place, real=True).end(moment, (number, group))
    found.saw(end)
    expected = {0, -signal.SIGKILL if number == signal.SIGKILL else 128 + number}
    if end.code not in expected:
        found.problems.append(f"exit code {end.code}: {end.said[-300:]}")
    if number != signal.SIGKILL and end.code and "interrupted" not in found.said:
        found.problems.append(f"it said {end.said[-300:]!r}")
    if number != signal.SIGKILL and end.after is not None and end.after > SOON:
        found.problems.append(f"the prompt came back after {end.after:.1f} s")
    found.problems += damaged(trial.out)
    core = {name: value for name, value in trial.expected.items() if name.startswith(CORE)}
    continued = replace(trial, expected={})
    continued.goes_on(found, real=True)
    found.problems = [each for each in found.problems if not each.endswith("is left") or DRAFTS.search(each)]
    found.problems += [each for each in differences(contents(trial.out), core) if not each.endswith("is left")]
    return found


FAULTS: dict[str, tuple[Fault, Callable[[int], int]]] = {  # and how many trials of each
    "kill": (kill, lambda trials: trials),
    "sigint": (sigint, lambda trials: trials // 2),
    "sigterm": (sigterm, lambda trials: trials // 2),
    "disk": (disk, lambda trials: trials // 2),
    "overwrite": (overwrite, lambda trials: 1),
    "readonly": (readonly, lambda trials: 1),
    "together": (together, lambda trials: 1),
    "changed": (changed, lambda trials: 1),
    "damage": (damage, lambda trials: len(DAMAGES)),
    "links": (links, lambda trials: 1),
    "real": (real, lambda trials: 1),
}


def emptied(folder: Path) -> Path:
    """An empty directory in place of whatever there was."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder
