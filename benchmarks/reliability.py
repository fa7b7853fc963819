"""Disturb runs of every kind on purpose, continue them, and compare the files with those of undisturbed runs.

    python benchmarks/reliability.py                                  everything: 20 kill points for each of seven jobs
    python benchmarks/reliability.py --jobs image,toy --faults kill,sigint --trials 10
    python benchmarks/reliability.py --page-only                      docs/reliability.md from the results so far

Each trial is written to --out at once; the same command continues with the trials that are missing, and --again repeats
those that failed. Faults, and what must hold after them, are described in reliability_faults.py, the runs in
reliability_runs.py. Full and read-only disks are small file systems in memory (tmpfs) in a mount namespace of this
process (`unshare`), which Linux gives to root and, mostly, to every user; without one these faults are skipped.
Linux only. The exit status is 1 if anything did not hold.
"""

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from datetime import date
from pathlib import Path
from typing import Any

from reliability_runs import stand_still

if __name__ == "__mp_main__":  # a worker of a study
    stand_still()

ROOT = Path(__file__).parents[1]
DISK = "disk"
DISK_BYTES = 64_000_000
INSIDE = "SCOREDISTILL_RELIABILITY_DISK"  # set in the mount namespace


def isolate() -> None:
    """Start this script again in a mount namespace, if the system gives one."""
    if INSIDE in os.environ or shutil.which("unshare") is None:
        return
    for options in (["-m"], ["-rm"]):
        probe = ["unshare", *options, "mount", "-t", "tmpfs", "none", "/mnt"]
        if subprocess.run(probe, capture_output=True, check=False).returncode == 0:
            os.environ[INSIDE] = "1"
            os.execvp("unshare", ["unshare", *options, sys.executable, *sys.argv])


def fresh_disk(work: Path) -> Path | None:
    """An empty small disk, or None."""
    if INSIDE not in os.environ:
        return None
    place = work / DISK
    place.mkdir(exist_ok=True)
    while os.path.ismount(place):
        subprocess.run(["umount", "-l", str(place)], check=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "none", str(place)], check=True)
    return place


def reference(name: str, work: Path) -> dict[str, Any]:
    """An undisturbed run: its files, write events, CPU time and bytes. The second of two, which must be equal."""
    from reliability_faults import emptied
    from reliability_runs import JOBS, OUT, Run, contents, differences, warm

    job, runs, ends = JOBS[name], [], []
    for _ in range(2):
        place = emptied(work / "reference")
        end = Run(job.command, place).end()
        if end.code:
            raise SystemExit(f"{name}: the undisturbed run ended with {end.code}: {end.said}")
        warm(work / "logs")
        runs.append(contents(place / OUT))
        ends.append(end)
    if unequal := differences(runs[1], runs[0]):
        raise SystemExit(f"{name}: two undisturbed runs differ: {unequal}")
    size = sum(path.stat().st_size for path in (place / OUT).rglob("*") if path.is_file())
    return {"expected": runs[1], "events": ends[1].events, "cpu": ends[1].cpu, "size": size}


def parsed() -> argparse.Namespace:
    from reliability_faults import FAULTS
    from reliability_runs import JOBS

    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    names = lambda known: lambda text: [each for each in text.split(",") if known.index(each) >= 0]
    parser.add_argument("--jobs", type=names([*JOBS]), default=[*JOBS], help=f"of {','.join(JOBS)}")
    parser.add_argument("--faults", type=names([*FAULTS, "losses"]), default=[*FAULTS, "losses"],
                        help=f"of {','.join([*FAULTS, 'losses'])}")  # fmt: skip
    parser.add_argument("--trials", type=int, default=20, help="kill points of each job")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "results" / "reliability.json")
    parser.add_argument("--page", type=Path, default=ROOT / "docs" / "reliability.md")
    parser.add_argument("--page-only", action="store_true", help="only write the page")
    parser.add_argument("--again", action="store_true", help="repeat trials that failed")
    parser.add_argument("--work", type=Path, help="directory for the runs; a temporary one by default")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="stop after so many minutes")
    return parser.parse_args()


