"""The jobs of the study: edit many canvases by a method, and measure whether their windows agree."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from scoredistill.datasets import packaged_media
from scoredistill.media.images import save_image, to_pil
from scoredistill.priors.counted import Counted
from scoredistill.priors.many_answers import ManyAnswers
from scoredistill.studies.collaboration.editors import SPREAD, STYLES, WINDOW, WINDOWS, duotones, source, windows_of
from scoredistill.studies.collaboration.methods import METHODS, SWEEPS
from scoredistill.studies.harness import jobs
from scoredistill.studies.harness.setting import seeded
from scoredistill.tasks.image_editing import regions, run
from scoredistill.tasks.image_editing.canvas import Canvas
from scoredistill.tasks.image_editing.recipes import EditRecipe
from scoredistill.tasks.image_editing.request import EditSettings

PANORAMA = "venice"
SHOWN = 4  # canvases of a case that are written as images


@dataclass(frozen=True)
class Arrangement:
    """How windows cover what is edited.

    Attributes:
        says: description in a few words.
        stride: distance between windows, in windows.
        particles: windows of a step; 0 for all.
        frames: number of frames; with more than one, each is a single window.
    """

    says: str
    stride: float = 1.0
    particles: int = 0
    frames: int = 1


ARRANGEMENTS = {
    "disjoint": Arrangement("eight windows side by side"),
    "overlapping": Arrangement("fifteen windows that overlap by half", stride=0.5),
    "some": Arrangement("eight windows, four of them in a step", particles=4),
    "frames": Arrangement("eight frames of a moving view", frames=8),
}


@dataclass(frozen=True)
class Case(jobs.Case):
    """All runs of a method on one kind of answers.

    Args:
        method: a name of `METHODS`.
        style: a name of `STYLES`.
        arrangement: a name of `ARRANGEMENTS`.
        seed: of the first run.
        runs: number of runs, each with its own source and noise.
    """

    style: str
    arrangement: str
    runs: int

    @property
    def name(self) -> str:
        """The name of its image."""
        return seeded(f"{self.style}-{self.arrangement}-{self.method}", self.seed)

    @property
    def part(self) -> str:
        """The name of its job."""
        return f"{self.style}-{self.arrangement}-{self.method}-s{self.seed}-n{self.runs}"


class Settings(EditSettings):
    """The settings of a run by a method of this study."""

    recipes: ClassVar[Mapping[str, EditRecipe]] = METHODS


def measured(case: Case, out: Path) -> dict[str, Any]:
    """Edit by a method with one seed after another: {"runs": [metrics], "rows": network evaluations of a run}."""
    prior, arrangement = STYLES[case.style].editor, ARRANGEMENTS[case.arrangement]
    found, shown, rows = [], [], 0
    for seed in range(case.seed, case.seed + case.runs):
        rng = torch.Generator().manual_seed(seed)
        width = WINDOW if arrangement.frames > 1 else WINDOW * WINDOWS
        before = source(arrangement.frames, width, rng)
        counted = Counted(prior)
        after = edited(prior, counted, before, case.method, arrangement, seed)
        found.append(metrics(prior, before, after))
        rows = counted.rows
        shown.append(torch.cat(list(after), -1))
    save_image(to_pil(torch.cat(shown[:SHOWN], -2)[None] / 2 + 0.5)[0], out / f"{case.name}.png")
    return {"runs": found, "rows": rows}


def panorama(method: str, seed: int, out: Path) -> dict[str, Any]:
    """Edit a photograph in windows of 64 pixels by an instruction with six answers, "one color": {"hues": number}."""
    prior = ManyAnswers(duotones(6), (64, 64), SPREAD)
    before = prior.encode_image(packaged_media.image(PANORAMA, 4 * 64))
    before = before[..., : before.shape[-1] // 64 * 64]
    after = edited(prior, Counted(prior), before, method, Arrangement("", stride=0.5), seed)
    for name, image in (("source", before), (method, after)):
        save_image(to_pil(prior.decode(image))[0], out / f"{seeded(f'panorama-{name}', seed)}.png")
    y, x = (torch.cat([tile for row in image.split(64, -2) for tile in row.split(64, -1)]) for image in (before, after))
    nearest = (x - prior.edits(y)).square().mean((2, 3, 4)).argmin(0)
    return {"hues": len(nearest.unique())}


def edited(
    prior: ManyAnswers, counted: Counted, before: Tensor, method: str, arrangement: Arrangement, seed: int
) -> Tensor:
    """The edited canvas, at the cost of `SWEEPS` sweeps of CSD-Edit.

    Args:
        prior: the editor.
        counted: the same, counting its evaluations.
        before: the source in [-1, 1], [f, 3, H, W].
        method: a name of `METHODS`.
        arrangement: of the windows.
        seed: of the run.
    """
    canvas = Canvas(prior, prior.decode(before))
    where = regions.make("change it", (), canvas.size)
    text = run.conditions(prior, where)

    def asked(name: str, sweeps: int) -> run.Edit:
        stride = 1.0 if name == "crops" else arrangement.stride  # crops are windows that do not overlap
        settings = Settings(
            "change it", name, prior.name, size=0, text_scale=1.0, image_scale=1.0, sweeps=sweeps, kernel=1.0,
            stride=stride, particles=arrangement.particles, lr=1.0, seed=seed,
        )  # fmt: skip
        return run.Edit(settings, canvas, counted, text, where)

    budget = SWEEPS * run.rows_of(asked("uncoupled", SWEEPS))
    return run.edited(asked(method, max(1, round(budget / run.rows_of(asked(method, 1))))))


def metrics(prior: ManyAnswers, before: Tensor, after: Tensor) -> dict[str, float]:
    """How well the windows agree, and how good and how strong their edits are.

    Args:
        prior: the editor, whose answers are known.
        before, after: source and edit, [f, 3, 16, W].
    """
    y, x = windows_of(before), windows_of(after)
    answers = prior.edits(y)  # [k, n, 3, h, w]
    error = (x - answers).square().mean((2, 3, 4)).sqrt()
    change = (answers - y).square().mean((2, 3, 4)).sqrt()
    nearest = error.argmin(0)
    counts = torch.bincount(nearest, minlength=len(answers))
    each = torch.arange(len(y))
    wanted, made = (answers[nearest, each] - y).flatten(1), (x - y).flatten(1)
    strength = (wanted * made).sum(1) / wanted.square().sum(1)
    together = (x - answers).square().mean((1, 2, 3, 4)).sqrt().min() / change.mean()
    return {
        "agreement": float(counts.max()) / len(y),
        "one": float(counts.max() == len(y)),
        "strength": float(strength.mean()),
        "error": float((error[nearest, each] / change[nearest, each]).mean()),
        "together": float(together),
    }
