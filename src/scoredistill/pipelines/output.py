"""What pipelines return, in diffusers' forms of images and videos."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image

from scoredistill.media.images import to_tensor

TYPES = ("pil", "np", "pt", "latent")


@dataclass(frozen=True)
class PipelineOutput:
    """Output that can also be read as a mapping or as a tuple, as those of diffusers.

    Attributes:
        results: the results of the task, with settings, network evaluations, seconds and metrics of each step.
    """

    results: Sequence[Any]

    def to_tuple(self) -> tuple[Any, ...]:
        """What a pipeline returns with `return_dict=False`."""
        raise NotImplementedError

    def __getitem__(self, key: int | str) -> Any:
        return getattr(self, key) if isinstance(key, str) else self.to_tuple()[key]

    def __iter__(self) -> Iterator[Any]:
        return iter(self.to_tuple())


@dataclass(frozen=True)
class ImagePipelineOutput(PipelineOutput):
    """Output of pipelines that make images.

    Attributes:
        images: a list of PIL images; for `output_type="np"` an array [b, h, w, 3], and for "pt" a tensor [b, 3, h, w],
            both in [0, 1]; for "latent" samples of the prior, [b, c, h, w].
    """

    images: Any

    def to_tuple(self) -> tuple[Any, ...]:
        return (self.images,)


@dataclass(frozen=True)
class VideoPipelineOutput(PipelineOutput):
    """Output of pipelines that make videos.

    Attributes:
        frames: a list of videos, each a list of PIL images; for `output_type="np"` an array [b, f, h, w, 3], and for
            "pt" a tensor [b, f, 3, h, w], both in [0, 1].
    """

    frames: Any

    def to_tuple(self) -> tuple[Any, ...]:
        return (self.frames,)


def check_type(output_type: str, known: Sequence[str] = TYPES) -> None:
    """Refuse an unknown form of images.

    Raises:
        ValueError: naming the known ones.
    """
    if output_type not in known:
        raise ValueError(f"unknown output_type {output_type!r}: use one of {', '.join(known)}")


def check_sizes(images: Sequence[Image.Image], output_type: str) -> None:
    """Refuse images that cannot be joined in the form that is asked for.

    Raises:
        ValueError: if they have different sizes, unless the form is "pil".
    """
    if output_type != "pil" and len({image.size for image in images}) > 1:
        raise ValueError("images of different sizes make no array: use output_type='pil', or edit them one by one")


def converted(images: Sequence[Image.Image], output_type: str) -> Any:
    """Images in the form that is asked for.

    Args:
        images: PIL images; all of one size unless the form is "pil".
        output_type: "pil", "np" or "pt".

    Raises:
        ValueError: if they have different sizes.
    """
    if output_type == "pil":
        return list(images)
    check_sizes(images, output_type)
    stacked = torch.cat([to_tensor(image) for image in images])
    return stacked if output_type == "pt" else np.ascontiguousarray(stacked.permute(0, 2, 3, 1).numpy())
