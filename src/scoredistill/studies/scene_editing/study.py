"""The scene-editing study: what is measured, the jobs, and how their results are gathered."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from importlib.util import find_spec
from typing import Any

from scoredistill.datasets.procedural_edits import EDITS
from scoredistill.datasets.synthetic_scenes import SCENES as KNOWN_SCENES
from scoredistill.files import slug
from scoredistill.media.images import grid, save_image
from scoredistill.optional import MissingExtra
from scoredistill.studies.harness.jobs import Job, StudyDirectory
from scoredistill.studies.harness.report import image_or_blank
from scoredistill.studies.harness.setting import (
    PriorSetting,
    check_editor,
    check_methods,
    check_names,
    check_seeds,
    identity,
    seeded,
    seeds_of,
)
from scoredistill.studies.harness.statistics import Measurements, differences, finished, over_cases
from scoredistill.studies.harness.study import Study
from scoredistill.studies.harness.turntables import view_of
from scoredistill.studies.scene_editing import jobs
from scoredistill.studies.scene_editing.claims import PAIRS, SUFFICIENT, sufficient_views
from scoredistill.studies.scene_editing.jobs import REFERENCES, Case, Setup
from scoredistill.studies.scene_editing.report import report
from scoredistill.studies.scene_editing.tables import tables
from scoredistill.tasks.scene_editing.recipes import description
from scoredistill.tasks.scene_editing.request import SCENE_METHODS, SceneRequest

SCENES = ("duck", "toys", "table")
INSTRUCTIONS = ("make it night", "make it snowy", "turn it into a pencil sketch")
METHODS = ("one_view", "uncoupled", "csd")
QUICK_METHODS = ("one_view", "csd")
VIEWS, FEW = (3, 6, 12, 24), 2  # numbers of edited views besides all of them, and scenes of that sweep


@dataclass(frozen=True)
class Setting(PriorSetting):
    """What to measure.

    Args:
        prior: name or directory of the editor.
        scenes: names of synthetic scenes; `SCENES` by default.
        instructions: first instructions of exact procedural edits; `INSTRUCTIONS` by default.
        seeds: edits of each scene by each instruction.
        methods: of `SCENE_METHODS`, or FILE.py:NAME; `METHODS` by default, and then with the sweep over views.
        quick: measure one scene of fewer photographs, one instruction and two methods.
    """

    prior: str = "emoji-edit"
    scenes: tuple[str, ...] = ()
    instructions: tuple[str, ...] = ()
    seeds: int = 1

    def filled(self) -> "Setting":
        """The same setting with its scenes and instructions; `chosen` has its methods."""
        scenes = self.scenes or (SCENES[:1] if self.quick else SCENES)
        return replace(self, scenes=scenes, instructions=self.instructions or INSTRUCTIONS[: 1 if self.quick else None])

    def check(self) -> None:
        """Refuse names that do not exist or are given twice, and a number of seeds below 1."""
        check_methods(self.methods, SCENE_METHODS)
        check_names("scene", self.scenes, KNOWN_SCENES)
        check_names("instruction", self.instructions, [e.instructions[0] for e in EDITS.values() if e.exact])
        check_seeds(self.seeds, self.seed)

    @property
    def setup(self) -> Setup:
        """What all jobs share."""
        few = {"views": 16, "held_out": 4} if self.quick else {}
        return Setup(self.prior, load=self.load, **few)

    @property
    def chosen(self) -> tuple[str, ...]:
        """The methods to compare."""
        return self.methods or (QUICK_METHODS if self.quick else METHODS)


Key = tuple[str, str, int]  # scene, instruction, seed


def main_cases(setting: Setting) -> dict[str, dict[Key, Case]]:
    """method -> (scene, instruction, seed) -> case; the references have no seed, 0."""
    return {
        method: {
            (scene, text, seed): Case(method, scene, text, seed=seed)
            for seed in ([0] if method in REFERENCES else seeds_of(setting, setting.seeds))
            for text in setting.instructions
            for scene in setting.scenes
        }
        for method in (*REFERENCES, *setting.chosen)
    }


def swept(setting: Setting) -> dict[int, dict[str, Case]]:
    """Number of edited views -> scene -> case of csd; with all views, the cases are those of the main table."""
    usual, text = setting.setup.views, setting.instructions[0]
    some = setting.scenes[:FEW]
    settings = {n: () if n == usual else (("use", n),) for n in sorted({*VIEWS, usual})}
    return {
        n: {s: Case("csd", s, text, seed=setting.seed, settings=fields) for s in some} for n, fields in settings.items()
    }


def fits(setting: Setting) -> list[Job]:
    """The jobs before all others: one fit for each scene."""
    return [Job(f"fit-{scene}", partial(jobs.fitted, setting.setup, scene)) for scene in setting.scenes]


def plan(setting: Setting) -> list[Job]:
    """All jobs after the fits: edits by scene and instruction, then the sweep."""
    cases = main_cases(setting)
    keys = dict.fromkeys(key for each in cases.values() for key in each)
    todo = [each[key] for key in keys for each in cases.values() if key in each]
    todo += [case for line in swept(setting).values() for case in line.values()] if setting.whole else []
    return [_job(setting.setup, case) for case in dict.fromkeys(todo)]


def _job(setup: Setup, case: Case) -> Job:
    function = jobs.reference if case.method == "truth" else jobs.edited
    return Job(case.part, partial(function, setup, case), 0.1 if case.method in REFERENCES else 1.0)


def check(setting: Setting) -> None:
    """Refuse what cannot be measured here.

    Raises:
        MissingExtra: if pybullet, which renders the scenes, is missing.
        ValueError: if the prior is no editor.
    """
    if find_spec("pybullet") is None:
        raise MissingExtra("rendering the scenes needs pybullet: pip install 'scoredistill[scenes]'")
    check_editor(setting.prior, setting.load)


def key(setting: Setting) -> dict[str, Any]:
    """What all jobs depend on."""
    return {"setup": identity(setting.setup)}


def gather(setting: Setting, directory: StudyDirectory) -> dict[str, Any]:
    """All results as one dictionary."""
    read = directory.results()
    found = {
        m: finished(read, {key: case.part for key, case in each.items()}) for m, each in main_cases(setting).items()
    }
    pairs = [(a, b) for a, b in PAIRS if a in found and b in found]
    pairs += [(method, "csd") for method in setting.own if "csd" in found]
    texts, scenes = setting.instructions, setting.scenes
    results: dict[str, Any] = {
        "setting": {**asdict(setting), **asdict(setting.setup), "methods": setting.chosen},
        "fits": {scene: read[name] for scene in scenes if (name := f"fit-{scene}") in read},
        "methods": {m: over_cases(list(each.values())) for m, each in found.items() if each},
        "paired": {f"{a} - {b}": differences(found[a], found[b], scene_of) for a, b in pairs},
        "by_scene": {scene: _selected(found, (scene,), texts) for scene in scenes},
        "by_instruction": {text: _selected(found, scenes, (text,)) for text in texts},
        "by_both": {f"{scene}: {text}": _selected(found, (scene,), (text,)) for text in texts for scene in scenes},
        "descriptions": {m: description(m) for m in setting.chosen},
        "default_settings": asdict(SceneRequest("edit", prior=setting.prior).complete()),
    }
    if setting.whole:
        line = {n: finished(read, {s: c.part for s, c in cases.items()}) for n, cases in swept(setting).items()}
        results["sweep"] = [{"views": n, **over_cases(list(cases.values()))} for n, cases in line.items() if cases]
        results["sufficient_views"] = {metric: sufficient_views(line, metric) for metric in SUFFICIENT}
    return results


def scene_of(key: Key) -> str:
    """The scene of a case, by which standard errors are clustered: edits of one scene are alike."""
    return key[0]


def _selected(
    found: Mapping[str, Mapping[Key, Measurements]], scenes: tuple[str, ...], texts: tuple[str, ...]
) -> dict[str, Any]:
    """method -> metric -> mean and deviation, over some scenes and instructions."""
    return {
        m: over_cases([measured for (scene, text, _), measured in each.items() if scene in scenes and text in texts])
        for m, each in found.items()
    }


def preview(setting: Setting, directory: StudyDirectory) -> None:
    """Write preview.png: one view of every finished edit, a row for each scene and instruction."""
    names = (*REFERENCES, *setting.chosen)
    seeds = {name: 0 if name in REFERENCES else setting.seed for name in names}
    files = {
        (name, scene, text): directory.images / f"{seeded(f'{name}-{scene}-{slug(text)}', seeds[name])}.png"
        for text in setting.instructions
        for scene in setting.scenes
        for name in names
    }
    if any(file.is_file() for file in files.values()):
        shown = [view_of(image_or_blank(file), 0) for file in files.values()]
        labels = [name for name, _, _ in files]
        save_image(grid(shown, columns=len(names), labels=labels), directory.out / "preview.png")


study = Study(check=check, key=key, first=fits, plan=plan, gather=gather, tables=tables, report=report, preview=preview)
