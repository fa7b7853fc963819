"""The emoji data set: packages to images, caches, held-out images, extents, and the lists of names."""

import io
import json
import subprocess
import tarfile
from pathlib import Path

import numpy as np
import pytest

from scoredistill.datasets import emoji as data
from scoredistill.datasets import emoji_drawings as drawings
from scoredistill.datasets.emoji import Emoji

CHOSEN = [(6, 0), (7, 1), (10, 0)]
LETTERS = dict(zip("gfnctir", drawings.STYLES.values(), strict=True))


@pytest.fixture(scope="module")
def known() -> dict[str, set[str]]:
    """Name -> the styles that draw it, before the excluded drawings are left out."""
    lines = Path(__file__).with_name("emoji_names.txt").read_text(encoding="utf-8").splitlines()
    entries = [line.split("\t") for line in lines if not line.startswith("#")]
    return {name: {LETTERS[letter] for letter in letters} for name, letters in entries}


@pytest.fixture(scope="module")
def emoji() -> Emoji:
    """Forty concepts in four styles, of random pixels."""
    rgba = np.random.default_rng(0).integers(0, 256, (160, 8, 8, 4), np.uint8)
    names = tuple(f"name {index}" for index in range(40))
    style, concept = np.divmod(np.arange(160), 40)
    return Emoji(rgba, concept, style, names, (("tag",),) * 40, ("tiny", "small", "large", "huge"))


# --- held-out images ---


def test_held_out_images_are_one_of_a_concept_and_never_among_the_training_images(emoji):
    held = emoji.select(emoji.held_out)
    assert len(emoji.names) / 8 < len(held) < len(emoji.names) / 2
    assert len(set(held.concept)) == len(held)
    assert len(held) + len(emoji.train) == len(emoji)
    kept = set(zip(emoji.train.concept, emoji.train.style, strict=True))
    assert kept.isdisjoint(zip(held.concept, held.style, strict=True))


def test_the_choice_of_held_out_images_never_changes(emoji):
    held = emoji.select(emoji.held_out)
    assert sorted(zip(held.concept.tolist(), held.style.tolist(), strict=True))[:3] == CHOSEN


def test_a_selection_holds_out_what_the_whole_holds_out(emoji):
    assert not emoji.train.held_out.any()
    assert len(emoji.train.train) == len(emoji.train)
    assert emoji.select(emoji.held_out).held_out.all()
    one = emoji.names[emoji.concept[np.flatnonzero(emoji.held_out)[0]]]
    assert emoji.only([one]).held_out.sum() == 1


def test_saved_data_load_unchanged(emoji, tmp_path):
    for part in (emoji, emoji.select(emoji.style > 0)):
        part.save(tmp_path / "emoji.npz")
        again = Emoji.load(tmp_path / "emoji.npz")
        assert np.array_equal(again.rgba, part.rgba)
        assert np.array_equal(again.concept, part.concept)
        assert np.array_equal(again.held_out, part.held_out)
        assert (again.names, again.tags, again.styles) == (part.names, part.tags, part.styles)
    assert [path.name for path in tmp_path.iterdir()] == ["emoji.npz"]


def test_an_unknown_concept_is_named(emoji):
    assert set(emoji.only(["name 3"]).concept) == {3}
    with pytest.raises(KeyError, match="purple bar"):
        emoji.only(["name 3", "purple bar"])


# --- extents ---


def test_boxes_and_tops_are_those_of_the_visible_pixels():
    rgba = np.zeros((3, 12, 12, 4), np.uint8)
    rgba[0, 2:9, 1:7, 3] = 255  # a rectangle
    rgba[0, 0, 0, 3] = 60  # almost transparent
    rgba[1, 3:11, 3, 3] = rgba[1, 3:11, 11, 3] = rgba[1, 7:11, 3:12, 3] = 255  # a U: low in its middle
    emoji = Emoji(rgba, np.zeros(3, int), np.zeros(3, int), ("shape",), ((),), ("flat",))
    assert np.allclose(emoji.boxes[0] * 12, [1, 2, 7, 9])
    assert np.allclose(emoji.boxes[1] * 12, [3, 3, 12, 11])
    assert np.allclose(emoji.boxes[2], [0, 0, 1, 1])  # blank
    assert np.allclose(emoji.tops[:2], [1, 4 / 8])


# --- packages and caches ---


def write_package(folder, name: str, files: dict[str, object]) -> None:
    with tarfile.open(folder / f"{name}-1.0.0.tgz", "w:gz") as archive:
        for path, content in files.items():
            text = json.dumps(content).encode()
            entry = tarfile.TarInfo(f"package/{path}")
            entry.size = len(text)
            archive.addfile(entry, io.BytesIO(text))


