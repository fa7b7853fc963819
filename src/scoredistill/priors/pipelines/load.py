r"""Load a diffusers pipeline by hub name or directory, or take a pipeline object, and make it a prior.

For example,

    prior = load_prior("stable-diffusion-v1-5/stable-diffusion-v1-5", dtype=torch.float16, device="cuda")
    cond = prior.encode_text(["a hamburger"])

Pipelines are recognized by their class (`KINDS`); each family of models has a module beside this one.
"""

import os
import shutil
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch

from scoredistill.pretrained import BUNDLED, bundled_folder, quietly
from scoredistill.priors.pipelines.base import PipelinePrior
from scoredistill.priors.pipelines.deepfloyd import DeepFloydPrior
from scoredistill.priors.pipelines.flux import FluxKontextPrior, FluxPrior
from scoredistill.priors.pipelines.hub import hub_options
from scoredistill.priors.pipelines.stable_diffusion import InstructPix2PixPrior, StableDiffusionPrior
from scoredistill.priors.pipelines.stable_diffusion_3 import StableDiffusion3Prior
from scoredistill.priors.pipelines.stable_diffusion_xl import (
    StableDiffusionXLInstructPix2PixPrior,
    StableDiffusionXLPrior,
)
from scoredistill.priors.pipelines.trusted import check_folder, check_index

KINDS: dict[str, type[PipelinePrior]] = {
    "StableDiffusionPipeline": StableDiffusionPrior,
    "StableDiffusionImg2ImgPipeline": StableDiffusionPrior,
    "StableDiffusionInstructPix2PixPipeline": InstructPix2PixPrior,
    "StableDiffusionXLPipeline": StableDiffusionXLPrior,
    "StableDiffusionXLImg2ImgPipeline": StableDiffusionXLPrior,
    "StableDiffusionXLInstructPix2PixPipeline": StableDiffusionXLInstructPix2PixPrior,
    "IFPipeline": DeepFloydPrior,
    "IFImg2ImgPipeline": DeepFloydPrior,
    "StableDiffusion3Pipeline": StableDiffusion3Prior,
    "StableDiffusion3Img2ImgPipeline": StableDiffusion3Prior,
    "FluxPipeline": FluxPrior,
    "FluxImg2ImgPipeline": FluxPrior,
    "FluxKontextPipeline": FluxKontextPrior,
}
OFFLOAD = ("model", "sequential")
OPTIONAL = {"StableDiffusion3Pipeline": ("text_encoder_3", "tokenizer_3")}  # components that a directory may lack


