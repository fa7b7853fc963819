"""Editors with exact scores, by the kind of their answers, and the sources they edit.

An answer changes a window of the source. Which of the answers is chosen must be the same in all windows; how the answer
changes the window may depend on the window (contrast) or not (tint).
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from scoredistill.priors import ManyAnswers

WINDOW = 16  # side of a window
WINDOWS = 8  # of a canvas, side by side
CHANGE = 0.5  # root mean square of what an answer changes
SPREAD = 0.1  # of the exact answers, standard deviation of a pixel
PERIOD = 8  # of the pattern, a divisor of the distances between windows

Answer = Callable[[Tensor], Tensor]


def around(y: Tensor) -> Tensor:
    """The deviation of windows from their mean."""
    return y - y.mean((-2, -1), keepdim=True)


def tints(count: int) -> tuple[Answer, ...]:
    """Answers that shift all colors by a vector of one of `count` hues, of the same length."""
    u, v = torch.tensor([2.0, -1.0, -1.0]) / math.sqrt(6), torch.tensor([0.0, 1.0, -1.0]) / math.sqrt(2)
    angles = [2 * math.pi * k / count for k in range(count)]
    shifts = [CHANGE * math.sqrt(3) * (math.cos(a) * u + math.sin(a) * v)[:, None, None] for a in angles]
    return tuple(lambda y, shift=shift: y + shift.to(y) for shift in shifts)  # type: ignore[misc]


def patterns() -> tuple[Answer, ...]:
    """Vertical stripes of mean zero, and the same shifted by half a period."""

    def striped(sign: float) -> Answer:
        def answer(y: Tensor) -> Tensor:
            phase = 2 * math.pi * (torch.arange(y.shape[-1]).to(y) + 0.5) / PERIOD
            return y + sign * CHANGE * math.sqrt(2) * phase.sin()

        return answer

    return striped(1.0), striped(-1.0)


def contrasts() -> tuple[Answer, ...]:
    """Stronger and weaker contrast, each around the mean of the window."""
    return (lambda y: y + 0.8 * around(y)), (lambda y: y - 0.8 * around(y))


def rotations() -> tuple[Answer, ...]:
    """Hues turned by a third and by two thirds of a circle: linear maps of the colors, the same everywhere."""

    def turned(angle: float) -> Answer:
        gray = torch.ones(3, 3) / 3
        cross = torch.tensor([[0.0, -1.0, 1.0], [1.0, 0.0, -1.0], [-1.0, 1.0, 0.0]]) / math.sqrt(3)
        matrix = gray + math.cos(angle) * (torch.eye(3) - gray) + math.sin(angle) * cross
        return lambda y: torch.einsum("dc,...chw->...dhw", matrix.to(y), y)

    return turned(2 * math.pi / 3), turned(-2 * math.pi / 3)


def graded() -> tuple[Answer, ...]:
    """One answer: half of the contrast, tinted."""
    tint = tints(1)[0]
    return ((lambda y: tint(y - 0.5 * around(y))),)


def duotones(count: int) -> tuple[Answer, ...]:
    """Gray images with the tints of `tints`, for the figure of the study."""
    return tuple(lambda y, tint=tint: tint(0.7 * y.mean(-3, keepdim=True).expand_as(y)) for tint in tints(count))  # type: ignore[misc]


@dataclass(frozen=True)
class Style:
    """A kind of answers.

    Attributes:
        says: description in a few words.
        answers: the answers.
    """

    says: str
    answers: tuple[Answer, ...]

    @property
    def editor(self) -> ManyAnswers:
        """The editor that gives them."""
        return ManyAnswers(self.answers, (WINDOW, WINDOW), SPREAD)


STYLES = {
    "tint": Style("one of two opposite tints, the same direction in every window", tints(2)),
    "hues": Style("one of six tints", tints(6)),
    "pattern": Style("stripes of one of two phases, whose mean is zero", patterns()),
    "contrast": Style("more or less contrast, a direction that depends on the window", contrasts()),
    "recolor": Style("hues turned by 120 or 240 degrees, a linear map of the source's colors", rotations()),
    "graded": Style("a single answer, whose direction depends on the window", graded()),
}


def source(frames: int, width: int, rng: torch.Generator) -> Tensor:
    """Smooth random images in [-1, 1] with different content in every window, [frames, 3, 16, width].

    Frames are windows of one canvas, each moved by an eighth of a window.
    """
    step = WINDOW // 8
    long = width + step * (frames - 1)
    coarse = torch.randn(1, 3, 6, max(4, long // 4), generator=rng)
    smooth = torch.nn.functional.interpolate(coarse, (WINDOW, long), mode="bicubic", align_corners=False)
    smooth = 0.5 * smooth / smooth.std()
    return torch.cat([smooth[..., k * step : k * step + width] for k in range(frames)]).clamp(-1, 1)


def windows_of(canvas: Tensor) -> Tensor:
    """The disjoint windows of a canvas [f, 3, 16, W], [f W / 16, 3, 16, 16]."""
    tiles: Sequence[Tensor] = canvas.split(WINDOW, -1)
    return torch.cat(list(tiles))
