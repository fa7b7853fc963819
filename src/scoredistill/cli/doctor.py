"""The command `doctor`."""

import os
import platform
import re
import shutil
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from scoredistill import __version__
from scoredistill.cli.columns import rows
from scoredistill.media.video.writing import can_encode
from scoredistill.optional import MissingExtra, installed
from scoredistill.pretrained import BUNDLED, bundled_folder
from scoredistill.tasks.output_paths import RUNS, check_writable

PURPOSES = {
    "video": "videos: reading and writing, optical flow",
    "nerf": "text-to-3D, editing of scenes, meshes, the live viewer (--view)",
    "scenes": "scoredistill scene make, bench scenes",
    "lora": "--method vsd on pipelines",
    "metrics": "ImageNet features of studies",
    "bench": "scoredistill bench",
    "train": "scoredistill prior train",
    "ui": "scoredistill ui, the web app",
    "test": "development: tests",
    "quality": "development: linters",
}  # what an extra enables
PACKAGES = ("numpy", "diffusers", "transformers", "safetensors", "huggingface_hub", "pillow", "tyro")
NAMES = 14  # width of the column of names
LITTLE = 1e9  # bytes of a disk that is nearly full


def doctor() -> dict[str, Any]:
    """Check this installation: versions, devices, extras and what they enable, encoders, disk, bundled models."""
    faults = []
    extras = _extras()
    models = {name: (bundled_folder(name) / "model_index.json").is_file() for name in BUNDLED}
    faults += [
        f"the bundled model {name} is missing: install scoredistill again"
        for name, there in models.items()
        if not there
    ]
    free = shutil.disk_usage(Path.cwd()).free
    if free < LITTLE:
        faults.append(f"only {free / 1e6:.0f} MB of the disk are free: free some space")
    writable = True
    try:
        check_writable(RUNS)
    except ValueError as error:
        writable = False
        faults.append(str(error))
    versions = {name: version for name in PACKAGES if (version := _version(name))}
    devices, codecs = _devices(), _codecs()
    lines = [
        (
            "scoredistill",
            f"{__version__}, Python {platform.python_version()}, {platform.system()} {platform.machine()}",
        ),
        ("torch", f"{torch.__version__}, {torch.get_num_threads()} threads of {os.cpu_count()} processors"),
        ("packages", ", ".join(f"{name} {version}" for name, version in versions.items())),
        *(("device", text) for text in devices),
        *((f"[{name}]", _extra_said(name, lacking)) for name, lacking in extras.items()),
        ("videos", _codecs_said(codecs)),
        ("models", ", ".join(name for name, there in models.items() if there) or "none"),
        ("disk", f"{free / 1e9:.1f} GB free"),
        ("runs", f"{RUNS.absolute()} {'can' if writable else 'cannot'} be written"),
    ]
    print("\n".join(rows(lines, NAMES)))
    print("\n".join(f"fault: {fault}" for fault in faults) if faults else "All is in order.")
    if faults:
        raise OSError("; ".join(faults))
    return {
        "version": __version__,
        "python": platform.python_version(),
        "packages": {"torch": torch.__version__, **versions},
        "devices": devices,
        "threads": torch.get_num_threads(),
        "extras": {name: {"installed": not lacking, "missing": lacking} for name, lacking in extras.items()},
        "encoders": codecs,
        "models": models,
        "free_bytes": free,
        "writable": writable,
    }


def _devices() -> list[str]:
    """The devices, each with its memory and whether bfloat16 is fast on it."""
    found = []
    for i in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        memory = torch.cuda.get_device_properties(i).total_memory / 2**30
        half = "bfloat16" if torch.cuda.is_bf16_supported() else "float16, no bfloat16"
        found.append(f"cuda:{i} {torch.cuda.get_device_name(i)}, {memory:.0f} GiB, {half} (the default device)")
    if getattr(torch.backends, "mps", None) is not None and torch.backends.mps.is_available():
        found.append("mps")
    return [*found, f"cpu, {torch.backends.cpu.get_cpu_capability()}, bfloat16 {'fast' if _fast_half() else 'slow'}"]


def _fast_half() -> bool:
    """Whether the processor computes in bfloat16, rather than torch in its place."""
    try:
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    except (AttributeError, RuntimeError):
        return False


def _extras() -> dict[str, list[str]]:
    """The packages that are missing of every extra; of a copy without metadata, no extras."""
    try:
        required = metadata.requires("scoredistill") or []
    except metadata.PackageNotFoundError:
        return {}
    found: dict[str, list[str]] = {}
    for line in required:
        extra, name = re.search(r"extra == ['\"]([\w-]+)['\"]", line), re.match(r"[\w.-]+", line)
        if extra and name:
            lacking = found.setdefault(extra[1], [])
            lacking += [] if _version(name[0]) else [name[0]]
    return found


def _extra_said(name: str, lacking: list[str]) -> str:
    purpose = PURPOSES.get(name, "")
    state = (
        f"not installed (lacks {', '.join(lacking)}): pip install 'scoredistill[{name}]'" if lacking else "installed"
    )
    return f"{purpose}: {state}" if purpose else state


def _codecs() -> dict[str, bool]:
    """Which kinds of video can be written."""
    try:
        return {suffix: installed("av") and can_encode(suffix) for suffix in (".mp4", ".webm")}
    except MissingExtra:
        return {".mp4": False, ".webm": False}


def _codecs_said(codecs: Mapping[str, bool]) -> str:
    able = ", ".join(["gif", *(suffix.lstrip(".") for suffix, there in codecs.items() if there)])
    return f"writes {able} (by PyAV; no ffmpeg program is needed)"


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""
