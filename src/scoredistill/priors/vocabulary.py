"""What a small model was trained to draw or to do, in words, and whether a prompt is within it.

A model's folder may have a vocabulary.json, which training writes beside the weights: a `Vocabulary` of prompts or of
instructions. Without one, nothing is known about what the model knows.

A *prompt* is known if its words can be read as one that the model was trained on:

    names        of concepts, in any number of words: "red apple"; plurals if the model was trained on counts
    tags         of concepts, such as "fruit" or "beach"; only beside a name of the same concept, since alone they would
                 promise too much: training showed a dolphin for "beach"
    modifiers    colors of backgrounds (before "background"), colors of objects, counts, styles, wordings of relations
    other words  those of the captions of training, such as "a picture of", and function words

and it names at least one concept and no more than the model was trained to show together. At each place the longest
phrase is read. The order of words is not checked. An *instruction* is known as a whole (`wordings.normalized`).

The nearest prompts are those of the concepts that the prompt names, then of those whose names and tags are spelled like
its words (`wordings.similarity`). Embeddings by the model's own text encoder are no help there: a word on which it was
not trained has an embedding near to those of arbitrary concepts.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from textwrap import fill
from typing import Any

from scoredistill.files import write_text
from scoredistill.priors.wordings import normalized, plain, rarity, similarity

FILE = "vocabulary.json"
FORMAT = "scoredistill vocabulary 1"
LARGEST = 2**24  # bytes of a file
NEAREST = 3  # suggestions
LIKE = 0.5  # similarity from which a word counts as a misspelled or related one
SHOWN = 5  # unknown words in a message
LONGEST = 40  # characters of a word in a message
LONG = 300  # characters of an instruction that are compared

FILLERS = """
    a an the some my your this that its it is are of and or with in on at by for to from as single one 1 please draw
    show me make create generate render image picture photo cute nice beautiful pretty lovely simple detailed highly
    high best quality masterpiece hd 4k 8k
