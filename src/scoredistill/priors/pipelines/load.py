r"""Load a diffusers pipeline by hub name or directory, or take a pipeline object, and make it a prior.

For example,

    prior = load_prior("stable-diffusion-v1-5/stable-diffusion-v1-5", dtype=torch.float16, device="cuda")
    cond = prior.encode_text(["a hamburger"])

Pipelines are recognized by their class (`KINDS`); each family of models has a module beside this one. Pipelines of all
other classes are recorded (`RecordedPrior`).
"""

import copy
import os
import shutil
from collections.abc import Mapping
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from scoredistill.pretrained import BUNDLED, bundled_folder, quietly
from scoredistill.priors.pipelines.base import PipelinePrior
from scoredistill.priors.pipelines.deepfloyd import DeepFloydPrior
from scoredistill.priors.pipelines.flux import FluxKontextPrior, FluxPrior
from scoredistill.priors.pipelines.hub import INDICES, hub_options
from scoredistill.priors.pipelines.modular import is_modular, load_modular
from scoredistill.priors.pipelines.recorded import RecordedPrior, recorded
from scoredistill.priors.pipelines.stable_diffusion import InstructPix2PixPrior, StableDiffusionPrior
from scoredistill.priors.pipelines.stable_diffusion_3 import StableDiffusion3Prior
from scoredistill.priors.pipelines.stable_diffusion_xl import (
    StableDiffusionXLInstructPix2PixPrior,
    StableDiffusionXLPrior,
)
from scoredistill.priors.pipelines.trusted import check_folder, check_index
from scoredistill.priors.pipelines.weight_files import PICKLES, find_variant, load_single_file
from scoredistill.priors.vocabulary import Vocabulary

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
    config: str | Path | None = None,
    local_files_only: bool = False,
    max_rows: int | None = None,
    channels_last: bool = False,
    compile: bool = False,
    checkpointing: bool = False,
    window: int | None = None,
    offload: str | None = None,
    parts: Mapping[str, Any] | None = None,
    call: Mapping[str, Any] | None = None,
    token: str | bool | None = None,
) -> PipelinePrior | RecordedPrior:
    """Load a diffusion model as a prior.

    Args:
        source: "emoji" or "emoji-edit" (bundled), a hub name such as "stable-diffusion-v1-5/stable-diffusion-v1-5", a
            local directory with a `model_index.json`, or a `modular_model_index.json`, a single file of all weights
            (.safetensors), or a pipeline object, also a modular one with its components loaded. An object keeps
            working as before: its networks are frozen, in evaluation mode, and shared with the prior.
        dtype: floating-point type of the networks, float32 by default (for a pipeline object, its own); particles stay
            float32.
        device: "cuda" if available by default, else "cpu" (for a pipeline object, where it is). Networks of a pipeline
            object that have another dtype or device are copied.
        revision, local_files_only: as in diffusers' `from_pretrained`.
        variant: variant of the weights, such as "fp16"; one is found by itself where there are no others.
        config: of a single file, the directory or hub name of a model with its configuration (and tokenizers); by
            default the hub's model of the same architecture, whose configuration is downloaded once.
        max_rows: maximum number of batch rows per network call, to bound memory; results do not depend on it except
            for rounding.
        channels_last: store the weights of convolutions in this memory format; often faster in half precision.
        compile: compile the network with torch.compile; the first calls are slow.
        checkpointing: recompute the autoencoder in the backward pass instead of storing its activations.
        window: side in pixels of the windows in which larger images are encoded and decoded, see `Codec`.
        offload: "model" or "sequential", diffusers' modes of keeping weights on the CPU between their uses.
        parts: components that replace the model's own, or None to leave one out, for `from_pretrained`: for example
            {"text_encoder_3": None, "tokenizer_3": None} for Stable Diffusion 3 without T5.
        call: arguments with which a pipeline without an adapter is run to learn how it calls its network, for example
            {"height": 512, "width": 512, "num_frames": 17}; see `RecordedPrior`.
        token: access token of the hub, for models that need one; by default that of `huggingface-cli login`.

    Returns:
        The prior, with frozen networks in evaluation mode.

    Raises:
        ValueError: if there is no such model, it is of an unsupported kind, or its weights are not in safetensors.
    """
    dtype = _dtype(dtype) if isinstance(dtype, str) else dtype
    device = None if device is None else checked_device(device)
    _check_options(device, offload, max_rows)
    if isinstance(source, (str, Path)):
        name: str | None = str(source)
        options = {"revision": revision, "local_files_only": local_files_only}
        options |= {} if token is None else {"token": token}
        chosen = {"torch_dtype": dtype or torch.float32, "variant": variant, **(parts or {})}
        pipeline = _read(prior_folder(source), config, chosen, options)
        if offload is None:
            pipeline = pipeline.to(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    else:
        if parts or variant or revision or config:
            raise ValueError("a pipeline object has its own components: leave out parts, variant, revision and config")
        pipeline, name = source, None
        if device is not None or dtype is not None:
            _prior_of(type(pipeline).__mro__)
            pipeline = _converted(pipeline, device, dtype)
    if offload is not None and is_modular(pipeline):
        raise ValueError(
            "a modular pipeline is offloaded by its ComponentsManager: leave out offload, and give load_prior the "
            "pipeline object"
        )
    prior = _made(pipeline, name, call)
    prior.vocabulary = _vocabulary(pipeline, source)
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


def _check_options(device: torch.device | None, offload: str | None, max_rows: int | None) -> None:
    """Refuse impossible options of `load_prior`, before anything is read.

    Raises:
        ValueError: in one sentence.
    """
    if offload is not None and offload not in OFFLOAD:
        raise ValueError(f"unknown offload {offload!r}: use {' or '.join(OFFLOAD)}")
    if offload is not None and (not _accelerated() if device is None else device.type == "cpu"):
        raise ValueError(
            "offload keeps weights on the CPU between their uses by a GPU, and there is none here: leave it out"
        )
    if max_rows is not None and max_rows < 1:
        raise ValueError(f"max_rows must be at least 1, not {max_rows}")


def _read(folder: str, config: str | Path | None, chosen: dict[str, Any], options: dict[str, Any]) -> Any:
    """The pipeline of a directory, a hub name or a single file; the arguments as for `load_prior`.

    Raises:
        ValueError: if there is none, or options of another kind of source are given.
    """
    place = Path(folder)
    options = {**options, "local_files_only": options["local_files_only"] or place.is_dir()}
    if place.is_file():
        if chosen["variant"] is not None:
            raise ValueError(f"{folder} is a single file and has no variants: leave out variant")
        return load_single_file(place, config, chosen, options, _prior_of)
    if config is not None:
        raise ValueError(f"config belongs to single files, and {folder} has its own: leave it out")
    return _load_pipeline(folder, chosen, options)


def _vocabulary(pipeline: Any, source: Any) -> Vocabulary | None:
    """The vocabulary in the local folder of a model, given as for `load_prior`.

    Raises:
        ValueError: if it is damaged.
    """
    folder = prior_folder(source) if isinstance(source, (str, Path)) else pipeline.config.get("_name_or_path")
    return Vocabulary.read(Path(folder)) if folder and Path(folder).is_dir() else None


def prior_folder(source: str | Path) -> str:
    """Return the directory, file or hub name that `load_prior(source)` reads, after checks that need no reading.

    Raises:
        ValueError: if the source is neither a bundled name, nor a directory with a pipeline, nor a single file of
            weights, nor a hub name.
    """
    if str(source) in BUNDLED:
        return str(bundled_folder(str(source)))
    path = Path(source)
    if path.is_dir():
        if not any((path / index).is_file() for index in INDICES):
            raise ValueError(
                f"{path} is not a diffusers pipeline: it has no {' and no '.join(INDICES)}; give one that has"
            )
        return str(path)
    if path.suffix.lower() in PICKLES:
        raise ValueError(
            f"{path} is a pickle, which can run any code when it is loaded: convert it to .safetensors first, or load "
            "a model that has such weights"
        )
    if path.suffix.lower() == ".safetensors":
        if not path.is_file():
            raise ValueError(f"there is no file {path}")
        return str(path)
    if path.exists() or str(source).count("/") != 1 or not all(str(source).split("/")):
        raise ValueError(
            f"no prior {str(source)!r}: give {', '.join(map(repr, BUNDLED))} (bundled), a directory with a diffusers "
            "pipeline, a .safetensors file of all weights, or a hub name such as "
            "'stable-diffusion-v1-5/stable-diffusion-v1-5'"
        )
    return str(source)


def _load_pipeline(folder: str, chosen: Mapping[str, Any], options: Mapping[str, Any]) -> Any:
    from diffusers import DiffusionPipeline

    if not Path(folder).is_dir():
        options = hub_options(folder, options)
    # a hub download may take long: there, the libraries' own progress bars stay
    with quietly() if Path(folder).is_dir() else nullcontext():
        if not _has_index(folder, options):
            try:
                return load_modular(folder, chosen, options)
            except Exception as error:
                raise _failure(folder, error) from error
        try:
            index = check_index(DiffusionPipeline.load_config(folder, **options))
        except Exception as error:
            raise _failure(folder, error) from error
        _prior_of(index["_class_name"])
        if Path(folder).is_dir():
            found = find_variant(Path(folder), index, chosen)
            chosen = {**chosen, "variant": found}
        if "safety_checker" in index:  # it checks finished images, which distillation does not make
            chosen = {"safety_checker": None, "requires_safety_checker": False, **chosen}
        empty = [part for part, entry in index.items() if isinstance(entry, list) and not any(entry)]
        for part in (*empty, *OPTIONAL.get(index["_class_name"], ())):
            if not any(index.get(part) or ()):  # saved without it, but diffusers requires it unless it is None
                chosen = {part: None, **chosen}
        try:
            how = {"use_safetensors": True, **chosen, **options}
            local = folder if Path(folder).is_dir() else DiffusionPipeline.download(folder, **how)
            check_folder(Path(local))
            return DiffusionPipeline.from_pretrained(local, **how)
        except Exception as error:
            if chosen["variant"] is None and not Path(folder).is_dir() and _lacks_weights(error):
                with suppress(Exception):
                    half = {"use_safetensors": True, **chosen, **options, "variant": "fp16"}
                    local = DiffusionPipeline.download(folder, **half)
                    check_folder(Path(local))
                    return DiffusionPipeline.from_pretrained(local, **half)
            raise _failure(folder, error) from error


def _has_index(folder: str, options: Mapping[str, Any]) -> bool:
    """Whether a directory or a hub name has a model_index.json, which comes before that of a modular pipeline."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError

    if Path(folder).is_dir():
        return (Path(folder) / INDICES[0]).is_file()
    try:
        hf_hub_download(folder, INDICES[0], **options)
    except EntryNotFoundError:  # also of a cache that lacks it
        return False
    except Exception:  # of any other kind: said where the index is read
        return True
    return True


def _lacks_weights(error: Exception) -> bool:
    """Whether weights were not found, as in a repository that has them in half precision only."""
    return any(words in str(error) for words in ("variant", "no file named", "necessary `safetensors` weights"))


def _converted(pipeline: Any, device: torch.device | None, dtype: torch.dtype | None) -> Any:
    """A pipeline of the same networks, with converted copies of those that have another device or dtype.

    Raises:
        ValueError: if the pipeline is offloaded.
    """
    parts = {name: part for name, part in pipeline.components.items() if isinstance(part, nn.Module)}
    if any(hasattr(part, "_hf_hook") for part in parts.values()):
        raise ValueError(
            "an offloaded pipeline keeps its dtype and device: leave them out, or give load_prior the pipeline before "
            "it is offloaded, and offload='model'"
        )
    made = copy.copy(pipeline)
    for name, part in parts.items():
        tensors = [*part.parameters(), *part.buffers()]
        if any(_differs(tensor, device, dtype) for tensor in tensors):
            vars(made)[name] = copy.deepcopy(part)
    return made.to(*(each for each in (device, dtype) if each is not None))


def _differs(tensor: Tensor, device: torch.device | None, dtype: torch.dtype | None) -> bool:
    other = dtype is not None and tensor.is_floating_point() and tensor.dtype != dtype
    return other or (device is not None and torch.empty(0, device=device).device != tensor.device)


def _failure(folder: str, error: Exception) -> ValueError:
    lines = str(error).strip().splitlines()
    reason = lines[0] if lines else type(error).__name__
    return ValueError(f"cannot load {folder!r} as a pipeline with safetensors weights: {reason}")


def _prior_of(kind: str | tuple[type, ...]) -> type[PipelinePrior] | type[RecordedPrior]:
    """Return the prior of a pipeline class, given by name or as the classes it inherits from.

    Raises:
        ValueError: if it is no pipeline class of diffusers.
    """
    import diffusers  # takes seconds to import

    names = [kind] if isinstance(kind, str) else [c.__name__ for c in kind]
    for name in names:
        if name in KINDS:
            return KINDS[name]
    found = getattr(diffusers, names[0], None)
    if names[0] != "DiffusionPipeline" and (
        "DiffusionPipeline" in names
        or "ModularPipeline" in names
        or (isinstance(found, type) and issubclass(found, diffusers.DiffusionPipeline))
    ):
        return RecordedPrior
    raise ValueError(
        f"{names[0]} is not supported: load a pipeline of diffusers, such as {', '.join(list(KINDS)[:3])}, or wrap any "
        "network with Prior.from_callable(fn, schedule, prediction)"
    )


def _made(pipeline: Any, name: str | None, call: Mapping[str, Any] | None) -> PipelinePrior | RecordedPrior:
    """The prior of a pipeline.

    Raises:
        ValueError: if it is not understood, or `call` is given for one that is not recorded.
    """
    kind = _prior_of(type(pipeline).__mro__)
    if not issubclass(kind, RecordedPrior):
        if call:
            raise ValueError(f"call belongs to pipelines that are recorded, and {type(pipeline).__name__} is not")
        return kind(pipeline, name)
    try:
        return recorded(pipeline, name, call)
    except Exception as error:  # of any kind: the pipeline runs
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise ValueError(
            f"{type(pipeline).__name__} cannot be made a prior by running it: {lines[0]}; wrap its network with "
            "Prior.from_callable(fn, schedule, prediction)"
        ) from error


def checked_device(device: str | torch.device, others: str = "") -> torch.device:
    """A device by its name.

    Args:
        device: the name, or a device.
        others: what else could be given, to end the message.

    Raises:
        ValueError: if there is no such device.
    """
    try:
        device = torch.device(device)
    except RuntimeError as error:
        raise ValueError(f"unknown device {device!r}: use cpu, cuda, cuda:1 or mps{others}") from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ValueError("torch finds no CUDA device: use device cpu, or install a CUDA build of torch")
    return device


def _accelerated() -> bool:
    """Whether there is a device to run on besides the CPU."""
    return torch.cuda.is_available() or torch.backends.mps.is_available() or torch.xpu.is_available()


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
