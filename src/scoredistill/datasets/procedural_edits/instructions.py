r"""Recognizing instructions: which known wording a text is, and which is nearest to one that is not known.

A text is *known* if it equals a known wording after both are normalized:

    1. Unicode NFKC, lower case; apostrophes are dropped, everything else but letters and digits is a space
    2. British spellings become American ones: colour, grey, posterise, colorise
    3. words of courtesy at the beginning and the end are dropped: "please", "can you", "could you", "would you"
    4. "the image", "this photo", "my picture" and the like become "it"
    5. "the" is dropped; "a" and "an" are not, since "make it an orange" is not "make it orange"

No other difference is allowed, so "make it night and add a moon" or "do not make it night" are unknown. The nearest
wording is that with the largest Dice coefficient of character trigrams (of the normalized texts, padded by a space),

    2 |A and B| / (|A| + |B|)   in [0, 1],

which forgives typing errors and the order of words; ties go to the first. It is a suggestion, not a translation.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

from scoredistill.datasets.procedural_edits.catalog import EDITS

COURTESY = r"(?:please|kindly|can you|could you|would you|will you|pls)"
NOUNS = r"(?:image|picture|photo|photograph|pic)"


@dataclass(frozen=True)
class Match:
    """The nearest known wording to an instruction.

    Attributes:
        name: of the edit.
        wording: the known wording, which is what to give to an editor.
        similarity: Dice coefficient of the normalized texts, in [0, 1].
        known: whether the normalized texts are equal.
    """

    name: str
    wording: str
    similarity: float
    known: bool


@lru_cache(4096)
def normalized(text: str) -> str:
    """Normalize an instruction as described in the module."""
    text = unicodedata.normalize("NFKC", text).casefold()
    text = " ".join(re.sub(r"[^\w]|_", " ", re.sub(r"['’`]", "", text)).split())
    text = text.replace("colour", "color").replace("grey", "gray")
    text = re.sub(r"(poster|color)is(?=e|ing)", r"\1iz", text)
    text = re.sub(rf"^(?:{COURTESY} )+|(?: {COURTESY})+$", "", text)
    text = re.sub(rf"\b(?:the|this|my|that) {NOUNS}\b", "it", text)
    return " ".join(re.sub(r"\bthe\b", " ", text).split())


def known_wordings(held_out: bool = False) -> dict[str, str]:
    """Wordings of procedural edits -> names of the edits: those of training, and those held out from it if asked for.

    Wordings of other edits, such as backgrounds, can be added to it.
    """
    wordings = {text: edit.name for edit in EDITS.values() for text in edit.instructions}
    if held_out:
        wordings |= {text: edit.name for edit in EDITS.values() for text in edit.held_out}
    return wordings


def recognized(instruction: str, wordings: Mapping[str, str] | None = None) -> Match:
    """The nearest known wording to an instruction, and whether it is that wording.

    Args:
        instruction: any text.
        wordings: wording -> name of the edit; the trained wordings of procedural edits by default.

    Raises:
        ValueError: if there are no wordings.
    """
    wordings = known_wordings() if wordings is None else wordings
    if not wordings:
        raise ValueError("there are no known wordings: give at least one")
    text = normalized(instruction)
    similarity = {wording: _dice(_trigrams(text), _trigrams(normalized(wording))) for wording in wordings}
    best = max(similarity, key=lambda wording: (normalized(wording) == text, similarity[wording]))
    return Match(wordings[best], best, similarity[best], normalized(best) == text)


@lru_cache(4096)
def _trigrams(text: str) -> Counter[str]:
    padded = f" {text} "
    return Counter(padded[start : start + 3] for start in range(len(padded) - 2))


def _dice(one: Counter[str], other: Counter[str]) -> float:
    return 2 * (one & other).total() / max(one.total() + other.total(), 1)
