"""The autoencoder, diffusers' `AutoencoderKL`: images to 16x16 latents and back.

Images of 128 pixels become 16x16x8 latents (f8), images of 64 pixels 16x16x4 (f4). The loss, with D the decoded sample
of the posterior q(z | x), is

    E|D - x| + w_g E|grad D - grad x| + w_p P(D, x) + w_a A(z, x) + w_kl KL(q(z | x) || N(0, 1)) / dim z,

where grad is the finite difference along both axes, which keeps outlines sharp, P the perceptual loss and A the
alignment loss of `training.perceptual`, each on half of a batch. `scaling_factor` scales latents to standard
deviation 1.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL
from jaxtyping import Float, UInt8
from numpy.typing import NDArray
from torch import Tensor, nn

from scoredistill.datasets import photographs
from scoredistill.datasets.emoji import Emoji
from scoredistill.files import write_json
from scoredistill.training import compose, perceptual
from scoredistill.training.loop import Plan, Run, train

PHOTOGRAPHS = 4096
"""Number of photograph crops from which batches are drawn."""
CROPPED = 0.8
"""Fraction of the training in which crops are seen instead of whole images, if the training uses crops."""
SHAPES = {64: ((16, 32, 64), 4), 128: ((16, 16, 48, 96), 8)}
"""Side of the images -> widths at each resolution, and channels of the latents."""

SCALING = "scaling_factor.json"
"""File with the scaling factor of a finished run."""

Images = Float[Tensor, "b 3 h w"]


@dataclass(frozen=True)
class Weights:
    """Weights of the loss.

    Attributes:
        gradient, perceptual, alignment, kl: w_g, w_p, w_a and w_kl.
    """

    gradient: float = 0.5
    perceptual: float = 0.0
    alignment: float = 0.0
    kl: float = 2e-4


class Encoding(nn.Module):
    """The networks in training: the autoencoder, and the head of the alignment loss, if there is one."""

    def __init__(self, autoencoder: AutoencoderKL, aligned: bool = False) -> None:
        super().__init__()
        self.autoencoder = autoencoder
        channels = autoencoder.config.latent_channels
        self.head = perceptual.alignment_head(channels, perceptual.LAYOUT_CHANNELS) if aligned else None


def build(size: int = 128, widths: tuple[int, ...] | None = None, seed: int = 0) -> AutoencoderKL:
    """An untrained autoencoder.

    Args:
        size: side of the images, 64 or 128.
        widths: channels at each resolution, each half the one before; those of `SHAPES` by default.
        seed: of the weights.
    """
    torch.manual_seed(seed)
    known, channels = SHAPES[size]
    widths = widths or known
    return AutoencoderKL(
        block_out_channels=widths,
        down_block_types=("DownEncoderBlock2D",) * len(widths),
        up_block_types=("UpDecoderBlock2D",) * len(widths),
        layers_per_block=1,
        latent_channels=channels,
        norm_num_groups=8,
        sample_size=size,
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


def cropped(image: Images, side: int, rng: torch.Generator) -> Float[Tensor, "b 3 s s"]:
    """A random square crop of each image."""
    n, _, height, width = image.shape
    top = torch.randint(height - side + 1, (n,), generator=rng)[:, None] + torch.arange(side)
    left = torch.randint(width - side + 1, (n,), generator=rng)[:, None] + torch.arange(side)
    rows = torch.arange(n)[:, None, None]
    return image.movedim(1, 3)[rows, top[:, :, None], left[:, None, :]].movedim(3, 1).contiguous()


def differences(image: Images) -> tuple[Tensor, Tensor]:
    """Finite differences down and across."""
    return image[..., 1:, :] - image[..., :-1, :], image[..., :, 1:] - image[..., :, :-1]


def loss_of(networks: Encoding, image: Images, rng: torch.Generator, weights: Weights = Weights()) -> Float[Tensor, ""]:
    """The loss of the module for one batch of images in [0, 1]."""
    network, x = networks.autoencoder, 2 * image - 1
    posterior = network.encode(x).latent_dist
    noise = torch.randn(posterior.mean.shape, generator=rng).to(x.device)
    latent = posterior.mean + posterior.std * noise
    decoded = network.decode(latent).sample.float()
    edges = sum((a - b).abs().mean() for a, b in zip(differences(decoded), differences(x), strict=True))
    kl = posterior.kl().float().mean() / posterior.mean[0].numel()
    loss = (decoded - x).abs().mean() + weights.gradient * edges + weights.kl * kl
    if weights.perceptual:
        loss = loss + weights.perceptual * perceptual.perceptual_distance(image[::2], decoded[::2] / 2 + 0.5)
    if networks.head is not None:
        wanted = perceptual.features(image[::2], perceptual.LAYOUT)
        loss = loss + weights.alignment * perceptual.misalignment(networks.head(latent[::2]), wanted)
    return loss


@torch.no_grad()
def reconstruct(network: AutoencoderKL, image: Images) -> Images:
    """Encode and decode images in [0, 1]."""
    parts = [network.decode(network.encode(2 * x - 1).latent_dist.mode()).sample for x in image.split(64)]
    return (torch.cat(parts) / 2 + 0.5).clamp(0, 1)


@torch.no_grad()
def set_scaling_factor(network: AutoencoderKL, image: Images) -> float:
    """Set `scaling_factor` so that scaled latents of `image` have standard deviation 1, and return it."""
    factor = 1 / float(network.encode(2 * image - 1).latent_dist.mode().std())
    network.register_to_config(scaling_factor=factor)
    return factor


def sample_grid(image: Images, device: str) -> Callable[[Any, Path], None]:
    """A function that saves a grid of images above their reconstructions."""

    def draw(networks: Any, path: Path) -> None:
        again = reconstruct(networks.autoencoder, image.to(device)).cpu()
        compose.image_grid(torch.cat([image, again]), len(image)).save(path)

    return draw


def held_out_images(emoji: Emoji, each: int) -> Images:
    """About `each` held-out emoji on white, and `each` crops of held-out photographs, at the size of the emoji."""
    held = emoji.select(emoji.held_out).rgba
    alone = compose.over(compose.premultiplied(held[:: max(1, len(held) // each)][:each]), torch.ones(1, 3, 1, 1))
    size = emoji.rgba.shape[1]
    return torch.cat([alone, photographs.as_images(photographs.crops(photographs.HELD_OUT, each, size))])


def train_autoencoder(
    emoji: Emoji,
    plan: Plan,
    folder: Path,
    device: str = "cpu",
    start: AutoencoderKL | None = None,
    weights: Weights = Weights(),
    decoder_only: bool = False,
    crop: int | None = None,
) -> AutoencoderKL:
    """Train the autoencoder, resuming from the checkpoint in `folder` if there is one.

    Args:
        emoji: the data set, whose size is that of the images; held-out images are only shown in the sample grid.
        plan: duration and rates.
        folder: of the checkpoint, log and sample grid.
        device: to train on.
        start: initial network, which is copied; a random one by default. If the plan trains no step, it keeps its
            scaling factor.
        weights: of the loss.
        decoder_only: keep the encoder and the scaling factor, so that networks trained on its latents stay valid.
        crop: side of random crops that are seen for the first `CROPPED` of the training, a multiple of 32; the network
            is convolutional, so a crop costs its share of the whole image. By default, whole images are seen.

    Returns:
        The averaged network, with its scaling factor set.
    """
    seen, size = emoji.train, emoji.rgba.shape[1]
    networks = Encoding(copy.deepcopy(start) or build(size), weights.alignment > 0 and not decoder_only)
    if decoder_only:
        networks.autoencoder.encoder.requires_grad_(False)
        networks.autoencoder.quant_conv.requires_grad_(False)
    run = Run(networks, plan, folder, device)
    network = run.average.autoencoder
    if start is not None and run.step == 0 and run.progress >= 1:
        return network
    if run.progress >= 1 and (known := scaling_factor_of(folder, run.step)) is not None:
        network.register_to_config(scaling_factor=known)
        return network
    photos = photographs.crops(photographs.TRAIN, PHOTOGRAPHS, size)

    def loss(networks: Any, rng: torch.Generator) -> Tensor:
        batch = images(seen, photos, plan.batch, rng)
        if crop is not None and run.progress < CROPPED:
            batch = cropped(batch, crop, rng)
        return loss_of(networks, batch.to(device), rng, weights)

    draw, held = sample_grid(held_out_images(emoji, 8), device), held_out_images(emoji, 64).to(device)

    def measure(networks: Any) -> float:
        return float((reconstruct(networks.autoencoder, held) - held).abs().mean())

    train(run, loss, draw, "autoencoder", measure)
    if not decoder_only:
        set_scaling_factor(network, images(seen, photos, 256, torch.Generator().manual_seed(0)).to(device))
    write_json(folder / SCALING, {"step": run.step, "scaling_factor": network.config.scaling_factor})
    return network


def scaling_factor_of(folder: Path, step: int) -> float | None:
    """The scaling factor at a step of a run, if it is known."""
    if not (folder / SCALING).exists():
        return None
    known = json.loads((folder / SCALING).read_text())
    return known["scaling_factor"] if known["step"] == step else None
