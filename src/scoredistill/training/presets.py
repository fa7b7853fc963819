"""Training presets: "cpu" (common concepts, a few hours on two cores) and "gpu" (all concepts)."""

from __future__ import annotations

from dataclasses import dataclass, replace

from scoredistill.training.autoencoder import Weights
from scoredistill.training.loop import Plan
from scoredistill.training.objective import Objective
from scoredistill.training.unet import Recipe


@dataclass(frozen=True)
class Preset:
    """Training plans of the networks, and sizes of their data.

    Attributes:
        size: side of the images, in pixels.
        autoencoder, clip, unet, editor: plans of the stages.
        weights: of the loss of the autoencoder.
        crop: side of crops that the autoencoder sees first; None for whole images.
        recipe: of the text-to-image model.
        common: train the text-to-image model on the concepts of common_concepts.txt only.
        images: images that are composed and encoded before the UNet is trained.
        pairs: pairs that are made and encoded before the editor is trained.
    """

    size: int
    autoencoder: Plan
    clip: Plan
    unet: Plan
    editor: Plan
    weights: Weights
    crop: int | None
    recipe: Recipe
    common: bool
    images: int
    pairs: int


LATENTS = Plan(
    batch=32, lr=2e-3, slow="text_encoder", slow_factor=0.5, bfloat16=True, optimizer="muon", cooldown=0.4, snapshots=24
)
"""What the trainings on latents share; Muon and flow matching won the ablation (docs/results/training_ablation.md)."""
FLOW = Recipe(Objective(prediction="flow", weights="uniform"))
CPU = Preset(
    size=128,
    autoencoder=Plan(batch=16, lr=2e-3, minutes=150.0, optimizer="muon", bfloat16=True, snapshots=16),
    clip=Plan(batch=128, lr=1.5e-3, minutes=70.0, weight_decay=0.1, bfloat16=True),
    unet=replace(LATENTS, batch=16, parts=2, lr=2e-3, minutes=240.0),
    editor=replace(LATENTS, batch=32, lr=1.5e-3, minutes=180.0),
    weights=Weights(perceptual=0.3),
    crop=64,
    recipe=FLOW,
    common=True,
    images=40_000,
    pairs=60_000,
)
GPU = Preset(
    size=128,
    autoencoder=Plan(batch=64, lr=2e-3, steps=40_000, optimizer="muon", bfloat16=True, snapshots=16),
    clip=Plan(batch=512, lr=1e-3, steps=10_000, weight_decay=0.1, bfloat16=True),
    unet=replace(LATENTS, batch=256, lr=1.5e-3, steps=40_000),
    editor=replace(LATENTS, batch=256, lr=1.5e-3, steps=20_000),
    weights=Weights(perceptual=0.3),
    crop=64,
    recipe=FLOW,
    common=False,
    images=400_000,
    pairs=400_000,
)
PRESETS = {"cpu": CPU, "gpu": GPU}
