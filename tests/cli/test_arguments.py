"""Wrong command lines are refused in one sentence with the nearest right one."""

import pytest

from scoredistill.cli.arguments import Given, check, parsed
from scoredistill.cli.commands import COMMANDS
from scoredistill.cli.parameters import Parameter, parameters


@pytest.fixture(scope="module")
def known():
    return {name: parameters(COMMANDS[name], name) for name in ("image", "edit", "object", "prior", "scene")}


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (["imge", "x"], "unknown command 'imge' (did you mean 'image'?): see scoredistill --help"),
        (
            ["image", "x", "--sed", "3"],
            "image has no --sed (did you mean '--seed'?): see scoredistill image --help-all",
        ),
        (["image", "x", "--setps=3"], "image has no --setps (did you mean '--steps'?)"),
        (["image", "x", "-o", "y"], "image has no -o"),
        (["image", "x", "--steps"], "--steps needs a value: give --steps 10, for example"),
        (["image", "x", "--steps", "--seed", "3"], "--steps needs a value"),
        (["image", "x", "--steps", "ten"], "--steps takes a whole number, not 'ten': give --steps 10, for example"),
        (["image", "x", "--steps=1.5"], "--steps takes a whole number, not '1.5'"),
        (["image", "x", "--guidance", "strong"], "--guidance takes a number, not 'strong'"),
        (
            ["image", "x", "--preset", "drft"],
            "unknown --preset 'drft': use one of draft, standard, best (did you mean 'draft'?)",
        ),
        (["image", "x", "--offload", "modle"], "use one of model, sequential, auto (did you mean 'model'?)"),
        (
            ["image", "a", "hamburger"],
            "image does not take 'hamburger': put the prompt in quotes, as in scoredistill i",
        ),
        (["edit", "a.png", "make", "it"], "edit does not take 'it': put the instruction in quotes"),
        (["edit"], 'edit needs SOURCE, as in scoredistill edit photo.jpg "make it night"'),
        (["object", "x", "--elevation", "3"], "--elevation needs 2 values"),
        (["object", "x", "--elevation", "3", "x"], "--elevation takes a number, not 'x'"),
        (["prior", "shwo"], "unknown ACTION 'shwo': use one of list, show, evaluate, train (did you mean 'show'?)"),
        (["prior"], "prior needs ACTION: list, show (the model card)"),
        (["image", "x", "--method", "colaborative"], "as FILE.py:NAME (did you mean 'collaborative'?)"),
        (["image", "x", "--prompts", "y"], "give one prompt, or several by --prompts, but not both"),
        (["image", "--prompts", "missing.txt"], "cannot read prompts from missing.txt"),
        (["image", "x", "--seeds", "0"], "--seeds is the number of runs of a prompt, at least 1, not 0"),
        (
            ["image", "x", "--through", "encodr"],
            "unknown through 'encodr': use one of encoder, decoder (did you mean 'encoder'?)",
        ),
    ],
)
def test_a_mistake_is_one_sentence_with_advice(line, says, refused, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert says in refused(*line)
    assert list(tmp_path.iterdir()) == []


def test_what_tyro_takes_is_taken(known):
    """Negative numbers, underscores, several values, "auto", flags that are negated, and everything behind --."""
    given = parsed(
        "object", ["owl", "--elevation", "-5", "25.5", "--view_prompts=True", "--no-progress"], known["object"]
    )
    assert given == Given({"--elevation": ("-5", "25.5"), "--view-prompts": ("True",), "--no-progress": ()}, ("owl",))
    check("object", given, known["object"])
    given = parsed(
        "edit", ["a.png", "x", "--region", "0-0.5: x", "b: y", "--scales", "1", "2", "--wrap"], known["edit"]
    )
    assert given.options["--region"] == ("0-0.5: x", "b: y")
    assert given.options["--scales"] == ("1", "2")
    check("edit", given, known["edit"])
    check("image", parsed("image", ["x", "--steps", "auto", "--lr", "1e-3"], known["image"]), known["image"])
    assert parsed("image", ["--seed", "1", "--", "-x"], known["image"]).words == ("-x",)
    assert parsed("image", ["x", "--seed", "1", "--seed", "2"], known["image"]).options["--seed"] == ("2",)


@pytest.mark.parametrize("value", ["3", "-3", "1e-3", ".5", "inf", "auto"])
def test_numbers_are_recognized(value):
    each = Parameter(("--x",), "FLOAT", 1, 1, (), "", "", "", False)
    assert not each.fault(value)
    assert each.fault("x1")
