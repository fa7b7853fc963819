"""English noun phrases of emoji names: articles, plurals and counts.

The head of a name is what comes before its first preposition or participle: "pile" in "pile of poo", "smiling face" in
"smiling face with halo", "hourglass" in "hourglass done". The head takes the plural and decides on the article.
"""

from __future__ import annotations

import re

NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
"""Numbers as captions spell them, by value."""

AFTER_HEAD = re.compile(
    r" (?:of|with|without|in|on|over|behind|from|at|showing|tilted|done|hatching|sticking|laughing|"
    r"blowing|sending|savoring|screaming|thinking|asleep)\b"
)
"""What ends the head of a name."""

MASS = frozenset(
    {"bacon", "badminton", "bowling", "bread", "broccoli", "butter", "cheese", "chocolate", "confetti"}
    | {"cooking", "corn", "cutlery", "dna", "fire", "fog", "garlic", "hair", "honey", "ice", "lacrosse", "lightning"}
    | {"luggage", "mail", "meat", "milk", "money", "music", "paper", "parchment", "pasta", "popcorn", "rain", "ramen"}
    | {"rice", "salt", "soap", "soup", "spaghetti", "sushi", "tennis", "wine", "wool", "yarn"}
)
"""Nouns without article and plural, when they are the last word of a head."""
MASS_NAMES = frozenset(
    {"field hockey", "high voltage", "ice hockey", "locked", "mount fuji", "ping pong", "Saturn", "unlocked"}
)
"""Names without article and plural."""

IRREGULAR = {
    "sheep": "sheep",
    "deer": "deer",
    "shrimp": "shrimp",
    "squid": "squid",
    "dice": "dice",
    "bison": "bison",
    "moose": "moose",
    "mouse": "mice",
    "goose": "geese",
    "tooth": "teeth",
    "foot": "feet",
    "child": "children",
    "person": "people",
    "ox": "oxen",
    "die": "dice",
    "leaf": "leaves",
    "knife": "knives",
    "wolf": "wolves",
    "loaf": "loaves",
    "scarf": "scarves",
    "potato": "potatoes",
    "tomato": "tomatoes",
    "volcano": "volcanoes",
    "mosquito": "mosquitoes",
}
"""Last word of a head -> its plural, where the rules fail."""

SINGULAR_S = ("ss", "us", "is", "ros")
"""Endings of singular nouns in s, such as "dress", "cactus", "tennis" and "rhinoceros"."""


def article(words: str) -> str:
    """The indefinite article, "a" or "an", of the words that follow: "an owl", "a unicorn", "a UFO"."""
    first = words.split(" ", 1)[0]
    if first[:2].isupper() and len(first) > 1:  # spelled letter by letter
        return "an" if first[0] in "AEFHILMNORSX" else "a"
    if first[:1].isdigit():
        return "an" if first[0] == "8" or first[:2] in ("11", "18") else "a"
    if re.match(r"(?:uni|ut|us|eu|ewe|one\b)", first.lower()):  # a consonant is spoken first
        return "a"
    if re.match(r"(?:hour|honest|x-)", first.lower()):  # a vowel is spoken first
        return "an"
    return "an" if first[:1].lower() in tuple("aeiou") else "a"


def head_of(name: str) -> tuple[str, str]:
    """The head of a name and the rest: ("pile", " of poo"); the rest may be empty."""
    match = AFTER_HEAD.search(name)
    return (name[: match.start()], name[match.start() :]) if match else (name, "")


def is_plural(name: str) -> bool:
    """Whether the head of a name is plural, as in "french fries" and "glasses"."""
    head, _ = head_of(name)
    return head.endswith("s") and not head.endswith(SINGULAR_S)


def is_mass(name: str) -> bool:
    """Whether the head of a name takes neither an article nor a plural, as in "popcorn" and "garlic"."""
    head, _ = head_of(name)
    return name in MASS_NAMES or head.rsplit(" ", 1)[-1].lower() in MASS


def is_countable(name: str) -> bool:
    """Whether "two" and a plural make sense: not of mass nouns, plurals, pairs ("nut and bolt") and the unique."""
    return not (is_mass(name) or is_plural(name) or " and " in name or is_unique(name))


def is_unique(name: str) -> bool:
    """Whether a name means one particular place or time, such as "the earth", "Tokyo tower" and "ten o’clock"."""
    return name.startswith("the ") or bool(re.search(r"Liberty|Tokyo|map of Japan|globe showing|o’clock|-thirty", name))


def with_article(name: str) -> str:
    """A name with its indefinite article, such as "an owl"; plurals ("french fries") and mass nouns are unchanged."""
    if is_plural(name) or is_mass(name) or name.startswith("the "):
        return name
    return f"the {name}" if name == "Statue of Liberty" else f"{article(name)} {name}"


def plural(name: str) -> str:
    """The plural of a singular name, such as "piles of poo", "mouse faces" and "cherries"."""
    head, rest = head_of(name)
    before, _, last = head.rpartition(" ")
    return f"{before} {plural_word(last)}{rest}".lstrip() if before else plural_word(last) + rest


def plural_word(word: str) -> str:
    """The plural of one word."""
    if word in IRREGULAR:
        return IRREGULAR[word]
    if word.endswith("fish"):
        return word
    if word.endswith("man"):
        return f"{word[:-2]}en"
    if re.search(r"(?:[sxz]|ch|sh)$", word, re.IGNORECASE):
        return f"{word}es"
    if re.search(r"[^aeiou]y$", word):
        return f"{word[:-1]}ies"
    return f"{word}s"


def counted(name: str, count: int, digits: bool = False) -> str:
    """A name with a number: "two owls", or with `digits` "2 owls".

    Raises:
        ValueError: if the count is below 2 or has no word.
    """
    if not 2 <= count < len(NUMBERS):
        raise ValueError(f"a count must be from 2 to {len(NUMBERS) - 1}, not {count}")
    return f"{count if digits else NUMBERS[count]} {plural(name)}"
