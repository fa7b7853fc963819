"""The laboratory: all jobs of the toy study, run side by side, kept one by one, and gathered into results.json.

A job is a function of `jobs` with its arguments, which are its name: a setting that changes is measured anew.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

from tqdm import tqdm

from scoredistill import __version__
from scoredistill.datasets.toy2d import NAMES
from scoredistill.studies.harness.jobs import Job, Parts, averaged, write_json
from scoredistill.studies.toy2d import jobs
from scoredistill.studies.toy2d.denoisers import DENOISERS, denoiser
from scoredistill.studies.toy2d.methods import TABLE, ZOO
from scoredistill.studies.toy2d.tables import markdown

LANDSCAPES = ("sds", "msd_0.316", "msd_0.1", "paper_0.316", "paper_0.1")
GUIDED = ("ddim", "sds", "annealed_sds", "msd", "collaborative")
SLOW = {"sdi", "vsd", "csd", "annealed_sds", "msd_paper"}  # of Table 2: not on the ideal denoiser, which costs 5 times


@dataclass(frozen=True)
class Setting:
    """What to measure.

    Args:
        sets: of fractal, spiral, pinwheel.
        methods: of Table 2 (and, if all are asked for, of the ranking).
        denoisers: of exact, ideal, learned.
        seeds: repetitions.
        quick: a smaller version of everything, to look at.
    """

    sets: tuple[str, ...] = NAMES
    methods: tuple[str, ...] = tuple(TABLE)
    denoisers: tuple[str, ...] = DENOISERS
    seeds: int = 4
    quick: bool = False

    def __post_init__(self) -> None:
        for what, given, known in (
            ("set", self.sets, NAMES),
            ("method", self.methods, tuple(ZOO)),
            ("denoiser", self.denoisers, DENOISERS),
        ):
            unknown = [name for name in given if name not in known]
            if unknown or not given:
                raise ValueError(f"unknown {what} {', '.join(unknown) or '(none)'}: use any of {', '.join(known)}")
        if self.seeds < 1:
            raise ValueError(f"seeds must be at least 1, not {self.seeds}")

    @property
    def whole(self) -> bool:
        """Whether all methods are asked for: then the figures, the gradients and the ranking are made as well."""
        return set(self.methods) >= set(TABLE)


def plan(setting: Setting) -> list[Job]:
    """All jobs by name, the slowest kinds first."""
    scale = jobs.QUICK if setting.quick else jobs.FULL
    common = {"scale": scale, "quick": setting.quick}
    made: list[Job] = []

    def add(function: Callable[..., dict[str, Any]], *arguments: Any) -> None:
        name = "-".join([function.__name__, *map(str, arguments)])
        made.append(Job(name, partial(function, *arguments, **common)))

    table = [method for method in setting.methods if method in TABLE]
    for kind in sorted(setting.denoisers, key=DENOISERS.index, reverse=True):
        for name in setting.sets:
            for method in table:
                if (kind == "ideal" or setting.quick) and method in SLOW and setting.whole:
                    continue
                for seed in range(setting.seeds):
                    add(jobs.table2, name, kind, method, seed)
    zoo = list(ZOO) if setting.whole else [method for method in setting.methods if method not in TABLE]
    for method in zoo:
        for seed in range(1 if setting.quick else setting.seeds):
            add(jobs.ranked, method, seed)
    if setting.whole:
        for name in setting.sets:
            for kind in setting.denoisers:
                for lam in jobs.LAMBDAS[:1] if setting.quick or kind == "ideal" else jobs.LAMBDAS:
                    add(jobs.gradients, name, kind, lam)
            for method in LANDSCAPES[:3] if setting.quick else LANDSCAPES:
                add(jobs.heights, name, method)
            for lam in (1.0, 0.316, 0.1):
                add(jobs.product_density, name, lam)
        for method in GUIDED:
            add(jobs.guided, method)
    return made


def study(setting: Setting, out: Path, workers: int = 2, progress: bool = True) -> Path:
    """Run the study and write results.json, tables.md, report.html and the images.

    Args:
        out: folder; what is finished there already, with the same setting, is kept.
        workers: processes; each computes with one thread.

    Returns:
        The report.

    Raises:
        ValueError: if `out` cannot be used.
    """
    from scoredistill.studies.toy2d.report import report

    if workers < 1:
        raise ValueError(f"workers must be at least 1, not {workers}")
    parts = Parts(out, {"quick": setting.quick})
    todo = plan(setting)
    if any("learned" in job.name for job in parts.missing(todo)):
        for name in setting.sets:
            _train(name, setting.quick, progress)
    failed = parts.measure(todo, workers, progress)
    results = gather(setting, parts, failed)
    write_json(out / "results.json", results)
    (out / "tables.md").write_text(markdown(results))
    return report(results, out)


def _train(name: str, quick: bool, progress: bool) -> None:
    with _bar(progress, 100, f"training on {name}") as bar:

        def after(step: int, steps: int, loss: float) -> None:
            bar.update(100 * step // steps - bar.n)

        denoiser("learned", name, quick, after)


def gather(setting: Setting, parts: Parts, failed: dict[str, str]) -> dict[str, Any]:
    """All parts as one dictionary; numbers of several seeds as their mean, with their standard deviations beside."""
    from scoredistill.tasks.run_directory import command_line

    read = parts.read()

    def seeds(*start: str) -> list[dict[str, Any]]:
        return [value for key, value in read.items() if key.rpartition("-")[0] == "-".join(start)]

    results: dict[str, Any] = {
        "setting": asdict(setting) | {"scale": asdict(jobs.QUICK if setting.quick else jobs.FULL)},
        "command": command_line(),
        "date": str(date.today()),
        "version": __version__,
        "seconds": round(parts.seconds, 1),
        "mmd_bandwidth": jobs.MMD_BANDWIDTH,
        "failed": failed,
        "table2": {},
        "table1": {},
        "bias": {},
        "landscape": {},
        "ranking": {},
        "guided": {k.removeprefix("guided-"): v for k, v in read.items() if k.startswith("guided-")},
        "product": {k.removeprefix("product_density-"): v for k, v in read.items() if k.startswith("product_density-")},
    }
    for name in setting.sets:
        for kind in setting.denoisers:
            cells = {m: averaged(s) for m in TABLE if (s := seeds("table2", name, kind, m))}
            if cells:
                results["table2"].setdefault(name, {})[kind] = cells
            for lam in jobs.LAMBDAS:
                if found := read.get(f"gradients-{name}-{kind}-{lam}"):
                    results["table1"].setdefault(name, {}).setdefault(kind, {})[str(lam)] = found
                    biases = {m: v["bias"] for m, v in found.items()}
                    results["bias"].setdefault(name, {}).setdefault(kind, {})[str(lam)] = biases
        for method in LANDSCAPES:
            if found := read.get(f"heights-{name}-{method}"):
                results["landscape"].setdefault(name, {})[method] = found
        if name in results["landscape"] and "msd_0.1" in results["landscape"][name]:
            results["landscape"][name]["msd"] = results["landscape"][name]["msd_0.1"]
    for method in ZOO:
        if found_seeds := seeds("ranked", method):
            gradient = {k: v for f in found_seeds for k, v in f.items() if k == "gradient" and v}
            results["ranking"][method] = averaged(found_seeds) | gradient
    return results


def _bar(progress: bool, total: int, says: str) -> Any:
    return tqdm(total=total, desc=says, disable=not progress, leave=False)
