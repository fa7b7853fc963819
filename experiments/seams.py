"""Two methods of the editing study on its images alone, by the study's own jobs, metrics and standard errors.

    nice -n 10 python experiments/seams.py                # csd against separate crops
    python experiments/seams.py --seed 100 --methods csd windows

Writes csd minus the other method with standard errors clustered by image, those that count every pair as independent,
and the means of each image. A run that was interrupted is continued in --parts.
"""

import argparse
import json
from datetime import date
from pathlib import Path
from typing import Any

import torch

from scoredistill import __version__
from scoredistill.datasets.packaged_media import IMAGES
from scoredistill.studies.editing import study
from scoredistill.studies.editing.claims import METRICS
from scoredistill.studies.editing.setting import Key, Setting, main_cases
from scoredistill.studies.harness.jobs import StudyDirectory
from scoredistill.studies.harness.statistics import Measurements, differences, mean_and_std

BEFORE = tuple(IMAGES)[:8]  # the images of results.json, which kept no single differences
KINDS = ("natural", "equal")

Found = dict[str, dict[Key, Measurements]]  # method -> case -> metrics


def compared(found: Found, methods: tuple[str, str]) -> dict[str, Any]:
    """metric -> the first method minus the second: clustered by image, and as if all pairs were independent."""
    ours, theirs = (found[method] for method in methods)
    clustered, independent = differences(ours, theirs, study.subject_of), differences(ours, theirs)
    return {
        name: {**cell, "independent": independent[name]["std"]} for name, cell in clustered.items() if name in METRICS
    }


def means(cells: dict[str, Any]) -> dict[str, float]:
    """metric -> mean."""
    return {name: cell["mean"] for name, cell in cells.items()}


def chosen_only(found: Found, names: tuple[str, ...]) -> Found:
    """The measurements of some images."""
    return {method: {key: cell for key, cell in each.items() if key[0] in names} for method, each in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("docs/results/edits/seams.json"))
    parser.add_argument("--parts", type=Path, default=Path("runs/seams"))
    parser.add_argument("--methods", nargs=2, default=["csd", "crops"])
    parser.add_argument("--images", nargs="+", default=list(IMAGES))
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    torch.set_num_threads(1)
    methods = tuple(given.methods)
    setting = Setting(images=tuple(given.images), methods=methods, seed=given.seed).complete()
    directory, cases = StudyDirectory(given.parts, study.key(setting)), main_cases(setting, video=False)
    wanted = {case.part for method in methods for case in cases[method].values()}
    directory.run([job for job in study.plan(setting) if job.name in wanted])
    read, made = directory.results(), {}
    for kind in KINDS:
        found = {method: study.measurements(read, cases[method], kind) for method in methods}
        made[kind] = {
            "images": {name: means(compared(chosen_only(found, (name,)), methods)) for name in setting.images},
            "methods": {method: mean_and_std(list(each.values())) for method, each in found.items()},
            "differences": compared(found, methods),
            "differences of the images before": compared(chosen_only(found, BEFORE), methods),
        }
    results = {
        "command": f"python experiments/seams.py --methods {' '.join(methods)} --images {' '.join(setting.images)} "
        f"--seed {setting.seed}",
        "date": str(date.today()), "version": __version__, **made,
    }  # fmt: skip
    given.out.parent.mkdir(parents=True, exist_ok=True)
    given.out.write_text(json.dumps(results, indent=1) + "\n")
    print(json.dumps({kind: each["differences"] for kind, each in made.items()}, indent=1))


if __name__ == "__main__":
    main()
