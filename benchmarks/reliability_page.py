"""docs/reliability.md from the results of reliability.py."""

import json
import statistics
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from reliability_faults import FAULTS
from reliability_losses import LOSSES
from reliability_runs import JOBS

from scoredistill.files import write_text

TITLES = {
    "kill": "kill -9",
    "sigint": "Ctrl-C",
    "sigterm": "SIGTERM",
    "disk": "disk full",
    "overwrite": "disk full, old run",
    "readonly": "read-only",
    "together": "two runs",
    "changed": "other settings",
    "damage": "damaged file",
    "links": "links",
    "real": "real process",
}
INTRO = """# Reliability

What happens to files when a run is disturbed. Every number here is made by

```sh
python benchmarks/reliability.py
```

which runs each kind of job with tiny settings and the bundled priors, disturbs it on purpose, checks what is left,
continues it (`--resume`, or the same command for studies), and compares all files with those of an undisturbed run, byte
for byte: videos, reports and JSON included, and nothing left over. The trials are in
[results/reliability.json](results/reliability.json).
"""
HOW = """## What is tried

| fault | how, and what must hold |
|---|---|
| kill -9 | One half of the trials before random write events (a file opened to be written, renamed or removed), the other at random moments. No file with its final name is damaged, and the run continues to equal files. |
| Ctrl-C, SIGTERM | At random moments, of studies also with two workers. Exit code 130 or 143, one sentence, the process ends within 2 s, no processes are left, a resume is promised only where there is one, and half of the runs are continued, to equal files. |
| disk full | When the run begins to write, a fraction of the space it needs is left. One sentence that names the disk, no drafts, no damaged files; with room again it continues to equal files. |
| disk full, old run | The same without any space, for `--overwrite` on a finished run, or a study started again. All old files stay. |
| read-only | An interrupted run on a file system that cannot be written is resumed, and a new one started: one sentence. Afterwards it continues to equal files. |
| two runs | While a run is stopped, a second one starts in its directory, with and without `--resume`. It is refused with the first one's process named, and the first finishes with equal files. |
| other settings | An interrupted run is resumed, and started, with another seed (studies: another scale). Refused by name; nothing changes. |
| damaged file | One file that a run continues from is emptied, cut, zeroed, replaced, or has a bit flipped. Refused with the file named, before any work is lost. |
| links | Symbolic links to a directory outside stand where a run keeps its state. Nothing outside changes. |
| real process | `python -m scoredistill` is killed or interrupted, and resumed, with its usual settings. Images, videos and parameters are equal. |

All trials but those of real processes are forks of one process that has imported everything. In a fork the networks are loaded
already, the clock of the cost stands still, so that reports are comparable, a checkpoint is written after every step, and
videos and meshes of objects and scenes are smaller than usual.
"""
PARTIAL = """Moments and free space grow with the number of the trial: where fewer than 20 trials of kill -9, or fewer than 10 of Ctrl-C,
SIGTERM and disk full, are counted, only earlier moments, or less free space, were tried. With one disk trial that is a
disk without any space, with two signals the first fifth of a run. Trials that failed were repeated after the fault had been
mended (`--again`), so that rows hold trials of several commits.

"""
LIMITATIONS = """## Limitations

- Linux on one machine with a local file system; the disk that fills up is in memory. Power cuts, network file systems and
  Windows are not tried.
- Runs are tiny, of a few steps, and use CPUs. Results of GPUs are not equal bit for bit in general.
- Bits are flipped in checkpoints only, which have a checksum. Where a digit of a JSON file becomes another digit, as in a
  part of a study, nothing can tell.
- A write event is seen when Python opens, renames or removes a file. What the video encoder and safetensors write in
  between is interrupted by the random moments only.
"""


def write_page(results: Path, page: Path) -> dict[str, dict[str, Any]]:
    """Write the page; returns the trials."""
    known = json.loads(results.read_text())
    trials: dict[str, dict[str, Any]] = known["trials"]
    jobs = [each for each in trials.values() if each["fault"] in FAULTS]
    parts = [INTRO, _sessions(known["sessions"]), _table(jobs), _details(jobs), _losses(trials), HOW, LIMITATIONS]
    write_text(page, "\n".join(part for part in parts if part))
    return trials


def _sessions(sessions: list[dict[str, Any]]) -> str:
    run = [each for each in sessions if each["trials"]]
    loads = [each["load"] for each in run]
    commits = ", ".join(dict.fromkeys(each["commit"] for each in run))
    days = ", ".join(dict.fromkeys(each["date"] for each in run))
    return (
        f"Measured on {days} at {commits}, seed {run[0]['seed']}, {run[0]['processors']} processors with a load of "
        f"{min(loads)} to {max(loads)}.\n"
    )


def _table(jobs: list[dict[str, Any]]) -> str:
    """Trials in which everything held, of all, per job and fault."""
    faults = [fault for fault in FAULTS if any(each["fault"] == fault for each in jobs)]
    lines = [f"| job | {' | '.join(TITLES[each] for each in faults)} |", f"|---|{'---:|' * len(faults)}"]
    for job in JOBS:
        if any(each["job"] == job for each in jobs):
            cells = [_cell([each for each in jobs if (each["job"], each["fault"]) == (job, fault)]) for fault in faults]
            lines.append(f"| {job} | {' | '.join(cells)} |")
    return "## Results\n\nTrials in which everything held, of all trials.\n\n" + PARTIAL + "\n".join(lines) + "\n"


def _cell(trials: list[dict[str, Any]]) -> str:
    tried = [each for each in trials if not each["outcome"].startswith("not tried")]
    held = sum(not each["problems"] for each in tried)
    return f"{held} of {len(tried)}" if tried else ""


def _details(jobs: list[dict[str, Any]]) -> str:
    lines = ["How they went on:", ""]
    for fault in FAULTS:
        counts = Counter(each["outcome"] for each in jobs if each["fault"] == fault)
        if counts:
            said = ", ".join(f"{outcome or 'unknown'} ({n})" for outcome, n in counts.most_common())
            lines.append(f"- {TITLES[fault]}: {said}")
    after = [each["after"] for each in jobs if each["fault"] in ("sigint", "sigterm") and each["after"] is not None]
    if after:
        lines += [
            "",
            f"From a signal to the end of the process: median {statistics.median(after):.2f} s, largest "
            f"{max(after):.2f} s ({len(after)} trials).",
        ]
    failed = [each for each in jobs if each["problems"]]
    if failed:
        lines += ["", "What did not hold:", ""]
        lines += [
            f"- {each['job']}, {TITLES[each['fault']]}, {each['at']}: {_short(each['problems'])}" for each in failed
        ]
    return "\n".join(lines) + "\n"


def _short(problems: Iterable[str]) -> str:
    return " ".join("; ".join(problems).split())[:300].replace("|", "\\|").replace("<", "&lt;")


def _losses(trials: Mapping[str, Mapping[str, Any]]) -> str:
    """Losses that were seen in earlier versions."""
    rows = []
    for name, function in LOSSES.items():
        found = trials.get(f"losses/{name}")
        if found is not None:
            outcome = f"**{_short(found['problems'])}**" if found["problems"] else found["outcome"]
            rows.append(f"| {_first_line(function)} | {found['at']} | {outcome} |")
    if not rows:
        return ""
    head = "## Losses of earlier versions, tried again\n\n| loss | tried | outcome |\n|---|---|---|\n"
    return head + "\n".join(rows) + "\n"


def _first_line(function: Callable[..., Any]) -> str:
    return (function.__doc__ or "").splitlines()[0]
