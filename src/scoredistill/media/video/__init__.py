"""Videos, frame by frame: read as often as wanted and written as they come; no more than a few frames are held at once.

A `Video` is a list of presentation times 0 = t_0 < t_1 < ... in seconds and a way to stream its frames, uint8 RGB
[h, w, 3]. Times are those of the file, so a variable frame rate survives. Video files go through PyAV (FFmpeg).

Opening a video decodes it once, without keeping or converting a frame: headers may lie about how many frames there are,
and len(video) is to be what frames() gives. Frames that the decoder reports as broken are left out: the times then have
a gap there, or end early, and `complete` is False. Pixels are taken as square.
"""

from scoredistill.media.video.reading import open_video
from scoredistill.media.video.source import Video
from scoredistill.media.video.writing import VideoWriter

__all__ = ["Video", "VideoWriter", "open_video"]
