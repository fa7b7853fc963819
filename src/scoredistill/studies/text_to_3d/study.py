"""The study of things from text: what is asked for, the jobs that answer it, and the results that come of them."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

from scoredistill import __version__
from scoredistill.media.images import grid
from scoredistill.studies.harness.jobs import Job, Parts
from scoredistill.studies.harness.report import opened, published
from scoredistill.studies.harness.setting import loaded, refuse, slug
from scoredistill.studies.harness.statistics import averaged, differences, figures_of, over_seeds
from scoredistill.studies.harness.turntables import SIDE
from scoredistill.studies.text_to_3d import jobs
from scoredistill.studies.text_to_3d.claims import PAIRS
from scoredistill.studies.text_to_3d.jobs import Case
from scoredistill.studies.text_to_3d.report import report, tables
from scoredistill.tasks.object_generation.recipes import OBJECT_RECIPES
from scoredistill.tasks.run_directory import command_line

PROMPTS = ("a hamburger", "a red apple", "a tulip", "a cactus", "a castle")
METHODS, QUICK_METHODS = ("sds", "sdi", "msd", "csd"), ("sds", "msd")
QUICK_PROMPTS, FEW = PROMPTS[:2], 2  # prompts of a quick run, and of the sweep
SWEPT, VIEWS = ("msd", "csd"), (2, 4, 12)
SEEDS = 3


@dataclass(frozen=True)
class Setting:
    """What to measure.

    Args:
        prior: name or folder of a model that makes images from text.
        prompts: what is made; `PROMPTS` by default.
        methods: of `OBJECT_RECIPES`; those of `METHODS` by default, and then with the sweep over views.
        seeds: things of each prompt; 3 by default, 1 if it is quick.
        quick: two prompts and two methods.
    """

    prior: str = "emoji"
    prompts: tuple[str, ...] = ()
    methods: tuple[str, ...] = ()
    seeds: int | None = None
    quick: bool = False

    def complete(self) -> "Setting":
        """The same with every default filled in.

        Raises:
            ValueError: for what does not exist, in one sentence.
        """
        refuse("method", self.methods, OBJECT_RECIPES)
        seeds = (1 if self.quick else SEEDS) if self.seeds is None else self.seeds
        if seeds < 1:
            raise ValueError(f"seeds must be at least 1, not {seeds}")
        prompts = self.prompts or (QUICK_PROMPTS if self.quick else PROMPTS)
        if len({slug(prompt) for prompt in prompts}) < len(prompts):
            raise ValueError("a prompt is named twice: give each once")
        return replace(self, prompts=prompts, seeds=seeds)

    @property
    def chosen(self) -> tuple[str, ...]:
        """The methods."""
        return self.methods or (QUICK_METHODS if self.quick else METHODS)

    @property
    def whole(self) -> bool:
        """Whether the sweep is asked for: unless methods are chosen or it is quick."""
        return not self.quick and not self.methods


def main_cases(setting: Setting) -> dict[str, dict[tuple[str, int], Case]]:
    """method -> (prompt, seed) -> case."""
    assert setting.seeds is not None
    return {
        method: {
            (prompt, seed): Case(setting.prior, method, prompt, seed)
            for seed in range(setting.seeds)
            for prompt in setting.prompts
        }
        for method in setting.chosen
    }


def swept(setting: Setting) -> dict[str, dict[int, list[Case]]]:
    """method -> views of a step -> cases, steps chosen so that views x steps stays; the method's own are the main's."""
    made: dict[str, dict[int, list[Case]]] = {}
    for method in SWEPT:
        recipe = OBJECT_RECIPES[method]
        for views in sorted({*VIEWS, recipe.views}):
            steps = max(1, round(recipe.steps * recipe.views / views))
            settings = () if views == recipe.views else (("views", views), ("steps", steps))
            cases = [Case(setting.prior, method, prompt, 0, settings) for prompt in setting.prompts[:FEW]]
            made.setdefault(method, {})[views] = cases
    return made


def plan(setting: Setting) -> list[Job]:
    """All jobs: references, things seed by seed, then the sweep."""
    sampled = [Job(f"ddim-{slug(p)}", partial(jobs.sampled, setting.prior, p), 0.1) for p in setting.prompts]
    assert setting.seeds is not None
    cases = main_cases(setting)
    keys = [(prompt, seed) for seed in range(setting.seeds) for prompt in setting.prompts]
    todo = [cases[method][key] for key in keys for method in setting.chosen]
    if setting.whole:
        todo += [case for line in swept(setting).values() for some in line.values() for case in some]
    return sampled + [Job(case.part, partial(jobs.made, case)) for case in dict.fromkeys(todo)]


def study(setting: Setting, out: Path, workers: int = 2, progress: bool = True) -> Path:
    """Run the study and write results.json, tables.md, report.html and the images.

    Args:
        out: folder; what is finished there already, of the same prior and with the same settings, is kept.
        workers: processes; each computes with one thread.

    Returns:
        The report.

    Raises:
        ValueError: for impossible settings, or if `out` cannot be used, before any work.
    """
    if workers < 1:
        raise ValueError(f"workers must be at least 1, not {workers}")
    setting = setting.complete()
    if loaded(setting.prior).needs_source:
        raise ValueError(f"{setting.prior} edits images: to make things from text use a model such as emoji")
    parts = Parts(out, {"prior": setting.prior})
    failed = parts.measure(plan(setting), workers, progress, after=lambda name: _preview(setting, parts))
    return published(gather(setting, parts.read(), failed, parts.seconds), out, tables, report)


def gather(
    setting: Setting, read: Mapping[str, Mapping[str, Any]], failed: Mapping[str, str], seconds: float
) -> dict[str, Any]:
    """All results as one dictionary."""
    cases = main_cases(setting)
    found = {m: figures_of(read, {key: case.part for key, case in each.items()}) for m, each in cases.items()}
    pairs = [(a, b) for a, b in PAIRS if a in found and b in found]
    pairs += [(m, "sds") for m in found if "sds" in found and m not in METHODS]
    names = {prompt: f"ddim-{slug(prompt)}" for prompt in setting.prompts}
    ddim = {(prompt, 0): figures for prompt, figures in figures_of(read, names).items()}
    results: dict[str, Any] = {
        "setting": {**asdict(setting), "methods": setting.chosen},
        "command": command_line(),
        "date": str(date.today()),
        "version": __version__,
        "seconds": round(seconds, 1),
        "failed": dict(failed),
        "methods": {m: over_seeds(each) for m, each in found.items() if each},
        "ddim": over_seeds(ddim),
        "paired": {f"{a} - {b}": differences(found[a], found[b]) for a, b in pairs},
        "by_prompt": {
            prompt: {
                **({"ddim": over_seeds({(prompt, 0): read[name]})} if name in read else {}),
                **{m: over_seeds({k: f for k, f in each.items() if k[0] == prompt}) for m, each in found.items()},
            }
            for prompt, name in names.items()
        },
        "says": {m: OBJECT_RECIPES[m].says for m in setting.chosen},
        "recipes": {m: _numbers(m) for m in setting.chosen},
    }
    if setting.whole:
        results["sweep"] = {
            method: [{"views": v, **_averaged(read, line)} for v, line in points.items() if _averaged(read, line)]
            for method, points in swept(setting).items()
        }
    return results


def _averaged(read: Mapping[str, Mapping[str, Any]], cases: Sequence[Case]) -> dict[str, Any]:
    """Means over cases, but not of what the sweep itself sets."""
    every = averaged([read[case.part] for case in cases if case.part in read])
    return {name: cell for name, cell in every.items() if name != "views"}


def _numbers(method: str) -> dict[str, Any]:
    """The plain settings of a recipe."""
    recipe = OBJECT_RECIPES[method]
    names = ("steps", "views", "guidance", "lr", "follow", "through", "same_noise")
    return {name: getattr(recipe, name) for name in names}


def _preview(setting: Setting, parts: Parts) -> None:
    """Four sides of every thing of the first seed that is finished: preview.png."""
    shown, labels = [], []
    for method in setting.chosen:
        for prompt in setting.prompts:
            path = parts.images / f"{Case(setting.prior, method, prompt).name}.png"
            views = opened(path, 12 * SIDE)
            sides = [views.crop((k * SIDE, 0, (k + 1) * SIDE, SIDE)) for k in (0, 3, 6, 9)]
            shown.append(grid(sides, columns=2, pad=1))
            labels.append(f"{prompt}, {method}")
    grid(shown, columns=len(setting.prompts), labels=labels).save(parts.out / "preview.png")
