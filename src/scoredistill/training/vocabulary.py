"""The vocabulary that is exported beside the weights: what the captions and instructions of training say.

It is made of the lists that captions (`captions`, `compositions`) and instructions (`pairs`) are drawn from, so that
`Prior.knows` and training cannot disagree.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import mean

import torch

from scoredistill.datasets.emoji import Emoji, common_groups, plain_names
from scoredistill.datasets.procedural_edits import EDITS
from scoredistill.metrics.clip import Clip, clip_similarity
from scoredistill.priors.guidance import Guided
from scoredistill.priors.pipelines import load_prior
from scoredistill.priors.vocabulary import Concept, Instruction, Vocabulary
from scoredistill.sampling import ddim
from scoredistill.training import captions
from scoredistill.training.compose import BACKGROUNDS
from scoredistill.training.compositions import COUNTS, MIXTURE, Mixture
from scoredistill.training.nouns import NUMBERS, is_countable, plural, with_article
from scoredistill.training.pairs import BACKGROUND, OBJECT, STYLE, Phrases, named, object_names, phrased, synonyms
from scoredistill.training.recoloring import PAINTS

FIELD = re.compile(r"\{\w+\}")
SAMPLES, STEPS, GUIDANCE, BATCH = 40, 30, 5.0, 8
"""Samples from which the typical similarity is measured, and how they are drawn."""


def of_captions(
    emoji: Emoji, names: Iterable[str] | None = None, mixture: Mixture = MIXTURE,
    plain: Mapping[str, Sequence[str]] | None = None, backgrounds: Iterable[str] = BACKGROUNDS,
) -> Vocabulary:  # fmt: skip
    """The vocabulary of a text-to-image model.

    Args:
        emoji: the data set that it was trained on, for tags and styles.
        names: its concepts, of those of the data set; by default all.
        mixture: of its examples: which of counts, relations and colors it saw.
        plain: plain names of concepts; by default all (`plain_names`).
        backgrounds: names of the colors of its backgrounds, besides white.
    """
    plain = plain_names() if plain is None else plain
    tags = dict(zip(emoji.names, emoji.tags, strict=True))
    groups = {name.lstrip("*"): group for group, names in common_groups().items() for name in names}
    counts = [number for n in COUNTS for number in (NUMBERS[n], str(n))] if mixture.counts else []
    made = []
    for name in emoji.names if names is None else [name for name in names if name in tags]:
        others = tuple(plain.get(name, ()))
        many = tuple(plural(each) for each in (name, *others) if counts and is_countable(each))
        made.append(Concept(name, with_article(name), groups.get(name, ""), others, many, tags.get(name, ())))
    relations = [part for texts in captions.RELATIONS.values() for text in texts for part in pieces(text)]
    templates = (*captions.TEMPLATES, *captions.STYLED, captions.BACKGROUND, *captions.OTHER_BACKGROUND)
    return Vocabulary(
        concepts=tuple(made),
        styles={style: tuple(dict.fromkeys(captions.STYLE_WORDS.get(style, (style,)))) for style in emoji.styles},
        backgrounds=(captions.WHITE, *backgrounds),
        colors=tuple(PAINTS) if mixture.recolored else (),
        counts=tuple(counts),
        relations=tuple(dict.fromkeys(relations)) if mixture.relations else (),
        fillers=tuple(dict.fromkeys(word for text in templates for part in pieces(text) for word in part.split())),
        objects=2 if mixture.relations else 1,
    )


def of_instructions(emoji: Emoji, left_out: Collection[str] = ()) -> Vocabulary:
    """The vocabulary of an editor.

    Args:
        emoji: the data set that it was trained on.
        left_out: groups on which it was trained without success: of "backgrounds", "styles" and "objects".
    """
    groups: dict[str, list[Instruction]] = {
        "edits": [Instruction(edit.name, edit.instructions, "edits") for edit in EDITS.values()],
        "backgrounds": filled(BACKGROUND, "{} background", (captions.WHITE, *BACKGROUNDS), "backgrounds"),
        "styles": filled(STYLE, "{} style", emoji.styles, "styles"),
        "objects": [Instruction(f"another object: {name}", asking(name), "objects") for name in object_names(emoji)],
    }
    return Vocabulary(instructions=tuple(each for name in groups if name not in left_out for each in groups[name]))


def asking(name: str) -> tuple[str, ...]:
    """Wordings that ask for another object in the place of the first, by any of its names."""
    return tuple(named(text, word) for text in OBJECT.trained for word in synonyms(name))


def filled(phrases: Phrases, title: str, names: Iterable[str], group: str) -> list[Instruction]:
    """An instruction for each name in the wordings of `phrases`."""
    return [Instruction(title.format(n), tuple(phrased(text, n) for text in phrases.trained), group) for n in names]


def pieces(template: str) -> list[str]:
    """What stands between the fields of a template, without punctuation."""
    return [part for part in (each.strip(" ,") for each in FIELD.split(template)) if part]


@torch.no_grad()
def measure(folder: Path, clip: Path, n: int = SAMPLES) -> None:
    """Measure the mean CLIP similarity of samples of known prompts, and write it to the vocabulary of a model.

    Args:
        folder: of the exported text-to-image model with its vocabulary.
        clip: folder of the evaluator.
        n: number of samples, each of another concept, spread over the vocabulary.

    Raises:
        ValueError: if the folder has no vocabulary.
    """
    known = Vocabulary.read(folder)
    if known is None:
        raise ValueError(f"{folder} has no vocabulary to measure: write it first")
    prior, evaluator, scores = load_prior(folder, device="cpu"), Clip(clip), []
    some = torch.linspace(0, len(known.concepts) - 1, min(n, len(known.concepts))).long().tolist()
    for start in range(0, len(some), BATCH):
        prompts = [known.concepts[i].noun for i in some[start : start + BATCH]]
        noise = torch.randn(len(prompts), *prior.latent_shape, generator=torch.Generator().manual_seed(start))
        samples = ddim(Guided(prior, GUIDANCE), noise, STEPS, prior.encode_text(prompts))
        scores += clip_similarity(prior.decode(samples).clamp(0, 1), prompts, evaluator).tolist()
    replace(known, typical={"clip_similarity": round(mean(scores), 1)}).write(folder)
