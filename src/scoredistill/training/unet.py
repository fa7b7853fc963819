"""The text-to-image model: a small conditional UNet and its text encoder, trained together on latents.

The objective is that of `training.objective`. With an alignment weight w_a, the training adds w_a times the alignment
loss of `training.perceptual` of the middle block, which sees the whole image, to features of the clean image.
"""

from __future__ import annotations

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
from scoredistill.training.loop import Plan, Run, train
from scoredistill.training.objective import Objective

EMPTY_CAPTIONS = 0.1  # fraction
WHITE_BACKGROUNDS = 0.75  # fraction
LEVELS = 32
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
    """

    objective: Objective = Objective()
    alignment: float = 0.0


@dataclass(frozen=True)
class Latents:
    """Encoded images, several per emoji.

    Attributes:
        latent: float16 [n, c, 16, 16], scaled to standard deviation 1.
        index: int64 [n], index of the emoji.
        colors: names of the n backgrounds, None for white.
        features: float16 [n, f, h, w], features of the images for the alignment; None without.
    """

    latent: Float[Tensor, "n c h w"]
    index: Int[Tensor, " n"]
    colors: list[str | None]
    features: Float[Tensor, "n f p q"] | None = None


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
    emoji: Emoji, autoencoder: AutoencoderKL, variants: int, device: str = "cpu", seed: int = 0, aligned: bool = False
) -> Latents:
    """Compose and encode `variants` images per emoji, of random scale, position and background but not mirrored.

    Args:
        emoji: the images.
        autoencoder: encodes them.
        variants: images per emoji.
        device: of the autoencoder.
        seed: of the compositions.
        aligned: whether to compute features for the alignment.
    """
    rng = torch.Generator().manual_seed(seed)
    words = captions.python_rng(rng)
    index = torch.arange(len(emoji)).repeat_interleave(variants)
    colors = [None if words.random() < WHITE_BACKGROUNDS else words.choice(list(compose.BACKGROUNDS)) for _ in index]
    background = compose.named_backgrounds(colors)
    latents, features = [], []
    for part in tqdm(torch.arange(len(index)).split(64), desc="encode", unit="batch", mininterval=1.0):
        rgba = compose.premultiplied(emoji.rgba[index[part].numpy()])
        placed = compose.place_at_random(rgba, (0.88, 1.0), 0.03, rng, mirror=0.0)
        image = compose.over(placed, background[part]).to(device)
        with torch.autocast(device, torch.bfloat16):
            latent = autoencoder.encode(2 * image - 1).latent_dist.mode()
            if aligned:
                features.append(perceptual.features(image, perceptual.MEANING).half().cpu())
        latents.append((latent.float() * autoencoder.config.scaling_factor).half().cpu())
    return Latents(torch.cat(latents), index, colors, torch.cat(features) if aligned else None)


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
    emoji: Emoji, autoencoder: AutoencoderKL, tokenizer: CLIPTokenizer, objective: Objective, device: str = "cpu"
) -> Callable[[Any], float]:
    """A function that measures the error of the clean latents of held-out images, on fixed noise and levels.

    Each image is seen at `LEVELS` noise levels, evenly spaced in the schedule, with a caption of its style.
    """
    held = emoji.select(emoji.held_out)
    z = encode(held, autoencoder, 1, device).latent.float().repeat_interleave(LEVELS, 0)
    texts = []
    for concept, style in zip(held.concept, held.style, strict=True):
        style = held.styles[style]
        texts.append(f"{captions.article(style)} {style} emoji of {captions.with_article(held.names[concept])}")
    ids = tokens(tokenizer, texts, padding="max_length").repeat_interleave(LEVELS, 0)
    eps = torch.randn(z.shape, generator=torch.Generator().manual_seed(0))
    fraction = ((torch.arange(LEVELS) + 0.5) / LEVELS).repeat(len(held))

    def measure(network: Any) -> float:
        errors = []
        for part in torch.arange(len(z)).split(128):

            def predict(noisy: Tensor, time: Tensor, words: Tensor = ids[part].to(device)) -> Tensor:
                return network(noisy, time, words)

            error = objective.clean_error(predict, z[part].to(device), eps[part].to(device), fraction[part])
            errors.append(float(error) * len(part))
        return sum(errors) / len(z)

    return measure


def training_loss(
    emoji: Emoji,
    data: Latents,
    tokenizer: CLIPTokenizer,
    plan: Plan,
    recipe: Recipe,
    often: Mapping[str, int],
    device: str = "cpu",
) -> Callable[[Any, torch.Generator], Tensor]:
    """The loss of one part of a step.

    Args:
        emoji: the images that `data` encodes.
        data: latents.
        tokenizer: of the captions.
        plan: with the number of images.
        recipe: the objective and the alignment, for which `data` must have features.
        often: relative frequency of concepts; 1 by default.
        device: to compute on.
    """
    weights = torch.tensor([float(often.get(emoji.names[emoji.concept[i]], 1)) for i in data.index])

    def loss(network: Any, rng: torch.Generator) -> Tensor:
        chosen = torch.multinomial(weights, plan.batch, replacement=True, generator=rng)
        words = captions.python_rng(rng)
        texts = [describe(emoji, int(data.index[i]), data.colors[int(i)], words) for i in chosen]
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
    variants: int,
    often: Mapping[str, int],
    device: str = "cpu",
    start: TextToImage | None = None,
    recipe: Recipe = Recipe(),
    data: Latents | None = None,
) -> TextToImage:
    """Train the text-to-image model, resuming from the checkpoint in `folder` if there is one.

    Args:
        emoji: the data set, whose training images are used.
        autoencoder: encodes the images.
        text_encoder: initial text encoder.
        tokenizer: of the captions.
        plan: duration and rates.
        folder: of the checkpoint, log and sample grid.
        variants: encoded images per emoji.
        often: relative frequency of concepts; 1 by default.
        device: to train on.
        start: initial networks; a random UNet and `text_encoder` by default.
        recipe: objective and alignment.
        data: the encoded training images; encoded by default.

    Returns:
        The averaged networks.
    """
    seen = emoji.train
    autoencoder = autoencoder.to(device).eval()
    unet = build_unet(channels=autoencoder.config.latent_channels) if start is None else start.unet
    network = TextToImage(unet, text_encoder if start is None else start.text_encoder, recipe.alignment > 0)
    run = Run(network, plan, folder, device)
    if run.progress >= 1:
        return run.average
    if data is None:
        data = encode(seen, autoencoder, variants, device, aligned=recipe.alignment > 0)
    loss = training_loss(seen, data, tokenizer, plan, recipe, often, device)
    measure = held_out_error(emoji, autoencoder, tokenizer, recipe.objective, device)
    return train(run, loss, sample_grid(autoencoder, tokenizer, objective=recipe.objective), "unet", measure)


def describe(emoji: Emoji, index: int, color: str | None, words: captions.random.Random) -> str:
    """A random caption of one emoji on a background."""
    concept, style = emoji.concept[index], emoji.styles[emoji.style[index]]
    return captions.caption(emoji.names[concept], emoji.tags[concept], style, color, words, empty=EMPTY_CAPTIONS)
