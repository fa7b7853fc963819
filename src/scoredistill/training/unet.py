"""The text-to-image model: a small conditional UNet and its text encoder, trained together on latents.

The objective is that of `training.objective`. With an alignment weight w_a, the training adds w_a times the alignment
loss of `training.perceptual` of the middle block, which sees the whole image, to features of the clean image.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor
from jaxtyping import Float, Int, Num
from torch import Tensor, nn
from tqdm import tqdm
from transformers import CLIPTextModel, CLIPTokenizer

from scoredistill.datasets.emoji import Emoji
from scoredistill.training import captions, compose, perceptual
from scoredistill.training.clip import WIDTH, tokens
from scoredistill.training.compositions import MIXTURE, Mixture, examples
from scoredistill.training.loop import Plan, Run, train
from scoredistill.training.objective import Objective

EMPTY_CAPTIONS = 0.1  # fraction
LEVELS = 16
"""Noise levels of the held-out error of each image."""
PROMPTS = (
    "a hamburger",
    "a tulip",
    "an owl",
    "a rocket",
    "a pizza",
    "a dolphin",
    "a cactus",
    "a guitar",
    "a castle",
    "a red apple",
)
"""Prompts of sample grids."""


class TextToImage(nn.Module):
    """UNet and text encoder, which are trained together.

    Attributes:
        unet, text_encoder: the networks of a pipeline.
        head: of the alignment loss; None if there is none. It is used in training only.
    """

    def __init__(self, unet: UNet2DConditionModel, text_encoder: CLIPTextModel, aligned: bool = False) -> None:
        super().__init__()
        self.unet, self.text_encoder = unet, text_encoder
        self.head: nn.Module | None = None
        self.middles: dict[int, Tensor] = {}  # by thread, since the parts of a step run in parallel
        if aligned:
            width = unet.config["block_out_channels"][-1]
            self.head = perceptual.alignment_head(width, perceptual.MEANING_CHANNELS)
            unet.mid_block.register_forward_hook(self.keep)

    def keep(self, block: nn.Module, inputs: Any, output: Tensor) -> None:
        """Keep the output of the middle block, the hook of aligned networks."""
        self.middles[threading.get_ident()] = output

    def misalignment(self, wanted: Float[Tensor, "b f p q"]) -> Float[Tensor, ""]:
        """The alignment loss of the last evaluation in this thread."""
        assert self.head is not None
        return perceptual.misalignment(self.head(self.middles.pop(threading.get_ident())), wanted)

    def forward(
        self, latent: Float[Tensor, "b k h w"], time: Num[Tensor, " b"], ids: Int[Tensor, "b l"]
    ) -> Float[Tensor, "b c h w"]:
        """The prediction for noisy latents."""
        words = self.text_encoder(input_ids=ids).last_hidden_state
        return self.unet(latent, time, words).sample


@dataclass(frozen=True)
class Recipe:
    """How the text-to-image model is trained.

    Attributes:
        objective: what the network predicts.
        alignment: w_a; 0 trains without.
        plain: probability that a plain name ("car") replaces the name ("automobile").
        tag: probability that a tag replaces the name.
    """

    objective: Objective = Objective()
    alignment: float = 0.0
    plain: float = captions.PLAIN
    tag: float = captions.TAG

    def describe(self, description: captions.Description, words: random.Random) -> str:
        """A random caption, sometimes empty."""
        return captions.describe(description, words, EMPTY_CAPTIONS, self.plain, self.tag)


@dataclass(frozen=True)
class Latents:
    """Encoded images with descriptions, from which captions are worded anew whenever an image is shown.

    Attributes:
        latent: float16 [n, c, 16, 16], scaled to standard deviation 1.
        descriptions: of the n images.
        features: float16 [n, f, h, w], features of the images for the alignment; None without.
    """

    latent: Float[Tensor, "n c h w"]
    descriptions: list[captions.Description]
    features: Float[Tensor, "n f p q"] | None = None

    def __len__(self) -> int:
        return len(self.latent)


def build_unet(
    widths: tuple[int, ...] = (64, 128, 192), seed: int = 0, channels: int = 8, inputs: int | None = None
) -> UNet2DConditionModel:
    """An untrained UNet for 16x16 latents, with attention to the text below the finest resolution.

    Args:
        widths: channels at each resolution.
        seed: of the weights.
        channels: of the latents.
        inputs: channels of the input, if there are more, such as the latents of a source image.
    """
    torch.manual_seed(seed)
    deeper = len(widths) - 1
    unet = UNet2DConditionModel(
        sample_size=16,
        in_channels=inputs or channels,
        out_channels=channels,
        block_out_channels=widths,
        layers_per_block=1,
        down_block_types=("DownBlock2D", *("CrossAttnDownBlock2D",) * deeper),
        up_block_types=(*("CrossAttnUpBlock2D",) * deeper, "UpBlock2D"),
        cross_attention_dim=WIDTH,
        attention_head_dim=tuple(max(1, width // 32) for width in widths),  # in diffusers: the number of heads
        norm_num_groups=8,
    )
    unet.set_attn_processor(AttnProcessor())  # faster than fused attention when training on so few pixels on a CPU
    return unet


def exported(folder: Path) -> TextToImage:
    """The networks of a pipeline folder, in single precision, for further training."""
    unet = UNet2DConditionModel.from_pretrained(folder / "unet", torch_dtype=torch.float32)
    unet.set_attn_processor(AttnProcessor())
    text_encoder = CLIPTextModel.from_pretrained(folder / "text_encoder", dtype=torch.float32)
    return TextToImage(unet, text_encoder)


@torch.no_grad()
def encode(
    emoji: Emoji,
    autoencoder: AutoencoderKL,
    n: int,
    device: str = "cpu",
    seed: int = 0,
    often: Mapping[str, int] | None = None,
    mixture: Mixture = MIXTURE,
    aligned: bool = False,
) -> Latents:
    """Compose and encode n random images of emoji that are not held out.

    Args:
        emoji: the data set.
        autoencoder: encodes the images.
        n: number of images.
        device: of the autoencoder.
        seed: of the compositions.
        often: relative frequency of concepts; 1 by default.
        mixture: of single emoji, counts and relations.
        aligned: whether to compute features for the alignment.
    """
    rng = torch.Generator().manual_seed(seed)
    descriptions, latents, features = [], [], []
    for start in tqdm(range(0, n, 64), desc="encode", unit="batch", mininterval=1.0):
        made = examples(emoji, min(64, n - start), rng, often=often, mixture=mixture)
        descriptions += made.descriptions
        latents.append(encoded(autoencoder, made.images, device).half())
        if aligned:
            with torch.autocast(device, torch.bfloat16):
                features.append(perceptual.features(made.images.to(device), perceptual.MEANING).half().cpu())
    return Latents(torch.cat(latents), descriptions, torch.cat(features) if aligned else None)


@torch.no_grad()
def encoded(autoencoder: AutoencoderKL, images: Float[Tensor, "n 3 h w"], device: str) -> Float[Tensor, "n c p q"]:
    """Scaled latents of images in [0, 1], on the CPU."""
    with torch.autocast(device, torch.bfloat16):
        mode = autoencoder.encode(2 * images.to(device) - 1).latent_dist.mode()
    return mode.float().cpu() * autoencoder.config.scaling_factor


@torch.no_grad()
def sample(
    network: TextToImage,
    tokenizer: CLIPTokenizer,
    prompts: list[str],
    steps: int = 30,
    scale: float = 5.0,
    seed: int = 0,
    objective: Objective = Objective(),
) -> Float[Tensor, "b c 16 16"]:
    """Sample latents with classifier-free guidance, one per prompt."""
    device = next(network.parameters()).device
    ids = tokens(tokenizer, [""] * len(prompts) + prompts, padding="max_length").to(device)
    words = network.text_encoder(input_ids=ids).last_hidden_state

    def guided(z: Tensor, time: Tensor) -> Tensor:
        without, with_text = network.unet(torch.cat([z, z]), time, words).sample.chunk(2)
        return without + scale * (with_text - without)

    config = network.unet.config
    shape = len(prompts), config["out_channels"], config["sample_size"], config["sample_size"]
    noise = torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(device)
    return objective.sample(guided, noise, steps)


def sample_grid(
    autoencoder: AutoencoderKL, tokenizer: CLIPTokenizer, rows: int = 3, objective: Objective = Objective()
) -> Callable[[Any, Path], None]:
    """A function that saves a grid with `rows` samples of every prompt in `PROMPTS`."""

    def draw(network: Any, path: Path) -> None:
        device = next(network.parameters()).device.type
        with torch.autocast(device, torch.bfloat16):
            z = sample(network, tokenizer, list(PROMPTS) * rows, steps=20, objective=objective)
        images = decode(autoencoder, z)
        zoom = max(1, 128 // images.shape[-1])
        compose.image_grid(images, len(PROMPTS), labels=PROMPTS * rows, zoom=zoom).save(path)

    return draw


@torch.no_grad()
def decode(autoencoder: AutoencoderKL, latent: Float[Tensor, "n c p q"]) -> Float[Tensor, "n 3 h w"]:
    """Images in [0, 1] of scaled latents."""
    parts = [autoencoder.decode(z / autoencoder.config.scaling_factor).sample for z in latent.float().split(32)]
    return (torch.cat(parts) / 2 + 0.5).clamp(0, 1)


def held_out_error(
    emoji: Emoji,
    autoencoder: AutoencoderKL,
    tokenizer: CLIPTokenizer,
    objective: Objective,
    device: str = "cpu",
    levels: int = LEVELS,
) -> Callable[[Any], float]:
    """A function that measures the error of the clean latents of held-out images, on fixed noise and levels.

    Each image is seen at `levels` noise levels, evenly spaced in the schedule, with a caption of its style.
    """
    held = emoji.select(emoji.held_out)
    images = compose.over(compose.premultiplied(held.rgba), torch.ones(1, 3, 1, 1))
    z = torch.cat([encoded(autoencoder, part, device) for part in images.split(64)]).repeat_interleave(levels, 0)
    texts = []
    for concept, style in zip(held.concept, held.style, strict=True):
        style = held.styles[style]
        texts.append(f"{captions.article(style)} {style} emoji of {captions.with_article(held.names[concept])}")
    ids = tokens(tokenizer, texts, padding="max_length").repeat_interleave(levels, 0)
    eps = torch.randn(z.shape, generator=torch.Generator().manual_seed(0))
    fraction = ((torch.arange(levels) + 0.5) / levels).repeat(len(held))

    def measure(network: Any) -> float:
        errors = []
        for part in torch.arange(len(z)).split(128):

            def predict(noisy: Tensor, time: Tensor, words: Tensor = ids[part].to(device)) -> Tensor:
                return network(noisy, time, words)

            with torch.autocast(device, torch.bfloat16):
                error = objective.clean_error(predict, z[part].to(device), eps[part].to(device), fraction[part])
            errors.append(float(error) * len(part))
        return sum(errors) / len(z)

    return measure


def training_loss(
    data: Latents, tokenizer: CLIPTokenizer, batch: int, recipe: Recipe = Recipe(), device: str = "cpu"
) -> Callable[[Any, torch.Generator], Tensor]:
    """The loss of one part of a step.

    Args:
        data: latents, with features if the recipe has an alignment.
        tokenizer: of the captions.
        batch: number of images.
        recipe: objective, alignment and captions.
        device: to compute on.
    """

    def loss(network: Any, rng: torch.Generator) -> Tensor:
        chosen = torch.randint(len(data), (batch,), generator=rng)
        words = captions.python_rng(rng)
        texts = [recipe.describe(data.descriptions[row], words) for row in chosen.tolist()]
        ids = tokens(tokenizer, texts, padding="max_length").to(device)
        latent = data.latent[chosen].float().to(device)
        value = recipe.objective.loss(lambda noisy, time: network(noisy, time, ids), latent, rng)
        if recipe.alignment:
            assert data.features is not None
            value = value + recipe.alignment * network.misalignment(data.features[chosen].to(device))
        return value

    return loss


def train_unet(
    emoji: Emoji,
    autoencoder: AutoencoderKL,
    text_encoder: CLIPTextModel,
    tokenizer: CLIPTokenizer,
    plan: Plan,
    folder: Path,
    data: Callable[[], Latents],
    device: str = "cpu",
    start: TextToImage | None = None,
    recipe: Recipe = Recipe(),
) -> TextToImage:
    """Train the text-to-image model, resuming from the checkpoint in `folder` if there is one.

    Args:
        emoji: the data set, whose held-out images are measured.
        autoencoder: of the latents.
        text_encoder: initial text encoder.
        tokenizer: of the captions.
        plan: duration and rates.
        folder: of the checkpoint, log and sample grid.
        data: returns the encoded training images; a complete run does not call it.
        device: to train on.
        start: initial networks; a random UNet and `text_encoder` by default.
        recipe: objective, alignment and captions.

    Returns:
        The averaged networks.
    """
    autoencoder = autoencoder.to(device).eval()
    unet = build_unet(channels=autoencoder.config.latent_channels) if start is None else start.unet
    network = TextToImage(unet, text_encoder if start is None else start.text_encoder, recipe.alignment > 0)
    run = Run(network, plan, folder, device)
    if run.progress >= 1:
        return run.average
    loss = training_loss(data(), tokenizer, plan.batch, recipe, device)
    measure = held_out_error(emoji, autoencoder, tokenizer, recipe.objective, device, levels=4)
    return train(run, loss, sample_grid(autoencoder, tokenizer, objective=recipe.objective), "unet", measure)
