"""How icons are optimized for prompts, and edited by an instruction."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from scoredistill.estimators import Decoded, Estimator, LowPass, Stein
from scoredistill.generators import Encoded, Generator, VectorGraphics
from scoredistill.generators.crops import Crops
from scoredistill.kernels import RBF
from scoredistill.loop import Step, distill
from scoredistill.priors.base import Editor, Prior, TextPrior
from scoredistill.priors.conditions import Cond
from scoredistill.priors.guidance import ImageGuided
from scoredistill.tasks.image_generation.run import guided
from scoredistill.tasks.vector_graphics.recipes import VectorRecipe
from scoredistill.tasks.vector_graphics.request import EDIT_FOLLOW, EDIT_LR, VectorEditSettings, VectorSettings
from scoredistill.tasks.vector_graphics.starts import optimizer_of
from scoredistill.times import Linear

LEAST = 1e-3  # fraction of the canvas in which a path must be seen to be kept


@dataclass(frozen=True)
class VectorOptimization:
    """The optimization of icons for their prompts.

    Attributes:
        settings: the settings.
        recipe: how the method is run.
        prior: the prior that knows the text.
        queried: the prior whose network is evaluated; `prior`, or a wrapper of it that counts.
        graphics: the icons, one per prompt.
        on_nan: see `distill`.
    """

    settings: VectorSettings
    recipe: VectorRecipe
    prior: TextPrior
    queried: Prior
    graphics: VectorGraphics
    on_nan: str = "stop"

    def steps(self, state: dict[str, Any] | None = None) -> Iterator[Step]:
        """The steps, from the beginning or from the state of an interrupted run."""
        settings, recipe = self.settings, self.recipe
        prior = guided(settings, self.prior, self.queried)
        decoded = recipe.through == "decoder"
        generator: Generator = self.graphics if decoded else Encoded(self.graphics, prior)
        estimator = self._estimator()
        times = (recipe.times if settings.init == "noise" else recipe.refining)(self.prior.schedule, settings.seed)
        return distill(
            generator, prior, Decoded(estimator) if decoded else estimator,
            self.prior.encode_text(list(settings.prompts)), steps=settings.steps, times=times,
            optimizer=optimizer_of(self.graphics, settings.lr), follow=settings.follow,
            rng=torch.Generator().manual_seed(settings.seed + 1), state=state, on_nan=self.on_nan, check=1,
        )  # fmt: skip

    def _estimator(self) -> Estimator:
        """The method, with gradients of which icons of a set share what is the same everywhere."""
        made = self.recipe.estimator()
        together = self.settings.together and len(self.settings.prompts) > 1
        return Stein(made, RBF(), share=LowPass()) if together and self.settings.method != "csd" else made


@dataclass(frozen=True)
class VectorEdit:
    """The edit of a drawing by an instruction: its rendering in overlapping windows, edited together.

    Gradients come from where the drawing is, so that its paths do not spread over the background.

    Attributes:
        settings: the settings.
        prior: the editor.
        queried: the editor whose network is evaluated; `prior`, or a wrapper of it that counts.
        graphics: the drawing.
        on_nan: see `distill`.
    """

    settings: VectorEditSettings
    prior: Editor
    queried: Prior
    graphics: VectorGraphics
    on_nan: str = "stop"

    def steps(self, state: dict[str, Any] | None = None) -> Iterator[Step]:
        """The steps, from the beginning or from the state of an interrupted run."""
        settings, recipe = self.settings, self.settings.recipe
        if recipe.estimator is None:
            raise ValueError(f"the method {settings.method} samples and has no steps: use csd")
        height, width = self.prior.image_size
        source = VectorGraphics(self.graphics.drawn, self.graphics.size).to(self.prior.device)
        before = source(torch.arange(1)).detach()
        windows = Crops(self.graphics, source.size, (height, width), (height // 2, width // 2), source.alpha())
        text = self.prior.encode_text([settings.instruction])

        def cond(views: Tensor) -> Cond:
            shown = {name: rows.repeat(len(views), *[1] * (rows.ndim - 1)) for name, rows in text.items()}
            return {**shown, "image": self.prior.encode_source(windows.cut(before, views))["image"]}

        return distill(
            windows, ImageGuided(self.queried, settings.text_scale, settings.image_scale),
            Decoded(recipe.estimator(settings.kernel)), cond, steps=settings.sweeps, times=Linear(*recipe.times),
            optimizer=optimizer_of(self.graphics, *EDIT_LR), follow=EDIT_FOLLOW,
            source=lambda views: windows.cut(before, views), rng=torch.Generator().manual_seed(settings.seed),
            state=state, on_nan=self.on_nan, check=1,
        )  # fmt: skip
