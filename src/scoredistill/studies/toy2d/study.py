"""The two-dimensional study: what is measured, the jobs, and how their results are gathered.

A job is a function of `jobs` with its arguments, which make its name: what is measured with other arguments is measured
again.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

from tqdm import tqdm

from scoredistill.datasets.toy2d import NAMES
from scoredistill.recipe import versioned
from scoredistill.studies.harness.jobs import Job, StudyDirectory
from scoredistill.studies.harness.setting import (
    ComparisonSetting,
    check_methods,
    check_names,
    check_seeds,
    seeded,
    seeds_of,
)
from scoredistill.studies.harness.statistics import flat_mean_and_std
from scoredistill.studies.harness.study import Study
from scoredistill.studies.toy2d import jobs
from scoredistill.studies.toy2d.denoisers import DENOISERS, denoiser
from scoredistill.studies.toy2d.methods import TABLE, ZOO, method_of
from scoredistill.studies.toy2d.report import report
from scoredistill.studies.toy2d.tables import tables

LANDSCAPES = ("sds", "msd_0.316", "msd_0.1", "paper_0.316", "paper_0.1")
GUIDED = ("ddim", "sds", "annealed_sds", "msd", "collaborative")
SLOW = {"sdi", "vsd", "csd", "annealed_sds", "msd_paper"}  # not run on the ideal denoiser, which takes 5 times as long
PRODUCT_LAMBDAS = (1.0, 0.316, 0.1)


@dataclass(frozen=True)
class Setting(ComparisonSetting):
    """What to measure.

    Args:
        sets: of fractal, spiral, pinwheel; all by default.
        denoisers: of exact, ideal, learned; all by default.
        seeds: repetitions.
        methods: of `ZOO`, or FILE.py:NAME; those of Table 2 by default, and then with the ranking, landscapes and
            gradients.
        quick: measure a smaller version of everything.
    """

    sets: tuple[str, ...] = ()
    denoisers: tuple[str, ...] = ()
    seeds: int = 4

    def filled(self) -> "Setting":
        """The same setting with every default filled in, unchecked."""
        return replace(
            self,
            sets=self.sets or NAMES,
            methods=self.methods or tuple(TABLE),
            denoisers=self.denoisers or DENOISERS,
        )

    def check(self) -> None:
        """Refuse names that do not exist or are given twice, and a number of seeds below 1."""
        check_names("set", self.sets, NAMES)
        check_methods(self.methods, ZOO)
        check_names("denoiser", self.denoisers, DENOISERS)
        check_seeds(self.seeds, self.seed)

    @property
    def whole(self) -> bool:
        """Whether all methods are compared: then landscapes, gradients and the ranking are measured as well."""
        return set(self.methods) >= set(TABLE)

    @property
    def scale(self) -> jobs.Scale:
        """How large the experiments are."""
        return jobs.QUICK if self.quick else jobs.FULL


def plan(setting: Setting) -> list[Job]:
    """All jobs by name, the slowest kinds first."""
    shared = {"scale": setting.scale, "quick": setting.quick}
    runs = [
        Job(_run(setting, seed, function, *arguments),
            partial(function, *arguments, seed, first=seed == setting.seed, **shared))
        for function, (*arguments, seed) in [*_samples(setting), *_ranking(setting)]
    ]  # fmt: skip
    figures = [
        Job(_figure(setting, function, *arguments), partial(function, *arguments, seed=setting.seed, **shared))
        for function, arguments in _figures(setting)
    ]
    return runs + figures


def _run(setting: Setting, seed: int, function: Callable[..., Any], *arguments: object) -> str:
    """The name of a run's job. The first seed's has images: where it is not 0, which is always the first, the name
    says so."""
    first = ["first"] if seed and seed == setting.seed else []
    return "-".join([function.__name__, *map(_word, arguments), str(seed), *first])


def _word(argument: object) -> str:
    """An argument of a job in its name."""
    return versioned(argument) if isinstance(argument, str) else str(argument)


def _figure(setting: Setting, function: Callable[..., Any], *arguments: object) -> str:
    """The name of the job of a figure, which has the first seed."""
    return seeded("-".join([function.__name__, *map(_word, arguments)]), setting.seed)


Call = tuple[Callable[..., dict[str, Any]], tuple[Any, ...]]  # a function of `jobs` and its arguments


def _samples(setting: Setting) -> list[Call]:
    """Table 2."""
    table = [method for method in setting.methods if method in TABLE or method in setting.own]
    return [
        (jobs.table2, (name, kind, method, seed))
        for kind in sorted(setting.denoisers, key=DENOISERS.index, reverse=True)
        for name in setting.sets
        for method in table
        if not (setting.whole and method in SLOW and (kind == "ideal" or setting.quick))
        for seed in seeds_of(setting, setting.seeds)
    ]


def _ranking(setting: Setting) -> list[Call]:
    """All methods at an equal number of network evaluations; those of the user's own beside any other."""
    methods = [*ZOO, *setting.own] if setting.whole else [m for m in setting.methods if m not in TABLE]
    if set(methods) <= set(setting.own):
        return []
    seeds = seeds_of(setting, 1 if setting.quick else setting.seeds)
    return [(jobs.ranked, (method, seed)) for method in methods for seed in seeds]


