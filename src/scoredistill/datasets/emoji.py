"""The emoji data set: RGBA drawings with names, in several styles, cached in one file per size.

A *concept* is an emoji name ("red apple"), a *style* the set of drawings that it comes from ("noto"). The drawings come
from npm packages (`emoji_drawings`), which are downloaded and rasterized once and never committed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray

from scoredistill.datasets import emoji_drawings
from scoredistill.files import atomic

SIZES = (64, 128)
"""Sides of rasterized emoji, in pixels."""

SIZE = SIZES[0]
"""Side of the images that the bundled CLIP sees, in pixels."""


@dataclass(frozen=True)
class Emoji:
    """Rasterized emoji with their names; the arrays share their first dimension.

    Attributes:
        rgba: uint8 [n, s, s, 4], straight (not premultiplied) alpha.
        concept: int64 [n], index into `names`.
        style: int64 [n], index into `styles`.
        names: name of each concept, such as "red apple".
        tags: synonyms of each concept.
        styles: name of each style, such as "glossy".
        marked: the held-out images of a selection, bool [n]; None in a whole data set, where `held_out` chooses them.
    """

    rgba: NDArray[np.uint8]
    concept: NDArray[np.int64]
    style: NDArray[np.int64]
    names: tuple[str, ...]
    tags: tuple[tuple[str, ...], ...]
    styles: tuple[str, ...]
    marked: NDArray[np.bool_] | None = None

    def __len__(self) -> int:
        return len(self.rgba)

    @cached_property
    def held_out(self) -> NDArray[np.bool_]:
        """Images on which no network is trained, bool [n]: one style of about every fourth concept that has three."""
        if self.marked is not None:
            return self.marked
        mask = np.zeros(len(self), dtype=bool)
        for index, name in enumerate(self.names):
            drawn = np.flatnonzero(self.concept == index)
            code = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big")
            if len(drawn) >= 3 and code % 4 == 0:
                mask[drawn[code // 4 % len(drawn)]] = True
        return mask

    @cached_property
    def boxes(self) -> Float[NDArray, "n 4"]:
        """Bounding boxes (left, top, right, bottom) of the visible pixels, alpha above 1/4, in image sizes, float32."""
        visible = self.rgba[..., 3] > 63
        sides = []
        for axis in (1, 2):  # over rows: the extent in x; over columns: in y
            line: NDArray[np.bool_] = np.any(visible, axis=axis)
            empty = ~line.any(axis=1)  # a blank drawing has the box of the whole image
            sides.append((np.where(empty, 0, line.argmax(axis=1)), np.where(empty, 0, line[:, ::-1].argmax(axis=1))))
        (left, right), (top, bottom) = sides
        size = self.rgba.shape[1]
        return np.stack([left, top, size - right, size - bottom], axis=1).astype(np.float32) / size

    @cached_property
    def tops(self) -> Float[NDArray, " n"]:
        """Height of the highest visible pixel in the middle third of each bounding box, as a fraction of its height."""
        visible, size = self.rgba[..., 3] > 63, self.rgba.shape[1]
        left, top, right, bottom = (self.boxes * size).T
        third, column = (right - left) / 3, np.arange(size) + 0.5
        middle = (column > (left + third)[:, None]) & (column < (right - third)[:, None])
        rows = (visible & middle[:, None, :]).any(axis=2)
        highest = np.where(rows.any(axis=1), rows.argmax(axis=1), top)
        return ((bottom - highest) / (bottom - top)).astype(np.float32)

    def select(self, mask: NDArray[np.bool_]) -> Emoji:
        """The images where `mask` [n] is True; names and styles keep their indices, held-out images stay held out."""
        arrays = self.rgba[mask], self.concept[mask], self.style[mask]
        return Emoji(*arrays, self.names, self.tags, self.styles, self.held_out[mask])

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
        arrays: dict[str, Any] = {
            "rgba": self.rgba,
            "concept": self.concept,
            "style": self.style,
            "text": np.array(text),
        }
        if self.marked is not None:
            arrays["marked"] = self.marked
        with atomic(path) as draft:
            np.savez_compressed(draft, **arrays)

    @classmethod
    def load(cls, path: Path) -> Emoji:
        """Read a file written by `save`."""
        with np.load(path) as file:
            text = json.loads(str(file["text"]))
            arrays = file["rgba"], file["concept"].astype(np.int64), file["style"].astype(np.int64)
            marked = file.get("marked")
        return cls(*arrays, tuple(text["names"]), tuple(map(tuple, text["tags"])), tuple(text["styles"]), marked)


@cache
def common_groups() -> Mapping[str, tuple[str, ...]]:
    """Groups of the concepts that a small model can learn, such as "animals" -> ("bird", ...), with stars as listed."""
    lines = Path(__file__).with_name("common_concepts.txt").read_text(encoding="utf-8").splitlines()
    groups: dict[str, list[str]] = {}
    for line in map(str.strip, lines):
        if line.startswith("#"):
            group = line.lstrip("# ")
        elif line:
            groups.setdefault(group, []).append(line)
    return {group: tuple(names) for group, names in groups.items()}


def common_names() -> dict[str, int]:
    """Concepts that a small model can learn in an hour (CPU preset), and how often to show each during training."""
    names = [name for names in common_groups().values() for name in names]
    return {name.lstrip("*"): 3 if name.startswith("*") else 1 for name in names}


@cache
def plain_names() -> Mapping[str, tuple[str, ...]]:
    """What people call an emoji whose official name they would not type, such as "car" for "automobile"."""
    lines = Path(__file__).with_name("plain_names.txt").read_text(encoding="utf-8").splitlines()
    entries = [line.split(": ", 1) for line in lines if line.strip() and not line.startswith("#")]
    return {name: tuple(plain.split(", ")) for name, plain in entries}


def load_emoji(folder: Path, size: int = 128) -> Emoji:
    """The data set in `folder`, from its cache `emoji{size}.npz`.

    The first call with a size downloads the packages that are missing, rasterizes them on all CPU cores with a progress
    bar (about two minutes on two cores), and writes the cache.

    Args:
        folder: of the npm packages and the caches; created if it does not exist.
        size: side of the images in pixels, one of `SIZES`.

    Raises:
        ValueError: if `size` is not one of `SIZES`.
        SystemExit: if a package is missing and cannot be downloaded.
    """
    if size not in SIZES:
        raise ValueError(f"the emoji come in the sizes {' and '.join(map(str, SIZES))}, not {size}: choose one of them")
    cache = folder / f"emoji{size}.npz"
    if not cache.exists():
        folder.mkdir(parents=True, exist_ok=True)
        prepare(folder, size).save(cache)
    return Emoji.load(cache)


def prepare(folder: Path, size: int) -> Emoji:
    """Download the packages in `folder`, match names to drawings, and rasterize them."""
    entries = emoji_drawings.read_names(folder)
    drawings = emoji_drawings.read_drawings(folder, [entry["label"] for entry in entries])
    rgba = emoji_drawings.rasterize_all([drawing.svg for drawing in drawings], size)
    used = sorted({drawing.concept for drawing in drawings})
    return Emoji(
        rgba,
        np.array([used.index(drawing.concept) for drawing in drawings]),
        np.array([drawing.style for drawing in drawings]),
        tuple(entries[concept]["label"] for concept in used),
        tuple(tuple(entries[concept].get("tags", ())) for concept in used),
        tuple(emoji_drawings.STYLES.values()),
    )
