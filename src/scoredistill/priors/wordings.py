r"""Texts that a model was trained on: equality up to spelling and courtesy, and similarity by character trigrams.

An instruction is *known* if it equals a known wording after both are `normalized`:

    1. `plain`: Unicode NFKC, lower case; apostrophes are dropped, everything else but letters and digits is a space;
       British spellings become American ones: colour, grey, posterise, colorise
    2. words of courtesy at the beginning and the end are dropped: "please", "can you", "could you", "would you"
    3. "the image", "this photo", "my picture" and the like become "it"
    4. "the" is dropped; "a" and "an" are not, since "make it an orange" is not "make it orange"

The similarity of two texts is the Dice coefficient of their character trigrams (of texts padded by a space), weighted
by how rare a trigram is among the known texts,

    2 sum_g w_g min(A_g, B_g) / sum_g w_g (A_g + B_g)   in [0, 1],        w_g = 1 without weights,

which forgives typing errors and the order of words. It serves suggestions, not translations.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping
from functools import lru_cache

COURTESY = r"(?:please|kindly|can you|could you|would you|will you|pls)"
NOUNS = r"(?:image|picture|photo|photograph|pic)"


@lru_cache(8192)
def plain(text: str) -> str:
    """Lower-case words of a text with American spelling, separated by single spaces."""
    text = unicodedata.normalize("NFKC", text).casefold()
    text = " ".join(re.sub(r"[^\w]|_", " ", re.sub(r"['’`]", "", text)).split())
    text = text.replace("colour", "color").replace("grey", "gray")
    return re.sub(r"(poster|color)is(?=e|ing)", r"\1iz", text)


@lru_cache(8192)
def normalized(text: str) -> str:
    """Normalize an instruction as described in the module."""
    text = re.sub(rf"^(?:{COURTESY} )+|(?: {COURTESY})+$", "", plain(text))
    text = re.sub(rf"\b(?:the|this|my|that) {NOUNS}\b", "it", text)
    return " ".join(re.sub(r"\bthe\b", " ", text).split())


@lru_cache(8192)
def trigrams(text: str) -> Counter[str]:
    """Character trigrams of a text padded by a space, and how often each occurs."""
    padded = f" {text} "
    return Counter(padded[start : start + 3] for start in range(len(padded) - 2))


def rarity(texts: Iterable[str]) -> dict[str, float]:
    """Weight of each trigram of some texts, w_g = log((1 + n) / n_g) where n_g of the n texts have it; positive."""
    each = [trigrams(text) for text in texts]
    counts = Counter(gram for grams in each for gram in grams)
    return {gram: math.log((1 + len(each)) / n) for gram, n in counts.items()}


def similarity(text: str, other: str, weights: Mapping[str, float] | None = None) -> float:
    """Dice coefficient of the trigrams of two texts, in [0, 1].

    Args:
        text, other: normalized texts.
        weights: of trigrams (`rarity`); 1 by default. A trigram that is not in them has the largest weight.
    """
    one, two = trigrams(text), trigrams(other)
    if weights is None:
        return 2 * (one & two).total() / max(one.total() + two.total(), 1)
    largest = max(weights.values(), default=1.0)
    mass = lambda counts: sum(n * weights.get(gram, largest) for gram, n in counts.items())
    return 2 * mass(one & two) / max(mass(one) + mass(two), 1e-9)
