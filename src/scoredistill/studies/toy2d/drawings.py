"""Images of distributions, particles and landscapes in the plane: x to the right, y upwards, [-extent, extent]^2.

The point (x, y) lies at size (x + extent) / (2 extent) pixels from the left and size (extent - y) / (2 extent) from the
top. Heights and densities are evaluated, or interpolated, at the pixel centers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from jaxtyping import Float
from PIL import Image, ImageDraw, ImageOps
from torch import Tensor

from scoredistill.media.images import grid, save_gif
from scoredistill.priors import GaussianMixture
from scoredistill.priors.conditions import Cond
from scoredistill.studies.toy2d.landscape import Landscape, interpolated

# lightness (OKLab) rises in HEAT and falls in EMBER, in even steps: order survives printing in gray
HEAT = ("#2e0069", "#232f81", "#00528f", "#007297", "#008f99", "#2cab97", "#66c58d", "#a6da79", "#ebe962")
EMBER = ("#fffaf2", "#fddfb8", "#f6c287", "#eaa55c", "#da8a3c", "#c46f28")
INK, PEAK, STRAY = "#1d1d24", "#ffffff", "#d3102f"
REACH = 5.0  # standard deviations at which a component's density counts as zero
DECADES = 2.5  # how far below its maximum a density fades into the background, in powers of ten
RINGS = 24  # contour lines from the bottom of a landscape to its top
FINE = 4  # drawings are made this much larger and reduced, for smooth edges

Pixels = Sequence[tuple[float, float]]  # positions in pixels from the left and from the top
Mark = Callable[[ImageDraw.ImageDraw, tuple[float, float], float, float], None]


def color(values: Float[Tensor, "h w"], anchors: Sequence[str] = HEAT) -> Image.Image:
    """Values in [0, 1] as an image, row 0 at the top; values outside are clipped.

    Args:
        anchors: at least two colors "#rrggbb", evenly spaced from value 0 to value 1; between them, straight lines.
    """
    if len(anchors) < 2:
        raise ValueError(f"a color map needs at least two anchors, not {len(anchors)}")
    table = torch.tensor([[int(a[i : i + 2], 16) for i in (1, 3, 5)] for a in anchors], dtype=torch.float64)
    position = values.detach().cpu().double().clamp(0, 1) * (len(table) - 1)
    below = position.floor().long().clamp(max=len(table) - 2)
    rgb = torch.lerp(table[below], table[below + 1], (position - below)[..., None])
    return Image.fromarray(rgb.round().to(torch.uint8).numpy())


def density_image(
    mixture: GaussianMixture, size: int = 480, extent: float = 1.5, cond: Cond | None = None
) -> Image.Image:
    """The density on a logarithmic scale, dark on light, so that thin branches stay visible.

    Args:
        size: pixels per side.
        cond: the class to show, as in `GaussianMixture.log_prob`; all by default.
    """
    return color(_shade(mixture, size, extent, cond), EMBER)


def scatter(
    background: Image.Image,
    points: Float[Tensor, "n 2"],
    extent: float = 1.5,
    radius: float = 1.6,
    color: str = INK,
    opacity: float = 1.0,
) -> Image.Image:
    """Points as small round dots on a square image.

    Args:
        radius: radius of a dot in pixels.
        opacity: opacity of the dots together, in [0, 1]; overlapping dots do not get darker.

    Raises:
        ValueError: points are not finite, the background is not square, or a number is out of range.
    """
    if not (radius > 0 and 0 <= opacity <= 1):
        raise ValueError(f"expected radius > 0 and opacity in [0, 1], got {radius} and {opacity}")
    if background.width != background.height:
        raise ValueError(f"the background must be square, not {background.width} x {background.height}")
    at = _to_pixels(points, background.width, extent)
    return _stamped(background, _disc, at, radius, 0.0, color, opacity)


def landscape_image(landscape: Landscape, mixture: GaussianMixture, size: int = 480) -> Image.Image:
    """Heights as a heat map with contour lines, the distribution as a faint shadow, and the peaks.

    Rings mark peaks on the distribution, red crosses those off it. Colors and contour lines are even steps of
    sqrt(highest - phi), which is the distance from the top where phi is a quadratic bowl, so its rings are evenly
    spaced and a flat summit still shows its relief.
    """
    extent = landscape.extent
    phi = interpolated(landscape.phi.detach().cpu().double(), _middles(size, 1.0))
    depth = (phi.max() - phi).sqrt()
    height = 1 - depth / depth.max().clamp(min=1e-30)
    image = color(height.flip(0))
    image.paste("white", mask=_mask(0.45 * _contours(height * RINGS).flip(0)))
    image.paste(INK, mask=_mask(0.6 * _shade(mixture, size, extent)))
    on, strayed = (_to_pixels(landscape.peaks[landscape.off == off], size, extent) for off in (False, True))
    width = max(1.5, size / 240)
    for mark, points, tone, edge in ((_disc, on, PEAK, INK), (_cross, strayed, STRAY, PEAK)):
        image = _stamped(image, mark, points, size / 60, 2.2 * width, edge)
        image = _stamped(image, mark, points, size / 60, width, tone)
    return image


def animation(
    frames_points: Sequence[Float[Tensor, "n 2"]],
    background: Image.Image,
    path: str | Path,
    extent: float = 1.5,
    seconds: float = 4.0,
    radius: float = 1.6,
    color: str = INK,
    colors: int = 48,
) -> Path:
    """A GIF of moving particles in the size of the background, see `scoredistill.media.images.save_gif`.

    Args:
        frames_points: the particles of each frame.
        colors: number of colors of all frames together, 2 to 256; few keep the file small.
    """
    if not frames_points:
        raise ValueError("an animation needs at least one frame")
    frames = [scatter(background, points, extent, radius, color) for points in frames_points]
    ends = Image.new("RGB", (2 * background.width, background.height))
    ends.paste(frames[0], (0, 0))
    ends.paste(frames[-1], (background.width, 0))
    palette = ends.quantize(colors, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    shared = [frame.quantize(palette=palette, dither=Image.Dither.NONE) for frame in frames]
    return save_gif(shared, path, seconds, max(background.size))


def panel(images: Sequence[Image.Image], titles: Sequence[str], columns: int) -> Image.Image:
    """A figure of framed images, row by row, each with its title below."""
    return grid([ImageOps.expand(image, 1, "#9a9aa2") for image in images], columns, 8, titles)


def _to_pixels(points: Tensor, size: int, extent: float) -> Pixels:
    """Positions of points (x, y) in pixels; points further than an image's size outside are left out."""
    if not bool(torch.isfinite(points).all()):
        raise ValueError("nan or infinite points cannot be drawn: leave them out")
    up = torch.tensor([1.0, -1.0], dtype=torch.float64)
    at = (points.detach().cpu().double() * up / extent + 1) / 2 * size
    return [(x, y) for x, y in at.tolist() if -size < x < 2 * size and -size < y < 2 * size]


