"""Images as drawings: regions of few colors, each outlined by one closed path.

1. k-means of the colors, in which pixels on edges count little, since their colors are mixtures
2. the label of every point on a finer grid, smoothed; where regions are too thin, as are bands of mixed colors
   between two others, the label of a neighbor
3. the outer boundary of every connected region; larger regions lie behind smaller ones, whose holes they fill
4. a region reaches a little below those in front of it, so that no gap opens between them
5. cubic curves through points at equal distances on the smoothed boundary
"""

import math
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float, Float64
from torch import Tensor
from torch.nn import functional

from scoredistill.generators.vector.coverage import coverage
from scoredistill.media.images import blurred, resized
from scoredistill.media.svg import Color, Contour, Drawing, Path

FINE = 4  # points per pixel of the grid of labels
SMOOTH = 0.9  # standard deviation in pixels by which labels and boundaries are smoothed
BELOW = 1.0  # pixels by which a region reaches below those in front of it
THIN = 2.0  # width of a region in pixels below which it is given to its neighbors
SPACING = 9.0  # pixels between the ends of curves
CURVES = (4, 16)  # fewest and most curves of a contour
SMALLEST = 6.0  # area of a region in pixels
EDGES = 60.0  # how little mixed colors count: the weight is 1 / (1 + EDGES times the squared contrast)
WHITE = 0.12  # colors nearer to white are the background where they touch the border


def palette_of(images: Float[Tensor, "n 3 h w"], colors: int, rounds: int = 20) -> Float[Tensor, "k 3"]:
    """The colors of images by k-means, without the white of the background, from the darkest to the lightest.

    Args:
        images: in [0, 1].
        colors: number of colors; fewer are found in images that are nearly white.
        rounds: iterations.
    """
    mixed = (images - blurred(images, 1.0)).square().sum(1)
    weight = 1 / (1 + EDGES * mixed.flatten())
    pixels = images.permute(0, 2, 3, 1).reshape(-1, 3)
    colored = (1 - pixels).norm(dim=1) > WHITE
    if int(colored.sum()) < colors:
        return torch.ones(1, 3)
    pixels, weight = pixels[colored], weight[colored]
    centers = (weight[:, None] * pixels).sum(0, keepdim=True) / weight.sum()
    for _ in range(colors):  # the pixel that is farthest from all centers
        distance = torch.cdist(pixels, centers).amin(1) * weight
        centers = torch.cat([centers, pixels[distance.argmax()][None]])
    centers = centers[1:]
    for _ in range(rounds):
        member = functional.one_hot(torch.cdist(pixels, centers).argmin(1), colors).to(pixels) * weight[:, None]
        total = member.sum(0)[:, None]
        centers = torch.where(total > 0, member.T @ pixels / total.clamp(min=1e-9), centers)
    return centers[centers.sum(1).argsort()]


def traced(image: Float[Tensor, "3 h w"], palette: Float[Tensor, "k 3"], most: int) -> Drawing:
    """A drawing of an image, in pixels as units.

    Args:
        image: in [0, 1].
        palette: the colors of its regions, beside white.
        most: largest number of paths.

    Returns:
        The drawing; of an image that is nearly white, a single region.
    """
    height, width = image.shape[-2:]
    palette = torch.cat([palette, torch.ones(1, 3)])
    masks = _regions(_labels(image, palette), palette)
    masks = sorted(masks, key=lambda each: -int(each[0].sum()))
    masks = [each for each in masks if int(each[0].sum()) >= SMALLEST * FINE**2][:most]
    paths = []
    for i, (mask, color) in enumerate(masks):
        front = torch.stack([mask, *(other for other, _ in masks[i + 1 :])]).any(0)
        below = (_spread(mask[None].float(), BELOW)[0] > 0) & front
        outline = max(_loops(mask | below), key=_area)
        paths.append(Path((Contour(_smooth(outline / FINE)),), color))
    if not paths:
        corner = np.array([[0.2, 0.2], [0.8, 0.2], [0.8, 0.8], [0.2, 0.8]]) * (width, height)
        paths = [Path((Contour(_smooth(corner)),), _color(palette[0]))]
    return Drawing((float(width), float(height)), tuple(paths))


def _color(values: Tensor) -> Color:
    red, green, blue = values.clamp(0, 1).tolist()
    return red, green, blue


def _labels(image: Float[Tensor, "3 h w"], palette: Float[Tensor, "k 3"]) -> Float[Tensor, "y x"]:
    """The nearest color of every point of the fine grid, without thin bands."""
    height, width = image.shape[-2:]
    fine = resized(image[None], (FINE * height, FINE * width))[0]
    nearest = torch.cdist(fine.flatten(1).T, palette).argmin(1).view(fine.shape[1:])
    member = functional.one_hot(nearest, len(palette)).permute(2, 0, 1).to(image)
    smooth = blurred(member[None], SMOOTH * FINE)[0]
    regions = functional.one_hot(smooth.argmax(0), len(palette)).permute(2, 0, 1).to(image)
    thick = _spread(1 - _spread(1 - regions, THIN / 2), THIN / 2)
    outside = thick.amax(0) == 0
    nearest = (blurred(thick[None], THIN * FINE)[0] + 1e-6 * smooth).argmax(0)
    return torch.where(outside, nearest, thick.argmax(0)).to(image)


