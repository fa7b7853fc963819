"""Diffusers pipelines as priors, by hub name, by folder or as ready objects: `load_prior`."""

from scoredistill.pretrained import BUNDLED, bundled_folder, quietly
from scoredistill.priors.pipelines.base import PipelinePrior
from scoredistill.priors.pipelines.load import load_prior, prior_folder

__all__ = ["BUNDLED", "PipelinePrior", "bundled_folder", "load_prior", "prior_folder", "quietly"]
