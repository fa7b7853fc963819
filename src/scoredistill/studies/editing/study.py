"""The study: what is asked for, the jobs that answer it, and the results that come of them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

from PIL import Image

from scoredistill import __version__
from scoredistill.datasets import packaged_media as data
from scoredistill.datasets.procedural_edits import EDITS
from scoredistill.media.images import grid
from scoredistill.studies.editing import jobs
from scoredistill.studies.editing.jobs import Case, World
from scoredistill.studies.editing.report import report
from scoredistill.studies.editing.tables import markdown
from scoredistill.studies.harness.jobs import Job, Parts, write_json
from scoredistill.studies.harness.setting import slug
from scoredistill.studies.harness.statistics import averaged
from scoredistill.tasks.image_editing.recipes import EDIT_RECIPES
from scoredistill.tasks.run_directory import command_line
from scoredistill.tasks.video_editing.recipes import VIDEO_RECIPES

INSTRUCTIONS = ("make it night", "make it snowy", "turn it into a pencil sketch", "make it green")
QUICK_IMAGES, QUICK_INSTRUCTIONS, QUICK_CLIPS = ("venice", "cat"), INSTRUCTIONS[:2], ("bikes",)
METHODS = ("csd", "csd_full", "csd_paper", "uncoupled", "random_noise", "crops", "windows")
VIDEO_METHODS = ("csd", "common_noise", "uncoupled", "random_noise", "windows", "per_frame")
QUICK_METHODS, QUICK_VIDEO_METHODS = ("csd", "uncoupled", "crops", "windows"), ("csd", "uncoupled", "per_frame")
TEXT_SCALES = (1.0, 1.5, 3.0)
TRADED = dict.fromkeys(("csd", "uncoupled", "random_noise", "crops", "windows"), TEXT_SCALES)
TRADED["csd_paper"] = (1.0, 3.0, 7.5)  # whose own scale is 7.5
FEW = 2  # instructions of the trade-off and the sweeps
KERNEL_SCALES = (0.5, 1.0, 2.0, 8.0)
PARTICLES = (2, 4, 16)
FLOWS = (0, 1, 2, 4)
REFERENCES = ("source", "truth")


@dataclass(frozen=True)
class Setting:
    """What to measure.

    Args:
        prior: name or folder of the editor.
        images: names of `data.IMAGES`; all by default.
        clips: names of `data.CLIPS`; all by default.
        instructions: first instructions of exact edits of `EDITS`.
        methods: of `EDIT_RECIPES`; all by default, and then with trade-off and sweeps.
        seeds: runs of the main tables.
        quick: a small version of the whole.
    """

    prior: str = "emoji-edit"
    images: tuple[str, ...] = ()
    clips: tuple[str, ...] = ()
    instructions: tuple[str, ...] = ()
    methods: tuple[str, ...] = ()
    seeds: int = 1
    quick: bool = False

    def complete(self) -> Setting:
        """The same with every default filled in.

        Raises:
            ValueError: for what does not exist, in one sentence.
        """
        quick = self.quick
        full = replace(
            self,
            images=self.images or (QUICK_IMAGES if quick else tuple(data.IMAGES)),
            clips=self.clips or (QUICK_CLIPS if quick else tuple(data.CLIPS)),
            instructions=self.instructions or (QUICK_INSTRUCTIONS if quick else INSTRUCTIONS),
        )
        exact = [edit.instructions[0] for edit in EDITS.values() if edit.exact]
        for what, given, known in (
            ("image", full.images, data.IMAGES),
            ("clip", full.clips, data.CLIPS),
            ("instruction", full.instructions, exact),
            ("method", full.methods, EDIT_RECIPES),
        ):
            if unknown := [name for name in given if name not in known]:
                raise ValueError(f"unknown {what} {', '.join(unknown)}: use any of {', '.join(known)}")
            if len(set(given)) < len(given):
                raise ValueError(f"a {what} is named twice: give each once")
        if full.seeds < 1:
            raise ValueError(f"seeds must be at least 1, not {full.seeds}")
        for name in full.images:
            data.path_of(*data.IMAGES[name])
        for name in full.clips:
            data.path_of(*data.CLIPS[name][:2])
        return full

    @property
    def world(self) -> World:
        """What all jobs share."""
        frames, sweeps = (8, 4) if self.quick else (8, 6)
        return World(self.prior, 128, 64 if self.quick else 96, frames, sweeps, sweeps)

    @property
    def whole(self) -> bool:
        """Whether trade-off and sweeps are asked for: unless methods are chosen or it is quick."""
        return not self.quick and not self.methods

    def chosen(self, video: bool) -> tuple[str, ...]:
        """Methods for images or videos."""
        usual = VIDEO_METHODS if video else METHODS
        if self.quick and not self.methods:
            return QUICK_VIDEO_METHODS if video else QUICK_METHODS
        return tuple(m for m in self.methods if m in (VIDEO_RECIPES if video else EDIT_RECIPES)) or usual


Series = dict[str, list[tuple[dict[str, Any], list[Case]]]]  # name -> points: what is varied, and its cases


def main_cases(setting: Setting, video: bool) -> dict[str, list[Case]]:
    """The cases of each method, in the order of subjects and instructions; the references have one seed."""
    subjects = setting.clips if video else setting.images
    made = {}
    for method in (*REFERENCES, *setting.chosen(video)):
        seeds = 1 if method in REFERENCES else setting.seeds
        made[method] = [
            Case(method, s, text, seed=k) for s in subjects for text in setting.instructions for k in range(seeds)
        ]
    return made


def traded(setting: Setting) -> Series:
    """Each method at several text scales."""
    few = [(s, text) for s in setting.images for text in setting.instructions[:FEW]]
    return {
        m: [({"text_scale": scale}, [Case(m, s, text, scale) for s, text in few]) for scale in scales]
        for m, scales in TRADED.items()
    }


def swept(setting: Setting) -> tuple[Series, Series]:
    """Sweeps over images and over videos."""
    few = [(s, text) for s in setting.images for text in setting.instructions[:FEW]]
    videos = [(s, text) for s in setting.clips for text in setting.instructions[:FEW]]

    def points(
        method: str, name: str, values: Iterable[Any], pairs: Sequence[tuple[str, str]], **fixed: Any
    ) -> list[tuple[dict[str, Any], list[Case]]]:
        """One setting varied; where it is the method's own, the runs are those of the main table."""
        recipe = (VIDEO_RECIPES if pairs is videos else EDIT_RECIPES)[method]
        made = []
        for v in values:
            settings = {**fixed, **({} if v == getattr(recipe, name) else {name: v})}
            cases = [Case(method, s, text, settings=tuple(settings.items())) for s, text in pairs]
            made.append(({"value": v, "label": str(v)}, cases))
        return made

    apart = {"stride": 1.0}
    stills: Series = {
        "kernel scale": points("csd", "kernel", KERNEL_SCALES, few),
        "kernel scale, whole scores": points("csd_full", "kernel", KERNEL_SCALES, few),
        "kernel": [
            ({"value": 0, "label": "RBF"}, [Case("csd", s, text) for s, text in few]),
            ({"value": 1, "label": "inverse multiquadric"}, [Case("csd", s, text, kernel="imq") for s, text in few]),
        ],
        "four windows a step, side by side": [
            (
                {"value": k, "label": m},
                [Case(m, s, text, settings=(("stride", 1.0), ("particles", 4))) for s, text in few],
            )
            for k, m in enumerate(("uncoupled", "csd", "csd_full"))
        ],
        "particles": points("csd", "particles", PARTICLES, few, **apart),
    }
    moving: Series = {
        "video kernel scale": points("csd", "kernel", KERNEL_SCALES, videos),
        "flow": points("csd", "flow", FLOWS, videos),
    }
    return stills, moving


