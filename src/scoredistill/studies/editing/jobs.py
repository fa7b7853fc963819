"""The jobs of the editing study: edit an image or a clip by a method, and measure the edit.

All methods get the same number of network evaluations: the sweeps (or DDIM steps) of each are those that cost about
what the collaborative edit costs. An edit is measured as it is ("natural"), and once more with the change of its
latents scaled to the length of the reference edit's ("equal"), so that no method gains by changing less.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from scoredistill.datasets import packaged_media as data
from scoredistill.datasets.procedural_edits import EDITS, Edit, unit_of
from scoredistill.estimators import CSDEdit, Estimator, LowPass
from scoredistill.files import atomic, slug
from scoredistill.kernels import InverseMultiquadric
from scoredistill.media.images import to_pil
from scoredistill.media.video import VideoWriter
from scoredistill.metrics.edits import source_flows
from scoredistill.priors.base import Editor
from scoredistill.priors.counted import Counted
from scoredistill.studies.editing.claims import REFERENCES
from scoredistill.studies.editing.evaluation import edit_metrics, frame_metrics, window_metrics
from scoredistill.studies.harness import jobs
from scoredistill.studies.harness.setting import loaded, seeded
from scoredistill.tasks.image_editing import regions, run
from scoredistill.tasks.image_editing.canvas import Canvas
from scoredistill.tasks.image_editing.recipes import FIXED_POINT
from scoredistill.tasks.image_editing.request import EditRequest, EditSettings
from scoredistill.tasks.request import PriorOptions
from scoredistill.tasks.session import editor
from scoredistill.tasks.video_editing.flow import exchange_of
from scoredistill.tasks.video_editing.request import VideoRequest, VideoSettings

FPS = 12.0  # of the study's videos


@dataclass(frozen=True)
class Setup:
    """What all jobs share.

    Args:
        prior: name or directory of the editor.
        height: height of images in pixels.
        video_height: height of clips in pixels.
        frames: frames of a clip.
        sweeps: sweeps of the collaborative edit of an image, whose cost all methods get.
        video_sweeps: the same for clips.
        load: how the prior is loaded.
    """

    prior: str
    height: int
    video_height: int
    frames: int
    sweeps: int
    video_sweeps: int
    load: PriorOptions = PriorOptions()


@dataclass(frozen=True)
class Case(jobs.Case):
    """One run.

    Args:
        method: a name of `EDIT_RECIPES`, "source" or "truth".
        subject: name of an image or a clip.
        instruction: the first instruction of an edit of `EDITS`.
        text_scale, image_scale: guidance scales.
        kernel: "rbf", "imq" (inverse multiquadric), or "" for the method's own.
        video: whether the subject is a clip.
        seed: seed of the run.
        settings: other fields of `EditRequest`, as pairs.
    """

    subject: str
    instruction: str
    text_scale: float = 1.0
    image_scale: float = 1.0
    kernel: str = ""
    video: bool = False

    @property
    def name(self) -> str:
        """The name of its files."""
        scales = [] if self.text_scale == self.image_scale == 1 else [f"t{self.text_scale}i{self.image_scale}"]
        kinds = [self.kernel.replace(" ", "")] if self.kernel else []
        parts = [self.method, self.subject, slug(self.instruction), *scales, *kinds, *self.changes]
        return seeded("-".join(parts), self.seed)

    @property
    def part(self) -> str:
        """The name of its job."""
        return f"{'video' if self.video else 'image'}-{self.name}{self.version}"

    @property
    def edit(self) -> Edit:
        """The procedural edit that the instruction asks for."""
        return next(edit for edit in EDITS.values() if edit.instructions[0] == self.instruction)


class Subject:
    """The image or clip of one job: its source, its reference edit, and its latents, encoded when first needed.

    Args:
        prior: the editor.
        case: the run.
        source: [f, 3, h, w] in [0, 1]; one frame for an image.
    """

    def __init__(self, prior: Editor, case: Case, source: Tensor):
        self.prior, self.source = prior, source
        self.wrap = case.subject in data.PANORAMAS
        self.truth = case.edit(source, unit_of(prior.image_size[0]))

    @cached_property
    def canvas(self) -> Canvas:
        """The latents of the source."""
        return Canvas(self.prior, self.source, self.wrap)

    @cached_property
    def true_canvas(self) -> Canvas:
        """The latents of the reference edit."""
        return Canvas(self.prior, self.truth, self.wrap)

    @torch.no_grad()
    def as_long(self, latents: Tensor) -> Tensor:
        """Latents with the change from the source scaled to the length of the reference edit's."""
        source = self.canvas.source
        true, change = self.true_canvas.source - source, latents - source
        return source + change * (true.norm() / change.norm().clamp(min=1e-6))


def image(setup: Setup, case: Case, out: Path) -> dict[str, Any]:
    """Edit an image and measure: {"natural": metrics, "equal": metrics}; a reference has the first only."""
    subject = Subject(editor(loaded(setup.prior, setup.load)), case, data.image(case.subject, setup.height))
    side = subject.prior.image_size[0]

    def measured(made: Tensor) -> dict[str, float]:
        common = edit_metrics(subject.source, made, subject.truth, case.edit, side)
        return common | window_metrics(made, subject.truth, side, subject.wrap)

    return _measured(case, subject, setup.sweeps, measured, lambda images, stem: _save(images, out / f"{stem}.png"))


