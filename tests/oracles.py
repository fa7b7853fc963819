"""Priors whose scores are known exactly, for tests."""

import torch

from scoredistill.priors import GaussianMixture


def gaussian(mean: torch.Tensor, variance: float, schedule=None) -> GaussianMixture:
    """One isotropic Gaussian as a prior."""
    return GaussianMixture(mean[None], torch.tensor([variance], dtype=mean.dtype), schedule=schedule)
