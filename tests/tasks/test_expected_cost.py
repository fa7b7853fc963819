"""The expected cost of a run is what the run then costs."""

import pytest

import tiny
from scoredistill.tasks import text_to_image
from scoredistill.tasks.expected_cost import expected_cost
from scoredistill.tasks.image_generation.request import METHODS, Request
from scoredistill.tasks.object_generation.request import ObjectRequest
from scoredistill.tasks.presets import PRESETS, at_preset


@pytest.fixture(scope="module")
def prior(tmp_path_factory):
    from scoredistill import load_prior

    return load_prior(tiny.stable_diffusion(tmp_path_factory.mktemp("tokens"), "v", "trailing"))


@pytest.mark.parametrize("method", [name for name in METHODS if name != "vsd"])
def test_the_cost_of_images(prior, method):
    usual = Request("an owl", method).complete()
    asked = {"steps": min(usual.steps, 2), "particles": min(usual.particles, 2)}
    asked |= {} if method == "ddim" else {"image": "latents"}
    counts = text_to_image("an owl", prior, method, **asked).counts
    found = expected_cost(Request("an owl", method, **asked).complete())
    assert found == {"rows": counts["rows"], "calls": counts["calls"]}


@pytest.mark.parametrize(
    ("settings", "rows"),
    [
        ({"method": "sds", "steps": 3}, 3 * 4 * 2),
        ({"method": "sds", "steps": 3, "guidance": 1.0}, 3 * 4),
        ({"method": "msd", "steps": 2, "views": 3}, 2 * 12 * 3 * 2),
        ({"method": "csd", "steps": 2, "negative_prompt": "a dog"}, 2 * 4 * 2),
        ({"method": "sds", "steps": 2, "perp_neg": True}, 2 * 4 * 3),
    ],
)
def test_the_cost_of_objects(settings, rows):
    assert expected_cost(ObjectRequest("an owl", **settings).complete())["rows"] == rows


def test_a_student_is_not_counted():
    assert expected_cost(Request("an owl", "vsd").complete()) is None


def test_presets_change_the_longest_field_that_is_open():
    assert at_preset(Request("a", "sds"), "best", "steps", "follow").steps == 800
    few = at_preset(Request("a", "msd_draws"), "draft", "steps", "follow")
    assert (few.steps, few.follow) == (None, 60)  # of two gradients none can be left out
    given = at_preset(Request("a", "msd_draws", steps=5), "best", "steps", "follow")
    assert (given.steps, given.follow) == (5, 360)
    with pytest.raises(ValueError, match="the preset best sets steps, which is given too: leave out one of them"):
        at_preset(Request("a", "sds", steps=5), "best", "steps", "follow")
    assert at_preset(ObjectRequest("a", "msd"), "draft", "steps", least=4).steps == 4
    assert at_preset(Request("a"), "standard", "steps") == Request("a")
    assert PRESETS["draft"] < PRESETS["standard"] == 1 < PRESETS["best"]
    with pytest.raises(
        ValueError, match=r"unknown preset 'drft': use one of draft, standard, best \(did you mean 'draft'\?\)"
    ):
        at_preset(Request("a"), "drft", "steps")
