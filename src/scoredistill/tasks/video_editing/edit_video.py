"""Editing of a video of any length and size by an instruction.

result = edit_video("bikes.mp4", "make it night", out="runs/night")      # runs/night/edited.mp4, with the sound

Frames are edited in groups (`groups`): the windows of all frames of a group are the particles of CSD-Edit. First all
groups are edited and their latents kept on disk, so that an interrupted run can be resumed; then the frames are decoded
and written one after the other, with the source's own detail. Neither part holds more than one group in memory.
"""

from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from tempfile import TemporaryDirectory

from PIL import Image
from torch import Tensor

from scoredistill.media.images import to_tensor
from scoredistill.media.video import Video, open_video
from scoredistill.tasks import checks
from scoredistill.tasks.image_editing import regions
from scoredistill.tasks.known_words import verdict_on_edit, warn_of_unknown
from scoredistill.tasks.request import requested, task
from scoredistill.tasks.session import Session, editor
from scoredistill.tasks.video_editing.output import VideoDirectory, VideoResult
from scoredistill.tasks.video_editing.request import VideoArguments, VideoRequest
from scoredistill.tasks.video_editing.run import VideoEdit


@task(VideoArguments)
def edit_video(asked: VideoArguments) -> VideoResult:
    """Edit a video by an instruction. Without an output directory the frames are returned in memory.

    Raises:
        ValueError: for impossible settings or an unreadable video, before the prior is loaded.
        FloatingPointError: if the latents are not finite.
        OSError: if the video cannot be written; the run can then be resumed.
    """
    request = requested(VideoRequest, asked, asked.prior)
    checks.packages(request.complete())  # refuses what no prior could do
    checks.steps_to_skip(asked.on_nan, request.recipe.estimator is None, request.method)
    source = _opened(asked.video)
    regions.check(request.regions, request.wrap)
    directory = VideoDirectory.of(asked, request, file=asked.file)
    if directory is not None:
        directory.check_space(1e6 + len(source) * source.height * source.width / 4)  # latents of all groups, the video
        directory.keep_safe(asked.video, source.path, *regions.masks(request.regions, request.wrap))
    prior = editor(asked.prior, asked)
    settings = request.complete(min(prior.image_size))
    unknown = warn_of_unknown(prior, settings.instruction, *regions.instructions(settings.regions, settings.wrap))
    with Session(asked, prior, directory) as session, TemporaryDirectory() as scratch:
        opening = lambda: None if directory is None else directory.open(settings, source, **session.machine)
        folder = session.opened(settings, opening)
        kept = Path(scratch) if directory is None or folder is None else folder
        session.start()
        work = VideoEdit(source, settings, prior, session.counted, kept, asked.on_nan)
        work.edit(asked.progress, None if directory is None else directory.preview)
        path = None
        if directory is not None:
            path = directory.video
            directory.make_room()
        elsewhere = directory is None and asked.out is not None  # another rank writes the video
        with nullcontext() if directory is None else directory.told():
            frames = [] if elsewhere else work.write(path, asked.progress)
        seconds, verdict = session.seconds, ""
        if unknown and not settings.regions and not elsewhere:
            edited = open_video(path) if path is not None else Video.of(frames)
            verdict = verdict_on_edit(prior, unknown, _first(source), _first(edited))
        result = VideoResult(
            path, frames, source, settings, work.counts(), seconds, work.cuts, work.groups, work.update(), verdict
        )
        return session.finish(result)


def _first(video: Video) -> Tensor:
    """The first frame, [1, 3, h, w] in [0, 1]."""
    return to_tensor(Image.fromarray(next(iter(video.frames(0, 1)))))


def _opened(video: str | Path | Video | Sequence[Image.Image]) -> Video:
    if isinstance(video, Video):
        return video
    return open_video(video) if isinstance(video, (str, Path)) else Video.of(list(video))
