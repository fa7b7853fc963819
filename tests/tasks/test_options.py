"""Every option of every task is used by a method, or refused with it: no option is ignored in silence.

The table names the options that a method makes no use of. The walk gives each option of each task to each method, so
that a new option or method fails here until the table says what it does. It says what is refused, not that what is
accepted has an effect: `test_accepted_options_change_the_result` looks at that with priors in closed form.
"""

from dataclasses import fields

import numpy as np
import pytest
import torch
from PIL import Image

from scoredistill.estimators import SDS
from scoredistill.priors import ManyAnswers
from scoredistill.priors.base import JointPrior, TextPrior
from scoredistill.priors.conditions import expand_cond
from scoredistill.recipe import named
from scoredistill.schedule import VP, per_sample
from scoredistill.tasks import METHODS, edit_image, edit_scene, edit_video, text_to_image
from scoredistill.tasks.image_editing.recipes import EDIT_RECIPES
from scoredistill.tasks.image_editing.request import EditRequest
from scoredistill.tasks.image_generation.request import Request
from scoredistill.tasks.object_generation.recipes import OBJECT_RECIPES
from scoredistill.tasks.object_generation.request import ObjectRequest
from scoredistill.tasks.scene_editing.recipes import SCENE_METHODS
from scoredistill.tasks.scene_editing.request import SceneRequest
from scoredistill.tasks.vector_graphics.request import METHODS as VECTOR_METHODS
from scoredistill.tasks.vector_graphics.request import VECTOR_EDITS, VectorEditRequest, VectorRequest
from scoredistill.tasks.video_editing.recipes import VIDEO_RECIPES
from scoredistill.tasks.video_editing.request import VideoRequest

OWN = named(SDS)
SAMPLING = ("crops", "windows", "per_frame")
UNCOUPLED = ("uncoupled", "common_noise", OWN)
GUIDING = ("sdi", "sdi_published")
EDITING = {
    "kernel": (*SAMPLING, *UNCOUPLED), "particles": SAMPLING, "lr": SAMPLING, "scales": SAMPLING,
    "feather": (*EDIT_RECIPES, OWN),  # there are no regions
}  # fmt: skip
TABLE = {  # request, its methods, and option -> methods that refuse it
    "image": (Request, METHODS, {
        "image": ("ddim",), "lr": ("ddim",), "through": ("ddim",), "follow": ("ddim",), "negative_prompt": GUIDING,
    }),
    "image on latents": (lambda *asked, **more: Request(*asked, **{"image": "latents", **more}), METHODS[:-1], {
        "through": (*METHODS[:-1], OWN), "negative_prompt": GUIDING,
    }),
    "object": (ObjectRequest, OBJECT_RECIPES, {
        "perp_neg": GUIDING, "negative_prompt": GUIDING,
    }),
    "splats": (lambda *asked, **more: ObjectRequest(*asked, **{"shape": "splats", **more}), OBJECT_RECIPES, {
        "perp_neg": GUIDING, "negative_prompt": GUIDING, "orientation": (*OBJECT_RECIPES, OWN),
        "encoding": (*OBJECT_RECIPES, OWN), "background": (*OBJECT_RECIPES, OWN),
    }),
    "edit": (EditRequest, EDIT_RECIPES, {
        **EDITING, "negative_prompt": (*SAMPLING, "random_noise"),  # at the scales of the bundled editor
    }),
    "video": (VideoRequest, VIDEO_RECIPES, {
        **EDITING, "negative_prompt": (*SAMPLING, "random_noise"), "flow": SAMPLING,
    }),
    "icon": (lambda text, *asked, **more: VectorRequest((text,), *asked, **more), VECTOR_METHODS, {
        "steps": ("trace",), "follow": ("trace",), "lr": ("trace",), "negative_prompt": ("trace",),
    }),
    "icon from noise": (
        lambda text, *asked, **more: VectorRequest((text,), *asked, **{"init": "noise", **more}), VECTOR_METHODS[:-1],
        {"candidates": (*VECTOR_METHODS[:-1], OWN)},
    ),
    "svg": (VectorEditRequest, VECTOR_EDITS, {"kernel": UNCOUPLED[:-1]}),
    "scene": (SceneRequest, SCENE_METHODS, {"views": ("one_view",), "kernel": ("one_view", *UNCOUPLED)}),
}  # fmt: skip
GIVEN = {  # option -> a value that is not its default
    "image": "pixels", "steps": 3, "particles": 5, "guidance": 2.0, "lr": 0.3, "through": "encoder", "follow": 2,
    "negative_prompt": "fog", "seed": 1, "shape": "nerf", "encoding": "hash", "views": 5, "size": 32,
    "elevation": (0.0, 9.0), "view_prompts": True, "perp_neg": True, "shading": "mixed", "background": "learned",
    "sparsity": 0.1, "entropy": 0.1, "orientation": 0.1, "text_scale": 2.0, "image_scale": 1.7, "sweeps": 3,
    "kernel": 2.0, "stride": 0.75, "scales": (1, 2), "wrap": True, "regions": ("0-0.5: make it snowy",),
    "feather": 0.2, "detail": 0.5, "group": 5, "overlap": 2, "flow": 2, "use": 7, "rounds": 2, "fit_steps": 3,
    "edit_steps": 3, "rays": 8, "samples": 4, "outside": True, "paths": 5, "style": "line", "init": "noise",
    "colors": 3, "together": False, "candidates": 2,
}  # fmt: skip
NAMED = ("prompt", "prompts", "instruction", "method", "prior")  # what is no option


