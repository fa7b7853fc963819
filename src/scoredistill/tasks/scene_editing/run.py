"""Views are edited, the scene is fitted to them, its renders are edited again: dataset update.

Collaborative (https://arxiv.org/abs/2307.04787, section 4.3): views are the particles of CSD-Edit, some at once. A
round edits all views, then the scene is fitted; the next round starts at the renders, where views agree by
construction, at smaller t. One view (Instruct-NeRF2NeRF, Haque et al. 2023, https://arxiv.org/abs/2303.12789): a render
is noised to a random t and sampled anew, given its photograph, while the scene is fitted all along to views that are
edited already and others that are not yet. Both ask the network for as many rows.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from jaxtyping import Float, Int
from torch import Tensor

from scoredistill.priors.base import Prior
from scoredistill.priors.conditions import Cond
from scoredistill.priors.guidance import ImageGuided
from scoredistill.rng import seed_of
from scoredistill.sampling import ddim
from scoredistill.tasks.image_editing import regions
from scoredistill.tasks.image_editing.canvas import Canvas
from scoredistill.tasks.image_editing.recipes import VIDEO_RECIPES
from scoredistill.tasks.image_editing.request import EditRequest
from scoredistill.tasks.image_editing.run import Edit, edited, rows_of, windows_of
from scoredistill.tasks.scene_editing.request import ONE_VIEW, SceneRequest
from scoredistill.three_d.fitting import FitStep, PosedImages, adam, fit
from scoredistill.three_d.scenes.base import Scene

RATES, LAST = (0.1, 0.01), 0.1  # learning rates of encoding and network while views change, and the factor at the end
LATER = (0.6, 0.2)  # t of the first and last sweep of later rounds, which start at renders
DDIM_STEPS = 20
NOISED = (0.02, 0.98)  # t that one view is noised to


@dataclass(frozen=True)
class SceneEditing:
    """One edit of one scene.

    Attributes:
        request: complete.
        scene: fitted to the photographs; it is changed.
        photographs: the views to edit, as they are now; they are changed.
        canvas: the views as the editor sees them, before any change.
        prior: the editor; what counts its rows may be around it.
        text: the condition of the instruction.
    """

    request: SceneRequest
    scene: Scene
    photographs: PosedImages
    canvas: Canvas
    prior: Prior
    text: Cond

    def steps(self) -> Iterator[FitStep]:
        """Steps of fitting, with edits between them; the scene ends edited."""
        request = self.request
        due: dict[int, list[Update]] = {}
        for index, updates in self._one_by_one() if request.method == ONE_VIEW else self._rounds():
            due.setdefault(index, []).extend(updates)
        fitting = fit(
            self.scene, self.photographs, steps=request.edit_steps, rays=request.rays, decay=LAST,
            optimizer=adam(self.scene, RATES), rng=torch.Generator().manual_seed(seed_of(request.seed, 1)),
        )  # fmt: skip
        for index in range(request.edit_steps):
            for update in due.get(index, ()):
                self._update(update)
            yield next(fitting)

    @cached_property
    def rows(self) -> int:
        """Network rows of the whole run of csd, which one view at a time gets as well."""
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

    def _rounds(self) -> list[tuple[int, list["Update"]]]:
        """At the beginning of each round all views, some at a time, every time otherwise divided."""
        request, n = self.request, len(self.photographs)
        made = []
        for turn in range(request.rounds):
            order = torch.randperm(n, generator=torch.Generator().manual_seed(seed_of(request.seed, 100 + turn)))
            count = math.ceil(n / request.views)
            batches = [batch.sort().values for batch in order.tensor_split(count)]
            updates = [Update(batch, turn, 1000 * (turn + 1) + k) for k, batch in enumerate(batches)]
            made.append((turn * request.edit_steps // request.rounds, updates))
        return made

    def _one_by_one(self) -> list[tuple[int, list["Update"]]]:
        """As many updates of one view as the rows allow, at equal distances, in random order, each view as often."""
        request, n = self.request, len(self.photographs)
        per = DDIM_STEPS * len(self._guided.guide(torch.zeros(1), {**self.text, "image": self.canvas.image[:1]}))
        count = max(1, round(self.rows / per))
        rng = torch.Generator().manual_seed(seed_of(request.seed, 100))
        order = torch.cat([torch.randperm(n, generator=rng) for _ in range(-(-count // n))])[:count]
        return [(k * request.edit_steps // count, [Update(v[None], 1, 1000 + k)]) for k, v in enumerate(order)]

    def _update(self, update: "Update") -> None:
        """Edit some views and put them where the scene is fitted."""
        request, which = self.request, update.which
        canvas, start = self.canvas.some(which), None
        if update.turn:
            with torch.no_grad():
                renders = self.scene.render(self.photographs.cameras[which]).rgb.clamp(0, 1)
            start = canvas.encode(renders)
        if request.method == ONE_VIEW:
            assert start is not None
            latents = self._sampled(canvas, start, update.salt)
        else:
            times = VIDEO_RECIPES[request.method].times if update.turn == 0 else LATER
            sweeps = self._sweeps(update.turn)
            latents = edited(self._edit(which, request.method, sweeps, times, start, update.salt))
        self.photographs.images[which] = canvas.decode(latents).to(self.photographs.images)
        self.canvas.encoded += canvas.encoded
        self.canvas.decoded += canvas.decoded

    def _edit(
        self, which: Int[Tensor, " k"], method: str, sweeps: int, times: tuple[float, float], start: Tensor | None,
        salt: int,
    ) -> Edit:  # fmt: skip
        request = self.request
        asked = EditRequest(
            request.instruction, method, request.prior, sweeps=sweeps, text_scale=request.text_scale,
            image_scale=request.image_scale, kernel=request.kernel, video=True, seed=request.seed,
        ).complete()  # fmt: skip
        canvas = self.canvas.some(which)
        where = regions.make(request.instruction, (), canvas.size)
        return Edit(asked, canvas, self.prior, self.text, where, start=start, times=times, salt=salt)

    @property
    def _guided(self) -> ImageGuided:
        assert self.request.text_scale is not None
        assert self.request.image_scale is not None
        return ImageGuided(self.prior, self.request.text_scale, self.request.image_scale)

    def _sampled(self, canvas: Canvas, start: Float[Tensor, "1 c H W"], salt: int) -> Tensor:
        """A view sampled from its noised render, given its photograph."""
        rng = torch.Generator().manual_seed(seed_of(self.request.seed, salt))
        t = NOISED[0] + (NOISED[1] - NOISED[0]) * float(torch.rand((), generator=rng))
        alpha, sigma = (level.to(start) for level in self.prior.schedule(torch.tensor([t])))
        noised = alpha * start + sigma * torch.randn(start.shape, generator=rng).to(start)
        return ddim(self._guided, noised, DDIM_STEPS, {**self.text, "image": canvas.image}, start=t)


@dataclass(frozen=True)
class Update:
    """Views to edit together.

    Attributes:
        which: their numbers.
        turn: 0 starts at the photographs, later ones at renders.
        salt: of their noise.
    """

    which: Int[Tensor, " k"]
    turn: int
    salt: int


def spread_over(n: int, k: int | None) -> list[int]:
    """k of n numbers at equal distances; all without k.

    Raises:
        ValueError: there are fewer.
    """
    if k is None:
        return list(range(n))
    if k > n:
        raise ValueError(f"use asks for {k} of {n} training views: use at most {n}")
    return [i * n // k for i in range(k)]


def started(request: SceneRequest, photographs: PosedImages) -> SceneRequest:
    """The request with as many views together as there are, at most."""
    return replace(request, views=min(request.views, len(photographs)))
