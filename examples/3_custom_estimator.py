"""An estimator of your own: SDS with gradient clipping per particle, checked on a Gaussian and used on images.

    python examples/3_custom_estimator.py [STEPS]    # 150 by default; about half a minute

An estimator is one class with one call; `grad` is a descent direction on the samples. It works with every prior,
generator and wrapper: below it runs behind guidance, on latents, and coupled by `Stein`.
"""

import sys
from dataclasses import dataclass, replace

import torch

from scoredistill import distill, load_prior
from scoredistill.estimators import SDS, Batch, Estimate, Estimator, Stein
from scoredistill.generators import Latents
from scoredistill.media.images import grid, to_pil
from scoredistill.priors import GaussianMixture, Guided
from scoredistill.times import Linear


@dataclass(frozen=True)
class Clipped(Estimator):
    """The base's gradient, its root mean square per particle limited to `largest`."""

    base: Estimator
    largest: float = 0.5

    def __call__(self, prior, batch: Batch, t, rng=None) -> Estimate:
        estimate = self.base(prior, batch, t, rng)
        rms = estimate.grad.flatten(1).square().mean(1).sqrt()
        factor = (self.largest / rms).clamp(max=1.0).view(-1, *[1] * (batch.x.ndim - 1))
        return replace(estimate, grad=factor * estimate.grad)


# An oracle first: on a Gaussian the gradient points to the mean, and its size is limited.
gaussian = GaussianMixture(torch.zeros(1, 2), torch.tensor([0.1]))
batch, t = Batch(torch.full((1000, 2), 3.0)), torch.full((1000,), 0.5)
grad = Clipped(SDS("uniform"))(gaussian, batch, t, torch.Generator().manual_seed(0)).grad
print(f"mean gradient at (3, 3): {[round(g, 2) for g in grad.mean(0).tolist()]}")
assert (grad.mean(0) > 0).all()
assert (grad.square().mean(1).sqrt() <= 0.5 + 1e-6).all()

steps = int(sys.argv[1]) if len(sys.argv) > 1 else 150
prior = load_prior("emoji")
latents = Latents(4, prior.latent_shape, rng=torch.Generator().manual_seed(0))
run = distill(
    latents,
    Guided(prior, 7.5),
    Stein(Clipped(SDS())),
    prior.encode_text("a hamburger"),
    steps=steps,
    times=Linear(0.98, 0.02),
    optimizer=torch.optim.Adam(latents.parameters(), lr=0.03),
    rng=torch.Generator().manual_seed(1),
)
for step in run:
    if step.index % 50 == 0:
        print(f"step {step.index}: gradient norm {step.grad_norm:.4f}")
grid(to_pil(step.images()), columns=4).save("hamburgers.png")
print("hamburgers.png")
