"""Losses that were reported once, tried again by hand: each function provokes one, and nothing may be lost."""

import json
import os
import shutil
import signal
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from reliability_faults import BALLAST, Found, fill
from reliability_runs import JOBS, OUT, End, Run, contents, damaged, differences


class Attempt:
    """An attempt to lose something.

    Args:
        place: an empty directory, beside `inputs`.
        about: what is tried.
    """

    def __init__(self, place: Path, about: str):
        self.place, self.out, self.found = place, place / OUT, Found(about)

    def run(self, job: str, *more: str, without: Sequence[str] = (), **how: Any) -> End:
        """Run the command of a job with further arguments."""
        command = [each for each in JOBS[job].command if each not in without]
        return Run([*command, *more], self.place, **how).end()

    def holds(self, what: bool, otherwise: str) -> None:
        """Note what does not hold."""
        if not what:
            self.found.problems.append(otherwise)

    def finished(self, job: str, *more: str) -> dict[str, str]:
        """A finished run, and its files."""
        end = self.run(job, *more)
        self.holds(end.code == 0, f"the run ended with {end.code}: {end.said[-300:]}")
        return contents(self.out)

    def interrupted(self, job: str, at: int = 30) -> dict[str, str]:
        """A killed run, and its files."""
        end = self.run(job, at_event=at)
        self.holds(end.code == -signal.SIGKILL, f"the run to kill ended with {end.code}: {end.said[-300:]}")
        return contents(self.out)

    def refused(self, end: End, word: str, before: dict[str, str]) -> None:
        """Note if a run was not refused with a word, or changed anything."""
        self.found.saw(end)
        self.holds(end.code == 2 and word in self.found.said, f"exit code {end.code}: {end.said[-300:]}")
        self.found.problems += differences(contents(self.out), before)
        self.found.outcome = "refused; nothing changed"


def video_in_its_place(place: Path, disk: Path | None) -> Found:
    """A video is edited in the directory in which it lies: as a stranger, and as the result of the run there."""
    trial = Attempt(place, "`edit out/edited.mp4 --out out`")
    trial.out.mkdir()
    shutil.copy(place.parent / "inputs" / "clip.mp4", trial.out / "edited.mp4")
    arguments = ["edit", "out/edited.mp4", "make it snowy", "--sweeps", "1", "--out", OUT, "--no-progress"]
    trial.refused(Run(arguments, place).end(), "out", contents(trial.out))
    shutil.rmtree(trial.out)
    before = trial.finished("edit-video")
    for more in ([], ["--overwrite"]):
        trial.refused(Run([*arguments, *more], place).end(), "out", before)
    return trial.found


def second_scene(place: Path, disk: Path | None) -> Found:
    """A scene is edited a second time in one directory."""
    trial = Attempt(place, "another instruction, the same --out")
    before = trial.finished("edit-scene")
    trial.refused(trial.run("edit-scene", "make it snowy", without=["make it night"]), "add --overwrite", before)
    return trial.found


def study_with_other_settings(place: Path, disk: Path | None) -> Found:
    """A study runs again in its directory without --quick, as another study, and with another version."""
    trial = Attempt(place, "another scale, study and version; another set")
    before = trial.finished("toy")

    def newer() -> None:
        from scoredistill.studies.harness import jobs

        jobs.__version__ = "99.0"

    trial.refused(trial.run("toy", without=["--quick"]), "holds a study with another quick", before)
    trial.refused(trial.run("study"), "holds a study with another", before)
    trial.refused(trial.run("toy", before=newer), "another version", before)
    trial.finished("toy", "--set", "fractal")
    parts = {name: value for name, value in before.items() if name.startswith("parts/table")}
    trial.found.problems += [each for each in differences(contents(trial.out), parts) if not each.endswith("left")]
    return trial.found


