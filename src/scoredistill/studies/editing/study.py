"""The editing study: the jobs, and how their results are gathered."""

from collections.abc import Mapping
from dataclasses import asdict
from functools import partial
from typing import Any

from scoredistill.datasets import packaged_media
from scoredistill.files import slug
from scoredistill.media.images import grid, save_image
from scoredistill.optional import require
from scoredistill.studies.editing import jobs
from scoredistill.studies.editing.claims import REFERENCES
from scoredistill.studies.editing.jobs import Case
from scoredistill.studies.editing.report import report
from scoredistill.studies.editing.setting import METHODS, VIDEO_METHODS, Key, Setting, main_cases
from scoredistill.studies.editing.sweeps import Series, all_series, image_sweeps, tradeoff, video_sweeps
from scoredistill.studies.editing.tables import tables
from scoredistill.studies.harness.jobs import Job, StudyDirectory
from scoredistill.studies.harness.report import image_or_blank
from scoredistill.studies.harness.setting import check_editor, identity, seeded
from scoredistill.studies.harness.statistics import Measurements, differences, mean_and_std
from scoredistill.studies.harness.study import Study
from scoredistill.tasks.image_editing.recipes import EDIT_RECIPES, own
from scoredistill.tasks.video_editing.recipes import VIDEO_RECIPES

PARTS = {"images": False, "videos": True}  # name in results.json -> whether the subjects are clips
KINDS = {"": "natural", "_equal_update": "equal"}  # end of a key of results.json -> what is measured
PREVIEWED = 4  # images


def plan(setting: Setting) -> list[Job]:
    """All jobs: the main tables first, images before clips, then trade-off and sweeps."""
    tables = [each for video in PARTS.values() for each in main_cases(setting, video).values()]
    points = [point.cases for series in all_series(setting) for line in series.values() for point in line]
    cases = {case.part: case for each in (*tables, *points) for case in each.values()}
    return [_job(setting, case) for case in cases.values()]


def _job(setting: Setting, case: Case) -> Job:
    edit = (3.0 if case.video else 1.0) * (1 + 0.5 * (case.text_scale != 1))
    function = jobs.video if case.video else jobs.image
    return Job(case.part, partial(function, setting.setup, case), 0.2 if case.method in REFERENCES else edit)


Found = Mapping[str, Mapping[str, Any]]  # name of a job -> what it measured


def check(setting: Setting) -> None:
    """Refuse what cannot be measured here.

    Raises:
        MissingExtra: if a package that reads clips, or finds their optical flow, is missing.
        ValueError: if the prior does not edit images by instruction.
    """
    if setting.clips or set(setting.images) & set(packaged_media.STILLS):
        require("av", "bench", "reading the clips of the study")
    if setting.clips:
        require("skimage.registration", "bench", "the optical flow of the clips")
    check_editor(setting.prior, setting.load)


def key(setting: Setting) -> dict[str, Any]:
    """What all jobs depend on."""
    return {"setup": identity(setting.setup)}


def gather(setting: Setting, directory: StudyDirectory) -> dict[str, Any]:
    """All results as one dictionary."""
    read = directory.results()
    cases = {part: main_cases(setting, video) for part, video in PARTS.items()}
    results: dict[str, Any] = {"setting": {**asdict(setting), **asdict(setting.setup)}}
    for end, kind in KINDS.items():
        for part, methods in cases.items():
            measured = {m: measurements(read, each, kind) for m, each in methods.items()}
            results[f"{part}{end}"] = {m: mean_and_std(list(each.values())) for m, each in measured.items() if each}
            results.setdefault(f"paired{end}", {})[part] = _against_csd(measured)
    results["by_instruction"] = {text: _by_method(read, cases["images"], text) for text in setting.instructions}
    results["by_subject"] = {
        name: _by_method(read, cases[part], name) for part, video in PARTS.items() for name in setting.subjects(video)
    }
    every = dict.fromkeys((*METHODS, *VIDEO_METHODS))
    results["descriptions"] = {m: (EDIT_RECIPES if m in METHODS else VIDEO_RECIPES)[m].says for m in every}
    results["descriptions"] |= {m: own(m.recipe).says for m in setting.own}
    if setting.whole:
        sweeps = {**image_sweeps(setting), **video_sweeps(setting)}
        results["tradeoff"], results["sweeps"] = _series(read, tradeoff(setting)), _series(read, sweeps)
        results["paired"]["sweeps"] = {  # the last point minus the first
            name: differences(measurements(read, line[-1].cases), measurements(read, line[0].cases), subject_of)
            for name, line in sweeps.items()
        }
    return results


def measurements(read: Found, cases: Mapping[Key, Case], kind: str = "natural") -> dict[Key, Measurements]:
    """case -> metrics, of the cases that are finished."""
    return {key: jobs.metrics_of(read[case.part], kind) for key, case in cases.items() if case.part in read}


def _against_csd(measured: Mapping[str, Mapping[Key, Measurements]]) -> dict[str, Any]:
    """method -> metric -> csd minus the method on the same subject, instruction and seed."""
    others = [m for m in measured if m not in ("csd", *REFERENCES)] if "csd" in measured else []
    return {m: differences(measured["csd"], measured[m], subject_of) for m in others}


def subject_of(key: Key) -> str:
    """The image or clip of a case, by which standard errors are clustered: edits of one image are alike."""
    return key[0]


def _by_method(read: Found, methods: Mapping[str, Mapping[Key, Case]], what: str) -> dict[str, Any]:
    """method -> metric -> mean and deviation, of one subject or one instruction."""
    chosen = {m: {key: case for key, case in each.items() if what in key[:2]} for m, each in methods.items()}
    return {m: mean_and_std(list(measurements(read, each).values())) for m, each in chosen.items()}


def _series(read: Found, series: Series) -> dict[str, Any]:
    """name -> points with their metrics, of those that have any finished case."""
    made = {
        name: [
            {**point.value, **mean_and_std(list(found.values()))}
            for point in line
            if (found := measurements(read, point.cases))
        ]
        for name, line in series.items()
    }
    return {name: line for name, line in made.items() if line}


def preview(setting: Setting, directory: StudyDirectory) -> None:
    """Write preview.png: the finished images of the first instruction, a row per method."""
    text = slug(setting.instructions[0])
    names = setting.images[:PREVIEWED]
    files = [("source", directory.images / f"source-{name}.png") for name in names]
    methods = ("truth", *setting.chosen(video=False))
    seeds = {method: 0 if method in REFERENCES else setting.seed for method in methods}
    files += [
        (m, directory.images / f"{seeded(f'{m}-{n}-{text}', seed)}.png") for m, seed in seeds.items() for n in names
    ]
    found = [(method, image_or_blank(path)) for method, path in files if path.is_file()]
    if found:
        labels = [method for method, _ in found]
        save_image(
            grid([image for _, image in found], columns=len(names), labels=labels), directory.out / "preview.png"
        )


study = Study(check=check, key=key, plan=plan, gather=gather, tables=tables, report=report, preview=preview)
