"""Features of the Inception network that the usual FID and KID are computed in.

Heusel et al. 2017, https://arxiv.org/abs/1706.08500. The network comes with torch-fidelity (which brings torchvision)
and fetches its weights when it is first made: for users with a network; nothing else in this library needs it. With
its features, of shape [b, 2048], `frechet_distance` is the FID of the literature.
"""

from functools import cache
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor


class Inception:
    """Pooled features of Inception v3 as converted from TensorFlow.

    Args:
        network: torch-fidelity's `FeatureExtractorInceptionV3` with the feature "2048".
    """

    def __init__(self, network: Any):
        self.network = network

    @torch.no_grad()
    def image_features(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 2048"]:
        """Features of images in [0, 1], of 8 bits a color as the network wants them; it resizes them itself."""
        pixels = (images.clamp(0, 1) * 255).round().to(torch.uint8)
        (features,) = self.network(pixels)
        return features.float().flatten(1)


@cache
def inception() -> Inception:
    """The network with its own weights, loaded once.

    Raises:
        ValueError: torch-fidelity is missing, or the weights cannot be had.
    """
    try:
        from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
    except ImportError as error:
        raise ValueError(f"Inception features need torch-fidelity ({error}): pip install torch-fidelity") from error
    try:
        return Inception(FeatureExtractorInceptionV3("inception-v3-compat", ["2048"]))
    except OSError as error:
        raise ValueError(f"the weights of Inception cannot be had ({error}): a network is needed once") from error
