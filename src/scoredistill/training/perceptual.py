r"""Losses on the features of EfficientNet-lite0 (`metrics.efficientnet`), a classifier of photographs.

perceptual    mean over stages and places of  |f / |f| - g / |g||^2,  f, g the features of an image and of its
              reconstruction along the channels, as in LPIPS (Zhang et al. 2018), https://arxiv.org/abs/1801.03924
alignment     1 - mean over places of cos(h(z), f),  h a small network that is used in training only: features of a
              denoiser (REPA, Yu et al. 2024, https://arxiv.org/abs/2410.06940) or the latents of an autoencoder
              (Yao et al. 2025, https://arxiv.org/abs/2501.01423) learn what a classifier sees in the clean image
"""

from __future__ import annotations

import copy
from functools import cache

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from scoredistill.metrics.efficientnet import STAGES, EfficientNet, efficientnet

STAGES_OF_DETAIL = (1, 2, 3)
"""Stages of the perceptual loss, at 1/2, 1/4 and 1/8 of the resolution."""
MEANING, MEANING_CHANNELS = 7, STAGES[6][1]
"""The stage of the alignment of denoisers, at 1/32 of the resolution, and its channels."""
LAYOUT, LAYOUT_CHANNELS = 5, STAGES[4][1]
"""The stage of the alignment of latents, at 1/16 of the resolution, and its channels."""

Images = Float[Tensor, "b 3 h w"]


@cache
def classifier(device: torch.device) -> EfficientNet:
    """EfficientNet-lite0 on a device.

    Raises:
        MissingExtra: if its weights are not installed.
    """
    copied = copy.deepcopy(efficientnet())
    copied.network.to(device)
    return copied


def perceptual_distance(image: Images, other: Images) -> Float[Tensor, ""]:
    """The perceptual loss of images in [0, 1], differentiable in the second."""
    network = classifier(image.device)
    with torch.no_grad():
        wanted = network.maps(image, STAGES_OF_DETAIL)
    found = network.maps(other, STAGES_OF_DETAIL)
    distances = [(unit(f.float()) - unit(g.float())).square().sum(1).mean() for f, g in zip(wanted, found, strict=True)]
    return torch.stack(distances).mean()


def unit(features: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
    """Features of length 1 along the channels; a small constant keeps noise of uniform regions from being amplified."""
    return features / (features.square().sum(1, keepdim=True) + 1e-2).sqrt()


@torch.no_grad()
def features(image: Images, stage: int) -> Float[Tensor, "b c p q"]:
    """Features of images in [0, 1] at a stage, the target of an alignment."""
    return classifier(image.device).maps(image, [stage])[0]


def alignment_head(channels: int, features: int, hidden: int = 256) -> nn.Module:
    """The network h: two convolutions, [b, channels, p, q] -> [b, features, p, q]."""
    return nn.Sequential(nn.Conv2d(channels, hidden, 3, padding=1), nn.SiLU(), nn.Conv2d(hidden, features, 1))


def misalignment(predicted: Float[Tensor, "b c h w"], wanted: Float[Tensor, "b c p q"]) -> Float[Tensor, ""]:
    """The alignment loss, in [0, 2]; predictions of a finer resolution are averaged."""
    predicted = functional.adaptive_avg_pool2d(predicted, (wanted.shape[-2], wanted.shape[-1]))
    return 1 - functional.cosine_similarity(predicted.float(), wanted.float(), dim=1).mean()
