"""What the study measures, one function a job: an image or a clip edited by a method, and its figures.

Methods get equal network rows: the sweeps (or DDIM steps) of each are those that cost about what the collaborative edit
costs. Figures are taken of the edit as it is, and once more with the change of the latents scaled to the length of the
true one ("equal"), so that nobody wins by changing less.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from scoredistill.datasets import packaged_media as data
from scoredistill.datasets.procedural_edits import EDITS, Edit
from scoredistill.estimators import CSDEdit, Estimator, LowPass
from scoredistill.kernels import InverseMultiquadric
from scoredistill.media.images import to_pil
from scoredistill.media.video import VideoWriter
from scoredistill.metrics import edits as figures
from scoredistill.priors.counted import Counted
from scoredistill.studies.harness.setting import loaded, slug
from scoredistill.tasks.image_editing import regions, run
from scoredistill.tasks.image_editing.canvas import Canvas
from scoredistill.tasks.image_editing.recipes import FIXED_POINT
from scoredistill.tasks.image_editing.request import EditRequest, EditSettings
from scoredistill.tasks.session import editor
from scoredistill.tasks.video_editing.flow import exchange_of
from scoredistill.tasks.video_editing.request import VideoRequest, VideoSettings

CLIP_RATE = 12.0  # frames per second of the study's videos


@dataclass(frozen=True)
class World:
    """What all jobs of a study share.

    Args:
        prior: name or folder of the editor.
        height: of images, pixels.
        video_height: of clips.
        frames: of a clip.
        sweeps: of the collaborative edit, which all others' cost is made equal to.
        video_sweeps: the same for clips.
    """

    prior: str
    height: int
    video_height: int
    frames: int
    sweeps: int
    video_sweeps: int


@dataclass(frozen=True)
class Case:
    """One run.

    Args:
        method: a name of `EDIT_RECIPES`.
        subject: image or clip.
        instruction: the first one of an edit of `EDITS`.
        text_scale, image_scale: guidance.
        kernel: "rbf", "imq" (heavy tails), or "" for the method's own.
        settings: other fields of `EditRequest`, as pairs.
        seed: of the run.
    """

    method: str
    subject: str
    instruction: str
    text_scale: float = 1.0
    image_scale: float = 1.0
    kernel: str = ""
    settings: tuple[tuple[str, Any], ...] = ()
    seed: int = 0

    @property
    def name(self) -> str:
        """Of its files and its part."""
        extra = [f"{k}{v}" for k, v in self.settings]
        scales = [] if self.text_scale == self.image_scale == 1 else [f"t{self.text_scale}i{self.image_scale}"]
        seeds = [f"s{self.seed}"] if self.seed else []
        kinds = [self.kernel.replace(" ", "")] if self.kernel else []
        return "-".join([self.method, self.subject, slug(self.instruction), *scales, *kinds, *extra, *seeds])

    @property
    def edit(self) -> Edit:
        """The edit that the instruction asks for."""
        return next(edit for edit in EDITS.values() if edit.instructions[0] == self.instruction)


def image(world: World, case: Case, out: Path) -> dict[str, Any]:
    """Edit an image and measure: {"natural": figures, "equal": figures}."""
    source = data.image(case.subject, world.height)
    truth = case.edit(source, unit=1.0)
    wrap = case.subject in data.PANORAMAS
    if case.method in ("source", "truth"):
        return {"natural": _still(world, case, source, truth, _reference(world, case, source, truth, out), wrap)}
    canvas = _canvas(world.prior, source, wrap)
    latents, found = _run(world, case, canvas, source, world.sweeps)
    made = {}
    for kind, z in (("natural", latents), ("equal", _as_long(canvas, latents, truth))):
        images = canvas.decode(z)
        made[kind] = {**_still(world, case, source, truth, images, wrap), **found}
        made[kind]["update"] = float((z - canvas.source).square().mean().sqrt())
        if kind == "natural":
            _save(images, out / f"{case.name}.png")
    return made


def video(world: World, case: Case, out: Path) -> dict[str, Any]:
    """Edit a clip and measure."""
    source = data.clip(case.subject, world.video_height, world.frames)
    truth = case.edit(source, unit=1.0)
    if case.method in ("source", "truth"):
        images = _reference(world, case, source, truth, out)
        return {"natural": _moving(world, case, source, truth, images)}
    canvas = _canvas(world.prior, source, False)
    latents, found = _run(world, case, canvas, source, world.video_sweeps)
    made = {}
    for kind, z in (("natural", latents), ("equal", _as_long(canvas, latents, truth))):
        images = canvas.decode(z)
        made[kind] = {**_moving(world, case, source, truth, images), **found}
        made[kind]["update"] = float((z - canvas.source).square().mean().sqrt())
        if kind == "natural":
            _write(images, out / f"{case.name}.mp4")
    return made


def _run(world: World, case: Case, canvas: Canvas, source: Tensor, sweeps: int) -> tuple[Tensor, dict[str, Any]]:
    """The edited latents at the study's cost, and what they cost."""
    prior = editor(loaded(world.prior))
    moving = canvas.frames > 1
    kind = VideoRequest if moving else EditRequest
    asked = kind(
        case.instruction, case.method, world.prior, text_scale=case.text_scale, image_scale=case.image_scale,
        wrap=canvas.wrap, seed=case.seed, **dict(case.settings),
    ).complete()  # fmt: skip
    usual = kind(
        case.instruction, "csd", world.prior, text_scale=case.text_scale, image_scale=case.image_scale,
        wrap=canvas.wrap,
    ).complete()  # fmt: skip
    where = regions.make(case.instruction, (), canvas.size)
    counted, exchange = (
        Counted(prior),
        exchange_of(asked.flow if isinstance(asked, VideoSettings) else 0, canvas, source),
    )
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
    """The estimator of a case that has a kernel of its own."""
    scale = request.kernel
    if case.kernel in ("", "rbf"):
        return None
    if case.kernel == "imq":
        return CSDEdit(InverseMultiquadric(scale=scale), weight=FIXED_POINT, share=LowPass())
    raise ValueError(f"unknown kernel {case.kernel!r}: use rbf or imq")


