"""How a scene is edited: views are edited, the scene is fitted to them, its renders are edited again (dataset update).

Collaborative editing (Collaborative Score Distillation for Consistent Visual Synthesis, Kim et al. 2023, section 4.3,
https://arxiv.org/abs/2307.04787): views are the particles of CSD-Edit, several at a time. A round edits all views, then
the scene is fitted; the next round starts at the renders, where views agree by construction, at smaller t.

One view at a time (Instruct-NeRF2NeRF: Editing 3D Scenes with Instructions, Haque et al. 2023,
https://arxiv.org/abs/2303.12789): a render is noised to a random t and sampled again, given its photograph, while the
scene is fitted all along to views of which some are edited already.

Both use the same number of network evaluations.
"""

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from scoredistill.loop import CHECKED
from scoredistill.priors.base import Editor, Prior
from scoredistill.priors.conditions import Cond
from scoredistill.priors.guidance import ImageGuided
from scoredistill.priors.shared import shared
from scoredistill.rng import seed_of
from scoredistill.sampling import ddim
from scoredistill.tasks.image_editing import regions
from scoredistill.tasks.image_editing.canvas import Canvas
from scoredistill.tasks.image_editing.run import Edit, edited, rows_of, windows_of
from scoredistill.tasks.scene_editing.recipes import DDIM_STEPS, LAST, LATER, NOISED, ONE_VIEW, RATES
from scoredistill.tasks.scene_editing.request import SceneRequest, SceneSettings
from scoredistill.tasks.video_editing.request import VideoRequest
from scoredistill.three_d.capture import Capture
from scoredistill.three_d.fitting import FitStep, PosedImages, adam, fit, scene_of
from scoredistill.three_d.scenes.base import Scene
from scoredistill.three_d.scenes.nerf import NeRF

SceneCallback = Callable[[FitStep, Scene], None]


@dataclass(frozen=True)
class Update:
    """Views to edit together.

    Attributes:
        which: indices of the views.
        turn: index of the round; round 0 starts at the photographs, later ones at renders.
        salt: distinguishes the noise of this update from that of others.
    """

    which: Int[Tensor, " k"]
    turn: int
    salt: int


