"""Modular Diffusers: pipelines made of blocks, with the same attributes and arguments as other pipelines.

A modular pipeline is recorded as any other (see `recorded`): its blocks before the loop make the arguments of the
network, which are recorded with the guider switched off, and the loop's blocks are not run again for a prediction.

The directory of a modular pipeline has a modular_model_index.json in place of a model_index.json. Its components may
lie in the directory, or in other directories and repositories.
"""

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from scoredistill.priors.pipelines.trusted import MODULAR, check_component, check_modular_index, read_json
from scoredistill.priors.pipelines.weight_files import find_variant

TEXTS = ("*.json", "*.txt", "*.model", "*.jinja")  # configurations and tokenizers


def is_modular(pipeline: Any) -> bool:
    """Whether a pipeline is made of blocks."""
    return any(kind.__name__ == "ModularPipeline" for kind in type(pipeline).__mro__)


def blocks_of(pipeline: Any) -> Any:
    """The blocks of a modular pipeline themselves; its property `blocks` may copy them."""
    return vars(pipeline).get("_blocks") or pipeline.blocks


def arguments_of(pipeline: Any) -> set[str]:
    """Names of the arguments that a pipeline takes."""
    if is_modular(pipeline):
        return {each.name for each in blocks_of(pipeline).inputs if each.name}
    return set(inspect.signature(pipeline.__call__).parameters)


def loops_of(pipeline: Any) -> list[Any]:
    """The loops among the blocks of a modular pipeline; none of another pipeline."""
    if not is_modular(pipeline):
        return []
    found, waiting = [], [blocks_of(pipeline)]
    while waiting:
        block = waiting.pop()
        found += [block] * hasattr(block, "loop_step")
        waiting += getattr(block, "sub_blocks", {}).values()
    return found


def load_modular(source: str, chosen: Mapping[str, Any], options: Mapping[str, Any]) -> Any:
    """Load a modular pipeline with all components that it names a place of.

    Args:
        source: a directory with a modular_model_index.json, or a hub name.
        chosen: `torch_dtype`, `variant`, and components that replace those of the model.
        options: of the hub: `revision`, `local_files_only` and `token`.

    Raises:
        ValueError: if it asks for code other than that of diffusers and transformers, or lacks a component.
    """
    import diffusers  # takes seconds to import

    folder = Path(source) if Path(source).is_dir() else _downloaded(source, (MODULAR, "modular_config.json"), options)
    index = check_modular_index(read_json(MODULAR, folder / MODULAR))
    if (folder / "modular_config.json").exists():
        raise ValueError("it brings its own blocks (modular_config.json), whose code is not executed")
    blocks = getattr(diffusers, index["_blocks_class_name"])()
    pipeline = getattr(diffusers, index["_class_name"])(blocks=blocks, modular_config_dict=dict(index))
    parts = {name: value for name, value in chosen.items() if name not in ("torch_dtype", "variant")}
    given = {name: value for name, value in parts.items() if value is not None}
    if unknown := [name for name in given if name not in pipeline.components]:
        raise ValueError(f"it has no component {', '.join(unknown)}: its own are {', '.join(pipeline.components)}")
    pipeline.update_components(**given)
    for name, entry in index.items():
        if isinstance(entry, (list, tuple)) and name in pipeline.components and name not in parts:
            place = _place(source, folder, name, entry[2], chosen["variant"], options)
            if place is not None:
                pipeline.register_components(**{name: _component(pipeline, name, place, entry, chosen)})
    return pipeline


def _place(
    source: str, folder: Path, name: str, spec: Mapping[str, Any], variant: str | None, options: Mapping[str, Any]
) -> Path | None:
    """The local directory of a component; None for one that the model leaves out."""
    below = spec.get("subfolder") or ""
    if below and (folder / below).is_dir():
        return folder / below
    where = spec.get("pretrained_model_name_or_path")
    if not where:
        return None
    if (Path(where) / below).is_dir():
        return Path(where) / below
    if str(where).count("/") != 1 or Path(where).is_absolute():
        raise ValueError(f"its component {name} is not in {folder / below}: copy the whole directory of the model")
    kind = variant or spec.get("variant")
    weights = f"*.{kind}*.safetensors*" if kind else "*.safetensors*"
    there = {**options, "revision": spec.get("revision") or (options.get("revision") if where == source else None)}
    wanted = [f"{below}/{pattern}" if below else pattern for pattern in (*TEXTS, weights)]
    return _downloaded(where, wanted, there, () if kind else ("*.fp16*", "*.bf16*", "*.non_ema*")) / below


def _downloaded(
    name: str, wanted: tuple[str, ...] | list[str], options: Mapping[str, Any], unwanted: tuple[str, ...] = ()
) -> Path:
    """The local directory of some files of a repository of the hub."""
    from huggingface_hub import snapshot_download

    return Path(snapshot_download(name, allow_patterns=list(wanted), ignore_patterns=list(unwanted) or None, **options))


def _component(pipeline: Any, name: str, place: Path, entry: Any, chosen: Mapping[str, Any]) -> Any:
    """A component of a modular pipeline, from its local directory.

    Raises:
        ValueError: if its files ask for other code, or it cannot be loaded.
    """
    check_component(name, place, entry[2]["type_hint"][0])
    spec = pipeline.get_component_spec(name)
    how: dict[str, Any] = {"pretrained_model_name_or_path": str(place.parent if place.name else place)}
    how |= {"subfolder": place.name, "revision": None, "variant": None}
    if issubclass(spec.type_hint, nn.Module):
        variant = chosen["variant"] or entry[2].get("variant")
        own = {name: entry[2]["type_hint"]}
        how["variant"] = variant or find_variant(place.parent, own, {"variant": None})
        how |= {"torch_dtype": chosen["torch_dtype"], "use_safetensors": True}
    return spec.load(**how)
