"""Drawings of emoji from npm packages: download, names, and rasterization.

Sources: seven Iconify packages (SVG) and `emojibase-data` (names, tags, groups). The npm client downloads them; they
are never committed. Drawings that do not show what their name says are left out (`excluded_drawings.txt`).
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
    "fluent-emoji": "glossy",
    "fluent-emoji-flat": "flat",
    "noto": "noto",
    "noto-v1": "classic",
    "twemoji": "twitter",
    "fxemoji": "firefox",
    "emojione": "round",
}
"""Icon set, a package `@iconify-json/{set}` -> name of its style in captions."""

NAMES_PACKAGE = "emojibase-data"
GROUPS = (0, 3, 4, 5, 6, 7)
"""Emojibase groups used: faces, animals and nature, food, travel, activities, objects (no people, symbols, flags)."""


@dataclass(frozen=True)
class Drawing:
    """One drawing before it is rasterized.

    Attributes:
        svg: its text.
        concept: index of its name.
        style: index into `STYLES`.
    """

    svg: str
    concept: int
    style: int


def read_names(folder: Path) -> list[dict[str, Any]]:
    """The emojibase entries of the groups used, with "label" and, for most, "tags"."""
    return [entry for entry in read_json(folder, NAMES_PACKAGE, "en/data.json") if entry.get("group") in GROUPS]


def read_drawings(folder: Path, labels: Sequence[str]) -> list[Drawing]:
    """All drawings of the labels, ordered by style, without those that a style lacks and the excluded ones."""
    left_out, drawings = excluded(), []
    for style, (icon_set, style_name) in enumerate(tqdm(STYLES.items(), desc="read", unit="package")):
        icons = read_json(folder, f"@iconify-json/{icon_set}", "icons.json")
        for concept, label in enumerate(labels):
            if (style_name, label) not in left_out and (svg := find_svg(icons, label)):
                drawings.append(Drawing(svg, concept, style))
    return drawings


def excluded() -> set[tuple[str, str]]:
    """The (style, name) of drawings that are not used."""
    lines = Path(__file__).with_name("excluded_drawings.txt").read_text(encoding="utf-8").splitlines()
    pairs = [line.split(": ", 1) for line in lines if line and not line.startswith("#")]
    return {(style, name) for style, name in pairs}


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


def rasterize_all(svgs: Sequence[str], size: int) -> UInt8[NDArray, "n s s 4"]:
    """Rasterize drawings on all CPU cores, with a progress bar."""
    with ProcessPoolExecutor() as pool:
        drawn = pool.map(partial(rasterize, size=size), svgs, chunksize=32)
        return np.stack(list(tqdm(drawn, total=len(svgs), desc=f"rasterize to {size}x{size}", unit="emoji")))


def rasterize(svg: str, size: int) -> UInt8[NDArray, "s s 4"]:
    """Rasterize SVG text with straight alpha, centered if it is not square.

    Raises:
        MissingExtra: if resvg-py is not installed.
    """
    resvg = require("resvg_py", "train", "rasterizing the emoji")
    sized = svg.replace("<svg ", f'<svg width="{size}" height="{size}" ', 1)
    image = Image.open(
        io.BytesIO(bytes(resvg.svg_to_bytes(svg_string=sized, skip_system_fonts=True))), formats=("PNG",)
    ).convert("RGBA")
    return np.asarray(image, dtype=np.uint8)


def read_json(folder: Path, package: str, name: str) -> Any:
    """Read a JSON file of an npm package in `folder`, which is downloaded if it is missing.

    Raises:
        FileNotFoundError: if the package has no such file.
    """
    path = fetch(folder, package)
    with tarfile.open(path) as archive:
        member = archive.extractfile(f"package/{name}") if f"package/{name}" in archive.getnames() else None
        if member is None:
            raise FileNotFoundError(f"{path} has no file {name}: delete it, so that it is downloaded again")
        return json.load(member)


def fetch(folder: Path, package: str) -> Path:
    """Path of the archive of an npm package in `folder`, downloaded with `npm pack` if it is missing.

    Raises:
        SystemExit: if npm is not installed or cannot download the package.
    """
    pattern = re.compile(re.escape(package.lstrip("@").replace("/", "-")) + r"-\d[\w.-]*\.tgz")
    found = sorted(path for path in folder.glob("*.tgz") if pattern.fullmatch(path.name))
    if found:
        return found[-1]
    if shutil.which("npm") is None:
        raise SystemExit(
            "downloading the emoji needs npm (part of Node.js): install it, or put the .tgz files in --data"
        )
    outcome = subprocess.run(["npm", "pack", "--silent", package], cwd=folder, capture_output=True, text=True)
    if outcome.returncode:
        raise SystemExit(f"npm could not download {package}: {outcome.stderr.strip()[-300:]}")
    return folder / outcome.stdout.split()[-1]
