"""Forms ask for what the request has, in its own words, and read what was typed."""

from types import SimpleNamespace

import pytest

from scoredistill.tasks.image_generation.request import Request
from scoredistill.ui.calls import IMAGE, KINDS, OBJECT, SVG
from scoredistill.ui.form import CHOICES, Form, described


class Components:
    """Stands for gradio: every component is what it was made with."""

    def __getattr__(self, name):
        return lambda *args, **given: SimpleNamespace(kind=name, args=args, **given)


def form(kind, *names):
    made = Form(Components(), kind)
    for name in names:
        made.option(name)
    return made


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.function)
def test_every_option_has_words(kind):
    says = described(kind.request)
    assert set(says) == kind.names
    assert all(says.values())


def test_the_words_are_those_of_the_option():
    assert described(Request)["guidance"] == "Classifier-free guidance scale; 1 for none."
    assert described(Request)["method"].endswith("or a method of your own as FILE.py:NAME.")


def test_choices_are_of_options_that_there_are():
    assert set(CHOICES) <= set.union(*(kind.names for kind in KINDS))


def test_what_is_left_empty_has_the_default_of_the_method():
    made = form(IMAGE, "steps", "guidance", "through", "negative_prompt", "seed")
    assert made.values(["", None, "auto", "", 0]) == {"negative_prompt": "", "seed": 0}
    assert made.values([" 12", "7.5", "decoder", "x", 3]) == {
        "steps": 12, "guidance": 7.5, "through": "decoder", "negative_prompt": "x", "seed": 3,
    }  # fmt: skip
    assert form(OBJECT, "view_prompts", "perp_neg").values(["no", True]) == {"view_prompts": False, "perp_neg": True}
    assert form(OBJECT, "view_prompts").values(["auto"]) == {}


def test_numbers_of_the_browser_get_the_type_of_the_option():
    assert form(OBJECT, "sparsity", "seed").values([None, None]) == {}
    read = form(OBJECT, "sparsity", "seed").values([1, 3.0])
    assert read == {"sparsity": 1.0, "seed": 3}
    assert [type(value) for value in read.values()] == [float, int]


@pytest.mark.parametrize(("name", "typed"), [("steps", "a"), ("steps", "1.5"), ("guidance", "1,5"), ("lr", "x" * 99)])
def test_what_is_no_number_is_refused_by_name(name, typed):
    with pytest.raises(ValueError, match=f"^{name} must be a (whole )?number, not '{typed[:40]}"):
        form(IMAGE, name).values([typed])


def test_empty_fields_show_what_they_stand_for():
    made = form(IMAGE, "steps", "guidance")
    assert made.defaults({"method": "msd", "image": "mlp"}) == {"steps": "auto: 24", "guidance": "auto: 5"}
    assert made.defaults({"method": "sds", "image": "latents"})["steps"] == "auto: 400"
    assert form(SVG, "follow").defaults({"method": "msd"})["follow"] != "auto"
    assert made.defaults({"method": "none"}) == {"steps": "auto", "guidance": "auto"}
