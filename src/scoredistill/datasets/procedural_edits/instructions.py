r"""Recognizing instructions: which known wording a text is, and which is nearest to one that is not known.

A text is *known* if it equals a known wording after both are normalized (`priors.wordings`). No other difference is
allowed, so "make it night and add a moon" or "do not make it night" are unknown. The nearest wording is the one that is
most similar; ties go to the first.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from scoredistill.datasets.procedural_edits.catalog import EDITS
from scoredistill.priors.wordings import normalized, similarity


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
    likeness = {wording: similarity(text, normalized(wording)) for wording in wordings}
    best = max(likeness, key=lambda wording: (normalized(wording) == text, likeness[wording]))
    return Match(wordings[best], best, likeness[best], normalized(best) == text)
