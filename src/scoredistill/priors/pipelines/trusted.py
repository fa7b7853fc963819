"""Checks of the folder of a model before diffusers reads it: it may name classes of diffusers and transformers only.

`model_index.json` names a library and a class for each component. Several versions of diffusers import that library, or
a Python file of that name in the folder, whatever it is. The configurations of the components can ask transformers for
code from the folder or from the hub. None of this is executed here: such models are refused.

`modular_model_index.json` of a modular pipeline names besides the class of its blocks, and for each component a place.
"""

import inspect
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

MODULAR = "modular_model_index.json"
KERNELS = ("attn_implementation", "experts_implementation")  # ends of keys that may name a repository of kernels


def check_index(index: object) -> Mapping[str, Any]:
    """Check the content of a model_index.json.

    Returns:
        The index, which has the name of a class and, for each component, the names of a library and of a class.

    Raises:
        ValueError: if it is no index, or a component is not of a class of diffusers or transformers.
    """
    if not isinstance(index, Mapping) or not isinstance(index.get("_class_name"), str):
        raise ValueError("its model_index.json names no pipeline class (_class_name): save the pipeline again")
    for name, value in index.items():
        if not isinstance(value, (list, tuple)):
            continue
        if len(value) == 2 and all(part is None for part in value):
            continue
        _check_entry("model_index.json", name, value)
    return index


def check_modular_index(index: object) -> Mapping[str, Any]:
    """Check the content of a modular_model_index.json.

    Returns:
        The index, which has the names of a pipeline class and of a class of blocks and, for each component, those of a
        library and a class and a mapping with its place.

    Raises:
        ValueError: if it is no index, or a class is none of diffusers or transformers.
    """
    if not isinstance(index, Mapping):
        raise ValueError(f"its {MODULAR} is no index of a modular pipeline: save the pipeline again")
    for key, base in (("_class_name", "ModularPipeline"), ("_blocks_class_name", "ModularPipelineBlocks")):
        if not _is_modular(index.get(key), base):
            raise ValueError(
                f"its {MODULAR} gives {key} as {json.dumps(index.get(key))[:80]}, which is no {base} of diffusers; "
                "other blocks are not executed: load the pipeline yourself, and give load_prior the object"
            )
    for name, value in index.items():
        if not isinstance(value, (list, tuple)):
            continue
        place = value[2] if len(value) == 3 else None
        if not isinstance(place, Mapping) or not isinstance(place.get("type_hint"), (list, tuple)):
            raise ValueError(_refused(MODULAR, name, value))
        placed = place.get("pretrained_model_name_or_path") is not None
        for entry, needed in ((value[:2], False), (place["type_hint"], placed)):
            if needed or any(part is not None for part in entry):
                _check_entry(MODULAR, name, entry)
        below = place.get("subfolder") or ""
        if not isinstance(below, str) or Path(below).is_absolute() or ".." in Path(below).parts:
            raise ValueError(f"its {MODULAR} puts {name} in {json.dumps(below)[:80]}, outside of the model")
    return index


def _is_modular(name: object, base: str) -> bool:
    """Whether a name is that of a class of diffusers, a subclass of one of its modular pipelines."""
    import diffusers

    if not isinstance(name, str) or not name.isidentifier() or name.startswith("_"):
        return False
    found, kind = getattr(diffusers, name, None), getattr(diffusers, base)
    if not inspect.isclass(found) or found.__module__.partition(".")[0] != "diffusers":
        return False
    return issubclass(found, kind) and (base == "ModularPipeline" or bool(getattr(found, "block_classes", ())))


def check_folder(folder: Path) -> None:
    """Check the folder of a model: its index, no Python file that would replace a library, no configuration with code.

    Args:
        folder: with model_index.json and one folder for each component.

    Raises:
        ValueError: if it fails a check, or a configuration is not JSON.
    """
    for name, value in check_index(read_json("model_index.json", folder / "model_index.json")).items():
        if isinstance(value, (list, tuple)) and value[0] is not None:
            check_component(name, folder / name, value[0])


def check_component(name: str, folder: Path, library: str) -> None:
    """Check the folder of a component: no Python file that would replace its library, no configuration with code.

    Args:
        name: of the component.
        folder: with its files.
        library: of its class.

    Raises:
        ValueError: if it fails a check, or a configuration is not JSON.
    """
    if (folder / f"{library}.py").exists():
        raise ValueError(f"{name} brings its own code ({library}.py), which is not executed: remove that file")
    for path in sorted(folder.glob("*config*.json")):
        _check_config(f"{name}/{path.name}", path)


def _check_config(shown: str, path: Path) -> None:
    for key, value in _pairs(read_json(shown, path)):
        foreign = key.endswith(KERNELS) and isinstance(value, str) and "/" in value
        if (key == "auto_map" and value) or foreign:
            raise ValueError(f"{shown} asks for code outside diffusers and transformers ({key}), which is not executed")


def read_json(shown: str, path: Path) -> object:
    """The content of a JSON file, called `shown` in messages.

    Raises:
        ValueError: if it cannot be read.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"{shown} cannot be read as JSON: download or save the model again") from error


def _pairs(value: object) -> Iterator[tuple[str, object]]:
    """All keys and values in nested JSON."""
    if isinstance(value, dict):
        yield from value.items()
        value = list(value.values())
    if isinstance(value, list):
        for each in value:
            yield from _pairs(each)


def _check_entry(index: str, name: object, value: Any) -> None:
    """Refuse a component whose library and class are not those of diffusers or transformers.

    Raises:
        ValueError: naming the index and the component.
    """
    if len(value) != 2 or not all(isinstance(part, str) and part.isidentifier() for part in (name, *value)):
        raise ValueError(_refused(index, name, value))
    if not _trusted(*value):
        raise ValueError(_refused(index, name, value))


def _refused(index: str, name: object, value: object) -> str:
    return (
        f"its {index} gives {name!r} as {json.dumps(value)[:80]}, which is no model, scheduler, tokenizer or "
        "processor of diffusers or transformers; other code is not executed"
    )


def _trusted(library: str, name: str) -> bool:
    """Whether `library` and `name` are those of a component class of diffusers or transformers.

    A class that the installed version does not have is left to diffusers, which names it in its error or knows what
    has replaced it: it looks in these two libraries only.
    """
    import diffusers
    import transformers

    if library in ("diffusers", "transformers"):
        home: Any = diffusers if library == "diffusers" else transformers
    else:
        home = getattr(diffusers.pipelines, library, None)
        if not isinstance(home, ModuleType) or home.__name__ != f"diffusers.pipelines.{library}":
            return False
    found = getattr(home, name, None)
    if found is None:
        return library == home.__name__ and not name.startswith("FlashPack")  # a prefix that diffusers removes
    if not inspect.isclass(found) or found.__module__.partition(".")[0] not in ("diffusers", "transformers"):
        return False
    if hasattr(found, "_backends"):  # stands for a class that lacks a package, and says so when it is used
        return True
    kinds = (
        diffusers.ConfigMixin,
        transformers.PreTrainedModel,
        transformers.PreTrainedTokenizerBase,
        transformers.FeatureExtractionMixin,
        transformers.ImageProcessingMixin,
        transformers.ProcessorMixin,
    )
    return issubclass(found, kinds) and not issubclass(found, (diffusers.DiffusionPipeline, diffusers.AutoModel))