"""
FUNCTION_WORDS = frozenset(FILLERS.split())
"""Words that name nothing, and usual words of praise, with which a prompt asks for the same."""
COUNTS = "two three four five six seven eight nine ten several many few dozen"
NUMBERS = frozenset(COUNTS.split())
"""Words that ask for a count, as digits do."""


class InvalidVocabulary(ValueError):
    """A vocabulary.json that says it is one, and cannot be read."""


@dataclass(frozen=True)
class Concept:
    """What a model can draw.

    Attributes:
        name: the first name, such as "automobile".
        noun: the name as a prompt, such as "an automobile".
        group: heading in lists, such as "travel".
        names: other names, such as "car".
        plurals: plurals of all names.
        tags: words that training has associated with it, such as "vehicle".
    """

    name: str
    noun: str
    group: str = ""
    names: tuple[str, ...] = ()
    plurals: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()


@dataclass(frozen=True)
class Instruction:
    """An edit that a model can make.

    Attributes:
        name: of the edit, such as "night".
        wordings: how it can be asked for, the plainest first.
        group: heading in lists, such as "backgrounds".
    """

    name: str
    wordings: tuple[str, ...]
    group: str = ""


@dataclass(frozen=True, repr=False)
class Knowledge:
    """Whether a model knows a prompt or an instruction; true if it does.

    Attributes:
        text: the prompt or instruction.
        known: whether it is like those of training.
        reason: what the model was not trained on, as the end of a sentence; empty if the text is known.
        unknown: words of the text that the model does not know, in order.
        nearest: three prompts or instructions that the model knows, the nearest first; empty if the text is known.
    """

    text: str
    known: bool
    reason: str = ""
    unknown: tuple[str, ...] = ()
    nearest: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return self.known

    def __repr__(self) -> str:
        if self.known:
            return f"known: {self.text!r}"
        return f"unknown: {self.text!r} ({self.reason}); nearest: {', '.join(map(repr, self.nearest))}"


@dataclass(frozen=True)
class Vocabulary:
    """The prompts or instructions of a model.

    Attributes:
        concepts: what it draws; empty for an editor.
        instructions: what an editor does; empty for a text-to-image model.
        styles: name of each style -> words for it.
        backgrounds: colors of backgrounds.
        colors: colors in which any concept can be drawn.
        counts: words for numbers of objects of a kind, such as "two" and "2".
        relations: words of the relations of two objects, such as "next to".
        fillers: other words of the captions.
        objects: largest number of concepts in one image.
        typical: measured means over prompts that it knows: "clip_similarity" by the bundled CLIP, of DDIM samples.
    """

    concepts: tuple[Concept, ...] = ()
    instructions: tuple[Instruction, ...] = ()
    styles: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    backgrounds: tuple[str, ...] = ()
    colors: tuple[str, ...] = ()
    counts: tuple[str, ...] = ()
    relations: tuple[str, ...] = ()
    fillers: tuple[str, ...] = ()
    objects: int = 1
    typical: Mapping[str, float] = field(default_factory=dict)

    def write(self, folder: Path) -> None:
        """Write vocabulary.json in the folder of a model."""
        content = {name: value for name, value in asdict(self).items() if value}
        for part in ("concepts", "instructions"):
            content[part] = [{key: value for key, value in each.items() if value} for each in content.get(part, ())]
        lines = [f' "{key}": {_lines(value)}' for key, value in {"format": FORMAT, **content}.items() if value]
        write_text(folder / FILE, "{\n" + ",\n".join(lines) + "\n}\n")

    @classmethod
    def read(cls, folder: Path) -> Vocabulary | None:
        """Read the vocabulary in the folder of a model; None if it has none, or a file of that name with other content.

        Raises:
            InvalidVocabulary: if the file cannot be read as what it says it is.
        """
        path = folder / FILE
        try:
            if not path.is_file() or path.stat().st_size > LARGEST:
                return None
            content = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError):
            return None
        if not isinstance(content, dict) or content.pop("format", None) != FORMAT:
            return None
        try:
            return _vocabulary(content)
        except (TypeError, ValueError, AttributeError) as error:
            raise InvalidVocabulary(f"{path} is damaged ({error}): download the model again, or remove it") from error

    def listed(self) -> str:
        """What the model knows, grouped, to read: a line for each group, then styles, backgrounds and the like."""
        groups: dict[str, list[str]] = {}
        for concept in self.concepts:
            groups.setdefault(concept.group or "concepts", []).append(_with_others(concept.name, concept.names))
        for each in self.instructions:
            groups.setdefault(each.group or "instructions", []).append(each.wordings[0])
        words = {"styles": self.styles, "backgrounds": self.backgrounds, "colors": self.colors, "counts": self.counts,
                 "relations": self.relations}  # fmt: skip
        groups |= {name: list(found) for name, found in words.items() if found}
        lines = [fill(f"{name} ({len(found)}): {', '.join(found)}", 100, subsequent_indent="  ", break_on_hyphens=False)
                 for name, found in groups.items()]  # fmt: skip
        most = f"At most {self.objects} of them in an image." if self.objects > 1 else "One of them in an image."
        return "\n".join([*lines, *([most] if self.concepts else [])])

    def knows(self, text: object) -> Knowledge:
        """Whether a text, a prompt or an instruction, is like those of training; an empty one is.

        Raises:
            ValueError: if it is not a single text.
        """
        if not isinstance(text, str):
            raise ValueError(f"give a single text, not a {type(text).__name__}")
        if not text.strip():
            return Knowledge(text, True)
        return self._knows_instruction(text) if self.instructions else self._knows_prompt(text)

    def _knows_instruction(self, text: str) -> Knowledge:
        asked = normalized(text)
        if asked in self._wordings:
            return Knowledge(text, True)
        weights = self._rarity
        near = {
            each: max(similarity(asked, normalized(w), weights) for w in each.wordings) for each in self.instructions
        }
        best = sorted(near, key=lambda each: -near[each])[:NEAREST]
        return Knowledge(text, False, "it is none of its instructions", (), tuple(each.wordings[0] for each in best))

    def _knows_prompt(self, text: str) -> Knowledge:
        named, tagged, unknown = self._read(text)
        reasons = []
        things = _distinct(named)
        unknown += [word for word, concepts in tagged.items() if not any(concepts & thing for thing in things)]
        unknown.sort(key=f" {plain(text)} ".find)
        if unknown:
            words = ", ".join(repr(word[:LONGEST]) for word in unknown[:SHOWN])
            reasons.append(f"the word{'s' if len(unknown) > 1 else ''} {words}{' ...' if len(unknown) > SHOWN else ''}")
        elif not things:
            reasons.append("it names nothing to draw")
        if len(things) > self.objects:
            reasons.append(f"{len(things)} things in one image")
        if not reasons:
            return Knowledge(text, True)
        return Knowledge(
            text, False, " and ".join(reasons), tuple(unknown), self._nearest(named, tagged, unknown, text)
        )

    def _read(self, text: str) -> tuple[dict[str, frozenset[int]], dict[str, frozenset[int]], list[str]]:
        """Names and tags in a prompt with the concepts that they are of, and the words that are unknown."""
        words = plain(text).split()
        named: dict[str, frozenset[int]] = {}
        tagged: dict[str, frozenset[int]] = {}
        unknown: list[str] = []
        at = 0
        while at < len(words):
            for length in range(min(self._longest, len(words) - at), 0, -1):
                phrase = " ".join(words[at : at + length])
                if phrase in self._names:
                    named[phrase] = self._names[phrase]
                elif phrase in self._tags and phrase not in self._others:
                    tagged[phrase] = self._tags[phrase]
                elif not (phrase in self._others or (phrase in FUNCTION_WORDS and length == 1)):
                    continue
                break
            else:
                length = 1
                if words[at] not in unknown:
                    unknown.append(words[at])
            at += length
        return named, tagged, unknown

    def _nearest(
        self, named: Mapping[str, frozenset[int]], tagged: Mapping[str, frozenset[int]], unknown: list[str], text: str
    ) -> tuple[str, ...]:
        """The prompts of the concepts that are named, tagged, or spelled alike."""
        score = [0.0] * len(self.concepts)
        for weight, found in ((4.0, named), (2.0, tagged)):
            for concepts in found.values():
                for index in concepts:
                    score[index] += weight / len(concepts)
        asked = [word for word in unknown if len(word) > 2][:SHOWN] or [plain(text)]
        for forms, indices in (*self._names.items(), *self._tags.items()):
            like = max(similarity(word[:LONGEST], form) for word in asked for form in {forms, *forms.split()})
            for index in indices:
                score[index] = max(score[index], like if like >= LIKE else 0.1 * like)
        order = sorted(range(len(score)), key=lambda index: -score[index])
        return tuple(self.concepts[index].noun for index in order[:NEAREST])

    @cached_property
    def _wordings(self) -> frozenset[str]:
        return frozenset(normalized(wording) for each in self.instructions for wording in each.wordings)

    @cached_property
    def _rarity(self) -> dict[str, float]:
        return rarity(" ".join(map(normalized, each.wordings)) for each in self.instructions)

    @cached_property
    def _names(self) -> dict[str, frozenset[int]]:
        return _index((each.name, each.noun, *each.names, *each.plurals) for each in self.concepts)

    @cached_property
    def _tags(self) -> dict[str, frozenset[int]]:
        return _index(each.tags for each in self.concepts)

    @cached_property
    def _others(self) -> frozenset[str]:
        """All phrases that are neither names nor tags, and not unknown."""
        given = [*self.colors, *self.counts, *self.relations, *self.fillers]
        given += [word for words in self.styles.values() for word in words] + [
            f"{c} background" for c in self.backgrounds
        ]
        return frozenset(map(plain, given))

    @cached_property
    def _longest(self) -> int:
        """Words of the longest phrase."""
        return max((len(phrase.split()) for phrase in (*self._names, *self._tags, *self._others)), default=1)


def _index(forms: Iterable[Iterable[str]]) -> dict[str, frozenset[int]]:
    """Phrase -> the numbers of the concepts that have it."""
    found: dict[str, set[int]] = {}
    for index, phrases in enumerate(forms):
        for phrase in map(plain, phrases):
            if phrase and not (phrase in FUNCTION_WORDS or phrase in NUMBERS or phrase.isdigit()):
                found.setdefault(phrase, set()).add(index)
    return {phrase: frozenset(indices) for phrase, indices in found.items()}


def _distinct(named: Mapping[str, frozenset[int]]) -> list[frozenset[int]]:
    """The concepts of names, where names that share a concept mean one thing."""
    things: list[frozenset[int]] = []
    for concepts in named.values():
        for i, thing in enumerate(things):
            if thing & concepts:
                things[i] = thing & concepts
                break
        else:
            things.append(concepts)
    return things


def _with_others(name: str, others: tuple[str, ...]) -> str:
    return f"{name} ({', '.join(others)})" if others else name


def _lines(value: object) -> str:
    """JSON with one line per item of a list of objects."""
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return "[\n" + ",\n".join(f"  {json.dumps(each, ensure_ascii=False)}" for each in value) + "\n ]"
    return json.dumps(value, ensure_ascii=False)


def _vocabulary(content: Mapping[str, Any]) -> Vocabulary:
    """A vocabulary of parsed JSON.

    Raises:
        TypeError, ValueError, AttributeError: if it has another form.
    """
    made: dict[str, Any] = {}
    for key in ("backgrounds", "colors", "counts", "relations", "fillers"):
        made[key] = _texts(content.get(key, []), key)
    for key, kind in (("concepts", Concept), ("instructions", Instruction)):
        made[key] = tuple(_entry(kind, each) for each in _list(content.get(key, []), key))
    made["styles"] = {name: _texts(words, "styles") for name, words in content.get("styles", {}).items()}
    made["typical"] = {name: float(value) for name, value in content.get("typical", {}).items()}
    objects = content.get("objects", 1)
    if not isinstance(objects, int) or objects < 1:
        raise ValueError(f"objects must be a whole number from 1 up, not {objects}")
    made["objects"] = objects
    if any(not each.wordings for each in made["instructions"]):
        raise ValueError("an instruction has no wording")
    return Vocabulary(**made)


def _entry(kind: type[Any], value: object) -> Any:
    if not isinstance(value, dict):
        raise ValueError("an entry is no object")
    made: dict[str, str | tuple[str, ...]] = {}
    for key, part in value.items():
        made[key] = part if key in ("name", "noun", "group") and isinstance(part, str) else _texts(part, key)
    if any(isinstance(made[key], tuple) for key in ("name", "noun", "group") if key in made):
        raise ValueError("a name is no text")
    return kind(**made)


def _texts(value: object, key: str) -> tuple[str, ...]:
    if not all(isinstance(each, str) for each in _list(value, key)):
        raise ValueError(f"{key} are no texts")
    return tuple(value)  # type: ignore[arg-type]


def _list(value: object, key: str) -> list[Any]:
    if not isinstance(value, list):
        raise ValueError(f"{key} is no list")
    return value
