"""Series of runs in which one setting varies: the trade-off over text scales, and sweeps over settings of csd."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from scoredistill.studies.editing.jobs import Case
from scoredistill.studies.editing.setting import Key, Setting
from scoredistill.tasks.image_editing.recipes import EDIT_RECIPES
from scoredistill.tasks.video_editing.recipes import VIDEO_RECIPES

TEXT_SCALES = (1.0, 1.5, 3.0)
TRADED = dict.fromkeys(("csd", "uncoupled", "random_noise", "crops", "windows"), TEXT_SCALES)
TRADED["csd_paper"] = (1.0, 3.0, 7.5)  # the recipe's own scale is 7.5
FEW = 2  # instructions of the trade-off and the sweeps
KERNEL_SCALES = (0.5, 1.0, 2.0, 8.0)
PARTICLES = (2, 4, 16)
FLOWS = (0, 1, 2, 4)


@dataclass(frozen=True)
class Point:
    """One value of the setting that varies.

    Attributes:
        value: {"text_scale"}, or {"value", "label"}, for results.json.
        cases: (subject, instruction, seed) -> run.
    """

    value: Mapping[str, Any]
    cases: Mapping[Key, Case]


Series = dict[str, list[Point]]
"""Name of what varies, or of the method -> points in order."""


def tradeoff(setting: Setting) -> Series:
    """Each method on images at several text scales."""
    return {
        method: [Point({"text_scale": scale}, _cases(setting, False, method, text_scale=scale)) for scale in scales]
        for method, scales in TRADED.items()
    }


def image_sweeps(setting: Setting) -> Series:
    """Sweeps over images."""
    apart = {"stride": 1.0}
    kernels = (("RBF", ""), ("inverse multiquadric", "imq"))
    four = (("stride", 1.0), ("particles", 4))
    return {
        "kernel scale": _points(setting, False, "csd", "kernel", KERNEL_SCALES),
        "kernel scale, whole scores": _points(setting, False, "csd_full", "kernel", KERNEL_SCALES),
        "kernel": [
            Point({"value": k, "label": label}, _cases(setting, False, "csd", kernel=kernel))
            for k, (label, kernel) in enumerate(kernels)
        ],
        "four windows a step, side by side": [
            Point({"value": k, "label": method}, _cases(setting, False, method, settings=four))
            for k, method in enumerate(("uncoupled", "csd", "csd_full"))
        ],
        "particles": _points(setting, False, "csd", "particles", PARTICLES, apart),
    }


def video_sweeps(setting: Setting) -> Series:
    """Sweeps over videos."""
    return {
        "video kernel scale": _points(setting, True, "csd", "kernel", KERNEL_SCALES),
        "flow": _points(setting, True, "csd", "flow", FLOWS),
    }


def all_series(setting: Setting) -> list[Series]:
    """The trade-off and all sweeps, or nothing if they are not measured."""
    return [tradeoff(setting), image_sweeps(setting), video_sweeps(setting)] if setting.whole else []


def _points(
    setting: Setting,
    video: bool,
    method: str,
    name: str,
    values: Iterable[float | int],
    fixed: Mapping[str, float] | None = None,
) -> list[Point]:
    """One setting of a method varied; at the method's own value, the runs are those of the main table."""
    usual = getattr((VIDEO_RECIPES if video else EDIT_RECIPES)[method], name)
    made = []
    for v in values:
        settings = {**(fixed or {}), **({} if v == usual else {name: v})}
        cases = _cases(setting, video, method, settings=tuple(settings.items()))
        made.append(Point({"value": v, "label": str(v)}, cases))
    return made


def _cases(setting: Setting, video: bool, method: str, **fields: Any) -> dict[Key, Case]:
    """One run of each image (or clip) with each of the first instructions."""
    return {
        (subject, text, setting.seed): Case(method, subject, text, video=video, seed=setting.seed, **fields)
        for subject in setting.subjects(video)
        for text in setting.instructions[:FEW]
    }