def study_on_a_full_disk(place: Path, disk: Path | None) -> Found:
    """A study begins, and then continues, on a full disk: marker and parts stay, and are used afterwards."""
    trial = Attempt(disk or place, "the first start, and a later one")
    if disk is None:
        trial.found.outcome = "not tried: no disk can be mounted here"
        return trial.found
    ballast = disk / BALLAST
    for at in range(4):
        trial.found.saw(trial.run("toy", at_event=at, action=lambda: fill(ballast, 0)))
        ballast.unlink(missing_ok=True)
        marker = trial.out / "parts" / "setting"
        trial.holds(not marker.is_file() or bool(json.loads(marker.read_text())), "the marker is empty")
    trial.interrupted("toy", 22)
    before = {path: path.stat().st_mtime_ns for path in (trial.out / "parts").glob("*.json")}
    trial.holds(bool(before), "the study was killed before its first part")
    trial.found.saw(trial.run("toy", at_event=0, action=lambda: fill(ballast, 0)))
    trial.holds(trial.found.code in (1, 2), f"exit code {trial.found.code}")
    ballast.unlink(missing_ok=True)
    trial.finished("toy")
    trial.holds(all(path.stat().st_mtime_ns == time for path, time in before.items()), "parts were measured again")
    trial.found.outcome = "marker and parts stay"
    return trial.found


def killed_while_resuming(place: Path, disk: Path | None) -> Found:
    """A run is killed while --resume begins, before each of its first write events."""
    trial = Attempt(place, "before each of the first 8 write events of --resume")
    trial.interrupted("edit-image")
    before = (trial.out / "config.json").read_bytes()
    for at in range(8):
        trial.run("edit-image", "--resume", at_event=at)
        trial.holds((trial.out / "config.json").read_bytes() == before, f"config.json changed at event {at}")
    trial.finished("edit-image", "--resume")
    trial.found.outcome = "config.json unchanged; continued"
    return trial.found


def killed_while_reporting(place: Path, disk: Path | None) -> Found:
    """A run is killed before each of its last write events, where results and the report are written."""
    trial = Attempt(place, "before each of the last 16 write events")
    end = trial.run("edit-image")
    before = contents(trial.out)
    for at in range(end.events - 16, end.events):
        shutil.rmtree(trial.out)
        trial.interrupted("edit-image", at)
        trial.found.problems += damaged(trial.out)
        end = trial.run("edit-image", "--resume")
        trial.holds(end.code == 0 or "already finished" in end.said, f"event {at}: {end.said[-200:]}")
        unequal = [each for each in differences(contents(trial.out), before) if each != ".lock is left"]
        trial.found.problems += [f"event {at}: {each}" for each in unequal]
    trial.found.outcome = "continued"
    return trial.found


def two_seeds(place: Path, disk: Path | None) -> Found:
    """A run with another seed starts in the directory of a running one."""
    trial = Attempt(place, "another seed while the first runs")
    stop = lambda: os.kill(os.getpid(), signal.SIGSTOP)
    first = Run(JOBS["edit-image"].command, place, at_event=20, action=stop)
    trial.holds(first.is_stopped(), "the first run ended early")
    trial.refused(trial.run("edit-image", "--seed", "1"), f"process {first.pid} ", contents(trial.out))
    os.kill(first.pid, signal.SIGCONT)
    trial.holds(first.end().code == 0, "the first run failed")
    return trial.found


def demo_over_a_website(place: Path, disk: Path | None) -> Found:
    """`demo --out DIR` where DIR holds an index.html of somebody else."""
    trial = Attempt(place, "a directory with index.html and images.png")
    trial.out.mkdir()
    for name in ("index.html", "images.png", "pictures.png"):
        (trial.out / name).write_text("mine")
    before = contents(trial.out)
    for more in ([], ["--overwrite"]):
        trial.refused(Run(["demo", "--out", OUT, *more], place).end(), "holds other files", before)
    return trial.found


def frames_elsewhere(place: Path, disk: Path | None) -> Found:
    """A symbolic link named .frames leads out of the output directory: alone, and in a finished run's."""
    trial = Attempt(place, ".frames links to a directory outside")
    outside = place / "outside"
    outside.mkdir()
    (outside / "000000.png").write_text("mine")
    trial.out.mkdir()
    (trial.out / ".frames").symlink_to(outside)
    for more in ([], ["--overwrite"]):
        trial.refused(trial.run("image", *more), "symbolic link", contents(trial.out))
    (trial.out / ".frames").unlink()
    trial.finished("image")
    (trial.out / ".frames").symlink_to(outside)
    trial.refused(trial.run("image", "--overwrite"), "symbolic link", contents(trial.out))
    trial.holds((outside / "000000.png").read_text() == "mine", "a file outside was changed")
    return trial.found


