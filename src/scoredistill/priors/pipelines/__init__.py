"""Diffusers pipelines as priors: `load_prior` takes a hub name, a directory or a pipeline object."""

from scoredistill.pretrained import BUNDLED, bundled_folder, quietly
from scoredistill.priors.pipelines.base import NetworkPrior, PipelinePrior
from scoredistill.priors.pipelines.load import load_prior, prior_folder
from scoredistill.priors.pipelines.recorded import RecordedPrior

__all__ = [
    "BUNDLED",
    "NetworkPrior",
    "PipelinePrior",
    "RecordedPrior",
    "bundled_folder",
    "load_prior",
    "prior_folder",
    "quietly",
]
