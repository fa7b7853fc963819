"""The nearest known word to a misspelled one, for messages."""

from collections.abc import Collection
from difflib import SequenceMatcher, get_close_matches
from itertools import takewhile

NEAR = 0.6  # least similarity of a suggestion, from 0 to 1


def nearest(word: str, known: Collection[str]) -> str:
    """The known word that is most similar to a word, of several the one that begins alike; empty if none is similar."""
    lower = {each.lower(): each for each in known}
    found = get_close_matches(word.lower(), lower, n=5, cutoff=NEAR)
    begins = lambda each: sum(
        1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(word.lower(), each, strict=False))
    )
    alike = lambda each: (SequenceMatcher(None, word.lower(), each).ratio(), begins(each))
    return lower[max(found, key=alike)] if found else ""


def did_you_mean(word: str, known: Collection[str]) -> str:
    """The end of a phrase about an unknown word: " (did you mean 'sds'?)"; empty if no known word is similar."""
    found = nearest(str(word), known)
    return f" (did you mean {found!r}?)" if found else ""
