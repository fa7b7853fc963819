"""Streaming videos: read repeatedly and written frame by frame, with no more than a few frames in memory.

A `Video` has presentation times 0 = t_0 < t_1 < ... in seconds and streams its frames, uint8 RGB [h, w, 3]. Times are
those of the file, so a variable frame rate is preserved. Video files are read and written with PyAV (FFmpeg).

Opening a video decodes it once, without keeping or converting frames, because headers may state a wrong number of
frames, while len(video) must be what frames() yields. Frames that the decoder reports as corrupt are skipped: the times
then have a gap, or end early, and `complete` is False. Frames whose pixels are not square are resampled. HDR videos and
wide gamuts are converted to the standard dynamic range and primaries of BT.709 (see `hdr`).
"""

from scoredistill.media.video.reading import open_video
from scoredistill.media.video.source import Video
from scoredistill.media.video.writing import VideoWriter

__all__ = ["Video", "VideoWriter", "open_video"]