def write_packages(folder) -> None:
    """A red disc in every style, growing from style to style, and a sunglasses emoji that is one as well."""
    labels = [{"label": "Red Disc", "group": 4, "tags": ["ball"]}, {"label": "flag", "group": 9}]
    write_package(folder, "emojibase-data", {"en/data.json": [*labels, {"label": "sunglasses", "group": 7}]})
    for style, icon_set in enumerate(drawings.STYLES):
        name = "reddisc" if icon_set == "fxemoji" else "red-disc"
        disc = {"body": f'<circle cx="8" cy="8" r="{3 + style / 2}" fill="#f00"/>', "width": 16, "height": 16}
        write_package(folder, f"iconify-json-{icon_set}", {"icons.json": {"icons": {name: disc, "sunglasses": disc}}})


def test_packages_become_images_with_names_in_both_sizes(tmp_path, monkeypatch):
    pytest.importorskip("resvg_py")
    write_packages(tmp_path)
    for size in data.SIZES:
        emoji = data.load_emoji(tmp_path, size)
        assert emoji.names == ("Red Disc", "sunglasses")
        assert emoji.tags == (("ball",), ())
        assert emoji.rgba.shape == (2 * len(drawings.STYLES) - 1, size, size, 4)
        assert tuple(emoji.rgba[0, size // 2, size // 2]) == (255, 0, 0, 255)
        assert emoji.rgba[0, 0, 0, 3] == 0
        covered = (emoji.only(["Red Disc"]).rgba[..., 3] > 127).mean(axis=(1, 2))
        radii = (3 + np.arange(len(drawings.STYLES)) / 2) / 16
        assert covered == pytest.approx(np.pi * radii**2, rel=0.02)
    sunglasses = emoji.only(["sunglasses"])
    assert "firefox" not in {emoji.styles[style] for style in sunglasses.style}  # excluded
    monkeypatch.setattr(drawings, "fetch", None)  # both caches are read without the packages
    assert [data.load_emoji(tmp_path, size).rgba.shape[1] for size in data.SIZES] == list(data.SIZES)
    assert data.load_emoji(tmp_path).rgba.shape[1] == 128


def test_another_size_is_refused(tmp_path):
    with pytest.raises(ValueError, match="64 and 128, not 96"):
        data.load_emoji(tmp_path / "new", 96)
    assert not (tmp_path / "new").exists()


def test_a_package_without_its_file_is_named(tmp_path):
    write_package(tmp_path, "emojibase-data", {"package.json": {}})
    with pytest.raises(FileNotFoundError, match=r"emojibase-data-1.0.0.tgz has no file en/data.json: delete it"):
        drawings.read_names(tmp_path)


def test_a_missing_npm_is_reported_in_a_sentence(tmp_path, monkeypatch):
    monkeypatch.setattr(drawings.shutil, "which", lambda name: None)
    with pytest.raises(SystemExit, match="needs npm"):
        drawings.fetch(tmp_path, "emojibase-data")


def test_a_failing_npm_is_reported_with_its_reason(tmp_path, monkeypatch):
    failed = subprocess.CompletedProcess([], 1, "", "no network")
    monkeypatch.setattr(drawings.shutil, "which", lambda name: name)
    monkeypatch.setattr(drawings.subprocess, "run", lambda *a, **k: failed)
    with pytest.raises(SystemExit, match=r"could not download emojibase-data: no network"):
        drawings.fetch(tmp_path, "emojibase-data")


# --- lists of names ---


def test_common_concepts_are_at_least_300_with_three_drawings_each(known):
    names, left_out = data.common_names(), drawings.excluded()
    assert len(names) >= 300
    assert {names["owl"], names["bus"]} == {3, 1}
    few = {name for name in names if sum((style, name) not in left_out for style in known.get(name, ())) < 3}
    assert not few


def test_no_common_concept_is_listed_twice():
    lines = Path(data.__file__).with_name("common_concepts.txt").read_text(encoding="utf-8").splitlines()
    names = [line.lstrip("*") for line in lines if not line.startswith("#")]
    assert len(names) == len(set(names)) == len(data.common_names())


def test_plain_names_belong_to_known_concepts_and_are_bare_noun_phrases(known):
    names = data.plain_names()
    assert set(names) <= set(known)
    assert "car" in names["automobile"]
    for name, plain in names.items():
        assert name not in plain
        assert len(plain) == len(set(plain)) > 0
        assert all(word == word.strip() and word and "," not in word for word in plain)
        assert not any(word.startswith(("a ", "an ")) for word in plain)


def test_excluded_drawings_exist(known):
    left_out = drawings.excluded()
    assert ("classic", "cricket") in left_out
    assert all(style in known[name] for style, name in left_out)
