"""Diffusers pipelines as priors, by hub name, by folder or as ready objects: `load_prior`."""

from scoredistill.priors.pipelines.base import PipelinePrior
from scoredistill.priors.pipelines.load import BUNDLED, bundled_folder, load_prior, prior_folder, quietly

__all__ = ["BUNDLED", "PipelinePrior", "bundled_folder", "load_prior", "prior_folder", "quietly"]
