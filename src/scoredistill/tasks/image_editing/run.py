"""How each method edits a canvas: by windows that are optimized, or by sampling through a prior of windows."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from scoredistill.estimators import Estimator
from scoredistill.generators import Windows
from scoredistill.loop import Step, distill
from scoredistill.priors.base import Prior, TextPrior
from scoredistill.priors.conditions import Cond
from scoredistill.priors.guidance import ImageGuided
from scoredistill.priors.windowed import Windowed
from scoredistill.rng import seed_of
from scoredistill.sampling import ddim
from scoredistill.tasks.image_editing.canvas import Canvas
from scoredistill.tasks.image_editing.regions import Regions
from scoredistill.tasks.image_editing.request import EditRequest

Exchange = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Edit:
    """One edit of one canvas.

    Attributes:
        request: complete.
        canvas: the source.
        prior: the editor; what counts its rows may be around it.
        text: conditions of the instructions, one row per region.
        regions: their maps.
        exchange: what happens to a gradient of the whole canvas before it is used, such as exchange along the flow.
        estimator: another one than the method's.
        start: latents to start at; the source by default.
        times: t of the first and the last sweep; the method's own by default.
        salt: makes noise and order of this edit other than those of another with the same seed.
    """

    request: EditRequest
    canvas: Canvas
    prior: Prior
    text: Cond
    regions: Regions
    exchange: Exchange | None = None
    estimator: Estimator | None = None
    start: Tensor | None = None
    times: tuple[float, float] | None = None
    salt: int = 0

    @property
    def guided(self) -> ImageGuided:
        """The editor, guided by instruction and image."""
        assert self.request.text_scale is not None
        assert self.request.image_scale is not None
        return ImageGuided(self.prior, self.request.text_scale, self.request.image_scale)

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
        """Of this edit's randomness."""
        return seed_of(self.request.seed, self.salt) if self.salt else self.request.seed


def sampled(edit: Edit) -> Tensor:
    """The edited latents by DDIM through windows, for methods that sample."""
    recipe, canvas, request = edit.request.recipe, edit.canvas, edit.request
    assert request.stride is not None
    assert request.sweeps is not None
    maps = edit.maps
    prior = Windowed(edit.guided, canvas.layout(request.stride, recipe.profile), maps=maps)
    rng = torch.Generator().manual_seed(edit.seed)
    noise = torch.randn((1 if recipe.same_noise else canvas.frames, *canvas.source.shape[1:]), generator=rng)
    regions = 1 if maps is None else len(maps)
    text = {name: rows.repeat(canvas.frames, *[1] * (rows.ndim - 1)) for name, rows in edit.text.items()}
    if regions == 1:
        text = {name: rows[:1] for name, rows in edit.text.items()}
    start = noise.expand_as(canvas.source).to(canvas.source)
    return ddim(prior, start, request.sweeps, {**text, "image": canvas.image})


def optimized(edit: Edit, state: dict[str, Any] | None = None) -> Iterator[Step]:
    """The steps of a method that optimizes; `step.generator.canvas` holds the edited latents."""
    request, recipe, canvas = edit.request, edit.request.recipe, edit.canvas
    assert request.sweeps is not None
    assert request.kernel is not None
    lr, sweeps = request.lr or 0.0, request.sweeps
    assert recipe.estimator is not None
    windows = windows_of(edit)
    particles = request.particles or None
    steps = windows.steps(request.sweeps, particles)

    def cond(views: Tensor) -> Cond:
        which = views[:, 3] if len(next(iter(edit.text.values()))) > 1 else torch.zeros(len(views), dtype=torch.long)
        text = {name: rows[which.to(rows.device)] for name, rows in edit.text.items()}
        return {**text, "image": windows.crops(canvas.image, views)}

    sweep, taken = 0, 0 if state is None else int(state["next"])

    def times(index: int, steps: int) -> float:
        nonlocal sweep
        sweep = int(windows.sweep)
        first, last = edit.times or recipe.times
        if recipe.random_times:
            drawn = torch.Generator().manual_seed(seed_of(edit.seed, index))
            return first + (last - first) * float(torch.rand((), generator=drawn))
        return first + (last - first) * min(1.0, sweep / max(1, sweeps - 1))

    def optimizer(parameters: Any) -> torch.optim.Optimizer:
        made = torch.optim.SGD(parameters, lr=lr)

        def length(o: torch.optim.Optimizer, *_: Any) -> None:
            nonlocal taken
            o.param_groups[0]["lr"] = lr * averaging(sweep, sweeps, recipe.averaged) * recipe.decay**taken
            taken += 1

        made.register_step_pre_hook(length)
        return made

    return distill(
        windows,
        edit.guided,
        edit.estimator or recipe.estimator(request.kernel),
        cond,
        steps=steps,
        particles=particles,
        times=times,
        optimizer=optimizer,
        source=lambda views: windows.crops(canvas.source, views),
        groups=None if edit.regions.everywhere else lambda views: views[:, 3],
        rng=torch.Generator().manual_seed(edit.seed),
        state=state,
    )


def edited(edit: Edit) -> Tensor:
    """The edited latents by whatever method the request names.

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
    """The latents, if they are finite.

    Raises:
        FloatingPointError: if not.
    """
    if not bool(latents.isfinite().all()):
        raise FloatingPointError("the edit is not finite: use smaller guidance scales, or float32 networks")
    return latents


def averaging(sweep: int, sweeps: int, share: float) -> float:
    """Length of the steps of a sweep, so that the result is the mean of what the last sweeps find.

    With x <- x - l_k d_k and targets x - d_k, lengths 1, 1/2, 1/3, ... leave the mean of the targets.

    Args:
        sweep: from 0.
        sweeps: how many there are.
        share: of them that are averaged.
    """
    first = sweeps - max(1, round(share * sweeps))
    return 1.0 if sweep < first else 1 / (sweep - first + 1)


def canvas_of(step: Step) -> Tensor:
    """The latents as they are after a step, [f, c, H, W]."""
    assert isinstance(step.generator, Windows)
    return step.generator.canvas.detach()


def windows_of(edit: Edit) -> Windows:
    """The canvas as a generator, with the request's windows."""
    request, canvas = edit.request, edit.canvas
    layout = canvas.layout(request.stride or 0.5, request.recipe.profile)
    return Windows(
        canvas.source if edit.start is None else edit.start,
        layout.window,
        layout.stride,
        request.wrap,
        request.recipe.profile,
        request.scales,
        edit.maps,
        request.recipe.jitter,
        edit.seed,
        edit.exchange,
    )


def rows_of(edit: Edit) -> int:
    """Network rows of one sweep, or of one step of DDIM."""
    row = {**{name: rows[:1] for name, rows in edit.text.items()}, "image": edit.canvas.image[:1]}
    guided, recipe, t = edit.guided, edit.request.recipe, edit.canvas.image.new_zeros(1)
    rows = len(guided.guide(t, row))
    if recipe.estimator is None:
        assert edit.request.stride is not None
        layout = edit.canvas.layout(edit.request.stride, recipe.profile)
        return rows * edit.canvas.frames * len(Windowed(edit.prior, layout, maps=edit.maps).boxes)
    rows += len(guided.guide(t, guided.null(row))) if recipe.rows > 3 else 0
    return rows * windows_of(edit).count(0)


def conditions(prior: TextPrior, regions: Regions) -> Cond:
    """The instructions as the editor reads them, one row per region."""
    return prior.encode_text(list(regions.instructions))
