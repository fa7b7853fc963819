"""Checkpoints of nested state in one safetensors file: tensors as tensors, everything else as JSON in its header.

A checksum of all that (CRC-32) stands in the header too, so that no damaged file is continued from.
"""

import json
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from scoredistill.files import atomic

_TENSOR = "__tensor__"
CHECKSUM = "crc32"  # name of the checksum among the texts
TEXTS = "texts"  # the one entry of the metadata, as safetensors writes several in random order


def save_state(state: Mapping[str, Any], path: str | Path) -> None:
    """Write nested dictionaries and lists of tensors and JSON values, atomically.

    Tuples are written as lists, and tensors are stored on the CPU.

    Raises:
        OSError: if it cannot be written, for example because the disk is full; an earlier file is kept.
    """
    tensors: dict[str, torch.Tensor] = {}

    def outline(value: Any) -> Any:
        if isinstance(value, torch.Tensor):
            name = str(len(tensors))
            tensors[name] = value.detach().cpu().contiguous().clone()
            return {_TENSOR: name}
        if isinstance(value, Mapping):
            return {"__dict__": [[key, outline(item)] for key, item in value.items()]}
        if isinstance(value, (list, tuple)):
            return [outline(item) for item in value]
        return value

    header = {"state": json.dumps(outline(state))}
    write_tensors(tensors, path, header)


def write_tensors(tensors: Mapping[str, torch.Tensor], path: str | Path, metadata: Mapping[str, str]) -> None:
    """Write a safetensors file with a checksum, atomically.

    Args:
        tensors: contiguous tensors on the CPU, by name.
        path: the file.
        metadata: further texts, by name.

    Raises:
        OSError: if it cannot be written, for example because the disk is full; an earlier file is kept.
    """
    try:
        with atomic(path, durable=True) as draft:
            texts = {**metadata, CHECKSUM: _checksum(tensors, metadata)}
            save_file(dict(tensors), draft, metadata={TEXTS: json.dumps(texts)})
    except SafetensorError as error:
        raise OSError(f"cannot write {path}: {error}") from error


def read_tensors(path: str | Path) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """Read the tensors, on the CPU, and the metadata of a file that `write_tensors` wrote.

    Raises:
        ValueError: if the file is none of these, or damaged.
    """
    try:
        with safe_open(path, "pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
            found = dict(file.metadata() or {})
        metadata = dict(json.loads(found[TEXTS])) if TEXTS in found else found  # as earlier versions wrote them
        stated = metadata.pop(CHECKSUM, None)
        if stated not in (None, _checksum(tensors, metadata)):
            raise ValueError("it is damaged: its checksum is another")
    except (OSError, MemoryError):  # a file that cannot be read now may be intact
        raise
    except Exception as error:
        raise _no_checkpoint(path, error) from error
    return tensors, metadata


def load_state(path: str | Path) -> dict[str, Any]:
    """Read a checkpoint that `save_state` wrote; its tensors are on the CPU.

    Raises:
        ValueError: if the file is not a checkpoint, or damaged.
    """
    tensors, metadata = read_tensors(path)
    try:
        state = _filled(json.loads(metadata["state"]), tensors)
        if not isinstance(state, dict):
            raise TypeError("its state is no dictionary")
    except Exception as error:
        raise _no_checkpoint(path, error) from error
    return state


def _no_checkpoint(path: str | Path, error: Exception) -> ValueError:
    """What is said of a file that cannot be continued from."""
    reason = " ".join(str(error).split())[:200]
    return ValueError(f"{path} is not a checkpoint of scoredistill ({reason}); delete it to start from the beginning")


def _checksum(tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, str]) -> str:
    """CRC-32 of all names, types, shapes, bytes and texts."""
    total = 0
    for name, tensor in sorted(tensors.items()):
        total = zlib.crc32(f"{name} {tensor.dtype} {list(tensor.shape)}".encode(), total)
        total = zlib.crc32(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data, total)
    return f"{zlib.crc32(json.dumps(sorted(metadata.items())).encode(), total):08x}"


def _filled(outline: Any, tensors: Mapping[str, torch.Tensor]) -> Any:
    """The state of an outline, with its tensors."""

    def fill(value: Any) -> Any:
        if isinstance(value, list):
            return [fill(item) for item in value]
        if isinstance(value, dict):
            if _TENSOR in value:
                return tensors[value[_TENSOR]]
            return {key: fill(item) for key, item in value["__dict__"]}
        return value

    return fill(outline)
