"""The text-to-3D study: what is measured, the jobs, and how their results are gathered."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

from scoredistill.files import slug
from scoredistill.media.images import grid, save_image
from scoredistill.recipe import recipe_of
from scoredistill.studies.harness.jobs import Job, StudyDirectory
from scoredistill.studies.harness.report import image_or_blank
from scoredistill.studies.harness.setting import (
    PriorSetting,
    check_methods,
    check_prompts,
    check_seeds,
    check_text_prior,
    decisive,
    seeds_of,
)
from scoredistill.studies.harness.statistics import differences, finished, mean_and_std, over_seeds
from scoredistill.studies.harness.study import Study
from scoredistill.studies.harness.turntables import SIDE, view_of
from scoredistill.studies.text_to_3d import jobs
from scoredistill.studies.text_to_3d.claims import PAIRS
from scoredistill.studies.text_to_3d.jobs import Case
from scoredistill.studies.text_to_3d.report import report
from scoredistill.studies.text_to_3d.tables import tables
from scoredistill.tasks import checks
from scoredistill.tasks.object_generation.recipes import OBJECT_RECIPES, own

PROMPTS = ("a hamburger", "a red apple", "a tulip", "a cactus", "a castle")
METHODS, QUICK_METHODS = ("sds", "sdi", "msd", "csd"), ("sds", "msd")
QUICK_PROMPTS, FEW = PROMPTS[:2], 2  # prompts of a quick run, and number of prompts of the sweep
SWEPT, VIEWS = ("msd", "csd"), (2, 4, 12)
SEEDS = 3


@dataclass(frozen=True)
class Setting(PriorSetting):
    """What to measure.

    Args:
        prior: name or directory of a text-to-image model.
        prompts: the objects to make; `PROMPTS` by default.
        seeds: objects of each prompt; 3 by default, 1 if `quick`.
        methods: of `OBJECT_RECIPES`, or FILE.py:NAME; `METHODS` by default, and then with the sweep over views.
        quick: measure two prompts and two methods.
    """

    prior: str = "emoji"
    prompts: tuple[str, ...] = ()
    seeds: int | None = None

    def filled(self) -> "Setting":
        """The same setting with its prompts and seeds; `chosen` has its methods."""
        seeds = (1 if self.quick else SEEDS) if self.seeds is None else self.seeds
        return replace(self, prompts=self.prompts or (QUICK_PROMPTS if self.quick else PROMPTS), seeds=seeds)

    def check(self) -> None:
        """Refuse unknown methods, equal or empty prompts, and a number of seeds below 1."""
        check_methods(self.methods, OBJECT_RECIPES)
        if self.seeds is not None:
            check_seeds(self.seeds, self.seed)
        check_prompts(self.prompts)

    @property
    def chosen(self) -> tuple[str, ...]:
        """The methods to compare."""
        return self.methods or (QUICK_METHODS if self.quick else METHODS)


def main_cases(setting: Setting) -> dict[str, dict[tuple[str, int], Case]]:
    """method -> (prompt, seed) -> case."""
    return {
        method: {
            (prompt, seed): Case(method, setting.prior, prompt, setting.load, seed=seed)
            for seed in seeds_of(setting, setting.seeds or SEEDS)
            for prompt in setting.prompts
        }
        for method in setting.chosen
    }


def swept(setting: Setting) -> dict[str, dict[int, list[Case]]]:
    """method -> views per step -> cases. Steps are chosen so that views x steps stays the same; the cases with the
    method's own number of views are those of the main table."""
    made: dict[str, dict[int, list[Case]]] = {}
    for method in SWEPT:
        recipe = OBJECT_RECIPES[method]
        for views in sorted({*VIEWS, recipe.views}):
            steps = max(1, round(recipe.steps * recipe.views / views))
            settings = () if views == recipe.views else (("views", views), ("steps", steps))
            made.setdefault(method, {})[views] = [
                Case(method, setting.prior, prompt, setting.load, seed=setting.seed, settings=settings)
                for prompt in setting.prompts[:FEW]
            ]
    return made


