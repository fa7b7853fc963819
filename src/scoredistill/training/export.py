"""Export of the trained networks in half precision, as folders that diffusers and transformers load.

emoji/ is a complete `StableDiffusionPipeline`, emoji-edit/ a complete `StableDiffusionInstructPix2PixPipeline`, and
clip/ a `CLIPModel` with its tokenizer and image processor.
"""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

from diffusers import AutoencoderKL, StableDiffusionInstructPix2PixPipeline, StableDiffusionPipeline
from torch import nn
from transformers import CLIPModel, CLIPTokenizer

from scoredistill.files import write_json, write_text
from scoredistill.training.clip import SIZE
from scoredistill.training.objective import Objective
from scoredistill.training.tokenizer import copy_tokenizer
from scoredistill.training.unet import TextToImage


def export_pipeline(
    folder: Path,
    network: TextToImage,
    autoencoder: AutoencoderKL,
    tokenizer: CLIPTokenizer,
    tokenizer_folder: Path,
    editor: bool = False,
    objective: Objective = Objective(),
) -> None:
    """Write a pipeline folder; the networks themselves are not changed.

    Args:
        folder: to write.
        network: UNet and text encoder.
        autoencoder: of the latents.
        tokenizer: of the prompts.
        tokenizer_folder: with the files of the tokenizer.
        editor: write a `StableDiffusionInstructPix2PixPipeline` instead of a `StableDiffusionPipeline`.
        objective: with which the network was trained, which determines the scheduler.
    """
    kind = StableDiffusionInstructPix2PixPipeline if editor else StableDiffusionPipeline
    pipeline = kind(
        vae=half(autoencoder),
        text_encoder=half(network.text_encoder),
        tokenizer=tokenizer,
        unet=half(network.unet),
        scheduler=objective.scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.save_pretrained(folder, safe_serialization=True)
    declare_float32(folder / "text_encoder" / "config.json")
    copy_tokenizer(tokenizer_folder, folder / "tokenizer")
    forget_origin(folder)
    make_readable(folder)


def export_autoencoder(folder: Path, autoencoder: AutoencoderKL) -> None:
    """Write the folder of an autoencoder alone, from which training can start and `AutoencoderKL` loads."""
    half(autoencoder).save_pretrained(folder, safe_serialization=True)
    forget_origin(folder)
    make_readable(folder)


def export_clip(folder: Path, model: CLIPModel, tokenizer_folder: Path) -> None:
    """Write a `CLIPModel` folder with all files that `CLIPProcessor` needs."""
    half(model).save_pretrained(folder, safe_serialization=True)
    declare_float32(folder / "config.json")
    copy_tokenizer(tokenizer_folder, folder)
    write_text(folder / "preprocessor_config.json", json.dumps(image_processor_settings(), indent=2))
    make_readable(folder)


def image_processor_settings() -> dict[str, object]:
    """Settings of `CLIPImageProcessor`: resize the shorter side to 64 pixels, crop the center, scale to [-1, 1]."""
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
    """Set the dtype of a transformers config to float32, in which a CPU computes with the half-precision weights."""
    settings = json.loads(config.read_text())

    def declare(part: dict) -> dict:
        part = {key: declare(value) if isinstance(value, dict) else value for key, value in part.items()}
        return part | {key: "float32" for key in ("dtype", "torch_dtype") if key in part}

    write_json(config, declare(settings), indent=2)


def forget_origin(folder: Path) -> None:
    """Remove the path of the initial networks from the configuration files."""
    for config in folder.rglob("*.json"):
        settings = json.loads(config.read_text())
        if isinstance(settings, dict) and settings.pop("_name_or_path", None) is not None:
            write_json(config, settings, indent=2)


def make_readable(folder: Path) -> None:
    """Make safetensors files readable by everyone; by default only their owner may read them."""
    for path in folder.rglob("*.safetensors"):
        path.chmod(0o644)
