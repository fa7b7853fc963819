"""The emoji data set: SVG files and names from npm packages, rasterized once to 64x64 RGBA and cached in one file.

Sources: seven Iconify packages (SVG) and `emojibase-data` (names, tags, groups). The npm client downloads them; they
are never committed. A *concept* is an emoji name ("red apple"), a *style* the icon set that it comes from ("noto").
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import shutil
import subprocess
import tarfile
import unicodedata
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

from scoredistill.files import atomic
from scoredistill.optional import require

SIZE = 64
"""Side of a rasterized emoji, in pixels."""

STYLES: dict[str, str] = {
    "fluent-emoji": "glossy",
    "fluent-emoji-flat": "flat",
    "noto": "noto",
    "noto-v1": "classic",
    "twemoji": "twitter",
    "fxemoji": "firefox",
    "emojione": "round",
}
"""Icon set -> name of its style in captions."""

NAMES_PACKAGE = "emojibase-data"
GROUPS = (0, 3, 4, 5, 6, 7)
"""Emojibase groups used: faces, animals and nature, food, travel, activities, objects (no people, symbols, flags)."""


@dataclass(frozen=True)
class Emoji:
    """Rasterized emoji with their names; the arrays share their first dimension.

    Attributes:
        rgba: uint8 [n, 64, 64, 4], straight (not premultiplied) alpha.
        concept: int64 [n], index into `names`.
        style: int64 [n], index into `styles`.
        names: name of each concept, such as "red apple".
        tags: synonyms of each concept.
        styles: name of each style, such as "glossy".
    """

    rgba: NDArray[np.uint8]
    concept: NDArray[np.int64]
    style: NDArray[np.int64]
    names: tuple[str, ...]
    tags: tuple[tuple[str, ...], ...]
    styles: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.rgba)

    @cached_property
    def held_out(self) -> NDArray[np.bool_]:
        """Images on which no network is trained, bool [n]: one style of about every fourth concept that has three."""
        mask = np.zeros(len(self), dtype=bool)
        for index, name in enumerate(self.names):
            drawn = np.flatnonzero(self.concept == index)
            code = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big")
            if len(drawn) >= 3 and code % 4 == 0:
                mask[drawn[code // 4 % len(drawn)]] = True
        return mask

    def select(self, mask: NDArray[np.bool_]) -> Emoji:
        """The images where `mask` [n] is True; names and styles keep their indices."""
        return Emoji(self.rgba[mask], self.concept[mask], self.style[mask], self.names, self.tags, self.styles)

    def only(self, names: Iterable[str]) -> Emoji:
        """The images of the named concepts.

        Raises:
            KeyError: if a name is not in the data set.
        """
        wanted = [self.names.index(name) if name in self.names else name for name in names]
        if missing := [name for name in wanted if isinstance(name, str)]:
            raise KeyError(f"not in the emoji data set: {', '.join(missing)}")
        return self.select(np.isin(self.concept, wanted))

    @property
    def train(self) -> Emoji:
        """The images for training: all that are not held out."""
        return self.select(~self.held_out)

    def save(self, path: Path) -> None:
        """Write the data set to a compressed .npz file."""
        text = json.dumps({"names": self.names, "tags": self.tags, "styles": self.styles})
        with atomic(path) as draft:
            np.savez_compressed(draft, rgba=self.rgba, concept=self.concept, style=self.style, text=np.array(text))

    @classmethod
    def load(cls, path: Path) -> Emoji:
        """Read a file written by `save`."""
        with np.load(path) as file:
            text = json.loads(str(file["text"]))
            arrays = file["rgba"], file["concept"].astype(np.int64), file["style"].astype(np.int64)
        return cls(*arrays, tuple(text["names"]), tuple(map(tuple, text["tags"])), tuple(text["styles"]))


def common_names() -> dict[str, int]:
    """Concepts that a small model can learn in an hour (CPU preset), and how often to show each during training."""
    lines = Path(__file__).with_name("common_concepts.txt").read_text().splitlines()
    names = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
    return {name.lstrip("*"): 3 if name.startswith("*") else 1 for name in names}


def load_emoji(folder: Path) -> Emoji:
    """The data set in `folder`; the first call downloads and rasterizes the packages, later calls read the cache."""
    cache = folder / f"emoji{SIZE}.npz"
    if not cache.exists():
        folder.mkdir(parents=True, exist_ok=True)
        prepare(folder).save(cache)
    return Emoji.load(cache)


def prepare(folder: Path) -> Emoji:
    """Download the packages, match names to drawings, and rasterize them."""
    entries = [entry for entry in read_json(folder, NAMES_PACKAGE, "en/data.json") if entry.get("group") in GROUPS]
    jobs: list[tuple[str, int, int]] = []
    for style, package in enumerate(STYLES):
        icons = read_json(folder, f"@iconify-json/{package}", "icons.json")
        for concept, entry in enumerate(entries):
            if svg := find_svg(icons, entry["label"]):
                jobs.append((svg, concept, style))
    with ProcessPoolExecutor() as pool:
        drawn = pool.map(rasterize, [svg for svg, _, _ in jobs], chunksize=32)
        rgba = np.stack(list(tqdm(drawn, total=len(jobs), desc="rasterize", unit="emoji")))
    used = sorted({concept for _, concept, _ in jobs})
    return Emoji(
        rgba,
        np.array([used.index(concept) for _, concept, _ in jobs]),
        np.array([style for _, _, style in jobs]),
        tuple(entries[concept]["label"] for concept in used),
        tuple(tuple(entries[concept].get("tags", ())) for concept in used),
        tuple(STYLES.values()),
    )


def find_svg(icons: dict, label: str) -> str | None:
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


def rasterize(svg: str) -> NDArray[np.uint8]:
    """Rasterize SVG text to uint8 [64, 64, 4] with straight alpha, centered if it is not square.

    Raises:
        MissingExtra: if resvg-py is not installed.
    """
    resvg = require("resvg_py", "train", "rasterizing the emoji")
    sized = svg.replace("<svg ", f'<svg width="{SIZE}" height="{SIZE}" ', 1)
    image = Image.open(io.BytesIO(bytes(resvg.svg_to_bytes(svg_string=sized, skip_system_fonts=True)))).convert("RGBA")
    return np.asarray(image, dtype=np.uint8)


def read_json(folder: Path, package: str, name: str) -> Any:
    """Read a JSON file of an npm package."""
    with tarfile.open(fetch(folder, package)) as archive:
        member = archive.extractfile(f"package/{name}")
        if member is None:
            raise FileNotFoundError(f"{package} has no file {name}")
        return json.load(member)


def fetch(folder: Path, package: str) -> Path:
    """Path of the tarball of an npm package in `folder`, downloaded with `npm pack` if it is missing.

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
