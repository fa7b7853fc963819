"""What models know, in words: the bundled vocabularies on prompts that people type, and made ones on the rules."""

import json
from pathlib import Path

import pytest

import scoredistill
from scoredistill.priors.vocabulary import FILE, Concept, Instruction, InvalidVocabulary, Vocabulary

BUNDLED = Path(scoredistill.__file__).parent / "priors" / "bundled"
KNOWN = """
a hamburger; an owl; A Hamburger!; owl; a photo of an owl; a DSLR photo of a castle; a picture of a red apple;
the castle; a glossy emoji of an owl; a 3D emoji of a rocket; an owl, flat style; a tulip in noto style;
a red apple on a light blue background; a car; a burger; a dog; a puppy; a kitten; a cat on a black background;
a guitar, high quality, detailed; an emoji of a cactus; a drawing of a pumpkin; please draw a castle;
a cute owl; draw me a dinosaur; pumpkin, emoji; a bike; an airplane on a white background; a gift; a fish;
an image of a violin; a whale; an orange; a rocket on a grey background; T-shirt; jack-o-lantern;
a four-leaf clover; a clover; french fries; fries on a pink background"""
UNKNOWN = """
a red car under a tree at sunset: an automobile; an astronaut riding a horse: a horse; a portrait of a woman;
the Eiffel tower at night; a glass of water on a wooden table: a wine glass; two owls: an owl;
three red apples: a red apple; an owl and a cat: an owl, a cat face; a cat wearing a hat: a cat face, a top hat;
a city skyline; a mountain landscape: a volcano; a cheeseburger: a hamburger; hamburgr: a hamburger;
a purple elephant: an elephant; a red tulip: a tulip; a watercolor of a fox: a fox;
an oil painting of a castle: a castle; a dragon; Donald Duck: a duck; a knight with a sword; a bowl of soup;
spaghetti; a wooden chair: a chair; a house on a hill: a house; the word hello; ein Hamburger: a hamburger;
ハンバーガー; 🦉; cyberpunk samurai; a robot playing the guitar: a robot, a guitar; a happy dog: a dog face;
no hamburger: a hamburger; not a castle: a castle; a castle without towers: a castle; a library;
the beach: a dolphin; a swimming pool; a telephone; a pen: a pencil; a plate of sushi"""
KNOWN_EDITS = """
make it night; Make it NIGHT!; please make the photo night; could you make it sepia, please?;
make this picture snowy; invert the colours; posterise it; make it red; tint it purple; change the colors;
on a blue background; put it on a light blue background; make the background pink; recolour it; Blur it.;
make the image black and white; sketch it; cover it in snow; make it winter; remove the colors"""
UNKNOWN_EDITS = """
turn day into night: make it night; give her a hat; add a rainbow; make it summer; remove the background;
turn it into a pizza; make it night and add a moon: make it night; do not make it night: make it night; zoom in;
rotate it; make it look like a painting by van Gogh; add a dog; make him smile; replace the sky; make it darker;
brighter; add stars; turn the cat into a dog; make it turquoise; a blue backdrop: on a blue background"""


def texts(listed):
    return [" ".join(each.split()) for each in listed.split(";")]


def with_nearest(listed):
    """(text, nearest prompts that must be suggested)."""
    return [
        (text, near.split(", ") if near else []) for text, _, near in (each.partition(": ") for each in texts(listed))
    ]


@pytest.fixture(scope="module")
def emoji():
    return Vocabulary.read(BUNDLED / "emoji")


@pytest.fixture(scope="module")
def editor():
    return Vocabulary.read(BUNDLED / "emoji-edit")


@pytest.mark.parametrize("prompt", texts(KNOWN))
def test_prompts_like_those_of_training_are_known(emoji, prompt):
    known = emoji.knows(prompt)
    assert known
    assert (known.known, known.unknown, known.nearest, known.reason) == (True, (), (), "")
    assert repr(known) == f"known: {prompt!r}"


@pytest.mark.parametrize(("prompt", "nearest"), with_nearest(UNKNOWN))
def test_other_prompts_are_unknown_and_have_suggestions(emoji, prompt, nearest):
    known = emoji.knows(prompt)
    assert not known
    assert known.reason
    assert len(set(known.nearest)) == 3
    assert all(emoji.knows(each) for each in known.nearest)
    assert set(nearest) <= set(known.nearest)
    assert repr(known).startswith(f"unknown: {prompt!r} (")


@pytest.mark.parametrize("instruction", texts(KNOWN_EDITS))
def test_instructions_of_training_are_known(editor, instruction):
    assert editor.knows(instruction)


@pytest.mark.parametrize(("instruction", "nearest"), with_nearest(UNKNOWN_EDITS))
def test_other_instructions_are_unknown_and_have_suggestions(editor, instruction, nearest):
    known = editor.knows(instruction)
    assert not known
    assert len(set(known.nearest)) == 3
    assert all(editor.knows(each) for each in known.nearest)
    assert known.nearest[: len(nearest)] == tuple(nearest)


def test_the_words_that_are_not_known_are_named_in_order(emoji):
    known = emoji.knows("a red car under a tree at sunset")
    assert known.unknown == ("red", "under", "sunset")
    assert known.reason == "the words 'red', 'under', 'sunset' and 2 things in one image"
    assert known.nearest[0] == "an automobile"
    long = emoji.knows(" ".join(f"word{'x' * 100}{i}" for i in range(50)))
    assert len(long.unknown) == 50
    assert len(long.reason) < 300


