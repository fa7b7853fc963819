"""The variants of the ablation, each with one change to the base."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from scoredistill.training.autoencoder import Weights
from scoredistill.training.compositions import MIXTURE, Mixture
from scoredistill.training.loop import Plan
from scoredistill.training.objective import Objective
from scoredistill.training.unet import Recipe


@dataclass(frozen=True)
class AutoencoderVariant:
    """A training of the autoencoder.

    Attributes:
        name: of its folder.
        change: what differs from the base, in words.
        size: side of the images.
        widths: channels at each resolution; by default those of the size.
        weights: of the loss.
        plan: without its duration.
        crop: side of crops that are seen first; see `train_autoencoder`.
    """

    name: str
    change: str
    size: int = 128
    widths: tuple[int, ...] | None = None
    weights: Weights = Weights()
    plan: Plan = Plan(batch=16, lr=2e-3, bfloat16=True, warmup=100, snapshots=6)
    crop: int | None = None


@dataclass(frozen=True)
class Variant:
    """A training of the text-to-image model.

    Attributes:
        name: of its folder.
        change: what differs from the base, in words.
        recipe: objective, alignment and captions.
        plan: without its duration.
        text: initial text encoder: that of the bundled CLIP, the same but never trained, or random.
        mixture: of single emoji, counts and relations in the training images.
        autoencoder: name of the variant of the autoencoder whose latents are learned.
    """

    name: str
    change: str
    recipe: Recipe = Recipe()
    plan: Plan = Plan(batch=32, lr=2e-3, slow="text_encoder", slow_factor=0.5, bfloat16=True, warmup=100, snapshots=6)
    text: Literal["clip", "frozen", "random"] = "clip"
    mixture: Mixture = MIXTURE
    autoencoder: str = "perceptual"


PERCEPTUAL = Weights(perceptual=0.3)
MUON = Plan(batch=16, lr=2e-3, bfloat16=True, warmup=100, snapshots=6, optimizer="muon")
AUTOENCODERS = (
    AutoencoderVariant("base", "128 pixels, L1 and gradients"),
    AutoencoderVariant("perceptual", "+ perceptual loss", weights=PERCEPTUAL),
    AutoencoderVariant("aligned", "+ perceptual and alignment loss", weights=replace(PERCEPTUAL, alignment=0.1)),
    AutoencoderVariant("pixels64", "64 pixels (f4, 4 channels), + perceptual loss", 64, weights=PERCEPTUAL),
    AutoencoderVariant("pixels64_muon", "the same, Muon", 64, weights=PERCEPTUAL, plan=MUON),
    AutoencoderVariant("muon", "+ perceptual loss, Muon", weights=PERCEPTUAL, plan=MUON),
    AutoencoderVariant("crops", "+ perceptual loss, crops of 64 pixels first", weights=PERCEPTUAL, crop=64),
    AutoencoderVariant("crops_muon", "the same, Muon", weights=PERCEPTUAL, crop=64, plan=MUON),
    AutoencoderVariant("crops_muon_plain", "the same, no perceptual loss", crop=64, plan=MUON),
    AutoencoderVariant(
        "crops_muon_aligned",
        "crops, Muon, perceptual and alignment loss",
        weights=replace(PERCEPTUAL, alignment=0.1),
        crop=64,
        plan=MUON,
    ),
    AutoencoderVariant(
        "batch_4",
        "+ perceptual loss, batch 4",
        weights=PERCEPTUAL,
        plan=Plan(batch=4, lr=2e-3, bfloat16=True, warmup=400, snapshots=6),
    ),
)

BASE = Variant("base", "AdamW, v, capped weights")


def planned(name: str, change: str, **changes: object) -> Variant:
    """The base with another plan."""
    return replace(BASE, name=name, change=change, plan=replace(BASE.plan, **changes))  # type: ignore[arg-type]


def cooked(name: str, change: str, alignment: float = 0.0, **objective: object) -> Variant:
    """The base with another objective or an alignment."""
    recipe = Recipe(Objective(**objective), alignment)  # type: ignore[arg-type]
    return replace(BASE, name=name, change=change, recipe=recipe)


VARIANTS = (
    BASE,
    planned("muon", "Muon for matrices of hidden layers", optimizer="muon"),
    cooked("flow", "flow matching", prediction="flow", weights="uniform"),
    cooked("contrast", "contrastive term, c = 0.05", contrast=0.05),
    cooked("repa", "alignment to EfficientNet (REPA), w = 0.5", alignment=0.5),
    replace(BASE, name="text_random", change="random text encoder", text="random"),
    replace(BASE, name="text_frozen", change="frozen text encoder", text="frozen"),
    cooked("logit_normal", "logit-normal times", times="logit_normal"),
    cooked("min_snr", "min-SNR weights", weights="min_snr"),
    cooked("uniform", "uniform weights of v", weights="uniform"),
    planned("batch_64", "batch 64", batch=64),
    planned("muon_64", "Muon, batch 64", optimizer="muon", batch=64),
    replace(BASE, name="single", change="single emoji, names only (today's captions)", mixture=Mixture(0.0, 0.0),
            recipe=Recipe(plain=0.0, tag=0.1)),
    replace(BASE, name="aligned", change="latents of the aligned autoencoder", autoencoder="aligned"),
    replace(BASE, name="pixels64", change="64 pixels", autoencoder="pixels64"),
)  # fmt: skip