def load_prior(
    source: Any = "emoji",
    *,
    dtype: torch.dtype | str | None = None,
    device: torch.device | str | None = None,
    revision: str | None = None,
    variant: str | None = None,
    local_files_only: bool = False,
    max_rows: int | None = None,
    channels_last: bool = False,
    compile: bool = False,
    checkpointing: bool = False,
    window: int | None = None,
    offload: str | None = None,
    parts: Mapping[str, Any] | None = None,
) -> PipelinePrior:
    """Load a diffusion model as a prior.

    Args:
        source: "emoji" or "emoji-edit" (bundled), a hub name such as "stable-diffusion-v1-5/stable-diffusion-v1-5", a
            local directory with a `model_index.json`, or a pipeline object.
        dtype: floating-point type of the networks, float32 by default (a pipeline object keeps its own); particles stay
            float32.
        device: "cuda" if available by default, else "cpu" (a pipeline object stays where it is).
        revision, variant, local_files_only: as in diffusers' `from_pretrained`.
        max_rows: maximum number of batch rows per network call, to bound memory; results do not depend on it except
            for rounding.
        channels_last: store the weights of convolutions in this memory format; often faster in half precision.
        compile: compile the network with torch.compile; the first calls are slow.
        checkpointing: recompute the autoencoder in the backward pass instead of storing its activations.
        window: side in pixels of the windows in which larger images are encoded and decoded, see `Codec`.
        offload: "model" or "sequential", diffusers' modes of keeping weights on the CPU between their uses.
        parts: components that replace the model's own, or None to leave one out, for `from_pretrained`: for example
            {"text_encoder_3": None, "tokenizer_3": None} for Stable Diffusion 3 without T5.

    Returns:
        The prior, with frozen networks in evaluation mode.

    Raises:
        ValueError: if there is no such model, it is of an unsupported kind, or its weights are not in safetensors.
    """
    if isinstance(dtype, str):
        dtype = _dtype(dtype)
    if device is not None:
        device = _device(device)
    if offload is not None and offload not in OFFLOAD:
        raise ValueError(f"unknown offload {offload!r}: use {' or '.join(OFFLOAD)}")
    if max_rows is not None and max_rows < 1:
        raise ValueError(f"max_rows must be at least 1, not {max_rows}")
    if isinstance(source, (str, Path)):
        folder, name = prior_folder(source), str(source)
        options = {"revision": revision, "local_files_only": local_files_only or Path(folder).is_dir()}
        chosen = {"torch_dtype": dtype or torch.float32, "variant": variant, **(parts or {})}
        pipeline = _load_pipeline(folder, chosen, options)
        if offload is None:
            pipeline = pipeline.to(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    else:
        if parts:
            raise ValueError("a pipeline object has its own components: replace them in the pipeline")
        pipeline, name = source, None
        if given := [each for each in (device, dtype) if each is not None]:
            _prior_of(type(pipeline).__mro__)
            pipeline = pipeline.to(*given)
    prior = _prior_of(type(pipeline).__mro__)(pipeline, name)
    prior.max_rows = max_rows
    prior.codec.window = window
    if offload is not None:
        getattr(pipeline, f"enable_{offload}_cpu_offload")(**({} if device is None else {"device": device}))
    if channels_last:
        prior.network.to(memory_format=torch.channels_last)
    if checkpointing:
        prior.codec.checkpoint()
    if compile:
        _check_compiler(prior.device)
        prior.network.compile()
    return prior


def prior_folder(source: str | Path) -> str:
    """Return the directory or hub name that `load_prior(source)` reads, after checks that need no reading.

    Raises:
        ValueError: if the source is neither a bundled name, nor a directory with a pipeline, nor a hub name.
    """
    if str(source) in BUNDLED:
        return str(bundled_folder(str(source)))
    path = Path(source)
    if path.is_dir():
        if not (path / "model_index.json").is_file():
            raise ValueError(f"{path} is not a diffusers pipeline: it has no model_index.json")
        return str(path)
    if path.exists() or str(source).count("/") != 1 or not all(str(source).split("/")):
        raise ValueError(
            f"no prior {str(source)!r}: give {', '.join(map(repr, BUNDLED))} (bundled), a directory with a diffusers "
            "pipeline, or a hub name such as 'stable-diffusion-v1-5/stable-diffusion-v1-5'"
        )
    return str(source)


def _load_pipeline(folder: str, chosen: Mapping[str, Any], options: Mapping[str, Any]) -> Any:
    from diffusers import DiffusionPipeline

    if not Path(folder).is_dir():
        options = hub_options(folder, options)
    # a hub download may take long: there, the libraries' own progress bars stay
    with quietly() if Path(folder).is_dir() else nullcontext():
        try:
            index = check_index(DiffusionPipeline.load_config(folder, **options))
        except Exception as error:
            raise _failure(folder, error) from error
        _prior_of(index["_class_name"])
        if "safety_checker" in index:  # it checks finished images, which distillation does not make
            chosen = {"safety_checker": None, "requires_safety_checker": False, **chosen}
        for part in OPTIONAL.get(index["_class_name"], ()):
            if not any(index.get(part) or ()):  # saved without it, but diffusers requires it unless it is None
                chosen = {part: None, **chosen}
        try:
            how = {"use_safetensors": True, **chosen, **options}
            local = folder if Path(folder).is_dir() else DiffusionPipeline.download(folder, **how)
            check_folder(Path(local))
            return DiffusionPipeline.from_pretrained(local, **how)
        except Exception as error:
            raise _failure(folder, error) from error


def _failure(folder: str, error: Exception) -> ValueError:
    lines = str(error).strip().splitlines()
    reason = lines[0] if lines else type(error).__name__
    return ValueError(f"cannot load {folder!r} as a pipeline with safetensors weights: {reason}")


def _prior_of(kind: str | tuple[type, ...]) -> type[PipelinePrior]:
    """Return the prior of a pipeline class, given by name or as the classes it inherits from.

    Raises:
        ValueError: if there is none.
    """
    names = [kind] if isinstance(kind, str) else [c.__name__ for c in kind]
    for name in names:
        if name in KINDS:
            return KINDS[name]
    raise ValueError(
        f"{names[0]} is not supported: load one of {', '.join(KINDS)}, or wrap any network with "
        "Prior.from_callable(fn, schedule, prediction)"
    )


def _device(device: str | torch.device) -> torch.device:
    try:
        device = torch.device(device)
    except RuntimeError as error:
        raise ValueError(f"unknown device {device!r}: use cpu, cuda, cuda:1 or mps") from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ValueError("torch finds no CUDA device: use device cpu, or install a CUDA build of torch")
    return device


def _check_compiler(device: torch.device) -> None:
    if device.type == "cpu" and not any(
        shutil.which(name) for name in (os.environ.get("CXX", ""), "g++", "clang++", "cl")
    ):
        raise ValueError("compiling for a CPU needs a C++ compiler: install g++, or use compile=False")


def _dtype(name: str) -> torch.dtype:
    dtype = getattr(torch, name, None)
    if not (isinstance(dtype, torch.dtype) and dtype.is_floating_point):
        raise ValueError(f"unknown dtype {name!r}: use float32, float16 or bfloat16")
    return dtype
