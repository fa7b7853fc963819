r"""Two priors whose samples are made together, each nudged toward the other's predicted clean sample.

A sample of the pair is x = (x_a, x_b), [b, 2, *d]. With the denoisers D_a and D_b and a coupling strength c,

    D_a(x) <- (1 - c) D_a(x_a) + c D_b(x_b),        D_b(x) <- (1 - c) D_b(x_b) + c D_a(x_a),

a gradient step on - |D_a - D_b|^2 / 2 of length c in both. In the noise predictions, for one noise schedule,

    eps_a <- (1 - c) eps_a(x_a) + c eps_b(x_b) + c (x_a - x_b) / sigma_t,

and the same with a and b exchanged. c = 0 leaves the samples independent; with c = 1/2 both predictions are the mean of
the two, so samples agree in the end. The pair is a prior, so that any sampler draws from it and any estimator has a
gradient on it; guidance is linear and may stand inside or outside.

Reference: Coupled diffusion sampling for training-free multi-view image editing (Alzayer et al. 2025),
https://arxiv.org/abs/2510.14981, which couples an editor of images with a multi-view model.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from scoredistill.priors.base import Prior
from scoredistill.priors.conditions import Cond
from scoredistill.schedule import per_sample

SIDES = ("a", "b")


class Coupled(Prior):
    """Two coupled priors of samples of one shape.

    Args:
        prior_a: the first prior, whose noise schedule, times and decoder are those of the pair.
        prior_b: the second; with another noise schedule, it is evaluated at the same noise-to-signal ratio.
        strength: c, from 0 (independent) to 0.5 (both predictions are their mean).

    Raises:
        ValueError: for a strength out of range.
    """

    def __init__(self, prior_a: Prior, prior_b: Prior, strength: float = 0.1):
        if not 0 <= strength <= 0.5:
            raise ValueError(
                f"strength must be from 0 (independent samples) to 0.5 (both take the mean prediction), not {strength}"
            )
        self.prior_a, self.prior_b, self.strength = prior_a, prior_b, float(strength)
        self.schedule = prior_a.schedule
        levels = [prior.schedule(torch.linspace(0, 1, 17, dtype=torch.float64)) for prior in (prior_a, prior_b)]
        self._same = all(torch.allclose(one, other) for one, other in zip(*levels, strict=True))

    def facts(self) -> dict[str, object]:
        return {"prior_a": self.prior_a, "prior_b": self.prior_b, "strength": self.strength}

    @staticmethod
    def pair(x_a: Float[Tensor, " b *d"], x_b: Float[Tensor, " b *d"]) -> Float[Tensor, " b 2 *d"]:
        """Samples of both priors as samples of the pair."""
        return torch.stack([x_a, x_b], 1)

    @staticmethod
    def cond(cond_a: Cond | None, cond_b: Cond | None) -> Cond | None:
        """Conditions of both priors as one of the pair; None for unconditional priors."""
        sides = zip(SIDES, (cond_a, cond_b), strict=True)
        return {f"{side}.{name}": v for side, each in sides for name, v in (each or {}).items()} or None

    def null(self, cond: Cond) -> Cond:
        given = [self._side(side, cond) for side in SIDES]
        parts = [
            None if each is None else prior.null(each)
            for prior, each in zip((self.prior_a, self.prior_b), given, strict=True)
        ]
        return self.cond(*parts) or {}

    def eps(
        self, x_t: Float[Tensor, " b 2 *d"], t: Float[Tensor, " b"], cond: Cond | None = None
    ) -> Float[Tensor, " b 2 *d"]:
        alpha, sigma = (per_sample(c, x_t[:, 0]) for c in self.schedule(t))
        conds = [self._side(side, cond) for side in SIDES]
        eps_a = self.prior_a.eps(x_t[:, 0], t, conds[0])
        if self._same:
            eps_b = self.prior_b.eps(x_t[:, 1], t, conds[1])
        else:
            eps_b = (x_t[:, 1] - alpha * self._denoised_b(x_t[:, 1], t, conds[1])) / sigma
        apart = self.strength * (x_t[:, 0] - x_t[:, 1]) / sigma
        return self._mixed(eps_a, eps_b) + self.pair(apart, -apart)

    def denoise(
        self, x_t: Float[Tensor, " b 2 *d"], t: Float[Tensor, " b"], cond: Cond | None = None
    ) -> Float[Tensor, " b 2 *d"]:
        conds = [self._side(side, cond) for side in SIDES]
        return self._mixed(self.prior_a.denoise(x_t[:, 0], t, conds[0]), self._denoised_b(x_t[:, 1], t, conds[1]))

    def times(self, steps: int) -> Float[Tensor, "{steps} 2"]:
        return self.prior_a.times(steps)

    def encode_image(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, " b 2 *d"]:
        """Encode images by both priors: the pair of one image seen by both."""
        return self.pair(self.prior_a.encode_image(images), self.prior_b.encode_image(images))

    def decode(self, x: Float[Tensor, " b 2 *d"]) -> Tensor:
        """Decode the samples of the first prior."""
        return self.prior_a.decode(x[:, 0])

    def _mixed(self, of_a: Tensor, of_b: Tensor) -> Tensor:
        """((1 - c) a + c b, (1 - c) b + c a)."""
        toward = self.strength * (of_b - of_a)
        return self.pair(of_a + toward, of_b - toward)

    def _denoised_b(self, x_b: Tensor, t: Tensor, cond: Cond | None) -> Tensor:
        if self._same:
            return self.prior_b.denoise(x_b, t, cond)
        alpha, sigma = self.schedule(t)
        t_b = self.prior_b.schedule.time_of(sigma / alpha)
        alpha_b, sigma_b = self.prior_b.schedule(t_b)
        scale = torch.hypot(alpha_b, sigma_b) / torch.hypot(alpha, sigma)  # alpha_b / alpha, also where alpha is 0
        return self.prior_b.denoise(per_sample(scale, x_b) * x_b, t_b, cond)

    @staticmethod
    def _side(side: str, cond: Cond | None) -> Cond | None:
        """The condition of one of the priors.

        Raises:
            ValueError: for names that belong to neither.
        """
        if other := [name for name in cond or {} if name.partition(".")[0] not in SIDES]:
            raise ValueError(f"the condition {other[0]!r} belongs to neither prior: join conditions by Coupled.cond")
        return {name.partition(".")[2]: v for name, v in (cond or {}).items() if name.startswith(f"{side}.")} or None
