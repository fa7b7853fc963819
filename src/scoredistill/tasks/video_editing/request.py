"""What an edit of a video is asked for, and the complete settings of a run."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from PIL import Image

from scoredistill.media.video import Video
from scoredistill.recipe import MethodSource, Recipe
from scoredistill.tasks import checks
from scoredistill.tasks.image_editing.recipes import EditRecipe
from scoredistill.tasks.image_editing.request import (
    BUNDLED_SIDE,
    CanvasOptions,
    EditOptions,
    EditRequest,
    EditSettings,
)
from scoredistill.tasks.request import PriorSource, RunOptions, completed
from scoredistill.tasks.video_editing.recipes import VIDEO_RECIPES, own

OVERLAP = 4  # frames that successive groups share by default


@dataclass(frozen=True, kw_only=True)
class VideoOptions:
    """Options of an edit of a video.

    Attributes:
        group: Number of frames that are edited together.
        overlap: Number of frames that successive groups share, less than the group; 4 by default.
        flow: Rounds of sharing gradients with neighboring frames along the optical flow; 0 for none.
    """

    group: int = 24
    overlap: int | None = None
    flow: int | None = None


@dataclass(frozen=True, kw_only=True)
class VideoFile:
    """The file of an edited video.

    Attributes:
        file: Name of the video in the output directory: .mp4, .webm or .gif, or a name without a suffix for a
            directory of frames.
    """

    file: str = "edited.mp4"


@dataclass(frozen=True)
class VideoRequest(EditRequest, VideoOptions):
    """What an edit of a video is asked for; None stands for the default of the method, see `recipes`."""

    recipes: ClassVar[Mapping[str, EditRecipe]] = VIDEO_RECIPES
    windows: ClassVar[int] = 1

    @staticmethod
    def own(recipe: Recipe) -> EditRecipe:
        """How a method of the caller's own is run."""
        return own(recipe)

    def complete(self, side: int = BUNDLED_SIDE) -> "VideoSettings":
        """The settings of the request, see `EditRequest.complete`."""
        self.check_names()
        checks.whole(self, group=2)
        own = {"overlap": min(OVERLAP, self.group - 1), "flow": self.recipe.flow}
        return completed(self, VideoSettings, {**self.defaults(side), **own})


@dataclass(frozen=True, kw_only=True)
class VideoSettings(EditSettings, VideoRequest):
    """A complete `VideoRequest`: nothing is None."""

    overlap: int
    flow: int

    def check_values(self) -> None:
        super().check_values()
        checks.whole(self, overlap=0, flow=0)
        if self.overlap >= self.group:
            raise ValueError(f"overlap must be less than the group of {self.group} frames, not {self.overlap}")


@dataclass(frozen=True)
class VideoArguments(EditOptions, CanvasOptions, VideoOptions, VideoFile, RunOptions):
    """Parameters of `edit_video`, beside its options and those of any run.

    Attributes:
        video: A video file, an animated image, a directory of frames, a `Video`, or frames in memory.
        instruction: What to change; may be empty if there are regions.
        prior: A name, a directory or a hub name for `load_prior`, or a loaded prior; it must be an instruction editor.
        method: A name of `VIDEO_RECIPES`, or a method of your own, see `scoredistill.recipe`.
    """

    video: str | Path | Video | Sequence[Image.Image]
    instruction: str
    prior: PriorSource = "emoji-edit"
    method: MethodSource = "csd"