def _figures(setting: Setting) -> list[Call]:
    """Gradients, landscapes and the product density of each set, then guided samples."""
    if not setting.whole:
        return []
    made: list[Call] = []
    for name in setting.sets:
        for kind in setting.denoisers:
            few = setting.quick or kind == "ideal"
            made += [(jobs.gradients, (name, kind, lam)) for lam in jobs.LAMBDAS[: 1 if few else None]]
        made += [(jobs.heights, (name, method)) for method in LANDSCAPES[: 3 if setting.quick else None]]
        made += [(jobs.product_density, (name, lam)) for lam in PRODUCT_LAMBDAS]
    return made + [(jobs.guided, (method,)) for method in GUIDED]


def train(setting: Setting, unfinished: Sequence[Job], progress: bool) -> None:
    """Train and cache the learned denoisers that unfinished jobs use."""
    if not any("learned" in job.name for job in unfinished):
        return
    for name in setting.sets:
        with tqdm(total=100, desc=f"training on {name}", disable=not progress, leave=False) as bar:
            denoiser("learned", name, setting.quick, partial(_show, bar))


def _show(bar: Any, step: int, steps: int, loss: float) -> None:
    bar.update(100 * step // steps - bar.n)


def key(setting: Setting) -> dict[str, Any]:
    """What all jobs depend on."""
    return {"quick": setting.quick}


def gather(setting: Setting, directory: StudyDirectory) -> dict[str, Any]:
    """All results as one dictionary; numbers of several seeds as their mean, with standard deviations beside."""
    found = directory.results()
    table2 = [*TABLE, *setting.own]
    table1 = _by_set(setting, lambda name, kind: _gradients(setting, found, name, kind))
    return {
        "setting": asdict(setting) | {"scale": asdict(setting.scale)},
        "mmd_bandwidth": jobs.MMD_BANDWIDTH,
        "descriptions": {method: method_of(method).description for method in (*ZOO, *setting.own)},
        "table2": _by_set(setting, lambda name, kind: _methods(setting, found, table2, jobs.table2, name, kind)),
        "table1": table1,
        "bias": {
            name: {kind: {lam: {m: cell["bias"] for m, cell in each.items()} for lam, each in lambdas.items()}
                   for kind, lambdas in kinds.items()}
            for name, kinds in table1.items()
        },
        "landscape": {name: each for name in setting.sets if (each := _landscapes(setting, found, name))},
        "ranking": _methods(setting, found, [*ZOO, *setting.own], jobs.ranked),
        "guided": {m: found[job] for m in GUIDED if (job := _figure(setting, jobs.guided, m)) in found},
        "product": _products(setting, found),
    }  # fmt: skip


Found = Mapping[str, Mapping[str, Any]]  # name of a job -> what it measured


def _by_set(setting: Setting, cells: Callable[[str, str], dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """set -> denoiser -> cells, without what is empty."""
    by_set = {name: {kind: c for kind in setting.denoisers if (c := cells(name, kind))} for name in setting.sets}
    return {name: kinds for name, kinds in by_set.items() if kinds}


def _methods(
    setting: Setting, found: Found, methods: Iterable[str], function: Callable[..., Any], *start: str
) -> dict[str, Any]:
    """method -> its metrics over the setting's seeds that are finished; the directory may hold those of others."""
    made = {}
    for method in methods:
        names = [_run(setting, s, function, *start, method) for s in seeds_of(setting, setting.seeds)]
        seeds = [found[name] for name in names if name in found]
        if seeds:
            gradients = [each["gradient"] for each in seeds if each.get("gradient")]
            made[method] = flat_mean_and_std(seeds) | ({"gradient": gradients[-1]} if gradients else {})
    return made


def _gradients(setting: Setting, found: Found, name: str, kind: str) -> dict[str, Any]:
    """lambda -> method -> metrics of its gradient."""
    names = {str(lam): _figure(setting, jobs.gradients, name, kind, lam) for lam in jobs.LAMBDAS}
    return {lam: found[job] for lam, job in names.items() if job in found}


def _landscapes(setting: Setting, found: Found, name: str) -> dict[str, Any]:
    """method -> peaks; "msd" stands for the smaller bandwidth."""
    names = {method: _figure(setting, jobs.heights, name, method) for method in LANDSCAPES}
    made = {method: found[job] for method, job in names.items() if job in found}
    return made | ({"msd": made["msd_0.1"]} if "msd_0.1" in made else {})


def _products(setting: Setting, found: Found) -> dict[str, Any]:
    """ "set-lambda" -> errors of the means of the product density."""
    pairs = [(name, lam) for name in setting.sets for lam in PRODUCT_LAMBDAS]
    names = {f"{name}-{lam}": _figure(setting, jobs.product_density, name, lam) for name, lam in pairs}
    return {pair: found[job] for pair, job in names.items() if job in found}


study = Study(key=key, plan=plan, gather=gather, tables=tables, report=report, prepare=train)
