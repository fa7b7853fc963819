"""A video of any length and size, edited by an instruction.

result = edit_video("bikes.mp4", "make it night", out="runs/night")      # runs/night/edited.mp4, with the sound

Frames are edited in groups (`editing.groups`): the windows of all frames of a group are the particles of CSD-Edit.
First all groups are edited, and their latents kept on disk, so that a stopped run goes on; then the frames are decoded
and written one after the other, with the source's own detail. Neither part holds more than one group.
"""

import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from scoredistill.media.images import resized, to_pil
from scoredistill.media.motion import scene_cuts
from scoredistill.media.video import Video, VideoWriter, open_video
from scoredistill.priors.base import Prior
from scoredistill.priors.conditions import Cond
from scoredistill.priors.counted import Counted
from scoredistill.priors.pipelines import prior_folder
from scoredistill.tasks.image_editing import regions
from scoredistill.tasks.image_editing.canvas import FRAMES, Canvas, work_size
from scoredistill.tasks.image_editing.detail import with_detail
from scoredistill.tasks.image_editing.regions import Regions
from scoredistill.tasks.image_editing.request import EditRequest, with_size
from scoredistill.tasks.image_editing.run import Edit, conditions, edited
from scoredistill.tasks.session import editor
from scoredistill.tasks.video_editing.flow import exchange_of
from scoredistill.tasks.video_editing.groups import Group, faded, groups_of
from scoredistill.tasks.video_editing.output import VideoFolder, VideoResult

WINDOWS = 1  # along the shorter side, at the default working size


def edit_video(
    video: str | Path | Video | Sequence[Image.Image],
    instruction: str,
    prior: str | Path | Prior = "emoji-edit",
    method: str = "csd",
    *,
    out: str | Path | None = None,
    file: str = "edited.mp4",
    resume: bool = False,
    progress: bool = False,
    dtype: str | torch.dtype | None = None,
    device: str | torch.device | None = None,
    **settings: Any,
) -> VideoResult:
    """Edit a video.

    Args:
        video: a video, an animated image, a folder of frames, a `Video`, or frames in memory.
        instruction: what to do; may be empty if there are regions.
        prior: for `load_prior`, or a loaded prior; it must be an instruction editor.
        method: a name of `EDIT_RECIPES`.
        out: folder for the video, settings and report. Without it the frames come back in memory.
        file: name of the video in `out`; its suffix says what is written (`VideoWriter`), none is a folder of frames.
        resume: go on with an interrupted run in `out`.
        progress: show a progress bar.
        dtype, device: of the networks, for `load_prior`.
        **settings: other fields of `EditRequest`.

    Raises:
        ValueError: for impossible settings or an unreadable video, before the model is loaded.
        FloatingPointError: if the latents stop being finite.
    """
    name = str(prior) if isinstance(prior, (str, Path)) else getattr(prior, "name", type(prior).__name__)
    request = EditRequest(instruction, method, name, video=True, **settings).complete()
    source = _opened(video)
    for text in request.regions:
        regions.parse(text, request.wrap)
    if isinstance(prior, (str, Path)):
        prior_folder(prior)
    folder = None if out is None else VideoFolder(Path(out), request, file, resume)
    model = editor(prior, name, dtype, device)
    request = with_size(request, model, WINDOWS)
    with tempfile.TemporaryDirectory() as scratch:
        kept = Path(scratch) if folder is None else folder.open(source)
        start, counted = time.perf_counter(), Counted(model)
        work = _Video(source, request, model, counted, kept)
        work.edit(progress, folder)
        path = None if folder is None else folder.video
        frames = work.write(path, progress)
        counts, seconds = work.counts(), time.perf_counter() - start
        result = VideoResult(path, frames, source, request, counts, seconds, work.cuts, work.groups, work.update())
        if folder is not None:
            folder.finish(result)
    return result


def _opened(video: str | Path | Video | Sequence[Image.Image]) -> Video:
    if isinstance(video, Video):
        return video
    if isinstance(video, (str, Path)):
        return open_video(video)
    return Video.of(list(video))


