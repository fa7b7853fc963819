"""Where vector graphics start: random paths, traced samples, or a user's drawing; and the palettes of all."""

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from scoredistill.generators import VectorGraphics
from scoredistill.generators.vector.tracing import palette_of, traced
from scoredistill.media.svg import Color, Contour, Drawing, Path, read_svg
from scoredistill.media.svg.drawing import ellipse, line
from scoredistill.metrics import clip_similarity
from scoredistill.priors.base import Prior, TextPrior
from scoredistill.priors.guidance import Guided
from scoredistill.priors.pipelines import BUNDLED
from scoredistill.sampling import ddim
from scoredistill.tasks.vector_graphics.request import VectorSettings

STEPS = 20  # of DDIM
INK: Color = (0.1, 0.1, 0.15)
WIDTHS = {"line": 0.02, "sketch": 0.012}  # of strokes, in fractions of the canvas
FITTING, FIT_LR = 30, 3e-3  # steps and learning rate of the fit of traced paths to their image
SMOOTHING = 0.2  # see `VectorGraphics.smooth`, in every step
RANDOM_COLORS: tuple[Color, ...] = (
    (0.9, 0.25, 0.2), (0.95, 0.6, 0.15), (0.98, 0.85, 0.3), (0.35, 0.7, 0.3), (0.2, 0.6, 0.9), (0.5, 0.35, 0.7),
    (0.55, 0.35, 0.2), (0.15, 0.15, 0.2),
)  # fmt: skip


def start(settings: VectorSettings, prior: TextPrior, queried: Prior) -> VectorGraphics:
    """The icons that a run starts from.

    Args:
        settings: the settings.
        prior: the prior that knows the text.
        queried: the prior whose network is evaluated; `prior`, or a wrapper of it that counts.
    """
    count, size = len(settings.prompts), prior.image_size
    if settings.file is not None:
        drawing = read_svg(settings.file)
        colors = _few([c for path in drawing.paths for c in (path.fill, path.stroke) if c is not None], settings.colors)
        return VectorGraphics([drawing] * count, size, colors, rigid=settings.style == "sketch").to(prior.device)
    if settings.init == "noise":
        rng = np.random.default_rng(settings.seed)
        drawings = [_random(settings, size, rng) for _ in range(count)]
        return _graphics(settings, drawings, size, RANDOM_COLORS[: settings.colors] if settings.colors else None, prior)
    images = samples(settings, prior, queried)
    shared = palette_of(images, settings.colors) if settings.colors and settings.together else None
    drawings, palettes = [], []
    for image in images:
        palettes.append(shared if shared is not None else palette_of(image[None], settings.colors or 8))
        drawings.append(_styled(traced(image, palettes[-1], settings.paths), settings.style))
    colors = None
    if settings.colors and (settings.together or count == 1):
        colors = [*map(tuple, palettes[0].tolist()), (1.0, 1.0, 1.0)]
    made = _graphics(settings, drawings, size, colors, prior)
    if settings.style == "flat":
        fit(made, images.to(prior.device))
    return made


def samples(settings: VectorSettings, prior: TextPrior, queried: Prior) -> Tensor:
    """An image per prompt in [0, 1], the best of its candidates, which start from the same noise for all prompts."""
    noise = torch.stack(
        [
            torch.randn(prior.latent_shape, generator=torch.Generator().manual_seed(settings.seed + i))
            for i in range(settings.candidates)
        ]
    ).to(prior.device)
    guided = Guided(queried, settings.guidance if settings.method == "trace" else 5.0)
    chosen = []
    for prompt in settings.prompts:
        made = queried.decode(ddim(guided, noise, STEPS, prior.encode_text([prompt]))).clamp(0, 1).float().cpu()
        best = int(clip_similarity(made, prompt).argmax()) if settings.prior in BUNDLED and len(made) > 1 else 0
        chosen.append(made[best])
    return torch.stack(chosen)


def fit(graphics: VectorGraphics, images: Tensor, steps: int = FITTING) -> None:
    """Fit icons to images by least squares, which mends what tracing got wrong."""
    optimizer = optimizer_of(graphics, FIT_LR)
    views = graphics.views()
    for _ in range(steps):
        optimizer.zero_grad()
        (graphics(views) - images).square().mean(0).sum().backward()
        optimizer.step()


def optimizer_of(graphics: VectorGraphics, lr: float, color_lr: float | None = None) -> torch.optim.Optimizer:
    """Adam, faster on colors than on positions, which also keeps the joins of curves smooth.

    Args:
        graphics: the paths.
        lr: learning rate of positions, in fractions of the canvas.
        color_lr: learning rate of colors and opacities; three times as large by default.
    """
    groups = [
        {"params": [graphics.points], "lr": lr},
        {"params": [graphics.color, graphics.opacity], "lr": 3 * lr if color_lr is None else color_lr},
        {"params": [graphics.width], "lr": lr / 4},
    ]
    made = torch.optim.Adam(groups, lr=lr)
    made.register_step_post_hook(lambda *_: graphics.smooth(SMOOTHING))
    return made


def _graphics(
    settings: VectorSettings, drawings: Sequence[Drawing], size: tuple[int, int], colors: Sequence[Color] | None,
    prior: TextPrior,
) -> VectorGraphics:  # fmt: skip
    """Icons whose strokes keep their width; sketches keep their ink and learn how dark each stroke is."""
    sketch = settings.style == "sketch"
    made = VectorGraphics(drawings, size, None if sketch else colors, opaque=not sketch, rigid=True)
    made.color.requires_grad_(not sketch)
    return made.to(prior.device)


def _few(colors: list[Color], most: int) -> list[Color] | None:
    """A palette of at most so many colors: the first ones that differ; None without a limit or if they are few."""
    different = list(dict.fromkeys(colors))
    return different if 0 < len(different) <= most else None


def _styled(drawing: Drawing, style: str) -> Drawing:
    """A traced drawing in another style."""
    if style == "flat":
        return drawing
    width = WIDTHS[style] * max(drawing.size)
    paint = lambda path: path.fill if style == "line" else INK
    paths = [replace(path, fill=None, stroke=paint(path), width=width) for path in drawing.paths]
    return Drawing(drawing.size, tuple(paths))


def _random(settings: VectorSettings, size: tuple[int, int], rng: np.random.Generator) -> Drawing:
    """Random paths: disks from large to small, or curved strokes."""
    height, width = size
    side, paths = float(min(size)), []
    for i in range(settings.paths):
        x, y = (0.5 + rng.uniform(-0.35, 0.35, 2)) * (width, height)
        color = RANDOM_COLORS[int(rng.integers(len(RANDOM_COLORS)))]
        radius = side * (0.05 + 0.2 * (1 - i / settings.paths) ** 2)
        if settings.style == "flat":
            paths.append(Path((Contour(ellipse((float(x), float(y)), (radius, radius))),), color))
            continue
        angle = rng.uniform(0, math.pi)
        step = radius * np.array([math.cos(angle), math.sin(angle)])
        ends = [(float(x + k * step[0]), float(y + k * step[1])) for k in (-1, 0, 1)]
        stroke = color if settings.style == "line" else INK
        contour = Contour(line(*ends), closed=False)
        paths.append(Path((contour,), None, stroke, WIDTHS[settings.style] * side))
    return Drawing((float(width), float(height)), tuple(paths))