@dataclass(frozen=True)
class SceneEditing:
    """One edit of one scene.

    Attributes:
        request: the complete settings.
        scene: the scene, fitted to the photographs; it is changed.
        photographs: the views to edit, in their present state; they are changed.
        canvas: the views in the latent space of the editor, before any change.
        prior: the editor, or a wrapper of it that counts.
        text: the condition of the instruction.
        on_nan: see `distill`.
        rates: learning rates of the fit, of encodings and of all other parameters.
    """

    request: SceneSettings
    scene: Scene
    photographs: PosedImages
    canvas: Canvas
    prior: Prior
    text: Cond
    on_nan: str = "stop"
    rates: tuple[float, float] = RATES

    def steps(self) -> Iterator[FitStep]:
        """The steps of fitting, with edits of views between them."""
        request = self.request
        due: dict[int, list[Update]] = {}
        for index, updates in self._one_by_one() if request.method == ONE_VIEW else self._rounds():
            due.setdefault(index, []).extend(updates)
        fitting = fit(
            self.scene, self.photographs, steps=request.edit_steps, rays=request.rays, decay=LAST,
            optimizer=adam(self.scene, self.rates), rng=torch.Generator().manual_seed(seed_of(request.seed, 1)),
        )  # fmt: skip
        for index in range(request.edit_steps):
            for update in due.get(index, ()):
                self._update(update)
            yield next(fitting)

    @cached_property
    def rows(self) -> int:
        """Network evaluations of a whole run of csd; one_view is given the same number."""
        total = 0
        for _, updates in self._rounds():
            for update in updates:
                sweeps = self._sweeps(update.turn)
                edit = self._edit(update.which, "csd", sweeps, LATER, None, update.salt)
                windows = windows_of(edit)  # their number changes from sweep to sweep
                total += rows_of(edit) // windows.count(0) * sum(windows.count(k) for k in range(sweeps))
        return total

    def _sweeps(self, turn: int) -> int:
        return self.request.sweeps if turn == 0 else max(1, self.request.sweeps // 3)

    def _rounds(self) -> list[tuple[int, list[Update]]]:
        """(step, updates): all views at the beginning of each round, in batches that differ between rounds."""
        request, n = self.request, len(self.photographs)
        made = []
        for turn in range(request.rounds):
            order = torch.randperm(n, generator=torch.Generator().manual_seed(seed_of(request.seed, 100 + turn)))
            count = math.ceil(n / request.views)
            batches = [batch.sort().values for batch in order.tensor_split(count)]
            updates = [Update(batch, turn, 1000 * (turn + 1) + k) for k, batch in enumerate(batches)]
            made.append((turn * request.edit_steps // request.rounds, updates))
        return made

    def _one_by_one(self) -> list[tuple[int, list[Update]]]:
        """(step, updates): as many updates of single views as `rows` allows, each view equally often."""
        request, n = self.request, len(self.photographs)
        per = DDIM_STEPS * len(self._guided.guide(torch.zeros(1), {**self.text, "image": self.canvas.image[:1]}))
        count = max(1, round(self.rows / per))
        rng = torch.Generator().manual_seed(seed_of(request.seed, 100))
        order = torch.cat([torch.randperm(n, generator=rng) for _ in range(-(-count // n))])[:count]
        return [(k * request.edit_steps // count, [Update(v[None], 1, 1000 + k)]) for k, v in enumerate(order)]

    def _update(self, update: Update) -> None:
        """Edit some views, and replace them among the photographs that the scene is fitted to."""
        request, which = self.request, update.which
        canvas = self.canvas.some(which)
        if request.method == ONE_VIEW:
            latents = self._sampled(canvas, self._render(canvas, which), update.salt)
        else:
            start = None if update.turn == 0 else self._render(canvas, which)
            times = None if update.turn == 0 else LATER
            sweeps = self._sweeps(update.turn)
            latents = edited(self._edit(which, request.method, sweeps, times, start, update.salt))
        self.photographs.images[which] = canvas.decode(latents).to(self.photographs.images)
        self.canvas.encoded += canvas.encoded
        self.canvas.decoded += canvas.decoded

    @torch.no_grad()
    def _render(self, canvas: Canvas, which: Int[Tensor, " k"]) -> Float[Tensor, "k c H W"]:
        """Latents of the renders of some views."""
        renders = self.scene.render(self.photographs.cameras[which]).rgb.clamp(0, 1)
        return canvas.encode(renders)

    def _edit(
        self, which: Int[Tensor, " k"], method: str, sweeps: int, times: tuple[float, float] | None,
        start: Tensor | None, salt: int,
    ) -> Edit:  # fmt: skip
        request = self.request
        asked = VideoRequest(
            request.instruction, method, request.prior, sweeps=sweeps, text_scale=request.text_scale,
            image_scale=request.image_scale, seed=request.seed,
        ).complete()  # fmt: skip
        asked = replace(asked, kernel=request.kernel)
        canvas = self.canvas.some(which)
        where = regions.make(request.instruction, (), canvas.size)
        return Edit(
            asked, canvas, self.prior, self.text, where, start=start, times=times, salt=salt, on_nan=self.on_nan
        )

    @property
    def _guided(self) -> ImageGuided:
        return ImageGuided(self.prior, self.request.text_scale, self.request.image_scale)

    def _sampled(self, canvas: Canvas, start: Float[Tensor, "1 c H W"], salt: int) -> Tensor:
        """Latents of a view, sampled from its noised render, given its photograph."""
        rng = torch.Generator().manual_seed(seed_of(self.request.seed, salt))
        t = NOISED[0] + (NOISED[1] - NOISED[0]) * float(torch.rand((), generator=rng))
        alpha, sigma = (level.to(start) for level in self.prior.schedule(torch.tensor([t])))
        noised = alpha * start + sigma * torch.randn(start.shape, generator=rng).to(start)
        return ddim(shared(self._guided), noised, DDIM_STEPS, {**self.text, "image": canvas.image}, start=t)


def spread_over(n: int, k: int | None) -> list[int]:
    """k of the numbers 0, ..., n - 1 at equal distances; all of them without k.

    Raises:
        ValueError: if k is more than n.
    """
    if k is None:
        return list(range(n))
    if k > n:
        raise ValueError(f"use asks for {k} of {n} training views: use at most {n}")
    return [i * n // k for i in range(k)]


def views_to_edit(capture: Capture, settings: SceneSettings) -> tuple[int, ...]:
    """The indices of the views of a capture that are edited."""
    return tuple(capture.training[k] for k in spread_over(len(capture.training), settings.use))


def fit_scene(
    capture: Capture,
    settings: SceneSettings | None = None,
    progress: bool = False,
    state: dict[str, Any] | None = None,
    device: torch.device | str = "cpu",
) -> NeRF:
    """A radiance field fitted to the training views of a capture, with a background of its own.

    Args:
        capture: the capture, with its content in the unit ball, see `normalized`.
        settings: settings of an edit, whose settings of the fit are used; the defaults of `SceneRequest` by default.
        progress: show a progress bar.
        state: parameters of an earlier fit, which is then not repeated.
        device: device of the scene.
    """
    from tqdm.auto import tqdm

    settings = settings or SceneRequest("fit").complete()
    photographs = PosedImages.of(capture).to(device)
    scene = scene_of(photographs, samples=settings.samples, seed=settings.seed, background=None).to(device)
    if state is not None:
        scene.load_state_dict(state)
        return scene
    rng = torch.Generator().manual_seed(settings.seed)
    steps = fit(scene, photographs, steps=settings.fit_steps, rays=settings.rays, rng=rng)
    losses: list[Tensor] = []
    for step in tqdm(steps, "fit", settings.fit_steps, disable=not progress, unit="step"):
        losses.append(step.loss)
        if len(losses) % CHECKED == 0:
            _check_losses(losses, CHECKED, "photographs")
    _check_losses(losses, len(losses), "photographs")
    return scene


def prepared(
    capture: Capture, settings: SceneSettings, fitted: Scene, prior: Editor, counted: Prior
) -> tuple[SceneEditing, tuple[int, ...]]:
    """The edit of a fitted scene, and the indices of the views of the capture that it edits.

    Args:
        capture: the photographs at the size at which the edit works.
        settings: the settings.
        fitted: the scene, fitted to the photographs; it is not changed.
        prior: the editor.
        counted: the same editor, counting network evaluations.
    """
    views = views_to_edit(capture, settings)
    alpha = None if capture.alpha is None else capture.alpha[list(views)]
    mask = None if capture.mask is None else capture.mask[list(views)]
    photographs = PosedImages(capture.images[list(views)], capture.cameras[list(views)], alpha, mask)
    photographs = photographs.to(prior.device)
    canvas = Canvas(prior, photographs.images)
    text = prior.encode_text([settings.instruction])
    return SceneEditing(settings, copy.deepcopy(fitted), photographs, canvas, counted, text), views


def edit_fitted(
    editing: SceneEditing, progress: bool = False, callbacks: Sequence[SceneCallback] = ()
) -> list[dict[str, float]]:
    """Carry out an edit.

    Args:
        editing: the edit.
        progress: show a progress bar.
        callbacks: called with every finished step of fitting, and the scene.

    Returns:
        Metrics of each step: loss.

    Raises:
        FloatingPointError: if a loss is not finite.
    """
    from tqdm.auto import tqdm

    losses: list[Tensor] = []
    settings = editing.request
    for step in tqdm(editing.steps(), settings.method, settings.edit_steps, disable=not progress, unit="step"):
        losses.append(step.loss)
        if len(losses) % CHECKED == 0:
            _check_losses(losses, CHECKED)
        for callback in callbacks:
            callback(step, editing.scene)
    return [{"loss": v} for v in _check_losses(losses, len(losses))]


def _check_losses(losses: Sequence[Tensor], last: int, of: str = "edited views") -> list[float]:
    """The last losses of a fit as numbers.

    Raises:
        FloatingPointError: naming the first step whose loss is not finite.
    """
    values: list[float] = torch.stack(list(losses[len(losses) - last :])).tolist()
    for index, value in enumerate(values, len(losses) - last):
        if not math.isfinite(value):
            raise FloatingPointError(
                f"the loss of step {index} of the fit to the {of} is not finite: use smaller guidance scales"
            )
    return values
