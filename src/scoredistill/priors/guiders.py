r"""Guidance by the guiders of diffusers, such as adaptive projected, skip-layer or perturbed-attention guidance.

A guider asks for the outputs of the network under some conditions, some of them with parts of the network switched off,
and combines them:

    F = guider(F_c, F_0, ...),        F the network's output: noise, clean sample, v or velocity

It may act in a part of the sampler's steps only. The step of time t is the first of the pipeline's own sampler that is
not noisier. A modular pipeline evaluates the guider by its own blocks, so that what these do besides is in the
prediction too.
"""

import copy
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from scoredistill.priors.base import JointPrior, Prior, PriorWrapper
from scoredistill.priors.conditions import Cond, cat_conds, check_cond, expand_cond, replaced
from scoredistill.priors.guidance import NonlinearGuidance
from scoredistill.priors.predictions import PREDICTIONS, from_prediction, to_prediction
from scoredistill.schedule import per_sample

CLOSE = 1e-6  # of times


class GuidedBy(NonlinearGuidance, JointPrior):
    """Guidance by a guider of diffusers.

    Conditions are evaluated in one call of the network; in several for a guider that changes the network, and by the
    blocks of a modular pipeline, where all rows of a call have one time.

    Args:
        prior: the prior to guide, with its network for guiders that switch off parts of it.
        guider: the guider; by default that of the prior's pipeline. It is copied.
        steps: number of sampler steps, at least 1, of which a guider's `start` and `stop` are fractions.
        uncond: the unconditional or a negative condition; by default the prior's own (`Prior.null`). It replaces the
            entries of the condition that it names.

    Attributes:
        guider: the copy.

    Raises:
        ValueError: if there is no guider, or one that needs more than these predictions. When evaluated: without a
            condition.
    """

    def __init__(self, prior: Prior, guider: Any = None, steps: int = 50, uncond: Cond | None = None):
        super().__init__(prior)
        check_cond(uncond, "uncond")
        if steps < 1:
            raise ValueError(f"steps must be at least 1, not {steps}")
        self.model = _model(prior)
        given = getattr(getattr(self.model, "pipeline", None), "guider", None) if guider is None else guider
        if given is None:
            raise ValueError("the prior's pipeline has no guider: give one, such as ClassifierFreeGuidance(7.5)")
        _check_guider(given)
        self.guider, self.steps, self.uncond = copy.copy(given), int(steps), uncond
        self.changes = _changes_network(given)
        if self.changes and not isinstance(getattr(self.model, "network", None), torch.nn.Module):
            raise ValueError(
                f"{type(given).__name__} switches off parts of a network, and {type(self.model).__name__} has none: "
                "use it with a prior of load_prior"
            )
        loop = getattr(prior, "guided_loop", None)
        self._loop = None if loop is None else loop(None if guider is None else self.guider)
        if self._loop is None:
            _check_predictions(given)

    def facts(self) -> dict[str, object]:
        return {**super().facts(), "guider": type(self.guider).__name__, "steps": self.steps}

    @cached_property
    def _kind(self) -> str:
        """What the network's outputs are."""
        kind = getattr(self.model, "parameterization", getattr(self.model, "prediction", "eps"))
        return kind if kind in PREDICTIONS else "v"  # EDM: its output is v, or -v, of scaled samples

    @cached_property
    def _grid(self) -> Tensor:
        return self.prior.times(self.steps)[:, 0].double().cpu()

    def _predict(self, x_t: Tensor, t: Tensor, cond: Cond | None) -> tuple[Tensor, Tensor]:
        check_cond(cond)
        if cond is None:
            raise ValueError("a guided prior needs a condition: pass cond=, or use the prior without GuidedBy")
        out = torch.empty_like(x_t), torch.empty_like(x_t)
        for rows, step in self._groups(t):
            here = {name: value[rows] for name, value in expand_cond(cond, len(x_t)).items()}
            parts = self._predict_step(x_t[rows], t[rows], here, rows, step)
            for whole, part in zip(out, parts, strict=True):
                whole[rows] = part
        return out

    def _groups(self, t: Tensor) -> Iterator[tuple[list[int], int]]:
        """Rows that are guided alike, with their step: of one step and network, or of one time by a loop."""
        groups: dict[Any, list[int]] = {}
        for row, time in enumerate(t.double().tolist()):
            step = min(int((self._grid > time + CLOSE).sum()), self.steps - 1)
            apart = time if self._loop is not None else id(self._network(t[row])) if self.changes else None
            groups.setdefault((step, apart), []).append(row)
        for (step, _), rows in groups.items():
            yield rows, step

    def _predict_step(self, x_t: Tensor, t: Tensor, cond: Cond, rows: list[int], step: int) -> tuple[Tensor, Tensor]:
        uncond = None if self.uncond is None else replaced(cond, _rows_of(self.uncond, rows))
        if self._loop is not None:
            return self.model.predict_guided(self._loop, x_t, t, cond, uncond, step, self.steps)
        sides = {"cond": cond, "uncond": self.prior.null(cond) if uncond is None else uncond}
        out = self._guide(step, x_t, t, sides)
        alpha, sigma = (per_sample(c, x_t) for c in self.schedule(t))
        return from_prediction(self._kind, out, x_t, alpha, sigma)

    def _guide(self, step: int, x_t: Tensor, t: Tensor, sides: dict[str, Cond]) -> Tensor:
        """The guided output of the network for rows of one step."""
        guider = self.guider
        guider.set_state(step=step, num_inference_steps=self.steps, timestep=t[0])
        batches = guider.prepare_inputs({"side": ("cond", "uncond")})
        conds = [expand_cond(sides[batch.side], len(x_t)) for batch in batches]
        if not self.changes:
            for batch, out in zip(batches, self._outputs(x_t, t, conds), strict=True):
                batch.noise_pred = out
            return guider(batches)[0]
        for batch, cond in zip(batches, conds, strict=True):
            network = self._network(t[0])
            guider.prepare_models(network)
            try:
                (batch.noise_pred,) = self._outputs(x_t, t, [cond])
            finally:
                guider.cleanup_models(network)
        return guider(batches)[0]

    def _network(self, t: Tensor) -> Any:
        """The network that is called at a time, of two that divide the times."""
        network = self.model.network
        return (
            network.networks[network.side(self.model.clock.told(t.reshape(1)))]
            if hasattr(network, "networks")
            else network
        )

    def _outputs(self, x_t: Tensor, t: Tensor, conds: Sequence[Cond]) -> Sequence[Tensor]:
        """Outputs of the network for the same samples under several conditions, in one call."""
        n = len(conds)
        x, times, cond = x_t.repeat(n, *[1] * (x_t.ndim - 1)), t.repeat(n), cat_conds(*conds)
        if self._kind == "eps":
            return self.prior.eps(x, times, cond).chunk(n)
        if self._kind == "x0":
            return self.prior.denoise(x, times, cond).chunk(n)
        if isinstance(self.prior, JointPrior):
            x0, eps = self.prior._predict(x, times, cond)
        else:
            x0, eps = self.prior.denoise(x, times, cond), self.prior.eps(x, times, cond)
        alpha, sigma = (per_sample(c, x) for c in self.schedule(times))
        return to_prediction(self._kind, x0, eps, alpha, sigma).chunk(n)


