"""Training and evaluation of one variant. Every part resumes, and is skipped when its figures exist."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL
from jaxtyping import Float
from torch import Tensor
from transformers import CLIPModel, CLIPTokenizer

from scoredistill.checkpoint import load_state, save_state
from scoredistill.datasets import photographs
from scoredistill.datasets.emoji import Emoji, common_names, load_emoji
from scoredistill.files import write_json
from scoredistill.metrics import frechet_distance
from scoredistill.pretrained import bundled_folder, quietly
from scoredistill.training import autoencoder as codec
from scoredistill.training import captions, clip, perceptual
from scoredistill.training.ablation.variants import AUTOENCODERS, AutoencoderVariant, Variant
from scoredistill.training.averages import reconstruct
from scoredistill.training.evaluation.evaluator import Evaluator, on_white, psnr
from scoredistill.training.loop import Run
from scoredistill.training.throughput import operations
from scoredistill.training.unet import (
    LEVELS,
    Latents,
    TextToImage,
    build_unet,
    decode,
    encode,
    held_out_error,
    sample,
    train_unet,
    training_loss,
)

IMAGES = 12_000
"""Images that are composed and encoded for the text-to-image model."""
STEPS = 20
"""Steps of all samples."""
LENGTHS = (0.05, 0.07, 0.10)
"""Relative lengths of the averages that are compared."""


class Ablation:
    """The folders and data that the variants share.

    Args:
        data: folder of the emoji.
        out: folder of the runs.
        cpu_minutes: training time of a variant.
        seed: of the networks and the encoded images.
    """

    def __init__(self, data: Path, out: Path, cpu_minutes: float, seed: int = 0) -> None:
        self.data, self.out, self.cpu_minutes, self.seed = data, out, cpu_minutes, seed

    def emoji(self, size: int) -> Emoji:
        """The common concepts."""
        return load_emoji(self.data, size).only(common_names())

    @cached_property
    def clip(self) -> tuple[CLIPModel, CLIPTokenizer]:
        """The bundled CLIP, whose text encoder the variants start from and which evaluates their samples."""
        folder = bundled_folder("clip")
        with quietly():
            model = CLIPModel.from_pretrained(folder, attn_implementation="eager", dtype=torch.float32).eval()
            return model, CLIPTokenizer.from_pretrained(folder)

    # --- the autoencoder ---

    def autoencoder(self, variant: AutoencoderVariant) -> AutoencoderKL:
        """Train and evaluate an autoencoder, or load it."""
        folder = self.out / "autoencoder" / variant.name
        if (folder / "figures.json").exists():
            return AutoencoderKL.from_pretrained(folder / "vae").eval()
        emoji = load_emoji(self.data, variant.size)
        start = codec.build(variant.size, variant.widths, self.seed)
        plan = replace(variant.plan, cpu_minutes=self.cpu_minutes)
        network = codec.train_autoencoder(
            emoji, plan, folder, start=start, weights=variant.weights, crop=variant.crop
        ).eval()
        network.save_pretrained(folder / "vae")
        write_json(folder / "figures.json", {"change": variant.change, **last_line(folder), **self.restored(network)})
        return network

    def restored(self, network: AutoencoderKL) -> dict[str, float]:
        """Quality of reconstructions of held-out images at their size, and of both sizes seen at 128 pixels."""
        size = int(network.config.sample_size)
        figures: dict[str, float] = {}
        for kind, truth in held_out(self.data, 128).items():
            images = held_out(self.data, size)[kind]
            found = codec.reconstruct(network, images)
            enlarged = torch.nn.functional.interpolate(found, (128, 128), mode="bicubic").clamp(0, 1)
            figures |= {
                f"psnr_{kind}": psnr(found, images),
                f"psnr_at_128_{kind}": psnr(enlarged, truth),
                f"edges_{kind}": edges(enlarged) / edges(truth),
                f"perceptual_{kind}": mean_perceptual(truth, enlarged),
            }
        latent = torch.randn(1, network.config.latent_channels, 16, 16)
        image = torch.rand(1, 3, size, size)
        with torch.no_grad():
            figures["decode_ms"] = milliseconds(lambda: network.decode(latent))
            figures["encode_ms"] = milliseconds(lambda: network.encode(image))
        return figures

    # --- the text-to-image model ---

    def latents(self, variant: Variant) -> Latents:
        """The encoded training images of a variant, computed once."""
        kind = f"{variant.autoencoder}-{variant.mixture.counts:g}-{variant.mixture.relations:g}"
        path = self.out / "latents" / f"{kind}.safetensors"
        if not path.exists():
            network = self.autoencoder_of(variant)
            emoji = self.emoji(int(network.config.sample_size))
            data = encode(emoji, network, IMAGES, "cpu", self.seed, common_names(), variant.mixture, aligned=True)
            path.parent.mkdir(parents=True, exist_ok=True)
            described = [asdict(description) for description in data.descriptions]
            save_state({"latent": data.latent, "features": data.features, "descriptions": described}, path)
        state = load_state(path)
        return Latents(state["latent"], [description_of(each) for each in state["descriptions"]], state["features"])

    def autoencoder_of(self, variant: Variant) -> AutoencoderKL:
        """The autoencoder of a variant."""
        return self.autoencoder(next(each for each in AUTOENCODERS if each.name == variant.autoencoder))

    def untrained(self, variant: Variant, channels: int) -> TextToImage:
        """The initial networks of a variant."""
        model, tokenizer = self.clip
        if variant.text == "random":
            model = clip.build(tokenizer, self.seed)
        text_encoder = clip.text_encoder_of(model).requires_grad_(variant.text != "frozen")
        return TextToImage(build_unet(seed=self.seed, channels=channels), text_encoder)

    def text_to_image(self, variant: Variant) -> None:
        """Train and evaluate a text-to-image model."""
        folder = self.out / "unet" / variant.name
        if (folder / "figures.json").exists():
            return
        network = self.autoencoder_of(variant)
        emoji = self.emoji(int(network.config.sample_size))
        plan = replace(variant.plan, cpu_minutes=self.cpu_minutes)
        start = self.untrained(variant, network.config.latent_channels)
        tokenizer = self.clip[1]
        flops = self.flops(variant, start, folder)
        trained = train_unet(
            emoji, network, start.text_encoder, tokenizer, plan, folder, lambda: self.latents(variant),
            start=start, recipe=variant.recipe,
        )  # fmt: skip
        figures = {"change": variant.change, "batch": plan.batch, **last_line(folder), "flops_per_step": flops}
        measure = held_out_error(emoji, network, tokenizer, variant.recipe.objective)
        figures["held_out"] = measure(trained)
        for length in LENGTHS:
            figures[f"held_out_{length:g}"] = measure(reconstruct(folder / "snapshots", trained, length))
        with torch.autocast("cpu", torch.bfloat16):
            figures |= self.sampled(variant, trained, network, emoji)
        write_json(folder / "figures.json", figures)

    def flops(self, variant: Variant, start: TextToImage, folder: Path) -> int:
        """Operations of the forward and backward pass of a step; those of the optimizer are not counted."""
        network = TextToImage(start.unet, start.text_encoder, variant.recipe.alignment > 0)
        run = Run(network, replace(variant.plan, snapshots=0), folder / "throughput")
        loss = training_loss(self.latents(variant), self.clip[1], variant.plan.batch, variant.recipe)
        count = operations(lambda: run.backward(loss, 0))
        network.zero_grad(set_to_none=True)
        return count

    def sampled(self, variant: Variant, network: Any, autoencoder: AutoencoderKL, emoji: Emoji) -> dict[str, float]:
        """Figures of one sample of every common concept, evaluated by the bundled CLIP."""
        model, tokenizer = self.clip
        evaluator = Evaluator(model, tokenizer, emoji.names)
        names = list(common_names())
        objective = variant.recipe.objective

        def drawn(prompts: list[str], seed: int) -> Float[Tensor, "n 3 h w"]:
            parts = [prompts[start : start + 64] for start in range(0, len(prompts), 64)]
            latents = [
                sample(network, tokenizer, part, STEPS, seed=seed + i, objective=objective)
                for i, part in enumerate(parts)
            ]
            return decode(autoencoder, torch.cat(latents).float())

        images = drawn([f"a picture of {captions.with_article(name)}" for name in names], 1)
        features = evaluator.features(images).float()
        own = torch.tensor([emoji.names.index(name) for name in names])
        real = evaluator.features(on_white(emoji)).float()
        half = torch.randperm(len(real), generator=torch.Generator().manual_seed(0)).chunk(2)
        return {
            "concepts": len(names),
            "levels": LEVELS,
            "clip_score": float((features * evaluator.vocabulary[own]).sum(1).mean()),
            "name_in_top_5": evaluator.names_in_top(images, names),
            "frechet_to_real": frechet_distance(features, real),
            "frechet_half_to_half": frechet_distance(real[half[0]], real[half[1]]),
        }


def description_of(state: Mapping[str, Any]) -> captions.Description:
    """A description from its dictionary."""
    items = [
        captions.Item(**{**item, "plain": tuple(item["plain"]), "tags": tuple(item["tags"])}) for item in state["items"]
    ]
    return captions.Description(tuple(items), state["relation"], state["background"])


def held_out(data: Path, size: int) -> dict[str, Float[Tensor, "n 3 h w"]]:
    """Held-out emoji on white, and crops of held-out photographs, the same at every size."""
    emoji = load_emoji(data, size)
    photos = photographs.crops(photographs.HELD_OUT, 96, 128, seed=2)
    crops = torch.nn.functional.adaptive_avg_pool2d(photographs.as_images(photos), size)
    return {"emoji": on_white(emoji.select(emoji.held_out)), "photographs": crops}


def edges(images: Float[Tensor, "n 3 h w"]) -> float:
    """Root mean square of the finite differences, which blur lowers."""
    down, across = codec.differences(images)
    return float((down.square().mean() + across.square().mean()).sqrt())


@torch.no_grad()
def mean_perceptual(truth: Float[Tensor, "n 3 h w"], images: Float[Tensor, "n 3 h w"]) -> float:
    """Perceptual distance, averaged over images."""
    parts = zip(truth.split(16), images.split(16), strict=True)
    return sum(float(perceptual.perceptual_distance(a, b)) * len(a) for a, b in parts) / len(images)


def milliseconds(run: Callable[[], object], repetitions: int = 20) -> float:
    """Least CPU time of a call in milliseconds: interruptions only add."""
    times = []
    for _ in range(repetitions):
        started = time.process_time()
        run()
        times.append(time.process_time() - started)
    return 1000 * min(times)


def last_line(folder: Path) -> dict[str, float]:
    """Steps, images, times and training loss at the end of a run."""
    return json.loads((folder / "log.jsonl").read_text().splitlines()[-1])
