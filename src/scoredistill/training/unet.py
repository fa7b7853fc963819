"""The text-to-image model: a small conditional UNet and its text encoder, trained together on latents.

With  z_t = alpha_t z + sigma_t eps,  the network predicts  v = alpha_t eps - sigma_t z  (Salimans and Ho 2022,
https://arxiv.org/abs/2202.00512). Noise levels are those of DDPM, with beta linear from 1e-4 to 0.02; alpha_T is close
to 0, so that no color leaks into pure noise. The weight of the loss is

    w = min(SNR + 1, 5) / (SNR + 1),   SNR = (alpha / sigma)^2,

that is, min(SNR + 1, 5) for the error of the clean sample. Min-SNR weighting (Hang et al. 2023,
https://arxiv.org/abs/2303.09556) has SNR in place of SNR + 1; on 16x16 latents it leaves the noisiest steps, which
determine the shape, almost untrained.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor
from jaxtyping import Float, Int
from torch import Tensor, nn
from tqdm import tqdm
from transformers import CLIPTextModel, CLIPTokenizer

from scoredistill.datasets.emoji import Emoji
from scoredistill.training import captions, compose
from scoredistill.training.clip import WIDTH, tokens
from scoredistill.training.loop import Plan, Run, train

MAX_WEIGHT = 5.0
EMPTY_CAPTIONS = 0.1  # fraction
WHITE_BACKGROUNDS = 0.75  # fraction
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
    """UNet and text encoder, which are trained together."""

    def __init__(self, unet: UNet2DConditionModel, text_encoder: CLIPTextModel) -> None:
        super().__init__()
        self.unet, self.text_encoder = unet, text_encoder

    def forward(
        self, latent: Float[Tensor, "b k h w"], time: Int[Tensor, " b"], ids: Int[Tensor, "b l"]
    ) -> Float[Tensor, "b c h w"]:
        """Predicted v for noisy latents."""
        words = self.text_encoder(input_ids=ids).last_hidden_state
        return self.unet(latent, time, words).sample


@dataclass(frozen=True)
class Latents:
    """Encoded images, several per emoji.

    Attributes:
        latent: float32 [n, 4, 16, 16], scaled to standard deviation 1.
        index: int64 [n], index of the emoji.
        colors: names of the n backgrounds, None for white.
    """

    latent: Float[Tensor, "n c h w"]
    index: Int[Tensor, " n"]
    colors: list[str | None]


def build_unet(widths: tuple[int, ...] = (64, 128, 192), seed: int = 0, channels: int = 4) -> UNet2DConditionModel:
    """An untrained UNet for 16x16x4 latents, with attention to the text below the finest resolution.

    Args:
        widths: channels at each resolution.
        seed: of the weights.
        channels: of the input: 4, or 8 with the latents of a source image.
    """
    torch.manual_seed(seed)
    deeper = len(widths) - 1
    unet = UNet2DConditionModel(
        sample_size=16,
        in_channels=channels,
        out_channels=4,
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


def build_scheduler() -> DDIMScheduler:
    """The scheduler with the noise levels of training and the settings of the exported pipeline."""
    return DDIMScheduler(
        beta_start=1e-4,
        beta_end=0.02,
        beta_schedule="linear",
        prediction_type="v_prediction",
        timestep_spacing="trailing",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,  # required by diffusers, without effect for "trailing"
    )


@torch.no_grad()
def encode(emoji: Emoji, autoencoder: AutoencoderKL, variants: int, device: str = "cpu", seed: int = 0) -> Latents:
    """Compose and encode `variants` images per emoji, of random scale, position and background but not mirrored."""
    rng = torch.Generator().manual_seed(seed)
    words = captions.python_rng(rng)
    index = torch.arange(len(emoji)).repeat_interleave(variants)
    colors = [None if words.random() < WHITE_BACKGROUNDS else words.choice(list(compose.BACKGROUNDS)) for _ in index]
    background = compose.named_backgrounds(colors)
    parts = []
    for part in tqdm(torch.arange(len(index)).split(64), desc="encode", unit="batch"):
        rgba = compose.premultiplied(emoji.rgba[index[part].numpy()])
        placed = compose.place_at_random(rgba, (0.88, 1.0), 0.03, rng, mirror=0.0)
        image = compose.over(placed, background[part]).to(device)
        with torch.autocast(device, torch.bfloat16):
            latent = autoencoder.encode(2 * image - 1).latent_dist.mode()
        parts.append(latent.float().cpu() * autoencoder.config.scaling_factor)
    return Latents(torch.cat(parts), index, colors)


def loss_of(
    network: Any,
    z: Float[Tensor, "b c h w"],
    ids: Int[Tensor, "b l"],
    alpha_bar: Float[Tensor, " T"],
    rng: torch.Generator,
    beside: Float[Tensor, "b k h w"] | None = None,
) -> Float[Tensor, ""]:
    """The weighted error of v; the times of a batch are stratified over the schedule.

    Args:
        network: (latents, times, token ids) -> v.
        z: clean latents.
        ids: token ids of the captions.
        alpha_bar: alpha^2 by time.
        rng: draws times and noise.
        beside: further input channels, the latents of the source image of an editor.
    """
    n, steps = len(z), len(alpha_bar)
    time = ((torch.arange(n) + torch.rand(n, generator=rng)) / n * steps).long().clamp(max=steps - 1)
    squared = alpha_bar[time].to(z.device)[:, None, None, None]
    alpha, sigma = squared.sqrt(), (1 - squared).sqrt()
    eps = torch.randn(z.shape, generator=rng).to(z.device)
    v = alpha * eps - sigma * z
    noisy = alpha * z + sigma * eps
    predicted = network(noisy if beside is None else torch.cat([noisy, beside], 1), time.to(z.device), ids).float()
    snr = squared / (1 - squared)
    return ((snr + 1).clamp(max=MAX_WEIGHT) / (snr + 1) * (predicted - v) ** 2).mean()


@torch.no_grad()
def sample(
    network: TextToImage,
    tokenizer: CLIPTokenizer,
    prompts: list[str],
    steps: int = 30,
    scale: float = 5.0,
    seed: int = 0,
) -> Float[Tensor, "b 4 16 16"]:
    """Sample latents by DDIM with classifier-free guidance, one per prompt."""
    device = next(network.parameters()).device
    scheduler = build_scheduler()
    scheduler.set_timesteps(steps)
    ids = tokens(tokenizer, [""] * len(prompts) + prompts, padding="max_length").to(device)
    words = network.text_encoder(input_ids=ids).last_hidden_state
    z = torch.randn(len(prompts), 4, 16, 16, generator=torch.Generator().manual_seed(seed)).to(device)
    for time in scheduler.timesteps:
        without, with_text = network.unet(torch.cat([z, z]), time, words).sample.chunk(2)
        z = scheduler.step(without + scale * (with_text - without), time, z).prev_sample
    return z


def sample_grid(autoencoder: AutoencoderKL, tokenizer: CLIPTokenizer, rows: int = 3) -> Callable[[Any, Path], None]:
    """A function that saves a grid with `rows` samples of every prompt in `PROMPTS`."""

    def draw(network: Any, path: Path) -> None:
        z = sample(network, tokenizer, list(PROMPTS) * rows, steps=20)
        image = autoencoder.decode(z / autoencoder.config.scaling_factor).sample / 2 + 0.5
        compose.image_grid(image, len(PROMPTS), labels=PROMPTS * rows).save(path)

    return draw


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

    Returns:
        The moving averages of the networks.
    """
    seen = emoji.train
    autoencoder = autoencoder.to(device).eval()
    run = Run(start or TextToImage(build_unet(), text_encoder), plan, folder, device)
    if run.progress >= 1:
        return run.average
    data = encode(seen, autoencoder, variants, device)
    weights = torch.tensor([float(often.get(seen.names[seen.concept[i]], 1)) for i in data.index])
    alpha_bar = build_scheduler().alphas_cumprod

    def loss(network: Any, rng: torch.Generator) -> Tensor:
        chosen = torch.multinomial(weights, plan.batch, replacement=True, generator=rng)
        words = captions.python_rng(rng)
        texts = [describe(seen, int(data.index[i]), data.colors[int(i)], words) for i in chosen]
        ids = tokens(tokenizer, texts, padding="max_length").to(device)
        return loss_of(network, data.latent[chosen].to(device), ids, alpha_bar, rng)

    return train(run, loss, sample_grid(autoencoder, tokenizer), "unet")


def describe(emoji: Emoji, index: int, color: str | None, words: captions.random.Random) -> str:
    """A random caption of one emoji on a background."""
    concept, style = emoji.concept[index], emoji.styles[emoji.style[index]]
    return captions.caption(emoji.names[concept], emoji.tags[concept], style, color, words, empty=EMPTY_CAPTIONS)
