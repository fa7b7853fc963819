"""The study of edited scenes: what is asked for, the jobs that answer it, and the results that come of them."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from datetime import date
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from scoredistill import __version__
from scoredistill.datasets import synthetic_scenes as studio
from scoredistill.media.images import grid
from scoredistill.studies.harness.jobs import Job, Parts
from scoredistill.studies.harness.report import opened, published
from scoredistill.studies.harness.setting import loaded, refuse, slug
from scoredistill.studies.harness.statistics import differences, figures_of, over_cases
from scoredistill.studies.harness.turntables import SIDE
from scoredistill.studies.scene_editing import jobs
from scoredistill.studies.scene_editing.claims import ENOUGH, PAIRS, enough
from scoredistill.studies.scene_editing.jobs import Case, World
from scoredistill.studies.scene_editing.report import report, tables
from scoredistill.tasks.run_directory import command_line
from scoredistill.tasks.scene_editing.request import SCENE_METHODS, SceneRequest

SCENES = ("duck", "toys", "table")
INSTRUCTIONS = ("make it night", "make it snowy", "turn it into a pencil sketch")
METHODS = ("one_view", "uncoupled", "csd")
QUICK_METHODS = ("one_view", "csd")
REFERENCES = ("source", "truth")
VIEWS, FEW = (3, 6, 12, 24), 2  # edited views besides all of them, and scenes of that sweep


@dataclass(frozen=True)
class Setting:
    """What to measure.

    Args:
        prior: name or folder of the editor.
        scenes: of `studio.SCENES`.
        instructions: first instructions of exact edits.
        methods: of `SCENE_METHODS`; `METHODS` by default, and then with the sweep over views.
        seeds: edits of each scene by each instruction.
        quick: one scene of fewer photographs, one instruction, two methods.
    """

    prior: str = "emoji-edit"
    scenes: tuple[str, ...] = ()
    instructions: tuple[str, ...] = ()
    methods: tuple[str, ...] = ()
    seeds: int = 1
    quick: bool = False

    def complete(self) -> "Setting":
        """The same with every default filled in.

        Raises:
            ValueError: for what does not exist, in one sentence.
        """
        refuse("method", self.methods, SCENE_METHODS)
        refuse("scene", self.scenes, studio.SCENES)
        refuse("instruction", self.instructions, [e.instructions[0] for e in jobs.EDITS.values() if e.exact])
        if self.seeds < 1:
            raise ValueError(f"seeds must be at least 1, not {self.seeds}")
        scenes = self.scenes or (SCENES[:1] if self.quick else SCENES)
        return replace(self, scenes=scenes, instructions=self.instructions or INSTRUCTIONS[: 1 if self.quick else None])

    @property
    def world(self) -> World:
        """What all jobs share."""
        return World(self.prior, views=16, held_out=4) if self.quick else World(self.prior)

    @property
    def chosen(self) -> tuple[str, ...]:
        """The methods."""
        return self.methods or (QUICK_METHODS if self.quick else METHODS)

    @property
    def whole(self) -> bool:
        """Whether the sweep is asked for: unless methods are chosen or it is quick."""
        return not self.quick and not self.methods


Key = tuple[str, str, int]  # scene, instruction, seed


def main_cases(setting: Setting) -> dict[str, dict[Key, Case]]:
    """method -> (scene, instruction, seed) -> case; the references have one seed."""
    return {
        method: {
            (scene, text, seed): Case(method, scene, text, seed)
            for seed in range(1 if method in REFERENCES else setting.seeds)
            for text in setting.instructions
            for scene in setting.scenes
        }
        for method in (*REFERENCES, *setting.chosen)
    }


def swept(setting: Setting) -> dict[int, dict[str, Case]]:
    """Edited views -> scene -> case of csd; all of them are the main's. Rows go with the views."""
    usual, text = setting.world.views, setting.instructions[0]
    some = setting.scenes[:FEW]
    settings = {n: () if n == usual else (("use", n),) for n in sorted({*VIEWS, usual})}
    return {n: {s: Case("csd", s, text, 0, fields) for s in some} for n, fields in settings.items()}


def fits(setting: Setting) -> list[Job]:
    """What comes before everything else: one fit for each scene."""
    return [Job(f"fit-{scene}", partial(jobs.fitted, setting.world, scene)) for scene in setting.scenes]