CASES = [(t, m) for t, (_, ms, _) in TABLE.items() for m in (*ms, *(() if t == "svg" else (OWN,)))]


@pytest.mark.parametrize(("task", "method"), CASES)
def test_every_option_is_used_or_refused(task, method):
    make, _, refusing = TABLE[task]
    options = [f.name for f in fields(type(make("make it night"))) if f.name not in NAMED]
    assert set(refusing) <= set(options)
    for option in options:
        more = {"view_prompts": True} if option == "perp_neg" else {}
        if option == "size" and task == "svg":
            more = {"size": 96}  # not below that of the model's own images
        asked = make("make it night", method, **{option: GIVEN[option], **more})
        if method in refusing.get(option, ()):
            with pytest.raises(ValueError, match="(?i)" + option.replace("_", "[_ -]")):
                asked.complete()
        else:
            settings = asked.complete()
            assert getattr(settings, option) == {**GIVEN, **more}[option]
            assert settings.method == method


class Drawn(JointPrior, TextPrior):
    """A text-to-image prior in closed form: images of one gray level by the length of the prompt, plus white noise."""

    name, latent_shape, image_size, device = "drawn", (3, 8, 8), (8, 8), torch.device("cpu")
    schedule = VP()

    def encode_text(self, prompts):
        return {
            "text": torch.tensor(
                [len(prompt) / 20 - 1 for prompt in ([prompts] if isinstance(prompts, str) else prompts)]
            )
        }

    def null(self, cond):
        return {"text": torch.full_like(cond["text"], -1)}

    def encode_image(self, images):
        return 2 * images - 1

    def decode(self, x):
        return x / 2 + 0.5

    def _predict(self, x_t, t, cond):
        alpha, sigma = (per_sample(level, x_t) for level in self.schedule(t))
        mean, variance = per_sample(expand_cond(cond, len(x_t))["text"].to(x_t), x_t), (0.3 * alpha) ** 2 + sigma**2
        away = (x_t - alpha * mean) / variance
        return mean + 0.09 * alpha * away, sigma * away


class Exact(ManyAnswers):
    """An editor in closed form that may be asked without an image, too."""

    takes_zeros = True


SOURCE = Image.fromarray(np.random.default_rng(0).integers(60, 190, (18, 20, 3), np.uint8))


def image_of(method, **options):
    if method != "ddim":
        options = {"image": "pixels", "follow": 1, "lr": 0.05, **options}
    made = text_to_image("an owl", Drawn(), method, **{"steps": 2, **options})
    return [np.asarray(image) for image in made.images], [step["grad_norm"] for step in made.history]


EDIT = {"sweeps": 2, "size": 16, "text_scale": 1.5, "image_scale": 1.2}


def edit_of(method, **options):
    editor = Exact([lambda x: -x, lambda x: 0.5 * x + 0.3], (8, 8))
    made = edit_image(SOURCE, "change it", editor, method, **{**EDIT, **options})
    return [np.asarray(made.image), made.latents.numpy()], [step["grad_norm"] for step in made.history]


def same(a, b):
    alike = lambda x, y: np.shape(x) == np.shape(y) and np.array_equal(x, y)
    return len(a[0]) == len(b[0]) and all(map(alike, a[0], b[0])) and a[1] == b[1]


ASKED = {"image": "mlp", "size": 12, "follow": 3}  # where values other than those of GIVEN suit these runs
CLOSED = [("image", method) for method in ("sds", "sdi", "csd", "msd", "collaborative", "ddim")]
CLOSED += [("edit", m) for m in ("csd", "csd_affine", "uncoupled", "random_noise", "windows", OWN)]


@pytest.mark.parametrize(("task", "method"), CLOSED)
def test_accepted_options_change_the_result(task, method):
    """One method of each kind, on priors in closed form, so that no network is evaluated."""
    run = image_of if task == "image" else edit_of
    make, _, refusing = TABLE[task]
    usual = run(method)
    assert same(usual, run(method))
    for option in [f.name for f in fields(type(make("x"))) if f.name not in NAMED]:
        if method not in refusing.get(option, ()):
            value = {**GIVEN, **ASKED}[option]
            if option == "through" and make("x", method).complete().through == value:
                value = "decoder"
            assert not same(usual, run(method, **{option: value})), option


def test_a_negative_prompt_needs_guidance():
    for make in (Request, ObjectRequest):
        with pytest.raises(ValueError, match="guidance 1 is none, and a negative prompt"):
            make("an owl", guidance=1.0, negative_prompt="fog").complete()
        assert make("an owl", guidance=1.0).complete().guidance == 1
    led = ObjectRequest("an owl", guidance=1.0, negative_prompt="fog", perp_neg=True).complete()
    assert led.negative_prompt == "fog"  # Perp-Neg leads away from it at any scale


@pytest.mark.parametrize(
    ("run", "method"),
    [(edit_image, "crops"), (edit_video, "per_frame"), (edit_scene, "one_view"), (text_to_image, "ddim")],
)
def test_methods_that_sample_have_no_steps_to_skip(run, method, no_model):
    about = ("an owl",) if run is text_to_image else ("nowhere", "make it night")
    with pytest.raises(ValueError, match=f"{method} samples and has no steps that could be skipped: leave out on_nan"):
        run(*about, method=method, on_nan="skip")
