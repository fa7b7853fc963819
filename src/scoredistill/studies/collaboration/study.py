"""The study of collaboration: what is measured, the jobs, and how their results are gathered."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

from scoredistill.media.images import grid, save_image
from scoredistill.recipe import OwnMethod
from scoredistill.studies.collaboration import jobs
from scoredistill.studies.collaboration.claims import CLAIMS
from scoredistill.studies.collaboration.editors import STYLES
from scoredistill.studies.collaboration.jobs import ARRANGEMENTS, Case
from scoredistill.studies.collaboration.methods import METHODS, PICTURED, QUICK
from scoredistill.studies.collaboration.report import report
from scoredistill.studies.collaboration.tables import tables
from scoredistill.studies.harness.jobs import Job, StudyDirectory
from scoredistill.studies.harness.report import image_or_blank
from scoredistill.studies.harness.setting import ComparisonSetting, check_names, check_seeds
from scoredistill.studies.harness.statistics import differences, mean_and_std
from scoredistill.studies.harness.study import Study

RUNS, QUICK_RUNS = 24, 8
QUICK_STYLES = ("tint", "contrast")


@dataclass(frozen=True)
class Setting(ComparisonSetting):
    """What to measure.

    Args:
        styles: names of `STYLES`; all by default.
        arrangements: names of `ARRANGEMENTS`; all by default.
        runs: runs of each method, each with its own source and noise; 24 by default.
        methods: of `METHODS`; all by default.
        quick: measure two kinds of answers in one arrangement by four methods, in 8 runs.
    """

    styles: tuple[str, ...] = ()
    arrangements: tuple[str, ...] = ()
    runs: int | None = None

    def filled(self) -> "Setting":
        """The same setting with everything named."""
        return replace(
            self,
            styles=self.styles or (QUICK_STYLES if self.quick else tuple(STYLES)),
            arrangements=self.arrangements or (("disjoint",) if self.quick else tuple(ARRANGEMENTS)),
            methods=self.methods or (QUICK if self.quick else tuple(METHODS)),
            runs=(QUICK_RUNS if self.quick else RUNS) if self.runs is None else self.runs,
        )

    def check(self) -> None:
        """Refuse names that do not exist or are given twice, and a number of runs below 1."""
        check_names("style", self.styles, STYLES)
        check_names("arrangement", self.arrangements, ARRANGEMENTS)
        if own := [method for method in self.methods if isinstance(method, OwnMethod) or ".py" in method]:
            raise ValueError(f"bench collaboration compares couplings of one editor: leave out {own[0]!s}")
        check_names("method", self.methods, METHODS)
        check_seeds(RUNS if self.runs is None else self.runs, self.seed)

    def cases(self, style: str, arrangement: str) -> dict[str, Case]:
        """method -> case."""
        return {
            m: Case(m, style, arrangement, RUNS if self.runs is None else self.runs, seed=self.seed)
            for m in self.methods
        }


def parts(setting: Setting) -> dict[str, dict[str, Case]]:
    """ "style, arrangement" -> method -> case."""
    return {f"{s}, {a}": setting.cases(s, a) for s in setting.styles for a in setting.arrangements}


def plan(setting: Setting) -> list[Job]:
    """All jobs, those of the figure first."""
    figure = [
        Job(f"panorama-{m}-s{setting.seed}", partial(jobs.panorama, m, setting.seed), 0.2) for m in pictured(setting)
    ]
    return figure + [
        Job(case.part, partial(jobs.measured, case), ARRANGEMENTS[case.arrangement].stride ** -1)
        for cases in parts(setting).values()
        for case in cases.values()
    ]


def pictured(setting: Setting) -> list[str]:
    """The methods of the figure."""
    return [method for method in PICTURED if method in setting.methods]


def key(setting: Setting) -> dict[str, Any]:
    """What all jobs depend on."""
    return {"study": "collaboration"}


def gather(setting: Setting, directory: StudyDirectory) -> dict[str, Any]:
    """All results as one dictionary."""
    read = directory.results()
    found = {
        part: {m: read[case.part] for m, case in cases.items() if case.part in read}
        for part, cases in parts(setting).items()
    }
    return {
        "setting": asdict(setting),
        "titles": {method: METHODS[method].says for method in setting.methods},
        "descriptions": {
            **{style: STYLES[style].says for style in setting.styles},
            **{name: ARRANGEMENTS[name].says for name in setting.arrangements},
        },
        "panorama": {
            m: read[name]["hues"] for m in pictured(setting) if (name := f"panorama-{m}-s{setting.seed}") in read
        },
        "parts": {part: _part(part, each) for part, each in found.items() if each},
    }


def _part(part: str, found: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The mean of every metric with its standard error, the differences of the claims, and the cost of a run."""
    pairs = [(a, b) for arrangement, style, a, b in CLAIMS if f"{style}, {arrangement}" == part]
    runs = {method: dict(enumerate(each["runs"])) for method, each in found.items()}
    return {
        "methods": {method: _errors(list(each.values())) for method, each in runs.items()},
        "paired": {f"{a} - {b}": differences(runs[a], runs[b]) for a, b in pairs if a in runs and b in runs},
        "rows": {method: each["rows"] for method, each in found.items()},
    }


def _errors(runs: list[Mapping[str, float]]) -> dict[str, dict[str, float]]:
    """metric -> mean over runs and its standard error."""
    return {
        name: {"mean": cell["mean"], "std": cell["std"] / len(runs) ** 0.5} for name, cell in mean_and_std(runs).items()
    }


def preview(setting: Setting, directory: StudyDirectory) -> None:
    """Write preview.png: the edits of every method that is finished, a row for each."""
    cases = [case for each in parts(setting).values() for case in each.values() if case.arrangement == "disjoint"]
    files = [(case, directory.images / f"{case.name}.png") for case in cases]
    found = [(f"{case.style}, {case.method}", image_or_blank(file)) for case, file in files if file.is_file()]
    if found:
        labels = [label for label, _ in found]
        shown = [image.resize((3 * image.width, 3 * image.height), 0) for _, image in found]
        save_image(grid(shown, columns=2, labels=labels), directory.out / "preview.png")


study = Study(key=key, plan=plan, gather=gather, tables=tables, report=report, preview=preview)
