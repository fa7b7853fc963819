r"""Finding waves in images: starts of the search for the angle and the phase of stripes and hatching.

For an image r that holds a wave cos(2 pi (q . k / wavelength + phi)) with k = (cos theta, sin theta), the sum

    c(theta) = sum_q r(q) exp(-2 pi i q . k / wavelength)

is largest at the wave's angle, where its argument is 2 pi phi. The sum over rows and columns separates, so that all
angles of a fine grid cost one product of matrices. The peak is about wavelength / side radians wide, which sets the
spacing of the grid.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Complex, Float
from torch import Tensor

from scoredistill.datasets.procedural_edits.colors import luma
from scoredistill.datasets.procedural_edits.edit import Images, Parameter, Values
from scoredistill.datasets.procedural_edits.strokes import HATCH, STRIPE
from scoredistill.datasets.procedural_edits.view import View
from scoredistill.media.images import blurred

ANGLE = Parameter("angle", 0.0, 2 * math.pi)
PHASE = Parameter("phase", 0.0, 1.0, points=8)
ACROSS = Parameter("phase across", 0.0, 1.0, points=8)
TOP = 6
"""Highest peaks that are tried."""


def spectrum(
    images: Float[Tensor, "b 1 h w"], view: View, wavelength: float
) -> tuple[Float[Tensor, " a"], Complex[Tensor, "b a"]]:
    """Angles of a grid over [0, pi), of even length, and c(theta) of each image at each of them."""
    y, x = view.coordinates(images.expand(-1, 3, -1, -1))
    side = max(images.shape[2:]) / view.unit
    count = 2 * math.ceil(math.pi * side / wavelength)
    angle = math.pi * torch.arange(count, device=images.device, dtype=images.dtype) / count
    down, across = (
        torch.exp(-2j * math.pi * part[None, :, None] * q.flatten(1)[:, None] / wavelength)
        for part, q in ((angle.sin(), y), (angle.cos(), x))
    )
    rows = down @ images[:, 0].to(down.dtype)
    return angle, (rows * across).sum(-1)


def stripes(images: Images, results: Images, view: View) -> tuple[Float[Tensor, "k b 2"], Float[Tensor, " 2"]]:
    """Starts (angle, phase) and their uncertainty, from what stripes add to the image."""
    angle, found = spectrum(luma(results) - luma(0.2 + 0.6 * images), view, STRIPE)
    best = found.abs().topk(TOP, dim=1).indices.T
    phase = found.gather(1, best.T).T.angle() / (2 * math.pi)
    return torch.stack([angle[best], phase], -1), _uncertainty(angle, 2)


def hatching(images: Images, results: Images, view: View) -> tuple[Float[Tensor, "k b 3"], Float[Tensor, " 3"]]:
    """Starts (angle, phase, phase across) and their uncertainty, from fine dark detail of the result.

    Lines of light tones come first, so their angle has the larger sum; both are tried.
    """
    light = luma(results)
    angle, found = spectrum(blurred(light, HATCH * view.unit) - light, view, HATCH)
    beyond = torch.cat([found, found.conj()], 1)  # angles of [0, 2 pi): the opposite angle is the conjugate sum
    across = beyond.roll(-(len(angle) // 2), 1)[:, : len(angle)]
    score = found.abs().square() + 0.5 * across.abs().square()
    best = score.topk(TOP, dim=1).indices
    phases = (part.gather(1, best).T.angle() / (2 * math.pi) for part in (found, across))
    return torch.stack([angle[best.T], *phases], -1), _uncertainty(angle, 3)


def _uncertainty(angle: Tensor, count: int) -> Tensor:
    """Half the spacing of the grid of angles, and 1/16 of a period."""
    return torch.tensor([float(angle[1]) / 2, *[1 / 16] * (count - 1)])


def stripes_moved(values: Values, shift: Float[Tensor, "#b 2"]) -> Values:
    """(angle, phase) of the same stripes from an origin that is (down, right) units away."""
    angle, phase = values.unbind(-1)
    return torch.stack([angle, phase + _periods(angle, shift, STRIPE)], -1)


def hatching_moved(values: Values, shift: Float[Tensor, "#b 2"]) -> Values:
    """(angle, phase, phase across) of the same lines from an origin that is (down, right) units away."""
    angle, phase, across = values.unbind(-1)
    moved = phase + _periods(angle, shift, HATCH), across + _periods(angle + math.pi / 2, shift, HATCH)
    return torch.stack([angle, *moved], -1)


def _periods(angle: Tensor, shift: Tensor, wavelength: float) -> Tensor:
    """Periods of a wave in a shift."""
    down, right = shift.to(angle).unbind(-1)
    return (angle.cos() * right + angle.sin() * down) / wavelength