def test_an_empty_text_is_known_and_other_kinds_are_refused(emoji, editor):
    assert emoji.knows("")
    assert editor.knows(" ")
    for wrong in (5, None, ["an owl"]):
        with pytest.raises(ValueError, match="give a single text"):
            emoji.knows(wrong)


MADE = Vocabulary(
    concepts=(
        Concept("owl", "an owl", "animals", plurals=("owls",), tags=("wise", "bird")),
        Concept("red apple", "a red apple", "food", ("apple",), ("red apples", "apples"), ("fruit",)),
        Concept("green apple", "a green apple", "food", ("apple",), ("green apples", "apples"), ("fruit",)),
        Concept("hot dog", "a hot dog", "food"),
        Concept("dog", "a dog", "animals", plurals=("dogs",)),
    ),
    styles={"glossy": ("glossy", "3D")},
    backgrounds=("white", "light blue"),
    colors=("blue",),
    counts=("two", "2"),
    relations=("next to", "in front of", "under"),
    fillers=("style", "background"),
    objects=2,
    typical={"clip_similarity": 60.5},
)


@pytest.mark.parametrize(
    "prompt",
    ["two owls", "2 owls next to a dog", "a blue owl", "a wise owl", "a dog under an apple", "a hot dog", "a 3d owl",
     "two blue dogs in front of two red apples on a light blue background", "an apple and a red apple and an owl"],
)  # fmt: skip
def test_what_a_model_of_compositions_knows(prompt):
    assert MADE.knows(prompt), MADE.knows(prompt)


@pytest.mark.parametrize(
    ("prompt", "unknown", "reason"),
    [
        ("three owls", ("three",), "the word 'three'"),
        ("an owl above a dog", ("above",), "the word 'above'"),
        ("a pink owl", ("pink",), "the word 'pink'"),
        ("an owl on a blue background", (), None),  # an object's color, and a word of captions
        ("an owl on a pink background", ("pink",), "the word 'pink'"),
        ("a wise dog", ("wise",), "the word 'wise'"),  # a tag of another concept
        ("fruit", ("fruit",), "the word 'fruit'"),  # a tag alone
        ("a hot dog, a dog and an owl", (), "3 things in one image"),
        ("a hot owl", ("hot",), "the word 'hot'"),
        ("two", (), "it names nothing to draw"),
        ("!?", (), "it names nothing to draw"),
    ],
)
def test_what_it_does_not_know(prompt, unknown, reason):
    known = MADE.knows(prompt)
    assert known.unknown == unknown
    assert known.reason == (reason or "")


def test_names_that_share_a_concept_are_one_thing():
    one = Vocabulary(concepts=MADE.concepts)
    assert one.knows("an apple, a red apple")
    assert not one.knows("a green apple, a red apple")
    assert not one.knows("an apple, a red apple, a green apple")


def test_a_written_vocabulary_reads_as_it_was(tmp_path, emoji, editor):
    for vocabulary in (MADE, emoji, editor, Vocabulary(instructions=(Instruction("a", ("b", "c"), "d"),))):
        vocabulary.write(tmp_path)
        assert Vocabulary.read(tmp_path) == vocabulary


def test_lists_are_grouped(emoji, editor):
    assert MADE.listed().splitlines() == [
        "animals (2): owl, dog", "food (3): red apple (apple), green apple (apple), hot dog", "styles (1): glossy",
        "backgrounds (2): white, light blue", "colors (1): blue", "counts (2): two, 2",
        "relations (3): next to, in front of, under", "At most 2 of them in an image.",
    ]  # fmt: skip
    assert "automobile (car)" in emoji.listed()
    assert max(map(len, emoji.listed().splitlines())) <= 100
    assert "make it night" in editor.listed()
    assert "on a pink background" in " ".join(editor.listed().split())


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "5", '{"concepts": []}', '{"format": "another"}', "[" * 100_000, "\udcff"]
)
def test_a_file_of_another_kind_says_nothing(tmp_path, text):
    (tmp_path / FILE).write_bytes(text.encode("utf-8", "surrogateescape"))
    assert Vocabulary.read(tmp_path) is None


def test_a_folder_without_one_says_nothing(tmp_path):
    assert Vocabulary.read(tmp_path) is None
    (tmp_path / FILE).mkdir()
    assert Vocabulary.read(tmp_path) is None


@pytest.mark.parametrize(
    "content",
    [
        {"concepts": 5}, {"concepts": [5]}, {"concepts": [{"name": "a"}]}, {"concepts": [{"name": 5, "noun": "a"}]},
        {"concepts": [{"name": ["a"], "noun": "a"}]}, {"concepts": [{"name": "a", "noun": "a", "tags": "a"}]},
        {"concepts": [{"name": "a", "noun": "a", "other": "a"}]},
        {"concepts": [{"name": "a", "noun": "a", "tags": [5]}]},
        {"instructions": [{"name": "a"}]}, {"instructions": [{"name": "a", "wordings": []}]},
        {"instructions": [{"name": "a", "wordings": "abc"}]},
        {"styles": []}, {"styles": {"a": 5}}, {"styles": {"a": "b"}},
        {"objects": "many"}, {"objects": None}, {"typical": {"clip_similarity": "high"}}, {"typical": 5},
        {"colors": "red"},
        {"colors": [None]},
    ],
)  # fmt: skip
def test_a_damaged_vocabulary_is_refused_in_one_sentence(tmp_path, content):
    MADE.write(tmp_path)
    whole = json.loads((tmp_path / FILE).read_text())
    (tmp_path / FILE).write_text(json.dumps({**whole, **content}))
    with pytest.raises(InvalidVocabulary, match="is damaged") as caught:
        Vocabulary.read(tmp_path)
    assert "\n" not in str(caught.value)
