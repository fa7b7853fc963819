"""The autoencoder, diffusers' `AutoencoderKL`: 64x64x3 images to 16x16x4 latents and back.

The loss, with D the decoded sample of the posterior q(z | x), is

    E|D - x| + w_g E|grad D - grad x| + w_kl KL(q(z | x) || N(0, 1)) / dim z,

where grad is the finite difference along both axes, which keeps outlines sharp. `scaling_factor` scales latents to
standard deviation 1.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL
from jaxtyping import Float, UInt8
from numpy.typing import NDArray
from torch import Tensor

from scoredistill.datasets import photographs
from scoredistill.datasets.emoji import Emoji
from scoredistill.training import compose
from scoredistill.training.loop import Plan, Run, train

GRADIENT_WEIGHT = 0.5
KL_WEIGHT = 2e-4
PHOTOGRAPHS = 4096
"""Number of photograph crops from which batches are drawn."""

Images = Float[Tensor, "b 3 h w"]


def build(channels: tuple[int, ...] = (16, 32, 64), seed: int = 0) -> AutoencoderKL:
    """An untrained autoencoder; each width after the first halves the resolution."""
    torch.manual_seed(seed)
    return AutoencoderKL(
        block_out_channels=channels,
        down_block_types=("DownEncoderBlock2D",) * len(channels),
        up_block_types=("UpDecoderBlock2D",) * len(channels),
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=8,
        sample_size=64,
        mid_block_add_attention=False,
        force_upcast=False,
    )


def images(
    emoji: Emoji, photos: UInt8[NDArray, "n h w 3"], size: int, rng: torch.Generator
) -> Float[Tensor, "b 3 h w"]:
    """A batch of `size` images in [0, 1]: half single emoji, a quarter scenes of several emoji, a quarter photographs.

    The backgrounds of scenes are colors and photographs.
    """
    quarter = size // 4
    chosen = torch.randint(len(photos), (2 * quarter,), generator=rng).numpy()
    photo = photographs.as_images(photos[chosen])
    color = compose.random_backgrounds(quarter, 0.3, rng).expand(-1, -1, *photo.shape[2:])
    behind = torch.where(torch.rand(quarter, 1, 1, 1, generator=rng) < 0.5, photo[quarter:], color)
    scene = compose.scenes(emoji.rgba, behind, 3, rng)
    single = size - 2 * quarter
    rgba = compose.premultiplied(emoji.rgba[torch.randint(len(emoji), (single,), generator=rng).numpy()])
    placed = compose.place_at_random(rgba, (0.6, 1.1), 0.2, rng)
    alone = compose.over(placed, compose.random_backgrounds(single, 0.5, rng))
    return torch.cat([alone, scene, photo[:quarter]])


def differences(image: Images) -> tuple[Tensor, Tensor]:
    """Finite differences down and across."""
    return image[..., 1:, :] - image[..., :-1, :], image[..., :, 1:] - image[..., :, :-1]


def loss_of(network: Any, image: Images, rng: torch.Generator) -> Float[Tensor, ""]:
    """The loss of the module for one batch of images in [0, 1]."""
    x = 2 * image - 1
    posterior = network.encode(x).latent_dist
    noise = torch.randn(posterior.mean.shape, generator=rng).to(x.device)
    decoded = network.decode(posterior.mean + posterior.std * noise).sample.float()
    edges = sum((a - b).abs().mean() for a, b in zip(differences(decoded), differences(x), strict=True))
    kl = posterior.kl().float().mean() / posterior.mean[0].numel()
    return (decoded - x).abs().mean() + GRADIENT_WEIGHT * edges + KL_WEIGHT * kl


@torch.no_grad()
def reconstruct(network: AutoencoderKL, image: Images) -> Images:
    """Encode and decode images in [0, 1]."""
    latent = network.encode(2 * image - 1).latent_dist.mode()
    return (network.decode(latent).sample / 2 + 0.5).clamp(0, 1)


@torch.no_grad()
def set_scaling_factor(network: AutoencoderKL, image: Images) -> float:
    """Set `scaling_factor` so that scaled latents of `image` have standard deviation 1, and return it."""
    factor = 1 / float(network.encode(2 * image - 1).latent_dist.mode().std())
    network.register_to_config(scaling_factor=factor)
    return factor


def sample_grid(image: Images, device: str) -> Callable[[Any, Path], None]:
    """A function that saves a grid of images above their reconstructions."""

    def draw(network: Any, path: Path) -> None:
        again = reconstruct(network, image.to(device)).cpu()
        compose.image_grid(torch.cat([image, again]), len(image)).save(path)

    return draw


def train_autoencoder(
    emoji: Emoji, plan: Plan, folder: Path, device: str = "cpu", start: AutoencoderKL | None = None
) -> AutoencoderKL:
    """Train the autoencoder, resuming from the checkpoint in `folder` if there is one.

    Args:
        emoji: the data set; held-out images are only shown in the sample grid.
        plan: duration and rates.
        folder: of the checkpoint, log and sample grid.
        device: to train on.
        start: initial network; a random one by default. If the plan trains no step, it keeps its scaling factor.

    Returns:
        The moving average of the network, with its scaling factor set.
    """
    seen = emoji.train
    run = Run(start or build(), plan, folder, device)
    if start is not None and run.step == 0 and run.progress >= 1:
        return run.average
    photos = photographs.crops(photographs.TRAIN, PHOTOGRAPHS)

    def loss(network: Any, rng: torch.Generator) -> Tensor:
        return loss_of(network, images(seen, photos, plan.batch, rng).to(device), rng)

    held = compose.premultiplied(emoji.select(emoji.held_out).rgba[:: max(1, int(emoji.held_out.sum()) // 8)][:8])
    unseen = photographs.as_images(photographs.crops(photographs.HELD_OUT, 4))
    examples = torch.cat([compose.over(held, torch.ones(1, 3, 1, 1)), unseen])
    network = train(run, loss, sample_grid(examples, device), "autoencoder")
    rng = torch.Generator().manual_seed(0)
    set_scaling_factor(network, images(seen, photos, 256, rng).to(device))
    return network
