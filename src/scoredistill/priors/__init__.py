"""Diffusion models as score functions, and their wrappers. For diffusers pipelines see `scoredistill.load_prior`."""

from scoredistill.priors.base import Prior
from scoredistill.priors.conditions import Cond
from scoredistill.priors.counted import Counted
from scoredistill.priors.coupled import Coupled
from scoredistill.priors.empirical import Empirical
from scoredistill.priors.guidance import Guided, ImageGuided, PerpNeg
from scoredistill.priors.guiders import GuidedBy
from scoredistill.priors.many_answers import ManyAnswers
from scoredistill.priors.mixture import GaussianMixture
from scoredistill.priors.network import NetworkPrior

__all__ = [
    "Cond",
    "Counted",
    "Coupled",
    "Empirical",
    "GaussianMixture",
    "Guided",
    "GuidedBy",
    "ImageGuided",
    "ManyAnswers",
    "NetworkPrior",
    "PerpNeg",
    "Prior",
]