def plan(setting: Setting) -> list[Job]:
    """All jobs: ordinary samples, objects seed by seed, then the sweep."""
    drawn = partial(jobs.sampled, setting.prior, load=setting.load)
    sampled = [Job(f"ddim-{slug(p)}", partial(drawn, p), 0.1) for p in setting.prompts]
    cases = main_cases(setting)
    todo = [cases[method][key] for key in cases[setting.chosen[0]] for method in setting.chosen]
    if setting.whole:
        todo += [case for line in swept(setting).values() for some in line.values() for case in some]
    return sampled + [Job(case.part, partial(jobs.made, case)) for case in dict.fromkeys(todo)]


def check(setting: Setting) -> None:
    """Refuse a prior that edits images, and methods whose package is missing."""
    checks.students(setting.chosen)
    check_text_prior(setting.prior, setting.load)


def key(setting: Setting) -> dict[str, Any]:
    """What all jobs depend on."""
    return {"prior": setting.prior, **decisive(setting.load)}


def gather(setting: Setting, directory: StudyDirectory) -> dict[str, Any]:
    """All results as one dictionary."""
    read, cases = directory.results(), main_cases(setting)
    found = {m: finished(read, {key: case.part for key, case in each.items()}) for m, each in cases.items()}
    pairs = [(a, b) for a, b in PAIRS if a in found and b in found]
    pairs += [(m, "sds") for m in found if "sds" in found and m not in METHODS]
    ddim = finished(read, {(prompt, 0): f"ddim-{slug(prompt)}" for prompt in setting.prompts})
    everything = {**({"ddim": ddim} if ddim else {}), **found}
    results: dict[str, Any] = {
        "setting": {**asdict(setting), "methods": setting.chosen},
        "methods": {m: over_seeds(each) for m, each in found.items() if each},
        "ddim": over_seeds(ddim),
        "paired": {f"{a} - {b}": differences(found[a], found[b], prompt_of) for a, b in pairs},
        "by_prompt": {
            prompt: {m: over_seeds({k: f for k, f in each.items() if k[0] == prompt}) for m, each in everything.items()}
            for prompt in setting.prompts
        },
        "descriptions": {m: recipe_of(m, OBJECT_RECIPES, own).says for m in setting.chosen},
        "recipes": {m: _numbers(m) for m in setting.chosen},
    }
    if setting.whole:
        lines = {m: {v: _averaged(read, cases) for v, cases in line.items()} for m, line in swept(setting).items()}
        results["sweep"] = {m: [{"views": v, **mean} for v, mean in line.items() if mean] for m, line in lines.items()}
    return results


def prompt_of(key: tuple[str, int]) -> str:
    """The prompt of a case, by which standard errors are clustered: objects of one prompt are alike."""
    return key[0]


def _averaged(read: Mapping[str, Mapping[str, Any]], cases: Sequence[Case]) -> dict[str, Any]:
    """Mean and deviation of every metric over cases, except of the number of views, which the sweep sets."""
    every = mean_and_std([read[case.part] for case in cases if case.part in read])
    return {name: cell for name, cell in every.items() if name != "views"}


def _numbers(method: str) -> dict[str, Any]:
    """The plain settings of a recipe."""
    recipe = recipe_of(method, OBJECT_RECIPES, own)
    names = ("steps", "views", "guidance", "lr", "follow", "through", "same_noise")
    return {name: getattr(recipe, name) for name in names}


def preview(setting: Setting, directory: StudyDirectory) -> None:
    """Write preview.png: four sides of every finished object of the first seed."""
    shown, labels = [], []
    for method in setting.chosen:
        for prompt in setting.prompts:
            path = directory.images / f"{Case(method, setting.prior, prompt, seed=setting.seed).name}.png"
            strip = image_or_blank(path, 12 * SIDE)
            shown.append(grid([view_of(strip, k) for k in (0, 3, 6, 9)], columns=2, pad=1))
            labels.append(f"{prompt}, {method}")
    save_image(grid(shown, columns=len(setting.prompts), labels=labels), directory.out / "preview.png")


study = Study(check=check, key=key, plan=plan, gather=gather, tables=tables, report=report, preview=preview)