def plan(setting: Setting) -> list[Job]:
    """All jobs: the main tables first, clips among images, then trade-off and sweeps."""
    world = setting.world
    stills, videos = main_cases(setting, video=False), main_cases(setting, video=True)
    todo = [(case, False) for cases in stills.values() for case in cases]
    todo += [(case, True) for cases in videos.values() for case in cases]
    if setting.whole:
        still, moving = swept(setting)
        for series, video in ((traded(setting), False), (still, False), (moving, True)):
            todo += [(case, video) for line in series.values() for _, cases in line for case in cases]
    made = {
        part_of(case, video): Job(
            part_of(case, video), partial(jobs.video if video else jobs.image, world, case), _cost(case, video)
        )
        for case, video in todo
    }
    return list(made.values())


def part_of(case: Case, video: bool) -> str:
    """Name of a case's part."""
    return f"{'video' if video else 'image'}-{case.name}"


def _cost(case: Case, video: bool) -> float:
    return 0.2 if case.method in REFERENCES else (3.0 if video else 1.0) * (1 + 0.5 * (case.text_scale != 1))


def study(setting: Setting, out: Path, workers: int = 2, progress: bool = True) -> Path:
    """Run the study and write results.json, tables.md, report.html and the images.

    Args:
        out: folder; what is finished there already, of the same world, is kept.
        workers: processes; each computes with one thread.

    Returns:
        The report.

    Raises:
        ValueError: for impossible settings, or if `out` cannot be used, before any work.
    """
    if workers < 1:
        raise ValueError(f"workers must be at least 1, not {workers}")
    setting = setting.complete()
    if not jobs.loaded(setting.prior).editor:
        raise ValueError(f"{setting.prior} follows no instructions about an image: use an editor such as emoji-edit")
    parts = Parts(out, {"world": asdict(setting.world)})
    failed = parts.measure(plan(setting), workers, progress, after=lambda name: _preview(setting, parts))
    results = gather(setting, parts, failed)
    write_json(out / "results.json", results)
    (out / "tables.md").write_text(markdown(results))
    return report(results, out)


