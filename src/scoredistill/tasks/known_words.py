"""Prompts and instructions that a model was not trained on: said before the work, and judged after it.

A model with a vocabulary knows which those are (`Prior.knows`); about other models nothing is said.
"""

import shlex
import warnings
from collections.abc import Sequence

from PIL import Image

from scoredistill.datasets.procedural_edits import EDITS, unit_of
from scoredistill.media.images import to_tensor
from scoredistill.metrics import clip_similarity
from scoredistill.metrics.edits import Images, psnr
from scoredistill.priors.base import TextPrior
from scoredistill.reports.page import Page

SOME = 8  # images from which a verdict is drawn


class UnknownWords(UserWarning):
    """A prompt or an instruction that the model was not trained on."""


def warn_of_unknown(prior: TextPrior, *texts: str) -> tuple[str, ...]:
    """Warn of prompts or instructions that a prior was not trained on, each with the nearest that it knows.

    Returns:
        Those texts.
    """
    found = [known for known in map(prior.knows, dict.fromkeys(texts)) if known is not None and not known]
    for known in found:
        listed = f"scoredistill prior show {shlex.quote(prior.name)} --concepts"
        warnings.warn(
            f"{prior.name} was not trained on {known.text!r} ({known.reason}) and will make something else of it; it "
            f"knows {', '.join(map(repr, known.nearest))} ({listed} lists all)",
            UnknownWords,
            stacklevel=3,
        )
    return tuple(known.text for known in found)


def verdict_on_images(prior: TextPrior, unknown: Sequence[str], images: Sequence[Image.Image]) -> str:
    """How well images match a prompt that the prior was not trained on, in one sentence.

    Args:
        prior: the model.
        unknown: the prompt, as `warn_of_unknown` returned it.
        images: of the prompt.

    Returns:
        The sentence; empty if the prompt is known, or the evaluator does not know what the prior draws.
    """
    typical = None if prior.vocabulary is None else prior.vocabulary.typical.get("clip_similarity")
    if not unknown or typical is None:
        return ""
    similarity = float(clip_similarity(to_tensor(images[:SOME]), unknown[0]).mean())
    return f"CLIP similarity {similarity:.0f}; samples of prompts that it knows score about {typical:.0f}"


def verdict_on_edit(prior: TextPrior, unknown: Sequence[str], source: Images, edited: Images) -> str:
    """Which known edit the result of an unknown instruction is nearest to, in one sentence.

    Args:
        prior: the editor.
        unknown: the instruction, as `warn_of_unknown` returned it.
        source, edited: the images before and after, of one size.

    Returns:
        The sentence; empty if the instruction is known, or the prior has no edits with one right answer.
    """
    if not unknown or prior.vocabulary is None:
        return ""
    source, edited = source[:SOME].cpu(), edited[:SOME].cpu()
    unit = unit_of(min(prior.image_size))
    likeness = {
        each.wordings[0]: float(psnr(edited, EDITS[each.name](source, unit)).mean())
        for each in prior.vocabulary.instructions
        if each.name in EDITS and EDITS[each.name].exact
    }
    if not likeness:
        return ""
    best, same = max(likeness, key=lambda wording: likeness[wording]), float(psnr(edited, source).mean())
    if same >= likeness[best]:
        return f"{unknown[0]!r} changed little: PSNR to the source {same:.0f} dB, to the nearest known edit less"
    return (
        f"{unknown[0]!r} came out nearest to {best!r}: PSNR {likeness[best]:.0f} dB to that edit, {same:.0f} dB to the "
        "source"
    )


def add_verdict(page: Page, summary: dict[str, object], verdict: str) -> None:
    """Add a verdict to a report and to the content of result.json, if there is one."""
    if verdict:
        page.text(f"{verdict}.")
        summary["verdict"] = verdict
