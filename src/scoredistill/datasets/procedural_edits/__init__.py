"""Procedural edits: instructions with functions that compute their right answers, for images of any size.

Most edits have one right answer. Those with many ("change the colors", "another season") draw one for the whole image:
crops of it that are edited apart, each on its own, disagree. Since the set of right answers is known, the distance to
the nearest one and the agreement of windows are measured exactly (`nearest`).

Every edit works on a crop of a larger image, given the crop's place (`View`): a window of the edited image is the
edited window, up to the few pixels at its border that strokes and blurs cannot see beyond.
"""

from scoredistill.datasets.procedural_edits.catalog import EDITS
from scoredistill.datasets.procedural_edits.colors import TINTS, hue_turned, luma
from scoredistill.datasets.procedural_edits.edit import Answers, Edit, Parameter, Variant
from scoredistill.datasets.procedural_edits.instructions import Match, known_wordings, recognized
from scoredistill.datasets.procedural_edits.nearest import AGREE, Agreement, Nearest, agreement, chance, nearest
from scoredistill.datasets.procedural_edits.view import View, unit_of

__all__ = [
    "AGREE",
    "EDITS",
    "TINTS",
    "Agreement",
    "Answers",
    "Edit",
    "Match",
    "Nearest",
    "Parameter",
    "Variant",
    "View",
    "agreement",
    "chance",
    "hue_turned",
    "known_wordings",
    "luma",
    "nearest",
    "recognized",
    "unit_of",
]
