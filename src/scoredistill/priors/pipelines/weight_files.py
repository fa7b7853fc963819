"""The files of a model's weights: variants in a directory, all weights in one file, and pickles, which are refused.

In diffusers' format a component's directory has `model.safetensors` or `diffusion_pytorch_model.safetensors`, possibly
in shards (`-00001-of-00002`) and in variants of other precision (`model.fp16.safetensors`). Older collections keep all
networks of a pipeline in one file, which has no configuration and no tokenizers.
"""

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from scoredistill.pretrained import quietly

PICKLES = (".ckpt", ".bin", ".pt", ".pth", ".pkl")
STEMS = ("diffusion_pytorch_model", "model", "pytorch_model")
SHARD = re.compile(r"-\d{5}-of-\d{5}")
PREFERRED = {torch.float16: "fp16", torch.bfloat16: "bf16"}


def find_variant(folder: Path, index: Mapping[str, Any], chosen: Mapping[str, Any]) -> str | None:
    """The variant to load from a directory: the wanted one, or one that all components without plain weights have.

    Args:
        folder: directory of the pipeline.
        index: its model_index.json.
        chosen: options of loading: "variant", "torch_dtype", which decides between variants, and components that need
            no loading.

    Raises:
        ValueError: if there are pickles alone, not the wanted variant, or none that all have.
    """
    wanted, lacking, every = chosen.get("variant"), [], set()
    for name, entry in index.items():
        part = folder / name
        if isinstance(entry, list) and any(entry) and name not in chosen and part.is_dir() and name != "safety_checker":
            variants = _variants(part)
            every |= variants - {""}
            if variants and "" not in variants:
                lacking.append(variants)
    if wanted is not None:
        if wanted not in every:
            has = f"it has {', '.join(sorted(every))}" if every else "it has none"
            raise ValueError(f"{folder} has no weights of the variant {wanted!r}, {has}: choose among these, or none")
        return str(wanted)
    if not lacking:
        return None
    common = set.intersection(*lacking)
    if not common:
        raise ValueError(
            f"the components of {folder} have no variant of their weights in common ({', '.join(sorted(every))}): "
            "download them in one variant"
        )
    preferred = [PREFERRED.get(chosen.get("torch_dtype", torch.float32), "fp16"), "fp16", "bf16", *sorted(common)]
    return next(each for each in preferred if each in common)


def _variants(part: Path) -> set[str]:
    """The variants of a component's weights in safetensors, "" for plain ones.

    Raises:
        ValueError: if it has pickles alone.
    """
    found, pickles = set(), []
    for file in part.iterdir():
        stem, _, variant = SHARD.sub("", file.stem).partition(".")
        if stem in STEMS and file.suffix == ".safetensors":
            found.add(variant)
        elif stem in STEMS and file.suffix in PICKLES:
            pickles.append(file)
    if pickles and not found:
        raise ValueError(
            f"{pickles[0]} is a pickle, which can run any code when it is loaded, and there are no safetensors weights "
            "beside it: convert it first, by save_pretrained of a pipeline that you trust"
        )
    return found


def load_single_file(
    path: Path, config: Any, chosen: Mapping[str, Any], options: Mapping[str, Any], check: Callable[[str], object]
) -> Any:
    """Load a pipeline from one file of all weights.

    Args:
        path: the file.
        config: directory or hub name of a model with the configuration; by default the hub's of the architecture.
        chosen: options of loading, and components that replace others.
        options: "revision" and "local_files_only" for the hub.
        check: raises ValueError for classes of pipelines that are not supported.

    Raises:
        ValueError: if the file cannot be read, its configuration cannot be had, or the weights do not fit it.
    """
    import diffusers

    architecture = _architecture(path)
    folder = _configuration(path, architecture if config is None else str(config), options)
    kind = json.loads((folder / "model_index.json").read_text())["_class_name"]
    check(kind)
    given = {name: value for name, value in chosen.items() if name != "variant"}
    try:
        with quietly():
            return getattr(diffusers, kind).from_single_file(
                str(path), config=str(folder), local_files_only=True, **given
            )
    except Exception as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ValueError(
            f"cannot load {path} with the configuration of {config or architecture}: {reason}; give config= a "
            "directory or hub name of a model of the same architecture"
        ) from error


def _architecture(path: Path) -> str:
    """The hub name of the model that diffusers takes for the one of this architecture."""
    from diffusers.loaders.single_file_utils import fetch_diffusers_config

    try:
        with path.open("rb") as file:  # the number of bytes of a header in JSON, and that
            size = int.from_bytes(file.read(8), "little")
            if size > path.stat().st_size - 8:
                raise ValueError("its header is longer than the file")
            header = json.loads(file.read(size))
        shapes = {name: entry["shape"] for name, entry in header.items() if name != "__metadata__"}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"cannot read {path} as safetensors: {error}") from error
    empty: dict[str, Tensor] = {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}
    return str(fetch_diffusers_config(empty)["pretrained_model_name_or_path"])


def _configuration(path: Path, source: str, options: Mapping[str, Any]) -> Path:
    """A directory with the configuration of a model, downloaded if need be."""
    folder = Path(source)
    if not folder.is_dir():
        from diffusers.loaders.single_file import _download_diffusers_model_config_from_hub as download

        try:
            folder = Path(download(source, cache_dir=None, proxies=None, **options))
        except Exception as error:
            raise ValueError(
                f"the configuration for {path}, that of {source}, is not here and cannot be downloaded: give config= "
                "the directory of a model of the same architecture in diffusers' format, or connect to the hub once"
            ) from error
    if not (folder / "model_index.json").is_file():
        raise ValueError(f"{source} has no model_index.json: give config= a model in diffusers' format")
    return folder
