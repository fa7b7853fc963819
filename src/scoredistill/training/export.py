"""Write the trained networks as the folders that diffusers and transformers read, in half precision.

``emoji/`` is a complete `StableDiffusionPipeline`, ``emoji-edit/`` a complete `StableDiffusionInstructPix2PixPipeline`,
``clip/`` a `CLIPModel` with its tokenizer and image processor.
"""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

from diffusers import AutoencoderKL, StableDiffusionInstructPix2PixPipeline, StableDiffusionPipeline
from torch import nn
from transformers import CLIPModel, CLIPTokenizer

from scoredistill.datasets.emoji import SIZE
from scoredistill.training.tokenizer import copy_tokenizer
from scoredistill.training.unet import TextToImage, build_scheduler


def export_pipeline(
    folder: Path,
    network: TextToImage,
    autoencoder: AutoencoderKL,
    tokenizer: CLIPTokenizer,
    tokenizer_folder: Path,
    editor: bool = False,
) -> None:
    """Write a pipeline folder; the networks themselves are not changed.

    Args:
        editor: write a `StableDiffusionInstructPix2PixPipeline` instead of a `StableDiffusionPipeline`.
    """
    kind = StableDiffusionInstructPix2PixPipeline if editor else StableDiffusionPipeline
    pipeline = kind(
        vae=half(autoencoder),
        text_encoder=half(network.text_encoder),
        tokenizer=tokenizer,
        unet=half(network.unet),
        scheduler=build_scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.save_pretrained(folder, safe_serialization=True)
    declare_float32(folder / "text_encoder" / "config.json")
    copy_tokenizer(tokenizer_folder, folder / "tokenizer")
    forget_origin(folder)
    make_readable(folder)


def export_clip(folder: Path, model: CLIPModel, tokenizer_folder: Path) -> None:
    """Write a `CLIPModel` folder with everything that `CLIPProcessor` needs."""
    half(model).save_pretrained(folder, safe_serialization=True)
    declare_float32(folder / "config.json")
    copy_tokenizer(tokenizer_folder, folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(image_processor_settings(), indent=2))
    make_readable(folder)


def image_processor_settings() -> dict[str, object]:
    """`CLIPImageProcessor`: the shorter side becomes 64 pixels, the middle is kept, [0, 1] becomes [-1, 1]."""
    return {
        "image_processor_type": "CLIPImageProcessor",
        "do_convert_rgb": True,
        "do_resize": True,
        "size": {"shortest_edge": SIZE},
        "resample": 3,
        "do_center_crop": True,
        "crop_size": {"height": SIZE, "width": SIZE},
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": [0.5, 0.5, 0.5],
        "image_std": [0.5, 0.5, 0.5],
    }


def half(network: nn.Module) -> Any:
    """A copy in half precision."""
    return copy.deepcopy(network).half().cpu().eval()


def declare_float32(config: Path) -> None:
    """State single precision in a transformers config: the file is half as large, but a CPU computes in float32."""
    settings = json.loads(config.read_text())

    def declare(part: dict) -> dict:
        part = {key: declare(value) if isinstance(value, dict) else value for key, value in part.items()}
        return part | {key: "float32" for key in ("dtype", "torch_dtype") if key in part}

    config.write_text(json.dumps(declare(settings), indent=2) + "\n")


def forget_origin(folder: Path) -> None:
    """Remove from the configurations the folder that training started from."""
    for config in folder.rglob("*.json"):
        settings = json.loads(config.read_text())
        if isinstance(settings, dict) and settings.pop("_name_or_path", None) is not None:
            config.write_text(json.dumps(settings, indent=2) + "\n")


def make_readable(folder: Path) -> None:
    """safetensors writes files that only their owner may read."""
    for path in folder.rglob("*.safetensors"):
        path.chmod(0o644)