def _spread(masks: Float[Tensor, "k h w"], pixels: float) -> Float[Tensor, "k h w"]:
    """Masks grown by a distance in pixels."""
    reach = round(pixels * FINE)
    return functional.max_pool2d(masks, 2 * reach + 1, 1, reach)


def _regions(labels: Float[Tensor, "h w"], palette: Float[Tensor, "k 3"]) -> list[tuple[Bool[Tensor, "h w"], Color]]:
    """All connected regions with their holes filled; what is white and touches the border is background."""
    found = []
    for k, color in enumerate(palette):
        for loop in _loops(labels == k):
            if _area(loop) <= 0:  # a hole
                continue
            mask = _filled(loop, labels.shape)
            border = torch.cat([mask[0], mask[-1], mask[:, 0], mask[:, -1]])
            if (1 - color).norm() > WHITE or not bool(border.any()):
                found.append((mask, _color(color)))
    return found


def _filled(loop: Float64[np.ndarray, "m 2"], size: Sequence[int]) -> Bool[Tensor, "h w"]:
    """The points inside a loop."""
    points = torch.from_numpy(loop)
    edges = torch.stack([points, points.roll(-1, 0)], 1)
    return coverage(edges, torch.zeros(len(edges), dtype=torch.long), 1, (size[0], size[1]))[0] > 0.5


def _loops(mask: Bool[Tensor, "h w"]) -> list[Float64[np.ndarray, "m 2"]]:
    """The boundaries of regions as loops of unit steps; outer boundaries have a positive area, holes a negative one."""
    inside = np.pad(mask.numpy(), 1)
    steps: dict[tuple[int, int], list[tuple[int, int]]] = {}
    # with the region on the right-hand side as seen on the screen: to the right along its top, and so on
    sides = (
        (inside[1:-1, 1:-1] & ~inside[:-2, 1:-1], (0, 0), (1, 0)),
        (inside[1:-1, 1:-1] & ~inside[1:-1, 2:], (1, 0), (1, 1)),
        (inside[1:-1, 1:-1] & ~inside[2:, 1:-1], (1, 1), (0, 1)),
        (inside[1:-1, 1:-1] & ~inside[1:-1, :-2], (0, 1), (0, 0)),
    )
    for where, (x0, y0), (x1, y1) in sides:
        for y, x in np.argwhere(where).tolist():
            steps.setdefault((x + x0, y + y0), []).append((x + x1, y + y1))
    loops = []
    while steps:
        start = at = next(iter(steps))
        before, loop = (0, 0), []
        while True:
            loop.append(at)
            after = steps[at]
            turn = lambda to, at=at, before=before: before[0] * (to[1] - at[1]) - before[1] * (to[0] - at[0])
            to = after.pop(max(range(len(after)), key=lambda i: turn(after[i])))
            if not after:
                del steps[at]
            before, at = (to[0] - at[0], to[1] - at[1]), to
            if at == start:
                break
        loops.append(np.asarray(loop, dtype=np.float64))
    return loops


def _area(loop: Float64[np.ndarray, "m 2"]) -> float:
    """Signed area of a loop."""
    x, y = loop.T
    return 0.5 * float(np.sum(x * np.roll(y, -1) - np.roll(x, -1) * y))


def _smooth(loop: Float64[np.ndarray, "m 2"]) -> Float64[np.ndarray, "p 2"]:
    """Control points of closed cubic curves (of Catmull and Rom) along a loop in pixels."""
    ends = np.concatenate([loop, loop[:1]])
    length = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(ends, axis=0), axis=1))])
    fine = max(32, math.ceil(length[-1] * FINE))
    at = np.linspace(0, length[-1], fine, endpoint=False)
    even = np.stack([np.interp(at, length, ends[:, axis]) for axis in (0, 1)], 1)
    frequency = np.fft.fftfreq(fine, length[-1] / fine)[:, None]
    even = np.fft.ifft(np.fft.fft(even, axis=0) * np.exp(-2 * (math.pi * SMOOTH * frequency) ** 2), axis=0).real
    count = min(max(CURVES[0], round(length[-1] / SPACING)), CURVES[1])
    nodes = even[np.arange(count) * fine // count]
    slope = (np.roll(nodes, -1, 0) - np.roll(nodes, 1, 0)) / 6
    following = np.roll(nodes, -1, 0)
    curves = np.stack([nodes + slope, following - np.roll(slope, -1, 0), following], 1)
    return np.concatenate([nodes[:1], curves.reshape(-1, 2)])