@cache
def _encoded(prior: str, key: tuple[int, ...], wrap: bool) -> Canvas:
    return Canvas(editor(loaded(prior)), _sources[key], wrap)


_sources: dict[tuple[int, ...], Tensor] = {}


def _canvas(prior: str, source: Tensor, wrap: bool) -> Canvas:
    """The canvas of a source, encoded once per process."""
    key = (source.data_ptr(), *source.shape)
    _sources[key] = source
    return _encoded(prior, key, wrap)


@torch.no_grad()
def _as_long(canvas: Canvas, latents: Tensor, truth: Tensor) -> Tensor:
    """The latents with a change as long as the true one's."""
    true = Canvas(canvas.prior, truth, canvas.wrap).source - canvas.source
    change = latents - canvas.source
    return canvas.source + change * (true.norm() / change.norm().clamp(min=1e-6))


def _reference(world: World, case: Case, source: Tensor, truth: Tensor, out: Path) -> Tensor:
    """The source as it is, or the truth through the autoencoder; written beside the edits."""
    if case.method == "source":
        shown, name, images = source, f"source-{case.subject}", source
    else:
        canvas = Canvas(editor(loaded(world.prior)), truth, case.subject in data.PANORAMAS)
        shown, name, images = truth, f"truth-{case.subject}-{slug(case.instruction)}", canvas.decode(canvas.source)
    if len(source) > 1:
        _write(shown, out / f"{name}.mp4")
    else:
        _save(shown, out / f"{name}.png")
    return images


def _still(world: World, case: Case, source: Tensor, truth: Tensor, made: Tensor, wrap: bool) -> dict[str, float]:
    side = loaded(world.prior).image_size[0]
    height, width = made.shape[-2:]
    crops = _crops(made, side)
    columns, rows = range(side, width, side), range(side, height, side)
    found = {
        **_common(case, source, truth, made, side),
        "seam": float(figures.seam(made, columns, rows, truth)),
        "style": float(figures.intra_style_distance(made, side, truth)),
        "consistency": 100 * _mean([figures.neighbor_consistency(line) for line in crops]),
        "neighbor_distance": _mean([_apart(line) for line in crops]),
    }
    return {**found, "wrap_seam": float(figures.wrap_seam(made, truth))} if wrap else found


def _moving(world: World, case: Case, source: Tensor, truth: Tensor, made: Tensor) -> dict[str, float]:
    flows = _flows(case.subject, world.video_height, world.frames)
    return {
        **_common(case, source, truth, made, loaded(world.prior).image_size[0]),
        "consistency": 100 * figures.neighbor_consistency(made),
        "neighbor_distance": _apart(made),
        "warp_error": 1000 * figures.warp_error(made, source, flows),
    }


def _common(case: Case, source: Tensor, truth: Tensor, made: Tensor, side: int) -> dict[str, float]:
    texts = ("a picture", f"a picture, {case.edit.caption}")
    return {
        "direction": 100 * float(figures.directional_similarity(source, made, *texts, side=side).mean()),
        "source": 100 * float(figures.source_similarity(source, made, side=side).mean()),
        "truth_psnr": float(figures.psnr(made, truth).clamp(max=99).mean()),
    }


@cache
def _flows(name: str, height: int, frames: int) -> Any:
    return figures.source_flows(data.clip(name, height, frames))


def _crops(images: Tensor, side: int) -> list[Tensor]:
    """Windows of one image, row by row."""
    rows = images[0].unfold(1, side, side).unfold(2, side, side).movedim(0, 2)  # [rows, columns, 3, side, side]
    return [line for line in rows if len(line) > 1]


def _apart(images: Tensor) -> float:
    """Mean perceptual distance of neighbors."""
    return float(figures.perceptual_distance(images[:-1], images[1:]).mean())


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _save(images: Tensor, path: Path) -> None:
    """The first image; readers see the old file or the new one, never half of it."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    to_pil(images)[0].save(draft, format="PNG")
    draft.replace(path)


def _write(images: Tensor, path: Path) -> None:
    frames = (images.clamp(0, 1) * 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
    times = [i / CLIP_RATE for i in range(len(frames))]
    with VideoWriter(path, frames.shape[1], frames.shape[2], times=times) as out:
        for frame in frames:
            out.write(frame)


def measured(part: Mapping[str, Any], kind: str) -> dict[str, float] | None:
    """The figures of a part in one of its two kinds; references have one."""
    return part.get(kind) or part.get("natural")
