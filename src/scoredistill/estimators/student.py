r"""Variational score distillation: a student learns the score of the particles' own distribution.

    grad = w(t) [ eps_p(x_t, t, c) - eps_q(x_t, t, c) ]
    student:  minimize  E | eps_q(x_t, t, c) - n |^2 + gamma E | eps_q - eps_p |^2      over x among the particles

With the particles' exact score the gradient vanishes iff their distribution is the prior's: unlike SDS, whose reference
n is the score of a single point, it has the whole distribution as its fixed point, given enough particles. Prior and
student are evaluated at the same x_t.

A condition named by `view` (a camera) is for the student alone. eta mixes in the student without it,
(1 - eta) eps_q(c, view) + eta eps_q(c), as in ESD. gamma pulls the student towards the prior: at the optimum
eps_q - eps_p shrinks by 1 / (1 + gamma), so that gamma = -.75, as in adversarial distillation, makes it four times as
large; gamma <= -1 has no optimum.

References: ProlificDreamer (VSD; Wang et al. 2023), https://arxiv.org/abs/2305.16213; Taming mode collapse in score
distillation (ESD; Wang et al. 2024), https://arxiv.org/abs/2401.00909; Adversarial score distillation (Wei et al.
2023), https://arxiv.org/abs/2312.00739.
"""

from collections.abc import Iterator
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from scoredistill.estimators.base import Batch, Estimate, Estimator
from scoredistill.priors.base import Prior
from scoredistill.priors.conditions import Cond, expand_cond
from scoredistill.priors.students import student_of
from scoredistill.rng import Rng, draw_noise
from scoredistill.schedule import Weight, per_sample, perturb, weight_at

VIEW_DROPOUT = 0.1  # fraction of the student's training without its view


