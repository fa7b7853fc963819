r"""Score distillation as a loss, for training loops of one's own.

    criterion = DistillationLoss(load_prior(), MSD(), prompt="a hamburger", steps=400)
    for _ in range(400):
        optimizer.zero_grad()
        criterion(render(parameters)).backward()
        optimizer.step()

Estimators give a gradient g, not a loss. With x the images as samples of the prior, the loss is

    L = <sg(g), x - sg(x)> + |sg(g)|^2 / 2,        dL / dx = g,

where sg stops gradients: its gradient is exactly the estimator's, and its value |g|^2 / 2 says how far the images still
move. Gradients pass through the encoder of latent priors to the images.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from scoredistill.estimators import Batch, Estimate, Estimator
from scoredistill.priors import Cond, Guided, Prior
from scoredistill.priors.base import TextPrior, check_instance, check_prior
from scoredistill.priors.conditions import check_cond
from scoredistill.times import Times, Uniform


class DistillationLoss:
    """A loss whose gradient with respect to images is that of an estimator.

    Each call is one step of the time schedule; with gradient accumulation, `accumulate` calls are.

    Args:
        prior: the diffusion model.
        estimator: turns its predictions into a gradient.
        prompt: the text, or a list with one per image. A prior without text takes `cond` in its place.
        negative_prompt: of the guidance; the prior's own unconditional prediction by default.
        guidance: scale of classifier-free guidance, at least 0; 1 is the conditional prediction alone.
        cond: condition of the prior, in place of a prompt.
        steps: number of steps of the training, at least 1, which time schedules and annealed estimators go through.
        times: time schedule (index, steps) -> t; uniform in [.02, .98] by default.
        accumulate: number of calls per step, at least 1.
        encode: whether images in [0, 1] are encoded as samples of the prior; False if they are samples already.
        seed: of the noise and, by default, the times.

    Attributes:
        calls: number of calls so far.
        estimate: of the last call, with the estimator's diagnostics.

    Raises:
        ValueError: for invalid arguments.
    """

    def __init__(
        self,
        prior: Prior,
        estimator: Estimator,
        prompt: str | Sequence[str] | None = None,
        *,
        negative_prompt: str | Sequence[str] | None = None,
        guidance: float = 7.5,
        cond: Cond | None = None,
        steps: int = 400,
        times: Times | None = None,
        accumulate: int = 1,
        encode: bool = True,
        seed: int = 0,
    ) -> None:
        check_prior(prior)
        check_instance("estimator", estimator, "MSD()")
        check_cond(cond)
        for name, value in {"steps": steps, "accumulate": accumulate}.items():
            if value < 1:
                raise ValueError(f"{name} must be at least 1, not {value}")
        if not (math.isfinite(guidance) and guidance >= 0):
            raise ValueError(f"guidance must be a number of at least 0, not {guidance}")
        if prompt is not None and cond is not None:
            raise ValueError("give a prompt or a condition, not both")
        if prompt is not None or negative_prompt is not None:
            if not isinstance(prior, TextPrior):
                raise ValueError("this prior takes no text: give cond= in place of a prompt")
            if prompt is None:
                raise ValueError("a negative prompt needs a prompt beside it")
            cond = prior.encode_text(prompt)
        uncond = None
        if negative_prompt is not None and isinstance(prior, TextPrior):
            uncond = prior.encode_text(negative_prompt)
        self.plain, self.cond = prior, cond
        self.prior = prior if cond is None or guidance == 1 else Guided(prior, guidance, uncond=uncond)
        self.estimator, self.steps, self.accumulate, self.encode = estimator, steps, accumulate, encode
        self.times = Uniform(seed=seed) if times is None else times
        self.rng = torch.Generator().manual_seed(seed)
        self.calls = 0
        self.estimate: Estimate | None = None

    def __call__(
        self,
        images: Float[Tensor, " b *d"],
        source: Float[Tensor, " n *e"] | None = None,
        group: Tensor | None = None,
    ) -> Float[Tensor, ""]:
        """The loss of images, summed over them.

        Args:
            images: in [0, 1], [b, 3, h, w]; samples of the prior with `encode=False`. They keep their dtype.
            source: images that an edit starts from.
            group: group number of each image; coupled estimators keep groups apart.

        Raises:
            ValueError: if the training is over, or the images need no gradient, are none, or have another shape.
        """
        if not isinstance(images, Tensor):
            raise ValueError(f"images must be a tensor, not a {type(images).__name__}")
        if not len(images):
            raise ValueError("there are no images in the batch: give at least one")
        if self.encode and isinstance(self.plain, TextPrior) and (images.ndim < 4 or images.shape[1] != 3):
            raise ValueError(
                f"images must have the shape [b, 3, h, w], not {list(images.shape)}; for samples of the prior, use "
                "encode=False"
            )
        index = self.calls // self.accumulate
        if index >= self.steps:
            raise ValueError(f"the {self.steps} steps of this loss are over: make it with more steps")
        if not images.requires_grad:
            raise ValueError("the images do not depend on parameters: render them with gradients enabled")
        precise = torch.promote_types(images.dtype, torch.float32)
        x = self._samples(images.to(precise))
        start = None if source is None else self._samples(source.to(precise)).detach()
        t = torch.full((len(x),), float(self.times(index, self.steps)), dtype=precise, device=x.device)
        self.estimate = self.estimator(self.prior, Batch(x.detach(), self.cond, start, group=group), t, self.rng)
        self.calls += 1
        grad = self.estimate.grad.detach()
        return (grad * (x - x.detach())).sum() + 0.5 * grad.square().sum()

    def _samples(self, images: Tensor) -> Tensor:
        return self.plain.encode_image(images) if self.encode else images

    def state_dict(self) -> dict[str, Any]:
        """State from which another loss of the same arguments continues."""
        plan = {"steps": self.steps, "accumulate": self.accumulate}
        return {**plan, "calls": self.calls, "rng": self.rng.get_state(), "estimator": self.estimator.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore the state that `state_dict` returned.

        Raises:
            ValueError: if it is of a loss with other steps, or no such state.
        """
        for name, value in {"steps": self.steps, "accumulate": self.accumulate}.items():
            if name not in state or state[name] != value:
                raise ValueError(f"the state is of a loss with {name} {state.get(name)}, not {value}: make it equal")
        self.calls = state["calls"]
        self.rng.set_state(state["rng"])
        self.estimator.load_state_dict(state["estimator"])