class _Video:
    """One video on its way: edited group by group, then written frame by frame; latents wait in a folder."""

    def __init__(self, source: Video, request: EditRequest, prior: Any, counted: Counted, kept: Path):
        self.source, self.request, self.prior, self.counted, self.kept = source, request, prior, counted, kept
        assert request.size is not None
        full = (source.height, source.width)
        self.size = work_size(full, request.size, prior.codec.factor, request.wrap)
        make = lambda size: regions.make(request.instruction, request.regions, size, request.feather, request.wrap)
        self.regions: Regions = make(self.size)
        self.shown: Tensor | None = None if self.regions.everywhere else make(full).shown
        self.text: Cond = conditions(prior, self.regions)
        self.cuts = tuple(scene_cuts(source.frames()))
        self.groups = tuple(groups_of(len(source), request.group, request.overlap or 0, self.cuts))
        self.encoded = self.decoded = 0
        self._change: list[float] = []

    def edit(self, progress: bool, folder: VideoFolder | None) -> None:
        """The latents of all groups, each in a file; those that are there already stay."""
        from tqdm.auto import tqdm

        with tqdm(total=len(self.source), desc=self.request.method, disable=not progress, unit="frame") as bar:
            for index, group in enumerate(self.groups):
                file = self.kept / f"{index:05d}.safetensors"
                if file.is_file():
                    self._recall(file)
                else:
                    before = self._cost()
                    latents = self._edited(index, group, folder)
                    draft = file.with_suffix(".part")
                    spent = {"change": self._change[-1], **self._spent(before)}
                    save_file({"latents": latents.cpu().contiguous()}, draft, {k: str(v) for k, v in spent.items()})
                    draft.replace(file)
                bar.update(group.stop - group.fresh)

    def _cost(self) -> dict[str, int]:
        return {"rows": self.counted.rows, "calls": self.counted.calls, "encoded": self.encoded}

    def _spent(self, before: dict[str, int]) -> dict[str, int]:
        return {name: value - before[name] for name, value in self._cost().items()}

    def _recall(self, file: Path) -> None:
        """Count what a group took that an interrupted run had finished."""
        with safe_open(file, "pt") as kept:
            spent = kept.metadata() or {}
        self._change.append(float(spent["change"]))
        self.counted.add({name: int(spent[name]) for name in ("rows", "calls")})
        self.encoded += int(spent["encoded"])

    def _edited(self, index: int, group: Group, folder: VideoFolder | None) -> Tensor:
        images = self._work(group.start, group.stop)
        canvas = Canvas(self.prior, images, self.request.wrap)
        self.encoded += canvas.encoded
        exchange = exchange_of(self.request, canvas, images)
        salt = 0 if self.request.recipe.same_noise else index
        edit = Edit(self.request, canvas, self.counted, self.text, self.regions, exchange, salt=salt)
        latents = edited(edit)
        self._change.append(float((latents - canvas.source).square().mean().sqrt()))
        if folder is not None:
            middle = len(latents) // 2
            folder.preview(to_pil(canvas.decode(latents[middle : middle + 1]))[0])
        return latents

    def write(self, path: Path | None, progress: bool) -> list[Image.Image]:
        """Decode the frames in order and write them; they are returned only if there is no path."""
        from tqdm.auto import tqdm

        source, made = self.source, []
        bar = tqdm(self._finished(), "writing", len(source), disable=not progress, unit="frame")
        if path is None:
            made = [Image.fromarray(frame) for frame in bar]
            return made
        writer = VideoWriter(
            path, source.height, source.width, times=source.times, sound_from=source, duration=source.duration
        )
        with writer:
            for frame in bar:
                writer.write(frame)
        return []

    def _finished(self) -> Iterator[np.ndarray]:
        for start, latents in self._faded():
            for first in range(0, len(latents), FRAMES):
                part = latents[first : first + FRAMES]
                begin = start + first
                full = _tensor(self.source.frames(begin, begin + len(part)))
                canvas = Canvas(self.prior, resized(full, self.size), self.request.wrap)
                after = canvas.decode(part.to(canvas.source))
                before = canvas.decode(canvas.source) if self.request.detail else after
                self.encoded += canvas.encoded
                self.decoded += canvas.decoded
                for one, r, e in zip(full, before, after, strict=True):
                    yield self._composed(one[None], r[None], e[None])

    def _composed(self, full: Tensor, before: Tensor, after: Tensor) -> np.ndarray:
        made = with_detail(full, before, after, self.request.detail, self.request.wrap)
        if self.shown is not None:
            made = full + self.shown * (made - full)
        return (made[0].permute(1, 2, 0).clamp(0, 1) * 255).round().to(torch.uint8).numpy()

    def _faded(self) -> Iterator[tuple[int, Tensor]]:
        """(first frame, final latents), in order; overlapping frames come with the later group."""
        held: Tensor | None = None
        for index, group in enumerate(self.groups):
            latents = load_file(self.kept / f"{index:05d}.safetensors")["latents"]
            if held is not None:
                latents = faded(held, latents)
            after = self.groups[index + 1] if index + 1 < len(self.groups) else None
            shared = group.stop - after.start if after is not None and after.fresh > after.start else 0
            held = latents[len(latents) - shared :] if shared else None
            yield group.start, latents[: len(latents) - shared]

    def _work(self, start: int, stop: int) -> Float[Tensor, "f 3 h w"]:
        """Frames at the working size, reduced one by one."""
        frames = self.source.frames(start, stop)
        return torch.cat([resized(_tensor([frame]), self.size) for frame in frames])

    def counts(self) -> dict[str, int]:
        """Network rows and calls, frames encoded and decoded."""
        return {**self.counted.counts(), "encoded": self.encoded, "decoded": self.decoded}

    def update(self) -> float:
        """Root mean square of the change of the latents; 0 if all groups were there already."""
        return float(np.sqrt(np.mean(np.square(self._change)))) if self._change else 0.0


def _tensor(frames: Any) -> Float[Tensor, "f 3 h w"]:
    return torch.from_numpy(np.stack(list(frames))).permute(0, 3, 1, 2).float() / 255