def _model(prior: Prior) -> Any:
    """The prior within all wrappers."""
    while isinstance(prior, PriorWrapper):
        prior = prior.prior
    return prior


def _changes_network(guider: Any) -> bool:
    """Whether a guider switches off parts of the network for some of its predictions."""
    from diffusers.guiders.guider_utils import BaseGuidance  # takes seconds to import

    return type(guider).prepare_models is not BaseGuidance.prepare_models


def _rows_of(cond: Cond, rows: list[int]) -> Cond:
    """Rows of a condition with one row per sample; a condition of one row as it is."""
    return {name: value if len(value) == 1 else value[rows] for name, value in cond.items()}


def _check_guider(guider: Any) -> None:
    """Refuse what is no guider, and momentum.

    Raises:
        ValueError: in one sentence.
    """
    name = guider.__name__ if isinstance(guider, type) else type(guider).__name__
    if isinstance(guider, type) or not all(hasattr(guider, part) for part in ("prepare_inputs", "set_state")):
        raise ValueError(f"guider must be a guider of diffusers, such as ClassifierFreeGuidance(7.5), not {name}")
    if getattr(guider, "adaptive_projected_guidance_momentum", None) is not None:
        raise ValueError(
            f"the momentum of {name} follows a sampler from step to step, and distillation takes times in any order: "
            "set adaptive_projected_guidance_momentum=None"
        )


def _check_predictions(guider: Any) -> None:
    """Refuse guiders that need arguments of their own network.

    Raises:
        ValueError: in one sentence.
    """
    if set(getattr(guider, "_input_predictions", ())) & {"pred_cond_stg", "pred_cond_modality"}:
        raise ValueError(
            f"{type(guider).__name__} needs arguments of its own pipeline's network: use ClassifierFreeGuidance"
        )
