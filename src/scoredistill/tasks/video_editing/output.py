"""The output directory and the result of an edit of a video: config.json, preview.png, the video, result.json, report.

Latents of finished groups are kept in .groups/ until the video is complete; an interrupted run continues from them.
"""

import re
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from scoredistill.media.video import Video, VideoWriter, open_video
from scoredistill.reports.page import Page
from scoredistill.tasks.image_editing.output import edit_cost, edit_page, shown_size
from scoredistill.tasks.known_words import add_verdict
from scoredistill.tasks.run_config import digest, read_config
from scoredistill.tasks.run_directory import RunDirectory
from scoredistill.tasks.run_report import add_settings
from scoredistill.tasks.video_editing.groups import Group
from scoredistill.tasks.video_editing.request import VideoFile, VideoRequest, VideoSettings

FILE = VideoFile.file  # the name of the video by default
LONGEST = 200  # bytes of a file name
SIDE = 480  # largest side of the videos in a report, in pixels
FRAME = re.compile(r"\d{6,}\.png$|times\.txt$")  # files of a directory of frames
VIDEO_FRAMES = 150  # largest number of frames in a report


@dataclass(frozen=True)
class VideoResult:
    """An edited video, and how it was made.

    Attributes:
        path: the video that was written; None without an output directory.
        frames: the edited frames; empty with an output directory.
        source: the video it was made from.
        request: the complete settings.
        counts: network evaluations ("rows"), network calls, tiles encoded and decoded.
        seconds: wall time without loading the prior.
        cuts: indices of frames that begin a scene.
        groups: frames that were edited together.
        update: root mean square of the change of the latents.
        verdict: what the result is worth of an instruction that the prior was not trained on; else empty.
    """

    path: Path | None
    frames: list[Image.Image]
    source: Video
    request: VideoSettings
    counts: dict[str, int]
    seconds: float
    cuts: tuple[int, ...]
    groups: tuple[Group, ...]
    update: float
    verdict: str = ""


class VideoDirectory(RunDirectory[VideoResult]):
    """Output directory of an edit of a video.

    Args:
        path, request, resume, overwrite: see `RunDirectory`.
        file: name of the video.

    Raises:
        ValueError: if the name is not one of a video, or would replace other files.
    """

    leftovers = ("preview.png", "result.json", "report.html", ".groups/*")
    folders = (".groups",)
    checkpoint = ".groups"

    def __init__(
        self, path: Path, request: VideoRequest, resume: bool = False, overwrite: bool = False, file: str = FILE
    ):
        if file.startswith(".") or Path(file).name != file or "\0" in file:
            raise ValueError(f"{file!r} must be a name without a directory, such as edited.mp4")
        if len(file.encode()) > LONGEST:
            raise ValueError(f"the name of the video has more than {LONGEST} bytes: give a shorter one for --file")
        self.video = path / file
        super().__init__(path, request, resume, overwrite)
        self._check_video()
        probe = path / "new" if self.video.is_dir() else self.video
        VideoWriter(probe, 2, 2, times=[0.0])  # refuses formats it cannot write; writes nothing yet

    def _check_video(self) -> None:
        """Refuse a name whose file or directory is not an earlier run's video.

        Raises:
            ValueError: asking for another name.
        """
        if not (self.video.exists() or self.video.is_symlink()):
            return
        frames = not self.video.is_dir() or all(FRAME.match(p.name) for p in self.video.iterdir())
        if self.video.is_symlink() or not frames or self.video.name != read_config(self.path).get("file", FILE):
            raise ValueError(f"{self.video} is not a video of this run: give another name for --file")

    def open(self, settings: VideoSettings, source: Video, **machine: str) -> Path:
        """Begin to write.

        Args:
            settings: the complete settings.
            source: the video to edit.
            **machine: data type and device of the networks.

        Returns:
            The directory for latents.

        Raises:
            ValueError: if the directory is not writable, or the run to continue has other settings or another video.
        """
        first = digest(next(iter(source.frames(0, 1))).tobytes())
        facts = {"frames": len(source), "height": source.height, "width": source.width, "first frame": first}
        self._claim(settings)
        self._check_video()
        if self.resume:
            self._check_source("another video", {**facts, **machine})
            self._check_file()
        self._begin(settings, self.resume and self._checkpoint.is_dir(), {**facts, **machine, "file": self.video.name})
        with self.told():
            self._checkpoint.mkdir(exist_ok=True)
        return self._checkpoint

    def make_room(self) -> None:
        """Remove a directory of frames of an interrupted run; a file is replaced when its successor is complete."""
        if self.video.is_dir():
            with self.told():
                self._remove_video(self.video)

    def _remove_results(self) -> None:
        super()._remove_results()
        self._remove_video(self.path / str(read_config(self.path).get("file", FILE)))

    def _remove_video(self, video: Path) -> None:
        """Remove an earlier run's video; a directory only if nothing but frames is in it."""
        if video.parent != self.path or video.is_symlink():
            return
        if video.is_dir():
            if all(FRAME.match(p.name) for p in video.iterdir()):
                shutil.rmtree(video)
        else:
            video.unlink(missing_ok=True)

    def _check_file(self) -> None:
        """Refuse to continue a run under another name of the video.

        Raises:
            ValueError: naming the run's own.
        """
        before = read_config(self.path).get("file", self.video.name)
        if before != self.video.name:
            raise ValueError(f"the run in {self.path} writes {before}: give --file {before} to resume")

    def finish(self, result: VideoResult) -> None:
        facts = {"frames": len(result.source), "scenes": len(result.cuts) + 1, "groups": len(result.groups)}
        summary: dict[str, object] = {**result.counts, **facts, "update": result.update}
        summary["seconds"] = round(result.seconds, 2)
        edited = open_video(self.video)
        frame = next(iter(edited.frames(len(edited) // 2, len(edited) // 2 + 1)))
        self.preview(shown_size(Image.fromarray(frame)))
        self._write_summary(summary, self._report(result, facts, summary))
        shutil.rmtree(self._checkpoint, ignore_errors=True)

    def _report(self, result: VideoResult, facts: dict[str, int], summary: dict[str, object]) -> Page:
        page = edit_page(result.request).command(self.command)
        add_verdict(page, summary, result.verdict)
        videos = {}
        for label, video in (("source", result.source), ("edited", open_video(self.video))):
            videos[label] = small(video, self._checkpoint / f"{label}.mp4")
        page.videos(videos, f"The first {VIDEO_FRAMES} frames." if facts["frames"] > VIDEO_FRAMES else "")
        page.heading("Cost").key_values({**facts, **edit_cost(result.counts, result.seconds, result.update)})
        return add_settings(page, result.request)


def small(video: Video, path: Path, side: int = SIDE, frames: int = VIDEO_FRAMES) -> Path:
    """Write the beginning of a video, reduced, as an mp4 that a report can embed.

    Args:
        video: the video.
        path: file to write.
        side: largest side in pixels.
        frames: largest number of frames.

    Returns:
        The path.
    """
    scale = min(1.0, side / max(video.height, video.width))
    height, width = (max(2, round(n * scale) // 2 * 2) for n in (video.height, video.width))
    count = min(frames, len(video))
    with VideoWriter(path, height, width, times=video.times[:count]) as out:
        for frame in video.frames(0, count):
            out.write(_resized(frame, (width, height)))
    return path


def _resized(frame: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    return np.asarray(Image.fromarray(frame).resize(size, Image.Resampling.LANCZOS))
