"""The output directory of a run in steps: its metrics, frames, checkpoints and video."""

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from PIL import Image
from torch import Tensor

from scoredistill.checkpoint import load_state, save_state
from scoredistill.files import write_text
from scoredistill.loop import ADVICE, Step
from scoredistill.media.images import save_gif, save_image
from scoredistill.reports.page import Page
from scoredistill.tasks.output_paths import unwritable
from scoredistill.tasks.run_directory import RunDirectory

R = TypeVar("R")

GIF_SIDE = 800  # largest side of the video of a run, in pixels
STILLS = 24  # largest number of frames that the slider of a report stops at


class StepDirectory(RunDirectory[R]):
    """Abstract base of the directories of runs made of steps, with metrics, checkpoints and a video of the run.

    Attributes:
        frames: number of frames of the video of a run; 0 for no video, then previews are drawn at checkpoints.
        source: what another source is called in messages, for example "another image".
    """

    frames: ClassVar[int] = 0
    source: ClassVar[str] = "something else"
    folders = (".frames",)

    def open(self, settings: object, **facts: str) -> tuple[dict[str, Any] | None, list[dict[str, float]]]:
        """Begin to write.

        Args:
            settings: the complete settings.
            **facts: what else identifies the run, such as a hash of its source; kept in config.json.

        Returns:
            The state to continue from and the metrics up to there; None and no metrics for a new run.

        Raises:
            ValueError: if the directory is not writable, or the run to continue has other settings or another source.
        """
        self._claim(settings)
        state, rows = None, []
        if self.resume:
            self._check_source(self.source, facts)
        if self.resume and self._checkpoint.is_file():
            state = load_state(self._checkpoint)
            rows = self._rows(state["next"])
        self._begin(settings, state is not None, facts)
        try:
            if self.frames:
                self._frames.mkdir(exist_ok=True)
            write_text(self._metrics, "".join(json.dumps(row) + "\n" for row in rows))
        except OSError as error:
            raise unwritable(self.path, error) from error
        return state, rows

    def _rows(self, count: int) -> list[dict[str, float]]:
        """The metrics of the first steps.

        Raises:
            ValueError: if the file does not hold them.
        """
        try:
            lines = self._metrics.read_text(encoding="utf-8").splitlines()[:count]
            rows = [dict(json.loads(line)) for line in lines]
        except (OSError, ValueError, TypeError):
            rows = []
        if len(rows) < count:
            raise ValueError(
                f"{self._metrics} lacks the metrics of the {count} steps before the checkpoint: start the run anew "
                "with --overwrite"
            )
        return rows

    def record(
        self, step: Step, row: Mapping[str, float], counts: Mapping[str, int], seconds: float,
        draw: Callable[[Step], Image.Image],
    ) -> None:  # fmt: skip
        """Record a finished step: its metrics always, a frame or a checkpoint from time to time.

        Args:
            step: the step.
            row: its metrics.
            counts, seconds: cost and wall time so far.
            draw: makes an image of what there is after the step.
        """
        with self.told():
            with self._metrics.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
            last = step.index + 1 == step.steps
            if self.frames and (last or step.index % max(1, step.steps // self.frames) == 0):
                frame = draw(step)
                save_image(frame, self._frames / f"{step.index:06d}.png")
                self.save(frame, "preview.png")
            due = not last and self._due()
            if due or step.index + 2 == step.steps:  # a failing export then costs the last step
                self.keep(step, counts, seconds)
            if due and not self.frames:
                self.save(draw(step), "preview.png")

    def keep(self, step: Step, counts: Mapping[str, int], seconds: float) -> None:
        """Write a checkpoint, from which the run continues after the step.

        Args:
            step: the step.
            counts, seconds: cost and wall time so far.

        Raises:
            OSError: if it cannot be written; the checkpoint before is kept.
            FloatingPointError: if the state is not finite; the checkpoint before is kept.
        """
        state = step.state_dict()
        if not all_finite(state):
            raise FloatingPointError(
                f"the parameters are not finite after step {step.index} (t = {step.t:.4g}): {ADVICE}; --resume "
                "continues from the checkpoint before, if there is one"
            )
        save_state({**state, "counts": counts, "seconds": seconds}, self._checkpoint)

    def _write_video(self) -> None:
        """Write the optimization as video.gif; its last frame stays for a while."""
        frames = [Image.open(p, formats=("PNG",)) for p in sorted(self._frames.glob("*.png"))]
        if frames:
            still = [frames[-1]] * (len(frames) // 4)
            save_gif([*frames, *still], self.path / "video.gif", size=min(max(frames[0].size), GIF_SIDE))

    def add_optimization(self, page: Page, caption: str) -> None:
        """Add the video of the run to a report, with a slider over its steps."""
        stills = sorted(self._frames.glob("*.png"))
        chosen = [stills[i] for i in sorted({round(k * (len(stills) - 1) / (STILLS - 1)) for k in range(STILLS)})]
        page.scrubber(self.path / "video.gif", chosen, [f"step {int(path.stem) + 1}" for path in chosen], caption)

    def _clear(self) -> None:
        """Remove what only an unfinished run needs."""
        if not self._frames.is_symlink():
            shutil.rmtree(self._frames, ignore_errors=True)
        self._checkpoint.unlink(missing_ok=True)

    @property
    def _frames(self) -> Path:
        return self.path / ".frames"

    @property
    def _metrics(self) -> Path:
        return self.path / "metrics.jsonl"


def all_finite(state: object) -> bool:
    """Whether the tensors of nested dictionaries and lists are finite."""
    if isinstance(state, Tensor):
        return not state.is_floating_point() or bool(state.isfinite().all())
    if isinstance(state, Mapping):
        return all(map(all_finite, state.values()))
    return not isinstance(state, (list, tuple)) or all(map(all_finite, state))
