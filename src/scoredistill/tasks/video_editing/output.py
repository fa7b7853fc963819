"""The output folder of an edited video: config.json, preview.png, the video, result.json and report.html.

Latents of finished groups wait in .groups/ until the video is whole; a stopped run goes on from them.
"""

import hashlib
import json
import re
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from scoredistill import __version__
from scoredistill.media.video import Video, VideoWriter, open_video
from scoredistill.reports.page import Page
from scoredistill.tasks.image_editing.output import cost
from scoredistill.tasks.image_editing.request import EditRequest
from scoredistill.tasks.run_directory import RunFolder
from scoredistill.tasks.video_editing.groups import Group

SIDE = 480  # pixels of the videos in a report
FRAME = re.compile(r"\d{6,}\.png$|times\.txt$")  # what a folder of frames holds
VIDEO_FRAMES = 150  # in a report, at most


class VideoFolder(RunFolder):
    """Writes an edited video. Making the object checks, `open` begins.

    Args:
        path, request, resume: see `RunFolder`.
        file: name of the video.
    """

    leftovers = ("preview.png", "result.json", "report.html", ".groups/*")
    request: EditRequest

    def __init__(self, path: Path, request: EditRequest, file: str, resume: bool = False):
        if file.startswith(".") or Path(file).name != file:
            raise ValueError(f"{file!r} must be a name without a folder, such as edited.mp4")
        self.video = path / file
        super().__init__(path, request, resume)
        if self.video.is_dir() and any(not FRAME.match(p.name) for p in self.video.iterdir()):
            raise ValueError(f"{self.video} holds other files: give another name for --file")
        VideoWriter(
            self.video if not self.video.is_dir() else path / "new", 2, 2, times=[0.0]
        )  # refuses what it cannot

    def open(self, source: Video) -> Path:
        """Begin writing; the folder for latents.

        Raises:
            ValueError: if the run to go on with was of another video.
        """
        first = hashlib.sha256(next(iter(source.frames(0, 1))).tobytes()).hexdigest()
        facts = {"frames": len(source), "height": source.height, "width": source.width, "first frame": first}
        continued = self.resume and self._checkpoint.is_dir()
        if continued and any(json.loads(self._config.read_text()).get(k) != v for k, v in facts.items()):
            raise ValueError(f"the run in {self.path} edits another video: give the same to resume")
        self._begin(continued, facts)
        if self.video.is_dir():
            shutil.rmtree(self.video)
        else:
            self.video.unlink(missing_ok=True)
        self._checkpoint.mkdir(exist_ok=True)
        return self._checkpoint

    def preview(self, image: Image.Image) -> None:
        """What the video looks like so far."""
        image.save(self.path / "preview.png")

    def finish(self, result: "VideoResult") -> None:
        """Write the report; remove what was needed to resume."""
        facts = {"frames": len(result.source), "scenes": len(result.cuts) + 1, "groups": len(result.groups)}
        summary = {**result.counts, **facts, "update": result.update, "seconds": round(result.seconds, 2)}
        (self.path / "result.json").write_text(json.dumps(summary, indent=2) + "\n")
        self._report(result, facts).save(self.path / "report.html")
        shutil.rmtree(self._checkpoint)

    def _report(self, result: "VideoResult", facts: dict[str, int]) -> Page:
        request = result.request
        title = request.instruction or ", ".join(request.regions)
        page = Page(title, f"{request.method} on {request.prior}: {request.recipe.says}").command(self.command)
        videos = {}
        for label, video in (("source", result.source), ("edited", open_video(self.video))):
            videos[label] = small(video, self._checkpoint / f"{label}.mp4")
        page.videos(videos, f"The first {VIDEO_FRAMES} frames." if facts["frames"] > VIDEO_FRAMES else "")
        page.heading("Cost").key_values({**facts, **cost(result.counts, result.seconds, result.update)})
        return page.heading("Settings").key_values({**asdict(request), "version": __version__})

    @property
    def _checkpoint(self) -> Path:
        return self.path / ".groups"


def small(video: Video, path: Path, side: int = SIDE, frames: int = VIDEO_FRAMES) -> Path:
    """The beginning of a video, reduced, as an mp4 that a report can hold."""
    share = min(1.0, side / max(video.height, video.width))
    height, width = (max(2, round(n * share) // 2 * 2) for n in (video.height, video.width))
    count = min(frames, len(video))
    with VideoWriter(path, height, width, times=video.times[:count]) as out:
        for frame in video.frames(0, count):
            out.write(_resized(frame, (width, height)))
    return path


def _resized(frame: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    return np.asarray(Image.fromarray(frame).resize(size, Image.Resampling.LANCZOS))


@dataclass(frozen=True)
class VideoResult:
    """What came out.

    Attributes:
        path: the video that was written, if there is a folder.
        frames: the edited frames, if there is none.
        source: what was edited.
        request: every setting filled in.
        counts: network rows and calls, frames encoded and decoded.
        seconds: wall time without loading the model.
        cuts: frames that begin a scene.
        groups: frames that were edited together.
        update: root mean square of the change of the latents.
    """

    path: Path | None
    frames: list[Image.Image]
    source: Video
    request: EditRequest
    counts: dict[str, int]
    seconds: float
    cuts: tuple[int, ...]
    groups: tuple[Group, ...]
    update: float