def video(setup: Setup, case: Case, out: Path) -> dict[str, Any]:
    """Edit a clip and measure, as for images."""
    clip = (case.subject, setup.video_height, setup.frames)
    subject, flows = Subject(editor(loaded(setup.prior, setup.load)), case, data.clip(*clip)), flows_of(*clip)
    side = subject.prior.image_size[0]

    def measured(made: Tensor) -> dict[str, float]:
        common = edit_metrics(subject.source, made, subject.truth, case.edit, side)
        return common | frame_metrics(made, subject.source, flows)

    return _measured(
        case, subject, setup.video_sweeps, measured, lambda images, stem: _write(images, out / f"{stem}.mp4")
    )


@cache
def flows_of(name: str, height: int, frames: int) -> Any:
    """The optical flow of a clip, computed once per process."""
    return source_flows(data.clip(name, height, frames))


def _measured(
    case: Case,
    subject: Subject,
    sweeps: int,
    measured: Callable[[Tensor], dict[str, float]],
    save: Callable[[Tensor, str], None],
) -> dict[str, Any]:
    """Edit and measure, or measure a reference; `save` writes images under a name."""
    if case.method in REFERENCES:
        return {"natural": measured(_reference(case, subject, save))}
    canvas = subject.canvas
    latents, cost = _edited(case, subject, sweeps)
    made = {}
    for kind, z in (("natural", latents), ("equal", subject.as_long(latents))):
        images = canvas.decode(z)
        made[kind] = {**measured(images), **cost, "update": float((z - canvas.source).square().mean().sqrt())}
        if kind == "natural":
            save(images, case.name)
    return made


def _reference(case: Case, subject: Subject, save: Callable[[Tensor, str], None]) -> Tensor:
    """The source as it is, or the reference edit through the autoencoder; written beside the edits."""
    if case.method == "source":
        save(subject.source, f"source-{case.subject}")
        return subject.source
    save(subject.truth, f"truth-{case.subject}-{slug(case.instruction)}")
    return subject.true_canvas.decode(subject.true_canvas.source)


def _edited(case: Case, subject: Subject, sweeps: int) -> tuple[Tensor, dict[str, Any]]:
    """The edited latents at the cost of that many sweeps of the collaborative edit, and their actual cost."""
    prior, canvas = subject.prior, subject.canvas
    kind = VideoRequest if canvas.frames > 1 else EditRequest
    asked = kind(
        case.instruction, case.method, prior.name, text_scale=case.text_scale, image_scale=case.image_scale,
        wrap=canvas.wrap, seed=case.seed, **dict(case.settings),
    ).complete()  # fmt: skip
    usual = kind(
        case.instruction, "csd", prior.name, text_scale=case.text_scale, image_scale=case.image_scale,
        wrap=canvas.wrap,
    ).complete()  # fmt: skip
    where = regions.make(case.instruction, (), canvas.size)
    rounds = asked.flow if isinstance(asked, VideoSettings) else 0
    counted, exchange = Counted(prior), exchange_of(rounds, canvas, subject.source)
    text = run.conditions(prior, where)
    salt = 0 if asked.recipe.same_noise else 1
    of = lambda request: run.Edit(request, canvas, counted, text, where, exchange, estimator(case, request), salt=salt)
    budget = sweeps * run.rows_of(of(usual))
    edit = of(replace(asked, sweeps=max(1, round(budget / run.rows_of(of(asked))))))
    start = time.perf_counter()
    latents = run.edited(edit)
    found = {"rows": counted.rows, "calls": counted.calls, "sweeps": edit.request.sweeps}
    return latents, {**found, "seconds": time.perf_counter() - start}


def estimator(case: Case, request: EditSettings) -> Estimator | None:
    """The estimator of a case whose kernel is not the method's own, else None."""
    scale = request.kernel
    if case.kernel in ("", "rbf"):
        return None
    if case.kernel == "imq":
        return CSDEdit(InverseMultiquadric(scale=scale), weight=FIXED_POINT, share=LowPass())
    raise ValueError(f"unknown kernel {case.kernel!r}: use rbf or imq")


def _save(images: Tensor, path: Path) -> None:
    """Write the first image."""
    with atomic(path) as draft:
        to_pil(images)[0].save(draft)


def _write(images: Tensor, path: Path) -> None:
    """Write frames as a video."""
    frames = (images.clamp(0, 1) * 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
    times = [i / FPS for i in range(len(frames))]
    with VideoWriter(path, frames.shape[1], frames.shape[2], times=times) as out:
        for frame in frames:
            out.write(frame)


def metrics_of(part: Mapping[str, Any], kind: str) -> dict[str, float]:
    """The metrics of a finished job in one of its two kinds; references have "natural" only."""
    return part.get(kind) or part["natural"]