def _middles(size: int, extent: float) -> Tensor:
    """Coordinates of the pixel centers, increasing, [size]."""
    return extent * ((torch.arange(size, dtype=torch.float64) * 2 + 1) / size - 1)


def _shade(mixture: GaussianMixture, size: int, extent: float, cond: Cond | None = None) -> Tensor:
    """Shade of each pixel in [0, 1], row 0 at the top: log density from DECADES below its maximum to its maximum.

    The density is that of the mixture blurred by half a pixel, so that thin branches do not fall between pixels. Each
    component is evaluated up to REACH standard deviations from its mean.
    """
    pixel = 2 * extent / size
    middles = _middles(size, extent)
    axes = torch.eye(2) if mixture.axes is None else mixture.axes
    means, axes, spread = (c.detach().cpu().double() for c in (mixture.means, axes, mixture.spread))
    variance = spread + (pixel / 2) ** 2
    covs = (axes * variance[:, None]) @ axes.mT
    peak = _weights(mixture, cond) / variance.prod(1).sqrt()
    reach = REACH * covs.diagonal(dim1=1, dim2=2).sqrt()
    low, high = (((means + s * reach + extent) / pixel).ceil().long().clamp(0, size) for s in (-1, 1))
    density = torch.zeros(size, size, dtype=torch.float64)
    for k in range(len(means)):
        (left, bottom), (right, top) = low[k].tolist(), high[k].tolist()
        y, x = torch.meshgrid(middles[bottom:top], middles[left:right], indexing="ij")
        away = torch.stack([x, y], -1) - means[k]
        squared = ((away @ covs[k].inverse()) * away).sum(-1)
        density[bottom:top, left:right] += peak[k] * (-0.5 * squared).exp()
    return (1 + (density / density.max().clamp(min=1e-300)).log10() / DECADES).clamp(0, 1).flip(0)


def _weights(mixture: GaussianMixture, cond: Cond | None) -> Tensor:
    """Weights of the components, zero outside the class of the condition, [k]."""
    weights = mixture.weights.detach().cpu().double()
    if cond is None or int(cond["label"][0]) < 0:
        return weights
    if mixture.labels is None:
        raise ValueError("this mixture has no classes: leave out cond, or make it with labels=")
    return weights * (mixture.labels == cond["label"][0].to(mixture.labels)).cpu()


def _contours(height: Tensor) -> Tensor:
    """Coverage in [0, 1] of lines one pixel wide where the height is a whole number."""
    slope = torch.stack(torch.gradient(height)).square().sum(0).sqrt()
    away = (height - height.round()).abs() / slope.clamp(min=1e-12)  # in pixels
    return (1 - away).clamp(0, 1)


def _mask(coverage: Tensor) -> Image.Image:
    return Image.fromarray((255 * coverage).round().to(torch.uint8).numpy())


def _stamped(
    background: Image.Image, mark: Mark, at: Pixels, radius: float, stroke: float, tone: str, opacity: float = 1.0
) -> Image.Image:
    """The background with a mark at each position, drawn on a canvas FINE times as large; lengths are in pixels."""
    width, height = background.size
    canvas = Image.new("L", (width * FINE, height * FINE))
    draw = ImageDraw.Draw(canvas)
    for x, y in at:
        mark(draw, (x * FINE - 0.5, y * FINE - 0.5), radius * FINE, stroke * FINE)  # PIL counts from a pixel's middle
    mask = canvas.reduce(FINE).point([round(v * opacity) for v in range(256)])
    image = background.convert("RGB")
    image.paste(tone, mask=mask)
    return image


def _disc(draw: ImageDraw.ImageDraw, xy: tuple[float, float], radius: float, stroke: float) -> None:
    """A disc, or with a stroke a circle with that radius in the middle of its line."""
    reach = radius + stroke / 2 - 0.5  # to the middle of the outermost pixel
    box = [c + s * reach for s in (-1, 1) for c in xy]
    if stroke:
        draw.ellipse(box, outline=255, width=round(stroke))
    else:
        draw.ellipse(box, fill=255)


def _cross(draw: ImageDraw.ImageDraw, xy: tuple[float, float], radius: float, stroke: float) -> None:
    for s in (-1, 1):
        draw.line([(xy[0] + e * radius, xy[1] + s * e * radius) for e in (-1, 1)], fill=255, width=round(stroke))
