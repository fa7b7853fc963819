"""Tiny random modular pipelines, of the components of `tiny_recorded` and `tiny_videos`."""

import sys
import types
from typing import NamedTuple

import diffusers

import tiny_recorded
import tiny_videos


class Modular(NamedTuple):
    """A modular pipeline: the name of its blocks, a tiny pipeline of other form with its components, and more
    arguments of a call."""

    blocks: str
    source: str
    call: dict = {}


OTHERS = tiny_recorded.KINDS | tiny_videos.KINDS
KINDS = {
    "XL": Modular("StableDiffusionXLAutoBlocks", "XL"),
    "Stable Diffusion 3": Modular("StableDiffusion3AutoBlocks", "Stable Diffusion 3"),
    "FLUX.1": Modular("FluxAutoBlocks", "FLUX.1"),
    "FLUX.1 Kontext": Modular("FluxKontextAutoBlocks", "FLUX.1 Kontext"),
    "FLUX.2": Modular("Flux2AutoBlocks", "FLUX.2"),
    "Z-Image": Modular("ZImageAutoBlocks", "Z-Image"),
    "Qwen-Image": Modular("QwenImageAutoBlocks", "Qwen-Image"),
    "Qwen-Image-Edit": Modular("QwenImageEditAutoBlocks", "Qwen-Image-Edit"),
    "Wan": Modular("WanBlocks", "Wan"),
    "Wan 2.2": Modular("Wan22Blocks", "Wan 2.2"),
    "LTX": Modular("LTXAutoBlocks", "LTX"),
    "HunyuanVideo 1.5": Modular("HunyuanVideo15AutoBlocks", "HunyuanVideo 1.5"),
}


def make(kind: Modular):
    """The modular pipeline and the arguments of a small call."""
    source = OTHERS[kind.source]
    other = tiny_recorded.make(source)
    parts = other.components
    blocks = getattr(diffusers, kind.blocks)()
    pipeline = blocks.init_pipeline()
    for block in blocks.sub_blocks.values():
        module = sys.modules[type(block).__module__]
        for inner in getattr(block, "sub_blocks", {}).values():  # which would scale source images to a megapixel
            if hasattr(sys.modules[type(inner).__module__], "calculate_dimensions"):
                sys.modules[type(inner).__module__].calculate_dimensions = tiny_recorded.small
        if hasattr(module, "is_ftfy_available") and not hasattr(module, "ftfy"):
            module.ftfy = types.SimpleNamespace(fix_text=str)  # an optional package that mends Unicode
    pipeline.update_components(**{name: part for name, part in parts.items() if name in pipeline.components})
    if other.config.get("boundary_ratio"):
        pipeline.update_components(boundary_ratio=other.config["boundary_ratio"])
    return pipeline, {**source.call, **kind.call}
