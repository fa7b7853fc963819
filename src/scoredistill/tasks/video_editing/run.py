"""A video is edited group by group, then written frame by frame; in between, the latents are kept on disk."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from scoredistill.checkpoint import read_tensors, write_tensors
from scoredistill.media.images import resized, to_pil
from scoredistill.media.motion import scene_cuts
from scoredistill.media.video import Video, VideoWriter
from scoredistill.priors.base import Editor
from scoredistill.priors.counted import Counted
from scoredistill.ranks import Ranks
from scoredistill.tasks.image_editing import regions
from scoredistill.tasks.image_editing.canvas import FRAMES, Canvas, work_size
from scoredistill.tasks.image_editing.detail import with_detail
from scoredistill.tasks.image_editing.run import Edit, conditions, edited, negative_of
from scoredistill.tasks.video_editing.flow import exchange_of
from scoredistill.tasks.video_editing.groups import Group, faded, groups_of
from scoredistill.tasks.video_editing.request import VideoSettings


class VideoEdit:
    """The edit of one video.

    Args:
        source: the video.
        settings: the settings.
        prior: the editor.
        counted: the same editor, counting network evaluations.
        kept: directory for the latents of finished groups.
        on_nan: see `distill`.

    Attributes:
        cuts: indices of frames that begin a scene.
        groups: frames that are edited together.
        encoded, decoded: number of tiles that passed the autoencoder so far.
    """

    def __init__(
        self, source: Video, settings: VideoSettings, prior: Editor, counted: Counted, kept: Path, on_nan: str = "stop"
    ):
        self.source, self.settings, self.prior, self.counted, self.kept = source, settings, prior, counted, kept
        self.on_nan = on_nan
        full = (source.height, source.width)
        self.size = work_size(full, settings.size, prior.factor, settings.wrap)
        make = lambda size: regions.make(settings.instruction, settings.regions, size, settings.feather, settings.wrap)
        self.regions: regions.Regions = make(self.size)
        self.shown: Tensor | None = None if self.regions.everywhere else make(full).shown
        self.text, self.negative = conditions(prior, self.regions), negative_of(prior, settings)
        self.cuts = tuple(scene_cuts(source.frames()))
        self.groups = tuple(groups_of(len(source), settings.group, settings.overlap, self.cuts))
        self.encoded = self.decoded = 0
        self._change: list[float] = []

    def edit(self, progress: bool, preview: Callable[[Image.Image], None] | None = None) -> None:
        """Edit all groups and keep the latents of each in a file; groups whose file exists are not edited again.

        Args:
            progress: show a progress bar.
            preview: called with one decoded frame of every edited group.
        """
        from tqdm.auto import tqdm

        with tqdm(total=len(self.source), desc=self.settings.method, disable=not progress, unit="frame") as bar:
            for index, group in enumerate(self.groups):
                spent = Ranks.here().first(partial(_spent, self._file(index)))  # only rank 0 has files
                if spent is not None:
                    self._recall(spent)
                else:
                    self._keep(index, group, preview)
                bar.update(group.stop - group.fresh)

    def write(self, path: Path | None, progress: bool) -> list[Image.Image]:
        """Decode the frames in order and write them.

        Args:
            path: the video to write; None to return the frames instead.
            progress: show a progress bar.

        Returns:
            The frames, if there is no path.
        """
        from tqdm.auto import tqdm

        source = self.source
        bar = tqdm(self._finished(), "writing", len(source), disable=not progress, unit="frame")
        if path is None:
            return [Image.fromarray(frame) for frame in bar]
        writer = VideoWriter(
            path,
            source.height,
            source.width,
            times=source.times,
            sound_from=source,
            duration=source.duration,
            aspect=source.aspect,
        )
        with writer:
            for frame in bar:
                writer.write(frame)
        return []

    def counts(self) -> dict[str, int]:
        """Network evaluations ("rows") and calls, tiles encoded and decoded."""
        return {**self.counted.counts(), "encoded": self.encoded, "decoded": self.decoded}

    def update(self) -> float:
        """Root mean square of the change of the latents, over all groups."""
        return float(np.sqrt(np.mean(np.square(self._change)))) if self._change else 0.0

    def _file(self, index: int) -> Path:
        """Latents of a group, [f, c, H, W]."""
        return self.kept / f"{index:05d}.safetensors"

    def _keep(self, index: int, group: Group, preview: Callable[[Image.Image], None] | None) -> None:
        """Edit a group; keep its latents, and what they cost."""
        before = self._cost()
        latents = self._edited(index, group, preview)
        spent = {name: value - before[name] for name, value in self._cost().items()}
        facts = {"change": str(self._change[-1]), **{name: str(value) for name, value in spent.items()}}
        write_tensors({"latents": latents.cpu().contiguous()}, self._file(index), facts)

    def _recall(self, spent: Mapping[str, str]) -> None:
        """Count the cost of a group that an interrupted run had finished."""
        self._change.append(float(spent["change"]))
        self.counted.add({name: int(spent[name]) for name in ("rows", "calls")})
        self.encoded += int(spent["encoded"])

    def _cost(self) -> dict[str, int]:
        return {"rows": self.counted.rows, "calls": self.counted.calls, "encoded": self.encoded}

    def _edited(self, index: int, group: Group, preview: Callable[[Image.Image], None] | None) -> Tensor:
        """The edited latents of a group."""
        images = self._work(group.start, group.stop)
        canvas = Canvas(self.prior, images, self.settings.wrap)
        self.encoded += canvas.encoded
        exchange = exchange_of(self.settings.flow, canvas, images)
        salt = 0 if self.settings.recipe.same_noise else index
        edit = Edit(
            self.settings,
            canvas,
            self.counted,
            self.text,
            self.regions,
            exchange,
            salt=salt,
            on_nan=self.on_nan,
            negative=self.negative,
        )
        latents = edited(edit)
        self._change.append(float((latents - canvas.source).square().mean().sqrt()))
        if preview is not None:
            middle = len(latents) // 2
            preview(to_pil(canvas.decode(latents[middle : middle + 1]))[0])
        return latents

    def _finished(self) -> Iterator[np.ndarray]:
        """The edited frames at full size, in order."""
        for start, latents in self._faded():
            for first in range(0, len(latents), FRAMES):
                part = latents[first : first + FRAMES]
                begin = start + first
                full = _tensor(list(self.source.frames(begin, begin + len(part))))
                canvas = Canvas(self.prior, resized(full, self.size), self.settings.wrap)
                after = canvas.decode(part.to(canvas.source))
                before = canvas.decode(canvas.source) if self.settings.detail else after
                self.encoded += canvas.encoded
                self.decoded += canvas.decoded
                for one, r, e in zip(full, before, after, strict=True):
                    yield self._composed(one[None], r[None], e[None])

    def _composed(self, full: Tensor, before: Tensor, after: Tensor) -> np.ndarray:
        """A frame with the source's detail, and the source itself outside the regions."""
        made = with_detail(full, before, after, self.settings.detail, self.settings.wrap)
        if self.shown is not None:
            made = full + self.shown * (made - full)
        return (made[0].permute(1, 2, 0).clamp(0, 1) * 255).round().to(torch.uint8).numpy()

    def _faded(self) -> Iterator[tuple[int, Tensor]]:
        """(first frame, final latents), in order; frames that two groups share come with the later group."""
        held: Tensor | None = None
        for index, group in enumerate(self.groups):
            latents = read_tensors(self._file(index))[0]["latents"]
            if held is not None:
                latents = faded(held, latents)
            after = self.groups[index + 1] if index + 1 < len(self.groups) else None
            shared = group.stop - after.start if after is not None and after.fresh > after.start else 0
            held = latents[len(latents) - shared :] if shared else None
            yield group.start, latents[: len(latents) - shared]

    def _work(self, start: int, stop: int) -> Float[Tensor, "f 3 h w"]:
        """Frames at the working size; they are reduced one by one."""
        frames = self.source.frames(start, stop)
        return torch.cat([resized(_tensor([frame]), self.size) for frame in frames])


def _spent(file: Path) -> dict[str, str] | None:
    """What the latents in a file cost; None if there is no such file."""
    return read_tensors(file)[1] if file.is_file() else None


def _tensor(frames: Sequence[np.ndarray]) -> Float[Tensor, "f 3 h w"]:
    """Frames [h, w, 3] of bytes as a batch in [0, 1]."""
    return torch.from_numpy(np.stack(frames)).permute(0, 3, 1, 2).float() / 255