class Student(Estimator):
    """Difference of the predictions of prior and student, grad = w (eps_p - eps_q); the student trains during the run.

    Args:
        student: a prior with `parameters()`, or a fixed one (with updates=0). By default `priors.students.student_of`
            makes one at the first step.
        weight: w, as for `Residual`.
        lr: learning rate of the student's Adam.
        updates: training steps of the student before each gradient; they evaluate the student, not the prior.
        repeat: draws of time and noise per particle in a training step.
        eta: weight of the student's prediction without the view, in [0, 1].
        gamma: pull of the student towards the prior, above -1; unless it is 0, each training row costs one evaluation
            of the prior.
        times: range (lo, hi) of t in training.
        view: name of the entry of the condition that only the student receives.

    Raises:
        ValueError: for arguments out of range. When called: if the student has no parameters and updates > 0.
    """

    def __init__(
        self,
        student: Prior | None = None,
        weight: Weight = "sigma2",
        lr: float = 1e-3,
        updates: int = 1,
        repeat: int = 1,
        eta: float = 0.0,
        gamma: float = 0.0,
        times: tuple[float, float] = (0.02, 0.98),
        view: str = "view",
    ):
        if not 0 <= eta <= 1:
            raise ValueError(f"eta must lie in [0, 1], not {eta}")
        if not gamma > -1:
            raise ValueError(f"gamma must be above -1, not {gamma}: below, the student has no optimum")
        if updates < 0 or repeat < 1:
            raise ValueError(f"updates must be at least 0 and repeat at least 1, not {updates} and {repeat}")
        if not 0 <= times[0] < times[1] <= 1:
            raise ValueError(f"times must be (lo, hi) with 0 <= lo < hi <= 1, not {times}")
        self.student, self.weight, self.lr, self.updates, self.repeat = student, weight, lr, updates, repeat
        self.eta, self.gamma, self.times, self.view = eta, gamma, times, view
        self._optimizer: torch.optim.Optimizer | None = None
        self._waiting: dict[str, Any] | None = None

    def __call__(self, prior: Prior, batch: Batch, t: Float[Tensor, " b"], rng: Rng = None) -> Estimate:
        student = self._ready(prior, batch.x)
        cond, own = self._split(None if batch.cond is None else expand_cond(batch.cond, len(batch.x)))
        loss = torch.zeros(())
        for _ in range(self.updates):
            loss = self._learn(prior, student, batch.x, cond, own, rng)
        with torch.no_grad():
            x_t = perturb(prior.schedule, batch.x, t, draw_noise(batch.x, rng))
            seen = student.eps(x_t, t, own)
            if self.eta and own is not cond:
                seen = (1 - self.eta) * seen + self.eta * student.eps(x_t, t, self._without_view(own))
            weight = per_sample(weight_at(self.weight, prior.schedule, t), x_t)
            return Estimate(weight * (prior.eps(x_t, t, cond) - seen), loss, {"student": loss})

    def state_dict(self) -> dict[str, Any]:
        if self.student is None or self._optimizer is None:
            return {}
        weights = {str(i): p.detach().clone() for i, p in enumerate(_parameters(self.student))}
        return {"weights": weights, "optimizer": self._optimizer.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._waiting = state or None  # until the student is made, at the first step

    def _ready(self, prior: Prior, x: Tensor) -> Prior:
        if self.student is None:
            self.student = student_of(prior, x)
        parameters = list(_parameters(self.student))
        if self.updates and not parameters:
            raise ValueError("this student has no parameters to train: pass one that has, or updates=0")
        if self._optimizer is None and parameters:
            self._optimizer = torch.optim.Adam(parameters, lr=self.lr, betas=(0.9, 0.99))
        if self._waiting is not None and self._optimizer is not None:
            with torch.no_grad():
                for i, p in enumerate(parameters):
                    p.copy_(self._waiting["weights"][str(i)])
            self._optimizer.load_state_dict(self._waiting["optimizer"])
            self._waiting = None
        return self.student

    def _learn(self, prior: Prior, student: Prior, x: Tensor, cond: Cond | None, own: Cond | None, rng: Rng) -> Tensor:
        """One step of denoising score matching on the particles; its loss."""
        assert self._optimizer is not None
        losses = []
        for _ in range(self.repeat):
            lo, hi = self.times
            t = lo + (hi - lo) * _uniform(x, rng)
            noise = draw_noise(x, rng)
            x_t = perturb(student.schedule, x, t, noise)
            shown = own
            if own is not None and own is not cond:
                kept = (_uniform(x, rng) >= VIEW_DROPOUT).to(own[self.view])
                shown = {**own, self.view: per_sample(kept, own[self.view]) * own[self.view]}
            with torch.enable_grad():
                guess = student.eps(x_t, t, shown)
                loss = (guess - noise).square().mean()
                if self.gamma:
                    with torch.no_grad():
                        teacher = prior.eps(x_t, t, cond)
                    loss = loss + self.gamma * (guess - teacher).square().mean()
            losses.append(loss)
        with torch.enable_grad():
            total = torch.stack(losses).mean()
        self._optimizer.zero_grad(set_to_none=True)
        total.backward()
        self._optimizer.step()
        return total.detach()

    def _split(self, cond: Cond | None) -> tuple[Cond | None, Cond | None]:
        """The prior's condition and the student's."""
        if cond is None or self.view not in cond:
            return cond, cond
        return {name: value for name, value in cond.items() if name != self.view} or None, cond

    def _without_view(self, cond: Cond | None) -> Cond:
        assert cond is not None
        return {**cond, self.view: torch.zeros_like(cond[self.view])}


def _parameters(student: Prior) -> Iterator[torch.nn.Parameter]:
    return (p for p in getattr(student, "parameters", lambda: [])() if p.requires_grad)


def _uniform(x: Tensor, rng: Rng) -> Tensor:
    """A uniform number per particle, from the particle's own generator if it has one."""
    one = x.flatten(1)[:, :1] if x[0].numel() else x.reshape(len(x), 1)
    return 0.5 * (1 + torch.erf(draw_noise(one, rng)[:, 0] / 2**0.5))
