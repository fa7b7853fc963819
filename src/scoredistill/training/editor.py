r"""The instruction editor: a UNet conditioned on an instruction and a source image, trained on pairs.

Training continues from the text-to-image model. The UNet reads the latents of the source as further channels, whose
weights start at zero, as in InstructPix2Pix (Brooks et al. 2022, https://arxiv.org/abs/2211.09800). The latents of the
source are the mode of the autoencoder, unscaled. The objective is that of `training.objective`. For guidance with two
scales, conditions are dropped at random:

    text (12 %)     the target is the source itself, since no instruction means no change
    image (5 %)     the source is replaced by zeros
    both (5 %)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL
from jaxtyping import Float
from torch import Tensor
from tqdm import tqdm
from transformers import CLIPTokenizer

from scoredistill.datasets import photographs
from scoredistill.datasets.emoji import Emoji
from scoredistill.training import compose
from scoredistill.training.clip import tokens
from scoredistill.training.loop import Plan, Run, train
from scoredistill.training.objective import Objective
from scoredistill.training.pairs import make_pairs
from scoredistill.training.unet import TextToImage, build_unet, decode

NO_TEXT, NO_IMAGE, NEITHER = 0.12, 0.05, 0.05
"""Probabilities with which the conditions are dropped."""
CROPS = 8192
"""Number of photograph crops from which pairs are made."""
TEXT_SCALE, IMAGE_SCALE = 1.0, 1.0
"""Guidance scales of sample grids, without amplification. Larger text scales exaggerate: no text means no change."""
INSTRUCTIONS = (
    "make it black and white",
    "make it sepia",
    "make it night",
    "make it sunset",
    "invert the colors",
    "turn it into a pencil sketch",
    "pixelate it",
    "make it green",
)
"""Instructions of sample grids."""


@dataclass(frozen=True)
class LatentPairs:
    """Encoded pairs.

    Attributes:
        source, target: latents of the images before and after, float16 [n, c, 16, 16], scaled to standard deviation 1.
        instructions: n instructions.
    """

    source: Float[Tensor, "n c h w"]
    target: Float[Tensor, "n c h w"]
    instructions: list[str]


def widened(network: TextToImage) -> TextToImage:
    """The text-to-image model as an untrained editor, which ignores the source: its channels have zero weights."""
    plain, channels = network.unet, network.unet.config["out_channels"]
    unet = build_unet(tuple(plain.config["block_out_channels"]), channels=channels, inputs=2 * channels)
    weights = plain.state_dict()
    known = weights["conv_in.weight"]
    weights["conv_in.weight"] = torch.cat([known, torch.zeros_like(known)], 1)
    unet.load_state_dict(weights)
    return TextToImage(unet, network.text_encoder)


@torch.no_grad()
def latents(autoencoder: AutoencoderKL, images: Float[Tensor, "n 3 h w"], device: str) -> Float[Tensor, "n c p q"]:
    """Scaled latents of images in [0, 1]."""
    with torch.autocast(device, torch.bfloat16):
        mode = autoencoder.encode(2 * images.to(device) - 1).latent_dist.mode()
    return mode.float().cpu() * autoencoder.config.scaling_factor


def encode(emoji: Emoji, autoencoder: AutoencoderKL, n: int, device: str = "cpu", seed: int = 0) -> LatentPairs:
    """Make and encode n random pairs."""
    rng = torch.Generator().manual_seed(seed)
    photos = photographs.crops(photographs.TRAIN, CROPS, emoji.rgba.shape[1])
    source, target, instructions = [], [], []
    for start in tqdm(range(0, n, 128), desc="encode", unit="batch", mininterval=1.0):
        pairs = make_pairs(emoji, photos, min(128, n - start), rng)
        source.append(latents(autoencoder, pairs.source, device).half())
        target.append(latents(autoencoder, pairs.target, device).half())
        instructions += pairs.instructions
    return LatentPairs(torch.cat(source), torch.cat(target), instructions)


def dropped(
    data: LatentPairs, chosen: Tensor, rng: torch.Generator
) -> tuple[Float[Tensor, "b c h w"], Float[Tensor, "b c h w"], list[str]]:
    """(target, source, instructions) of a batch, with conditions dropped as described in the module."""
    source, target = data.source[chosen].float(), data.target[chosen].float()
    texts = [data.instructions[int(row)] for row in chosen]
    u = torch.rand(len(chosen), generator=rng)
    textless, blind = u < NO_TEXT + NEITHER, (u >= NO_TEXT) & (u < NO_TEXT + NEITHER + NO_IMAGE)
    unchanged = (u < NO_TEXT)[:, None, None, None]
    target = torch.where(unchanged, source, target)
    return (
        target,
        source * ~blind[:, None, None, None],
        ["" if gone else text for gone, text in zip(textless, texts, strict=True)],
    )


@torch.no_grad()
def sample(
    network: TextToImage,
    tokenizer: CLIPTokenizer,
    source: Float[Tensor, "b c h w"],
    instructions: list[str],
    steps: int = 20,
    seed: int = 0,
    objective: Objective = Objective(),
) -> Float[Tensor, "b c h w"]:
    """Latents edited by DDIM with text and image guidance; `source` is unscaled."""
    n, device = len(source), next(network.parameters()).device
    ids = tokens(tokenizer, [*instructions, *[""] * (2 * n)], padding="max_length").to(device)
    words = network.text_encoder(input_ids=ids).last_hidden_state
    beside = torch.cat([source, source, torch.zeros_like(source)])

    def guided(z: Tensor, time: Tensor) -> Tensor:
        out = network.unet(torch.cat([z.repeat(3, 1, 1, 1), beside], 1), time, words).sample
        full, textless, nothing = out.chunk(3)
        return nothing + IMAGE_SCALE * (textless - nothing) + TEXT_SCALE * (full - textless)

    noise = torch.randn(source.shape, generator=torch.Generator().manual_seed(seed)).to(device)
    return objective.sample(guided, noise, steps)


def sample_grid(
    autoencoder: AutoencoderKL,
    tokenizer: CLIPTokenizer,
    images: Float[Tensor, "n 3 h w"],
    device: str,
    objective: Objective = Objective(),
) -> Callable[[Any, Path], None]:
    """A function that saves a grid of held-out images and their edits by every instruction."""

    def draw(network: Any, path: Path) -> None:
        columns = len(INSTRUCTIONS) + 2
        texts = ["", *INSTRUCTIONS] * len(images)
        with torch.no_grad():
            mode = autoencoder.encode(2 * images.to(device) - 1).latent_dist.mode()
            z = sample(network, tokenizer, mode.repeat_interleave(columns - 1, 0), texts, steps=10, objective=objective)
        edited = decode(autoencoder, z).cpu()
        rows = torch.cat([images[:, None], edited.unflatten(0, (len(images), columns - 1))], 1)
        labels = ["source", "nothing", *INSTRUCTIONS] * len(images)
        zoom = max(1, 128 // images.shape[-1])
        compose.image_grid(rows.flatten(0, 1), columns, labels=labels, zoom=zoom).save(path)

    return draw


def train_editor(
    emoji: Emoji,
    autoencoder: AutoencoderKL,
    tokenizer: CLIPTokenizer,
    plan: Plan,
    folder: Path,
    pairs: int,
    start: TextToImage,
    device: str = "cpu",
    objective: Objective = Objective(),
) -> TextToImage:
    """Train the editor, resuming from the checkpoint in `folder` if there is one.

    Args:
        emoji: the data set; held-out images are only shown in the sample grid.
        autoencoder: encodes the pairs.
        tokenizer: of the instructions.
        plan: duration and rates.
        folder: of the checkpoint, log and sample grid.
        pairs: number of pairs to make and encode.
        start: initial networks: an editor or a text-to-image model.
        device: to train on.
        objective: prediction, weights and times; those with which `start` was trained.

    Returns:
        The moving averages of the networks.
    """
    autoencoder = autoencoder.to(device).eval()
    reads, writes = start.unet.config["in_channels"], start.unet.config["out_channels"]
    run = Run(start if reads == 2 * writes else widened(start), plan, folder, device)
    if run.progress >= 1:
        return run.average
    data = encode(emoji.train, autoencoder, pairs, device)
    scaling = autoencoder.config.scaling_factor

    def loss(network: Any, rng: torch.Generator) -> Tensor:
        chosen = torch.randint(len(data.source), (plan.batch,), generator=rng)
        target, source, texts = dropped(data, chosen, rng)
        ids = tokens(tokenizer, texts, padding="max_length").to(device)
        beside = source.to(device) / scaling

        def predict(noisy: Tensor, time: Tensor) -> Tensor:
            return network(torch.cat([noisy, beside], 1), time, ids)

        return objective.loss(predict, target.to(device), rng)

    held = emoji.select(emoji.held_out)
    alone = compose.over(compose.premultiplied(held.rgba[:: max(1, len(held) // 2)][:2]), torch.ones(1, 3, 1, 1))
    unseen = photographs.as_images(photographs.crops(photographs.HELD_OUT, 2, emoji.rgba.shape[1], seed=1))
    return train(
        run, loss, sample_grid(autoencoder, tokenizer, torch.cat([alone, unseen]), device, objective), "editor"
    )
