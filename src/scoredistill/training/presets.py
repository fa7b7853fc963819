"""Training presets: "cpu" (common concepts, a few hours on two cores) and "gpu" (all concepts)."""

from __future__ import annotations

from dataclasses import dataclass

from scoredistill.training.loop import Plan


@dataclass(frozen=True)
class Preset:
    """Training plans of the networks, and sizes of their data.

    Attributes:
        autoencoder, clip, unet, editor: plans of the stages.
        common: train the text-to-image model on the concepts of common_concepts.txt only.
        variants: images per emoji that are composed and encoded before the UNet is trained.
        pairs: pairs that are made and encoded before the editor is trained.
    """

    autoencoder: Plan
    clip: Plan
    unet: Plan
    editor: Plan
    common: bool
    variants: int
    pairs: int


CPU = Preset(
    autoencoder=Plan(batch=16, lr=2e-3, minutes=33.0, bfloat16=True),
    clip=Plan(batch=128, lr=1.5e-3, minutes=70.0, weight_decay=0.1, bfloat16=True),
    unet=Plan(batch=16, parts=2, lr=2e-3, minutes=59.0, slow="text_encoder", slow_factor=0.5, bfloat16=True),
    editor=Plan(batch=32, lr=1.5e-3, minutes=90.0, slow="text_encoder", slow_factor=0.5, bfloat16=True),
    common=True,
    variants=12,
    pairs=60_000,
)
GPU = Preset(
    autoencoder=Plan(batch=64, lr=2e-3, steps=20_000, bfloat16=True),
    clip=Plan(batch=512, lr=1e-3, steps=10_000, weight_decay=0.1, bfloat16=True),
    unet=Plan(batch=256, lr=1.5e-3, steps=40_000, slow="text_encoder", slow_factor=0.5, bfloat16=True),
    editor=Plan(batch=256, lr=1.5e-3, steps=20_000, slow="text_encoder", slow_factor=0.5, bfloat16=True),
    common=False,
    variants=16,
    pairs=400_000,
)
PRESETS = {"cpu": CPU, "gpu": GPU}
