"""The emoji data set: vector files and names from npm packages, rasterized once to 64x64 RGBA and kept as one file.

Sources: seven Iconify packages (SVG) and ``emojibase-data`` (names, tags, groups). They are fetched by the ordinary npm
client and never committed. A *concept* is an emoji name ("red apple"); a *style* is the set that drew it ("noto").
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
"""Icon set -> the word that names its style in captions."""

NAMES_PACKAGE = "emojibase-data"
GROUPS = (0, 3, 4, 5, 6, 7)
"""Emojibase groups used: faces, animals and nature, food, travel, activities, objects (no people, symbols, flags)."""


@dataclass(frozen=True)
class Emoji:
    """Rasterized emoji with their names; the arrays share their first dimension.

    Attributes:
        rgba: ``uint8[n, 64, 64, 4]``, straight (not premultiplied) alpha.
        concept: ``int64[n]``, index into `names`.
        style: ``int64[n]``, index into `styles`.
        names: one name a concept, e.g. "red apple".
        tags: synonyms of each concept.
        styles: style words, e.g. "glossy".
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
        """``bool[n]``: images no network is trained on; one style of about every fourth concept that has three."""
        mask = np.zeros(len(self), dtype=bool)
        for index, name in enumerate(self.names):
            drawn = np.flatnonzero(self.concept == index)
            code = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big")
            if len(drawn) >= 3 and code % 4 == 0:
                mask[drawn[code // 4 % len(drawn)]] = True
        return mask

    def select(self, mask: NDArray[np.bool_]) -> Emoji:
        """The images where ``mask[n]`` is true; names and styles keep their indices."""
        return Emoji(self.rgba[mask], self.concept[mask], self.style[mask], self.names, self.tags, self.styles)

    def only(self, names: Iterable[str]) -> Emoji:
        """The images of the named concepts.

        Raises:
            KeyError: a name is not in the data set.
        """
        wanted = [self.names.index(name) if name in self.names else name for name in names]
        if missing := [name for name in wanted if isinstance(name, str)]:
            raise KeyError(f"not in the emoji data set: {', '.join(missing)}")
        return self.select(np.isin(self.concept, wanted))

    @property
    def train(self) -> Emoji:
        """The images that may be trained on."""
        return self.select(~self.held_out)

    def save(self, path: Path) -> None:
        """Write one compressed ``.npz``."""
        text = json.dumps({"names": self.names, "tags": self.tags, "styles": self.styles})
        partial = path.with_suffix(".partial.npz")
        np.savez_compressed(partial, rgba=self.rgba, concept=self.concept, style=self.style, text=np.array(text))
        partial.replace(path)

    @classmethod
    def load(cls, path: Path) -> Emoji:
        """Read what `save` wrote."""
        with np.load(path) as file:
            text = json.loads(str(file["text"]))
            arrays = file["rgba"], file["concept"].astype(np.int64), file["style"].astype(np.int64)
        return cls(*arrays, tuple(text["names"]), tuple(map(tuple, text["tags"])), tuple(text["styles"]))


def common_names() -> dict[str, int]:
    """The concepts of the CPU preset, clear enough for a small model to learn in an hour; how often to show each."""
    lines = Path(__file__).with_name("common_concepts.txt").read_text().splitlines()
    names = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
    return {name.lstrip("*"): 3 if name.startswith("*") else 1 for name in names}


def load_emoji(folder: Path) -> Emoji:
    """The data set in `folder`; the first call fetches and rasterizes the packages, later ones read a cache."""
    cache = folder / f"emoji{SIZE}.npz"
    if not cache.exists():
        folder.mkdir(parents=True, exist_ok=True)
        prepare(folder).save(cache)
    return Emoji.load(cache)


def prepare(folder: Path) -> Emoji:
    """Fetch, match names to drawings, rasterize."""
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
    """The SVG of the emoji called `label` in an Iconify collection, or None."""
    aliases = {name: entry["parent"] for name, entry in icons.get("aliases", {}).items() if set(entry) == {"parent"}}
    for name in (slug(label), slug(label).replace("-", ""), aliases.get(slug(label))):
        if icon := icons["icons"].get(name):
            width, height = icon.get("width", icons.get("width", 16)), icon.get("height", icons.get("height", 16))
            return f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}">{icon["body"]}</svg>'
    return None


def slug(label: str) -> str:
    """ "Woman’s hat" -> "womans-hat", the naming rule of icon sets."""
    ascii_only = unicodedata.normalize("NFKD", label).encode("ascii", "ignore").decode().lower().replace("'", "")
    return re.sub(r"[^a-z0-9]+", "-", ascii_only).strip("-")


def rasterize(svg: str) -> NDArray[np.uint8]:
    """SVG text -> ``uint8[64, 64, 4]``, straight alpha, centerd if it is not square."""
    try:
        from resvg_py import svg_to_bytes
    except ImportError as error:
        raise SystemExit("Drawing the emoji needs resvg-py: pip install 'scoredistill[train]'.") from error
    sized = svg.replace("<svg ", f'<svg width="{SIZE}" height="{SIZE}" ', 1)
    image = Image.open(io.BytesIO(bytes(svg_to_bytes(svg_string=sized, skip_system_fonts=True)))).convert("RGBA")
    return np.asarray(image, dtype=np.uint8)


def read_json(folder: Path, package: str, name: str) -> Any:
    """A JSON file of an npm package."""
    with tarfile.open(fetch(folder, package)) as archive:
        member = archive.extractfile(f"package/{name}")
        if member is None:
            raise FileNotFoundError(f"{package} has no file {name}")
        return json.load(member)


def fetch(folder: Path, package: str) -> Path:
    """The tarball of an npm package in `folder`, downloaded with ``npm pack`` unless it is there."""
    pattern = re.compile(re.escape(package.lstrip("@").replace("/", "-")) + r"-\d[\w.-]*\.tgz")
    found = sorted(path for path in folder.glob("*.tgz") if pattern.fullmatch(path.name))
    if found:
        return found[-1]
    if shutil.which("npm") is None:
        raise SystemExit("Fetching the emoji needs npm (part of Node.js): install it, or put the .tgz files in --data.")
    outcome = subprocess.run(["npm", "pack", "--silent", package], cwd=folder, capture_output=True, text=True)
    if outcome.returncode:
        raise SystemExit(f"npm could not fetch {package}: {outcome.stderr.strip()[-300:]}")
    return folder / outcome.stdout.split()[-1]