def gather(setting: Setting, parts: Parts, failed: Mapping[str, str]) -> dict[str, Any]:
    """All results as one dictionary."""
    read = parts.read()
    stills, videos = main_cases(setting, video=False), main_cases(setting, video=True)
    table = lambda cases, video, kind: {
        method: line for method, each in cases.items() if (line := averaged(_found(read, each, video, kind)))
    }
    against = lambda cases, video, kind: {
        method: _differences(read, cases["csd"], each, video, kind)
        for method, each in cases.items()
        if "csd" in cases and method not in ("csd", *REFERENCES)
    }
    results: dict[str, Any] = {
        "setting": {**asdict(setting), **asdict(setting.world)},
        "command": command_line(),
        "date": str(date.today()),
        "version": __version__,
        "seconds": round(parts.seconds, 1),
        "failed": dict(failed),
        "images": table(stills, False, "natural"),
        "videos": table(videos, True, "natural"),
        "images_equal_update": table(stills, False, "equal"),
        "videos_equal_update": table(videos, True, "equal"),
        "paired": {"images": against(stills, False, "natural"), "videos": against(videos, True, "natural")},
        "paired_equal_update": {"images": against(stills, False, "equal"), "videos": against(videos, True, "equal")},
        "by_instruction": _by_instruction(read, stills),
        "says": {
            m: (VIDEO_RECIPES if m not in METHODS else EDIT_RECIPES)[m].says
            for m in dict.fromkeys((*METHODS, *VIDEO_METHODS))
        },
    }
    if setting.whole:
        still, moving = swept(setting)
        results["tradeoff"] = _series(read, traded(setting), False)
        results["sweeps"] = {**_series(read, still, False), **_series(read, moving, True)}
        results["paired"]["sweeps"] = {  # of the last point to the first
            name: _differences(read, line[-1][1], line[0][1], video, "natural")
            for series, video in ((still, False), (moving, True))
            for name, line in series.items()
        }
    return results


def _found(read: Mapping[str, Any], cases: Sequence[Case], video: bool, kind: str) -> list[dict[str, float]]:
    parts = [read[name] for case in cases if (name := part_of(case, video)) in read]
    return [figures for part in parts if (figures := jobs.measured(part, kind))]


def _differences(
    read: Mapping[str, Any], ours: Sequence[Case], theirs: Sequence[Case], video: bool, kind: str
) -> dict[str, dict[str, float]]:
    """csd minus a method on the same subject and instruction; std is the standard error of the mean."""
    rows = []
    for a, b in zip(ours, theirs, strict=True):
        one, other = read.get(part_of(a, video)), read.get(part_of(b, video))
        if one and other:
            x, y = jobs.measured(one, kind) or {}, jobs.measured(other, kind) or {}
            rows.append({name: x[name] - y[name] for name in x if name in y})
    n = {name: sum(name in row for row in rows) for name in averaged(rows)}
    return {
        name: {"mean": v["mean"], "std": v["std"] / math.sqrt(n[name]), "n": n[name]}
        for name, v in averaged(rows).items()
    }


def _by_instruction(read: Mapping[str, Any], cases: Mapping[str, Sequence[Case]]) -> dict[str, Any]:
    texts = dict.fromkeys(case.instruction for each in cases.values() for case in each)
    return {
        text: {
            m: averaged(_found(read, [c for c in each if c.instruction == text], False, "natural"))
            for m, each in cases.items()
        }
        for text in texts
    }


def _series(read: Mapping[str, Any], series: Series, video: bool) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for name, line in series.items():
        points = [{**what, **averaged(_found(read, cases, video, "natural"))} for what, cases in line]
        made[name] = [p for p in points if "truth_psnr" in p]
    return {name: line for name, line in made.items() if line}


def _preview(setting: Setting, parts: Parts) -> None:
    """What is finished of the images, as an image grid: preview.png."""
    text = setting.instructions[0]
    rows = ("source", "truth", *setting.chosen(video=False))
    shown, labels = [], []
    for method in rows:
        for name in setting.images[:4]:
            file = f"source-{name}.png" if method == "source" else f"{method}-{name}-{slug(text)}.png"
            if (path := parts.images / file).is_file():
                with Image.open(path) as image:
                    shown.append(image.convert("RGB"))
                labels.append(method)
    if shown:
        grid(shown, columns=min(4, len(setting.images)), labels=labels).save(parts.out / "preview.png")
