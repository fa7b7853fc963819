"""Three denoisers of a distribution: the exact one, the ideal one of its samples, and a trained network."""

from collections.abc import Callable

import torch

from scoredistill.datasets.toy2d import toy_set
from scoredistill.priors import Empirical, GaussianMixture, Prior
from scoredistill.priors.network import NetworkConfig, NetworkPrior
from scoredistill.studies.toy2d.methods import EXPLODING
from scoredistill.training.denoiser import cached_denoiser

DENOISERS = ("exact", "ideal", "learned")
SAMPLES, SAMPLES_SEED = 10_000, 77  # the data of the ideal denoiser


def exact(name: str, classes: int = 1) -> GaussianMixture:
    """The distribution as a Gaussian mixture, with exact scores."""
    return toy_set(name, classes, EXPLODING)


def denoiser(
    kind: str, name: str, quick: bool = False, after: Callable[[int, int, float], None] | None = None
) -> Prior:
    """A denoiser of one of the distributions.

    Args:
        kind: "exact", "ideal" (of 10,000 samples) or "learned" (trained once, then cached).
        quick: train the learned denoiser for a seventh of the steps.
        after: called with (step, steps, loss) during training.
    """
    if kind == "exact":
        return exact(name)
    if kind == "ideal":
        rng = torch.Generator().manual_seed(SAMPLES_SEED)
        return Empirical(exact(name).sample(SAMPLES, rng), schedule=EXPLODING)
    if kind != "learned":
        raise ValueError(f"unknown denoiser {kind!r}: use one of {', '.join(DENOISERS)}")
    mixture, config = exact(name), NetworkConfig(dim=2, steps=1500 if quick else 10_000)
    network = cached_denoiser(name, config, lambda n, rng: (mixture.sample(n, rng).float(), None), after=after)
    return NetworkPrior(network, EXPLODING)