def other_precision(place: Path, disk: Path | None) -> Found:
    """--resume with another data type is refused, with another device it is said."""
    trial = Attempt(place, "--resume --dtype bfloat16; a run of a GPU")
    before = trial.interrupted("edit-image")
    trial.refused(trial.run("edit-image", "--resume", "--dtype", "bfloat16"), "float32", before)
    config = json.loads((trial.out / "config.json").read_text())
    (trial.out / "config.json").write_text(json.dumps({**config, "device": "cuda"}))
    end = trial.run("edit-image", "--resume")
    trial.holds(end.code == 0 and "started on cuda and continues on cpu" in end.said, end.said[-300:])
    trial.found.outcome = "refused; said"
    return trial.found


def without_out(place: Path, disk: Path | None) -> Found:
    """Commands without --out that differ in anything take different directories."""
    trial = Attempt(place, "11 commands: again, seed, size, method, non-Latin and long instructions")
    long = "make it night " * 30
    kinds = [
        ("make it night",), ("make it night",), ("make it night", "--seed", "1"), ("make it night", "--size", "128"),
        ("make it night", "--method", "uncoupled"), ("猫にする",), ("犬にする",), ("сделай ночь",), ("!",), (long,),
        (f"{long} or day",),
    ]  # fmt: skip
    for text, *more in kinds:
        command = ["edit", "../inputs/image.png", text, "--sweeps", "1", "--no-progress", *more]
        end = Run(command, place).end()
        trial.holds(end.code == 0, f"{command}: {end.said[-300:]}")
    made = [json.loads(path.read_text())["request"] for path in sorted(place.glob("runs/*/config.json"))]
    finished = len(list(place.glob("runs/*/result.json")))
    trial.holds(len(made) == finished == len(kinds), f"{len(made)} directories, {finished} finished")
    asked = sorted(text for text, *_ in kinds)
    trial.holds(sorted(each["instruction"].strip() for each in made) == sorted(map(str.strip, asked)), "some are lost")
    trial.found.outcome = f"{len(made)} directories"
    return trial.found


def finished_again(place: Path, disk: Path | None) -> Found:
    """A finished run is started again, with the same and with another prompt."""
    trial = Attempt(place, "the same command, and another instruction")
    before = trial.finished("edit-image")
    trial.refused(trial.run("edit-image"), "add --overwrite", before)
    trial.refused(trial.run("edit-image", "make it snowy", without=["make it night"]), "add --overwrite", before)
    return trial.found


def failing_export(place: Path, disk: Path | None) -> Found:
    """The export of a finished object fails: the optimization is kept, and --resume exports."""
    trial = Attempt(place, "an exception in the export of the mesh")

    def broken() -> None:
        from scoredistill.tasks import three_d_output

        three_d_output.export_scene = lambda *_: (_ for _ in ()).throw(RuntimeError("no mesh today"))

    trial.found.saw(trial.run("object", before=broken))
    trial.holds(trial.found.code == 0 and "no mesh today" in trial.found.said, f"it said {trial.found.said}")
    trial.holds(not (trial.out / "mesh.glb").exists(), "the export did not fail")
    trial.finished("object", "--resume")
    trial.holds((trial.out / "mesh.glb").is_file(), "--resume did not export")
    trial.found.outcome = "kept; exported by --resume"
    return trial.found


LOSSES: dict[str, Callable[[Path, Path | None], Found]] = {
    function.__name__.replace("_", " "): function
    for function in (
        video_in_its_place, second_scene, study_with_other_settings, study_on_a_full_disk, killed_while_resuming,
        killed_while_reporting, two_seeds, demo_over_a_website, frames_elsewhere, other_precision, without_out,
        finished_again, failing_export,
    )
}  # fmt: skip
