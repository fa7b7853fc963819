"""Inception v3 features, in which FID and KID are usually computed.

The network is that of torch-fidelity (which requires torchvision) and downloads its weights when it is first created;
nothing else in this library needs it. With its features, `frechet_distance` is the FID of the literature.

Reference: FID (Heusel et al. 2017), https://arxiv.org/abs/1706.08500.
"""

from functools import cache
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from scoredistill.optional import MissingExtra


class Inception:
    """Pooled features of Inception v3 as converted from TensorFlow.

    Args:
        network: torch-fidelity's `FeatureExtractorInceptionV3` with the feature "2048".
    """

    def __init__(self, network: Any):
        self.network = network

    @torch.no_grad()
    def image_features(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 2048"]:
        """Features of images in [0, 1], converted to 8 bits per channel; the network resizes them itself."""
        pixels = (images.clamp(0, 1) * 255).round().to(torch.uint8)
        (features,) = self.network(pixels)
        return features.float().flatten(1)


@cache
def inception() -> Inception:
    """The Inception network with its own weights, loaded once.

    Raises:
        MissingExtra: if torch-fidelity is not installed.
        ValueError: if the weights can be neither found nor downloaded.
    """
    try:
        from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
    except ImportError as error:
        raise MissingExtra(f"Inception features need torch-fidelity ({error}): pip install torch-fidelity") from error
    try:
        return Inception(FeatureExtractorInceptionV3("inception-v3-compat", ["2048"]))
    except OSError as error:
        raise ValueError(
            f"the weights of Inception could not be downloaded ({error}): connect to the internet once"
        ) from error
