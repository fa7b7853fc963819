"""How a method edits a canvas: by optimizing it in windows, or by sampling with DDIM through a prior of windows."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from scoredistill.estimators import Estimator
from scoredistill.generators import Windows
from scoredistill.loop import CHECKED, Step, distill
from scoredistill.priors.base import Prior, TextPrior
from scoredistill.priors.conditions import Cond
from scoredistill.priors.counted import Counted
from scoredistill.priors.guidance import ImageGuided
from scoredistill.priors.shared import shared
from scoredistill.priors.windowed import Windowed
from scoredistill.recipe import seeded
from scoredistill.rng import seed_of
from scoredistill.sampling import ddim
from scoredistill.tasks.image_editing.canvas import Canvas
from scoredistill.tasks.image_editing.regions import Regions
from scoredistill.tasks.image_editing.request import EditSettings
from scoredistill.window_grid import Layout

Exchange = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Edit:
    """One edit of one canvas.

    Attributes:
        request: the complete settings.
        canvas: the source.
        prior: the editor, or a wrapper of it that counts.
        text: conditions of the instructions, one row per region.
        regions: where the instructions apply.
        exchange: maps the gradient of the whole canvas before it is used, for example along the optical flow.
        estimator: used instead of the method's own.
        start: latents to start at; the source by default.
        times: t of the first and the last sweep; the method's own by default.
        salt: distinguishes the randomness of this edit from that of others with the same seed.
        on_nan: see `distill`.
        negative: condition of the negative prompt, one row; the model's own without text by default.
    """

    request: EditSettings
    canvas: Canvas
    prior: Prior
    text: Cond
    regions: Regions
    exchange: Exchange | None = None
    estimator: Estimator | None = None
    start: Tensor | None = None
    times: tuple[float, float] | None = None
    salt: int = 0
    on_nan: str = "stop"
    negative: Cond | None = None

    @property
    def guided(self) -> ImageGuided:
        """The editor, guided by instruction and source."""
        return ImageGuided(self.prior, self.request.text_scale, self.request.image_scale, uncond=self.negative)

    @property
    def layout(self) -> Layout:
        """The layout of the windows on the canvas."""
        return self.canvas.layout(self.request.stride, self.request.recipe.profile)

    @property
    def maps(self) -> Float[Tensor, "r H W"] | None:
        """Maps of the regions on the latents; None for one instruction everywhere."""
        if self.regions.everywhere:
            return None
        height, width = self.canvas.source.shape[-2:]
        factor, maps = self.canvas.factor, self.regions.maps
        down, across = height * factor - maps.shape[-2], width * factor - maps.shape[-1]
        padded = functional.pad(maps[None], (0, across, 0, down), mode="replicate")[0]
        return functional.avg_pool2d(padded[None], factor)[0]

    @property
    def seed(self) -> int:
        """Seed of the randomness of this edit."""
        return seed_of(self.request.seed, self.salt) if self.salt else self.request.seed


def sampled(edit: Edit) -> Tensor:
    """The edited latents by DDIM through windows, for methods that sample, [f, c, H, W]."""
    recipe, canvas = edit.request.recipe, edit.canvas
    maps = edit.maps
    prior = shared(Windowed(edit.guided, edit.layout, maps=maps))
    rng = torch.Generator().manual_seed(edit.seed)
    noise = torch.randn((1 if recipe.same_noise else canvas.frames, *canvas.source.shape[1:]), generator=rng)
    regions = 1 if maps is None else len(maps)
    text = {name: rows.repeat(canvas.frames, *[1] * (rows.ndim - 1)) for name, rows in edit.text.items()}
    if regions == 1:
        text = {name: rows[:1] for name, rows in edit.text.items()}
    start = noise.expand_as(canvas.source).to(canvas.source)
    return ddim(prior, start, edit.request.sweeps, {**text, "image": canvas.image})


class Sweeps:
    """Times and step lengths of an optimization in windows, which depend on the sweep the windows are in.

    Args:
        edit: the edit.
        windows: the generator, which counts the sweeps.
        taken: number of steps taken before, by an interrupted run.
    """

    def __init__(self, edit: Edit, windows: Windows, taken: int = 0):
        self.edit, self.windows, self.taken = edit, windows, taken
        self.sweep = 0

    def time(self, index: int, steps: int) -> float:
        """The time schedule of the edit, for `distill`; also notes the sweep of the step that begins."""
        edit, recipe = self.edit, self.edit.request.recipe
        self.sweep = int(self.windows.sweep)
        if edit.times is None and recipe.schedule is not None:
            return seeded(recipe.schedule, edit.seed)(min(self.sweep, edit.request.sweeps - 1), edit.request.sweeps)
        first, last = edit.times or recipe.times
        if recipe.random_times:
            drawn = torch.Generator().manual_seed(seed_of(edit.seed, index))
            return first + (last - first) * float(torch.rand((), generator=drawn))
        return first + (last - first) * min(1.0, self.sweep / max(1, edit.request.sweeps - 1))

    def optimizer(self, parameters: Iterable[Tensor]) -> torch.optim.Optimizer:
        """Plain gradient descent whose step length follows the sweeps."""
        made = torch.optim.SGD(parameters, lr=self.edit.request.lr)
        made.register_step_pre_hook(self._set_length)
        return made

    def cond(self, views: Tensor) -> Cond:
        """The condition of windows: the instruction of their region and their part of the source."""
        text, windows = self.edit.text, self.windows
        which = views[:, 3] if len(next(iter(text.values()))) > 1 else torch.zeros(len(views), dtype=torch.long)
        chosen = {name: rows[which.to(rows.device)] for name, rows in text.items()}
        return {**chosen, "image": windows.crops(self.edit.canvas.image, views)}

    def source(self, views: Tensor) -> Tensor:
        """The source in windows."""
        return self.windows.crops(self.edit.canvas.source, views)

    def _set_length(self, optimizer: torch.optim.Optimizer, *_: Any) -> None:
        settings, recipe = self.edit.request, self.edit.request.recipe
        length = settings.lr * averaging(self.sweep, settings.sweeps, recipe.averaged)
        optimizer.param_groups[0]["lr"] = length * recipe.decay**self.taken
        self.taken += 1


def optimized(edit: Edit, state: dict[str, Any] | None = None, check: int = CHECKED) -> Iterator[Step]:
    """The steps of a method that optimizes; `canvas_of` gives the edited latents after a step.

    Args:
        edit: the edit.
        state: state of an interrupted run to continue.
        check: see `distill`.

    Raises:
        ValueError: if the method samples.
    """
    settings, recipe = edit.request, edit.request.recipe
    if recipe.estimator is None:
        raise ValueError(f"the method {settings.method} samples and has no steps: use `sampled`")
    windows = windows_of(edit)
    sweeps = Sweeps(edit, windows, 0 if state is None else int(state["next"]))
    particles = settings.particles or None
    return distill(
        windows,
        edit.guided,
        edit.estimator or recipe.estimator(settings.kernel),
        sweeps.cond,
        steps=windows.steps(settings.sweeps, particles),
        particles=particles,
        times=sweeps.time,
        optimizer=sweeps.optimizer,
        source=sweeps.source,
        groups=None if edit.regions.everywhere else lambda views: views[:, 3],
        rng=torch.Generator().manual_seed(edit.seed),
        state=state,
        on_nan=edit.on_nan,
        check=check,
    )


def edited(edit: Edit) -> Tensor:
    """The edited latents by the method of the edit, [f, c, H, W].

    Raises:
        FloatingPointError: if they are not finite.
    """
    if edit.request.recipe.estimator is None:
        return finite(sampled(edit))
    latents = edit.canvas.source
    for step in optimized(edit):
        latents = canvas_of(step)
    return finite(latents)


def finite(latents: Tensor) -> Tensor:
    """The latents themselves.

    Raises:
        FloatingPointError: if they are not finite.
    """
    if not bool(latents.isfinite().all()):
        raise FloatingPointError("the edit is not finite: use smaller guidance scales, or float32 networks")
    return latents


def averaging(sweep: int, sweeps: int, fraction: float) -> float:
    """Step length of a sweep for which the result is the mean of what the last sweeps arrive at.

    With x <- x - l_k d_k and targets x - d_k, lengths 1, 1/2, 1/3, ... leave the mean of the targets.

    Args:
        sweep: index of the sweep, from 0.
        sweeps: number of sweeps.
        fraction: fraction of the sweeps, the last ones, that are averaged.
    """
    first = sweeps - max(1, round(fraction * sweeps))
    return 1.0 if sweep < first else 1 / (sweep - first + 1)


def canvas_of(step: Step) -> Float[Tensor, "f c H W"]:
    """The edited latents after a step.

    Raises:
        TypeError: if the step is not one of an edit.
    """
    if not isinstance(step.generator, Windows):
        raise TypeError(f"the step optimizes a {type(step.generator).__name__}, not windows of a canvas")
    return step.generator.canvas.detach()


def windows_of(edit: Edit) -> Windows:
    """The canvas as a generator of windows."""
    settings, canvas, layout = edit.request, edit.canvas, edit.layout
    return Windows(
        canvas.source if edit.start is None else edit.start,
        layout.window,
        layout.stride,
        settings.wrap,
        settings.recipe.profile,
        settings.scales,
        edit.maps,
        settings.recipe.jitter,
        edit.seed,
        edit.exchange,
    )


def rows_of(edit: Edit) -> int:
    """Network evaluations of one sweep, or of one step of DDIM."""
    row = {**{name: rows[:1] for name, rows in edit.text.items()}, "image": edit.canvas.image[:1]}
    guided, recipe, t = edit.guided, edit.request.recipe, edit.canvas.image.new_zeros(1)
    rows = len(guided.guide(t, row))
    if recipe.estimator is None:
        return rows * edit.canvas.frames * len(Windowed(edit.prior, edit.layout, maps=edit.maps).boxes)
    if recipe.rows is None:
        return _counted(edit)
    rows += len(guided.guide(t, guided.null(row))) if recipe.rows > 3 else 0
    return rows * windows_of(edit).count(0)


def _counted(edit: Edit) -> int:
    """Network evaluations of the first sweep, counted in one step."""
    counted = Counted(edit.prior)
    step = next(optimized(replace(edit, prior=counted)))  # on all ranks, of which it counts all rows
    return max(1, round(counted.rows * windows_of(edit).count(0) / len(step.views)))


def conditions(prior: TextPrior, regions: Regions) -> Cond:
    """The conditions of the instructions, one row per region."""
    return prior.encode_text(list(regions.instructions))


def negative_of(prior: TextPrior, settings: EditSettings) -> Cond | None:
    """The condition of the negative prompt, one row; None without one."""
    return prior.encode_text([settings.negative_prompt]) if settings.negative_prompt else None