def plan(setting: Setting) -> list[Job]:
    """All jobs after the fits: edits by scene and instruction, then the sweep."""
    cases = main_cases(setting)
    todo = [each[key] for key in cases[setting.chosen[0]] for each in cases.values() if key in each]
    todo += [case for line in swept(setting).values() for case in line.values()] if setting.whole else []
    return [_job(setting.world, case) for case in dict.fromkeys(todo)]


def _job(world: World, case: Case) -> Job:
    function = jobs.true if case.method == "truth" else jobs.edited
    return Job(case.part, partial(function, world, case), 0.1 if case.method in REFERENCES else 1.0)


def study(setting: Setting, out: Path, workers: int = 2, progress: bool = True) -> Path:
    """Run the study and write results.json, tables.md, report.html and the images.

    Args:
        out: folder; what is finished there already, of the same world and with the same settings, is kept.
        workers: processes; each computes with one thread.

    Returns:
        The report.

    Raises:
        ValueError: for impossible settings, or if `out` cannot be used, before any work.
        ImportError: pybullet, which renders the scenes, is missing.
    """
    if workers < 1:
        raise ValueError(f"workers must be at least 1, not {workers}")
    setting = setting.complete()
    if find_spec("pybullet") is None:
        raise ImportError("scenes need pybullet: pip install 'scoredistill[scenes]'")
    if not loaded(setting.prior).editor:
        raise ValueError(f"{setting.prior} follows no instructions about an image: use an editor such as emoji-edit")
    parts = Parts(out, {"world": asdict(setting.world)})
    (out / "scenes").mkdir(exist_ok=True)
    failed = parts.measure(fits(setting), workers, progress)
    failed |= parts.measure(plan(setting), workers, progress, after=lambda name: _preview(setting, parts))
    return published(gather(setting, parts.read(), failed, parts.seconds), out, tables, report)


def gather(
    setting: Setting, read: Mapping[str, Mapping[str, Any]], failed: Mapping[str, str], seconds: float
) -> dict[str, Any]:
    """All results as one dictionary."""
    found = {
        m: figures_of(read, {key: case.part for key, case in each.items()}) for m, each in main_cases(setting).items()
    }
    some = lambda place, name: {
        m: over_cases([figures for key, figures in each.items() if key[place] == name]) for m, each in found.items()
    }
    pairs = [(a, b) for a, b in PAIRS if a in found and b in found]
    results: dict[str, Any] = {
        "setting": {**asdict(setting), **asdict(setting.world), "methods": setting.chosen},
        "command": command_line(),
        "date": str(date.today()),
        "version": __version__,
        "seconds": round(seconds, 1),
        "failed": dict(failed),
        "fits": {scene: dict(read[name]) for scene in setting.scenes if (name := f"fit-{scene}") in read},
        "methods": {m: over_cases(list(each.values())) for m, each in found.items() if each},
        "paired": {f"{a} - {b}": differences(found[a], found[b]) for a, b in pairs},
        "by_scene": {scene: some(0, scene) for scene in setting.scenes},
        "by_instruction": {text: some(1, text) for text in setting.instructions},
        "by_both": {f"{s}: {t}": _of(found, s, t) for t in setting.instructions for s in setting.scenes},
        "says": {m: SCENE_METHODS[m] for m in setting.chosen},
        "usual": asdict(SceneRequest("edit", prior=setting.prior).complete()),
    }
    if setting.whole:
        line = {n: figures_of(read, {s: c.part for s, c in cases.items()}) for n, cases in swept(setting).items()}
        results["sweep"] = [{"views": n, **over_cases(list(cases.values()))} for n, cases in line.items() if cases]
        results["enough"] = {metric: enough(line, metric) for metric in ENOUGH}
    return results


def _of(found: Mapping[str, Mapping[Key, Mapping[str, float]]], scene: str, text: str) -> dict[str, Any]:
    """One scene and one instruction, over seeds."""
    return {m: over_cases([f for k, f in each.items() if k[:2] == (scene, text)]) for m, each in found.items()}


def _preview(setting: Setting, parts: Parts) -> None:
    """One view of what is finished, a row for each scene and instruction: preview.png."""
    names = (*REFERENCES, *setting.chosen)
    shown, labels = [], []
    for text in setting.instructions:
        for scene in setting.scenes:
            for method in names:
                views = opened(parts.images / f"{method}-{scene}-{slug(text)}.png")
                shown.append(views.crop((0, 0, SIDE, SIDE)))
                labels.append(method)
    grid(shown, columns=len(names), labels=labels).save(parts.out / "preview.png")