class Results:
    """The trials so far, kept in a JSON file.

    Args:
        path: the file.
        chosen: the command line.
    """

    def __init__(self, path: Path, chosen: argparse.Namespace):
        self.path = path
        known = json.loads(path.read_text()) if path.is_file() else {}
        self.trials: dict[str, dict[str, Any]] = known.get("trials", {})
        self.repeated = {name for name, each in self.trials.items() if each["problems"]} if chosen.again else set()
        self.sessions: list[dict[str, Any]] = known.get("sessions", [])
        command = ["python", "benchmarks/reliability.py", *sys.argv[1:]]
        commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True)
        self.session = {
            "command": " ".join(command), "commit": commit.stdout.strip(), "date": str(date.today()),
            "seed": chosen.seed, "processors": os.cpu_count(), "trials": 0,
        }  # fmt: skip

    def open(self, name: str) -> bool:
        """Whether a trial is to be carried out; one that failed stays in the file until it was repeated."""
        return name not in self.trials or name in self.repeated

    def add(self, name: str, result: dict[str, Any]) -> None:
        """Keep a trial."""
        from scoredistill.files import write_json

        self.session["trials"] += 1
        self.session["load"] = round(os.getloadavg()[0], 1)
        self.trials[name] = {**result, "commit": self.session["commit"]}
        sessions = [*self.sessions, self.session]
        write_json(self.path, {"sessions": sessions, "trials": self.trials})


def planned(chosen: argparse.Namespace) -> list[tuple[str, str, int, int]]:
    """(job, fault, index, count) of all trials; the first fractions of all jobs and faults come first."""
    from reliability_faults import FAULTS

    made = []
    for job in chosen.jobs:
        for fault in chosen.faults:
            if fault in FAULTS:
                count = FAULTS[fault][1](chosen.trials)
                made += [(job, fault, index, count) for index in range(count)]
    return sorted(made, key=lambda each: each[2] / each[3])


def main() -> int:
    chosen = parsed()
    if not chosen.page_only:
        isolate()
        results = Results(chosen.out, chosen)
        for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
            os.environ.setdefault(name, "1")
        with tempfile.TemporaryDirectory() as scratch:
            work = (chosen.work or Path(scratch)).resolve()
            try:
                attack(chosen, results, work)
            finally:
                subprocess.run(["umount", "-l", str(work / "disk")], capture_output=True)
    from reliability_page import write_page

    trials = write_page(chosen.out, chosen.page)
    failed = [name for name, each in trials.items() if each["problems"]]
    print(f"{len(trials)} trials, {len(failed)} with problems: {chosen.page}")
    return 1 if failed else 0


def attack(chosen: argparse.Namespace, results: Results, work: Path) -> None:
    """Carry out the trials that are missing."""
    from reliability_faults import FAULTS, Trial, emptied
    from reliability_losses import LOSSES
    from reliability_runs import JOBS, make_inputs, preload

    import scoredistill.tasks  # noqa: F401  (imports torch, for all forks)

    work.mkdir(parents=True, exist_ok=True)
    make_inputs(work / "inputs")
    preload()
    todo = [each for each in planned(chosen) if results.open(_name(*each[:3]))]
    losses = [each for each in LOSSES if "losses" in chosen.faults and results.open(f"losses/{each}")]
    began, known = time.monotonic(), dict[str, dict[str, Any]]()
    for number, (name, fault, index, count) in enumerate(todo):
        if time.monotonic() - began > 60 * chosen.minutes:
            return
        if name not in known:
            known[name] = reference(name, work)
        rng = random.Random(f"{chosen.seed}-{name}-{fault}-{index}")
        trial = Trial(JOBS[name], emptied(work / "trial"), index=index, count=count, rng=rng, disk=fresh_disk(work),
                      **known[name])  # fmt: skip
        found = FAULTS[fault][0](trial).result()
        results.add(_name(name, fault, index), {"job": name, "fault": fault, **found})
        show(_name(name, fault, index), found, began, number + 1, len(todo) + len(losses))
    for number, loss in enumerate(losses):
        if time.monotonic() - began > 60 * chosen.minutes:
            return
        found = LOSSES[loss](emptied(work / "trial"), fresh_disk(work)).result()
        results.add(f"losses/{loss}", {"job": loss, "fault": "losses", **found})
        show(f"losses/{loss}", found, began, len(todo) + number + 1, len(todo) + len(losses))


def _name(job: str, fault: str, index: int) -> str:
    return f"{job}/{fault}/{index:02d}"


def show(name: str, found: dict[str, Any], began: float, done: int, total: int) -> None:
    """Print a trial, and the time left."""
    left = (time.monotonic() - began) / done * (total - done) / 60
    said = "; ".join(found["problems"])[:600] or found["outcome"]
    print(f"[{done}/{total}, {left:.0f} min left] {name}, {found['at']}: {said}", flush=True)


if __name__ == "__main__":
    raise SystemExit(main())
