"""The laboratory: all jobs of the toy study, run side by side, kept one by one, and gathered into results.json.

A job is a function of `jobs` with its arguments. What it finds is written to OUT/parts/ at once, so a run that is
stopped goes on where it was; a setting that changes has other names there and is measured anew.
"""

import json
import math
import multiprocessing
import shutil
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from scoredistill import __version__
from scoredistill.tasks.toy import jobs
from scoredistill.tasks.toy.data import NAMES
from scoredistill.tasks.toy.denoisers import DENOISERS, denoiser
from scoredistill.tasks.toy.markdown import markdown
from scoredistill.tasks.toy.methods import TABLE, ZOO

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


Job = tuple[str, Callable[..., dict[str, Any]]]


def plan(setting: Setting) -> list[Job]:
    """All jobs by name, the slowest kinds first."""
    scale = jobs.QUICK if setting.quick else jobs.FULL
    common = {"scale": scale, "quick": setting.quick}
    made: list[Job] = []

    def add(function: Callable[..., dict[str, Any]], *arguments: Any) -> None:
        name = "-".join([function.__name__, *map(str, arguments)])
        made.append((name, partial(function, *arguments, **common)))

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
    """Run the study and write results.json, tables.md, report.html and the pictures.

    Args:
        out: folder; what is finished there already, with the same setting, is kept.
        workers: processes; each computes with one thread.

    Returns:
        The report.

    Raises:
        ValueError: if `out` cannot be used.
    """
    from scoredistill.tasks.toy.page import report

    if workers < 1:
        raise ValueError(f"workers must be at least 1, not {workers}")
    parts, started = _open(out, setting), time.perf_counter()
    todo = [(name, job) for name, job in plan(setting) if not (parts / f"{name}.json").is_file()]
    if any("learned" in name for name, _ in todo):
        for name in setting.sets:
            _train(name, setting.quick, progress)
    failed = {}
    with _bar(progress, len(todo), "measuring") as bar:
        for name, found in _run(todo, out, workers):
            if isinstance(found, Exception):
                failed[name] = f"{type(found).__name__}: {found}"
            else:
                _write(parts / f"{name}.json", found)
            bar.update(1)
            bar.set_postfix_str(name[:40])
    seconds = time.perf_counter() - started
    results = gather(setting, parts, failed, seconds)
    _write(out / "results.json", results)
    (out / "tables.md").write_text(markdown(results))
    return report(results, out)


def _train(name: str, quick: bool, progress: bool) -> None:
    with _bar(progress, 100, f"training on {name}") as bar:

        def after(step: int, steps: int, loss: float) -> None:
            bar.update(100 * step // steps - bar.n)

        denoiser("learned", name, quick, after)


def gather(setting: Setting, parts: Path, failed: dict[str, str], seconds: float) -> dict[str, Any]:
    """All parts as one dictionary; numbers of several seeds as their mean, with their standard deviations beside."""
    from scoredistill.tasks.folder import command_line

    read = {path.stem: json.loads(path.read_text()) for path in sorted(parts.glob("*.json"))}

    def seeds(*start: str) -> list[dict[str, Any]]:
        return [value for key, value in read.items() if key.rpartition("-")[0] == "-".join(start)]

    results: dict[str, Any] = {
        "setting": asdict(setting) | {"scale": asdict(jobs.QUICK if setting.quick else jobs.FULL)},
        "command": command_line(),
        "date": str(date.today()),
        "version": __version__,
        "seconds": round(seconds + _earlier(parts), 1),
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
    (parts / "seconds").write_text(str(results["seconds"]))
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


def averaged(found: Sequence[dict[str, float]]) -> dict[str, Any]:
    """The mean of each number over seeds, with "std" and "seeds"."""
    names = {name: [f[name] for f in found] for name, value in found[0].items() if isinstance(value, (int, float))}
    means = {name: statistics.fmean(v) for name, v in names.items()}
    spread = {
        name: statistics.stdev(v) if len(v) > 1 and all(map(math.isfinite, v)) else 0.0 for name, v in names.items()
    }
    return {**means, "std": spread, "seeds": len(found)}


def _run(todo: list[Job], out: Path, workers: int) -> Iterator[tuple[str, Any]]:
    if workers == 1:
        for name, job in todo:
            yield _guarded(name, job, out)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        try:
            for done in as_completed([pool.submit(_guarded, name, job, out) for name, job in todo]):
                yield done.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _guarded(name: str, job: Callable[..., dict[str, Any]], out: Path) -> tuple[str, Any]:
    """A method that breaks down is a finding, not the end of the study."""
    try:
        return name, job(out=out / "pictures")
    except (FloatingPointError, ValueError) as error:
        return name, error


def _open(out: Path, setting: Setting) -> Path:
    """The folder of finished parts; ValueError if `out` is in use for something else."""
    if out.exists() and not out.is_dir():
        raise ValueError(f"{out} is a file: give a folder for --out")
    parts, key = out / "parts", json.dumps({"quick": setting.quick, "version": __version__})
    marker = parts / "setting"
    if out.is_dir() and any(out.iterdir()) and not marker.is_file():
        raise ValueError(f"{out} holds other files: give a new folder, or an earlier study's, for --out")
    if marker.is_file() and marker.read_text() != key:
        shutil.rmtree(parts)  # of another scale or version: measured anew
    try:
        parts.mkdir(parents=True, exist_ok=True)
        (out / "pictures").mkdir(exist_ok=True)
        marker.write_text(key)
    except OSError as error:
        raise ValueError(f"cannot write to {out}: {error.strerror}") from error
    return parts


def _earlier(parts: Path) -> float:
    """Seconds spent on finished parts in earlier calls."""
    path = parts / "seconds"
    return float(path.read_text()) if path.is_file() else 0.0


def _write(path: Path, value: dict[str, Any]) -> None:
    draft = path.with_name(f".{path.name}.part")
    draft.write_text(json.dumps(value, indent=1) + "\n")
    draft.replace(path)


def _bar(progress: bool, total: int, says: str) -> Any:
    return tqdm(total=total, desc=says, disable=not progress, leave=False)
