"""Text to 3D: the request, the cost of the recipes, texts of views, runs, output directory, and the command."""

import json
import math
from itertools import pairwise

import pytest
import torch
from PIL import Image

import tiny
from scoredistill import Recipe, cli, load_prior
from scoredistill.checkpoint import load_state
from scoredistill.estimators import SDS
from scoredistill.loop import Step
from scoredistill.priors import Guided, PerpNeg
from scoredistill.priors.base import PriorWrapper
from scoredistill.priors.counted import Counted
from scoredistill.priors.guidance import plain
from scoredistill.sampling import ddim, ddim_step
from scoredistill.tasks import session, text_to_3d, three_d_output
from scoredistill.tasks.object_generation import output
from scoredistill.tasks.object_generation import run as running
from scoredistill.tasks.object_generation.output import ObjectDirectory, ObjectResult, four_sides
from scoredistill.tasks.object_generation.recipes import OBJECT_RECIPES
from scoredistill.tasks.object_generation.request import ObjectRequest
from scoredistill.tasks.object_generation.run import ViewTexts, Watched, guided, make_scene, views_of
from scoredistill.tasks.object_generation.views import BUNDLED_ELEVATION, USUAL_ELEVATION
from scoredistill.three_d.camera import around, orbit
from scoredistill.three_d.encodings import DenseGrid
from scoredistill.three_d.scenes.base import Viewpoint
from scoredistill.three_d.scenes.nerf import Field, NeRF
from scoredistill.three_d.scenes.splats import Splats
from scoredistill.three_d.splatting import read_ply

METHODS = list(OBJECT_RECIPES)


@pytest.fixture(scope="module")
def prior(tmp_path_factory):
    return load_prior(tiny.stable_diffusion(tmp_path_factory.mktemp("tiny")))


@pytest.fixture(autouse=True)
def fewer_samples(monkeypatch):
    monkeypatch.setattr(running, "RAYS", 12)


@pytest.fixture
def short(monkeypatch, every_step):
    """Small videos and sheets, and a checkpoint after every step."""
    monkeypatch.setattr(three_d_output, "VIDEO_SECONDS", 0.5)
    monkeypatch.setattr(three_d_output, "VIDEO_SIZE", 32)
    sheet = output.contact_sheet
    monkeypatch.setattr(output, "contact_sheet", lambda render, n, size, **given: sheet(render, 2, 16, **given))


def small(prior, method="sds", **settings):
    return text_to_3d("a", prior, method, **{"steps": 2, "views": 2, "size": 16, "follow": 1, **settings})


def state_of(scene):
    return {name: value.clone() for name, value in scene.state_dict().items()}


def assert_same(one, other):
    assert set(one) == set(other)
    for name, value in one.items():
        assert torch.equal(value, other[name]), name


# The request


def test_what_is_not_given_is_the_recipes_or_the_priors():
    for method, recipe in OBJECT_RECIPES.items():
        full = ObjectRequest("a cup", method).complete()
        for name in ("steps", "views", "guidance", "lr", "follow"):
            assert getattr(full, name) == getattr(recipe, name)
        assert (full.elevation, full.view_prompts, full.size) == (BUNDLED_ELEVATION, False, 64)
    other = ObjectRequest("a cup", prior="owner/model").complete()
    assert (other.elevation, other.view_prompts) == (USUAL_ELEVATION, True)
    assert ObjectRequest("a cup", perp_neg=True).complete().view_prompts is True
    kept = ObjectRequest("a cup", steps=7, guidance=2.0, elevation=(0.0, 1.0), view_prompts=True).complete()
    assert (kept.steps, kept.guidance, kept.elevation, kept.view_prompts) == (7, 2.0, (0.0, 1.0), True)
    assert json.loads(json.dumps(kept.__dict__))["elevation"] == [0.0, 1.0]
    assert kept.complete() == kept


def test_renders_have_the_priors_size_but_at_most_64():
    assert ObjectRequest("a").complete(16).size == 16
    assert ObjectRequest("a", size=96).complete(16).size == 96
    assert ObjectRequest("a").complete(512).size == 64


WRONG = [
    ({"prompt": "  "}, "the prompt is empty"),
    ({"method": "sdss"}, "unknown method 'sdss': use one of sds, "),
    ({"shape": "mesh"}, "unknown shape 'mesh': use one of nerf, splats"),
    ({"encoding": "octree"}, "unknown encoding 'octree': use one of dense, triplane, hash"),
    ({"shading": "phong"}, "unknown shading 'phong'"),
    ({"background": "blue"}, "unknown background 'blue'"),
    ({"steps": 0}, "steps must be a whole number of at least 1"),
    ({"views": 0}, "views must be a whole number of at least 1"),
    ({"follow": 0}, "follow must be a whole number of at least 1"),
    ({"lr": -1.0}, "lr must be a finite number of at least 0"),
    ({"guidance": math.nan}, "guidance must be a finite number of at least 0, not nan"),
    ({"sparsity": -0.1}, "sparsity must be a finite number of at least 0"),
    ({"entropy": math.inf}, "entropy must be a finite number of at least 0, not inf"),
    ({"orientation": -1.0}, "orientation must be a finite number of at least 0"),
    ({"size": 7}, "size must be a whole number of at least 8, not 7"),
    ({"elevation": (30.0, 10.0)}, "elevation must be two rising numbers in"),
    ({"elevation": (0.0, 91.0)}, "elevation must be two rising numbers in"),
    ({"perp_neg": True, "view_prompts": False}, "needs view prompts: leave them on"),
    ({"perp_neg": True, "method": "sdi"}, "sdi guides by itself: leave out Perp-Neg"),
    ({"perp_neg": True, "method": "sdi_published"}, "sdi_published guides by itself: leave out Perp-Neg"),
    ({"negative_prompt": "fog", "method": "sdi"}, "sdi guides by itself: leave out the negative prompt"),
    ({"shape": "splats", "background": "learned"}, "splats learn no background"),
    ({"shape": "splats", "orientation": 0.1}, "splats have no orientation"),
    ({"seed": -1}, "seed must be a whole number of at least 0"),
    ({"seed": 2**62}, "seed must be below 2"),
]


@pytest.mark.parametrize(("wrong", "sentence"), WRONG)
def test_impossible_settings_are_one_sentence(wrong, sentence, tmp_path):
    given = {"prompt": "a cup", **wrong}
    with pytest.raises(ValueError, match=sentence) as caught:
        text_to_3d(given.pop("prompt"), "emoji", given.pop("method", "msd"), out=tmp_path / "new", **given)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("name", ["steps", "views", "follow", "seed"])
def test_numbers_that_are_not_whole_are_refused(name):
    full = ObjectRequest("a").complete()
    object.__setattr__(full, name, 2.5)  # as Python lets users give what annotations forbid
    with pytest.raises(ValueError, match=f"{name} must be a whole number of at least [01], not 2.5"):
        full.check_values()


def test_editors_and_unknown_priors_are_refused():
    with pytest.raises(ValueError, match="cannot generate them from text: use a text-to-image model"):
        text_to_3d("a", "emoji-edit")
    with pytest.raises(ValueError, match="no-such-model"):
        text_to_3d("a", "./no-such-model")


# Recipes and their cost


@pytest.mark.parametrize("method", METHODS)
def test_every_method_runs_and_at_its_own_settings_asks_for_the_rows_of_sds(prior, method):
    made, recipe, before = [], OBJECT_RECIPES[method], None

    def note(step, scene):
        made.append(step)
        assert all(bool(p.grad.isfinite().all()) for p in scene.field.parameters() if p.grad is not None)
        assert any(float(p.grad.abs().max()) > 0 for p in scene.field.parameters() if p.grad is not None)

    result = small(prior, method, callback=note)
    before = make_scene(result.request, (16, 16)).state_dict()
    moved = [n for n, v in result.scene.state_dict().items() if n.startswith("field") and not torch.equal(v, before[n])]
    assert len(moved) > 2
    assert [step.index for step in made] == [0, 1]
    assert [set(row) >= {"t", "grad_norm"} for row in result.history] == [True, True]
    assert all(math.isfinite(value) for row in result.history for value in row.values())
    assert len(result.images) == running.LOOKS
    per_view = result.counts["rows"] / (2 * 2)
    usual = OBJECT_RECIPES["sds"]
    assert recipe.steps * recipe.views * per_view == pytest.approx(usual.steps * usual.views * 2, rel=0.02)


def test_steps_and_views_cost_what_they_say(prior):
    assert small(prior, steps=3, views=1).counts == {"rows": 6, "calls": 3, "encoded": 3, "decoded": 0}
    assert small(prior, "msd_mean", steps=1, views=3).counts == {"rows": 6, "calls": 1, "encoded": 3, "decoded": 3}
    assert small(prior, steps=2, guidance=1.0).counts["rows"] == 4


def test_the_seed_changes_everything_that_is_random(prior):
    for method in ("sds", "msd_same_noise"):
        seen = {}
        for seed in (0, 1):
            steps = []
            small(prior, method, steps=1, seed=seed, callback=lambda step, scene, kept=steps: kept.append(step.views))
            seen[seed] = steps[0]
        assert not torch.allclose(seen[0], seen[1])


def test_most_of_a_run_sees_half_of_the_size(prior, monkeypatch):
    seen, full = [], []
    forward = NeRF.forward
    monkeypatch.setattr(
        NeRF, "forward", lambda self, views: seen.append((self.size, self.samples)) or forward(self, views)
    )
    small(prior, steps=5, views=1, callback=lambda step, scene: full.append((scene.size, scene.samples)))
    assert seen == [((8, 8), 8)] * 4 + [((16, 16), 12)]
    assert full == [((16, 16), 12)] * 5


@pytest.mark.parametrize("method", ["csd", "msd"])
def test_nothing_is_rendered_encoded_or_decoded_twice(prior, monkeypatch, method):
    rendered, looked = [], []
    forward, features = NeRF.forward, running.perceptual_features
    monkeypatch.setattr(NeRF, "forward", lambda self, views: rendered.append(forward(self, views)) or rendered[-1])
    monkeypatch.setattr(running, "perceptual_features", lambda x: looked.append(x) or features(x))
    result = small(prior, method, follow=2)
    assert len(rendered) == 2 * 2  # steps and follow
    assert result.counts["decoded"] == (4 if method == "msd" else 0)
    assert result.counts["encoded"] == (4 if method == "msd" else 8)  # the chain rule follows through the encoder
    if method == "msd":
        assert looked == []
        return
    assert len(looked) == 2
    for k, images in enumerate(looked):
        torch.testing.assert_close(images, rendered[2 * k].detach().clamp(0, 1), rtol=0, atol=0)
        assert images.shape == (2, 3, 16, 16)


def test_features_are_of_the_views_rendered_last(prior):
    scene = make_scene(ObjectRequest("a", views=2, size=16).complete(), (16, 16))
    watched = Watched(scene)
    with pytest.raises(ValueError, match="render as many first"):
        watched.features(torch.zeros(2, 4, 8, 8))
    with torch.no_grad():
        watched(watched.views(2, torch.Generator().manual_seed(0)))
    found = watched.features(torch.zeros(2, 4, 8, 8))
    assert found.ndim == 2
    with pytest.raises(ValueError, match="render as many first"):
        watched.features(torch.zeros(3, 4, 8, 8))


# Shapes, encodings, shading, penalties


KINDS = [
    {"shape": "splats"},
    {"shape": "splats", "background": "random", "shading": "mixed", "sparsity": 0.1, "entropy": 0.1},
    {"encoding": "triplane"},
    {"encoding": "hash"},
    {"shading": "mixed"},
    {"background": "random"},
    {"background": "learned"},
    {"sparsity": 1.0, "entropy": 1.0, "orientation": 1.0},
]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: " ".join(map(str, kind.values())))
def test_every_kind_of_object_is_shaped_with_finite_gradients(prior, monkeypatch, kind):
    monkeypatch.setattr(running, "SPLATS", 60)
    if kind.get("encoding") == "hash":  # the other backends compile for seconds
        grid = running.HashGrid
        monkeypatch.setattr(running, "HashGrid", lambda *given, rng: grid(*given, rng=rng, backend="torch"))
    grads = []

    def note(step, scene):
        grads.append({name: p.grad for name, p in scene.named_parameters()})

    scene = small(prior, callback=note, **kind).scene
    assert isinstance(scene, Splats if kind.get("shape") == "splats" else NeRF)
    for step in grads:
        assert all(g is None or bool(g.isfinite().all()) for g in step.values())
        assert sum(g is not None and float(g.abs().max()) > 0 for g in step.values()) > 2
    if kind.get("background") == "learned":
        assert float(grads[0]["backdrop.first.weight"].abs().max()) > 0
    names = {"triplane": "TriPlane", "hash": "HashGrid"}
    if "encoding" in kind:
        assert type(scene.field.encoding).__name__ == names[kind["encoding"]]
    if kind.get("shading") == "mixed":
        assert scene.shading == running.MIXED


@pytest.mark.parametrize("name", ["sparsity", "entropy", "orientation"])
def test_a_penalty_reaches_the_gradient(prior, name):
    plainly, led = [], []
    for kept, weight in ((plainly, 0.0), (led, 100.0)):
        small(
            prior,
            steps=1,
            callback=lambda s, scene, k=kept: k.append(scene.field.layers[0].weight.grad),
            **{name: weight},
        )
    assert (plainly[0] - led[0]).abs().max() > 1e-3


# Texts of views, and Perp-Neg


def rows_of(azimuth, elevation):
    n = len(azimuth)
    cameras = around(torch.tensor(azimuth), torch.tensor(elevation))
    return Viewpoint(cameras, cameras.eyes, torch.zeros(n), torch.ones(n, 3)).rows()


AZIMUTH = [0.0, 44.0, 316.0, 46.0, 90.0, 134.0, 270.0, 136.0, 180.0, 224.0, 0.0, 180.0, 0.0]
ELEVATION = [0.0] * 10 + [80.0, 60.5, 59.5]
SIDE = ["front"] * 3 + ["side"] * 4 + ["back"] * 3 + ["overhead"] * 2 + ["front"]


def test_every_view_gets_the_text_of_its_side(prior):
    request = ObjectRequest("a", "sds", view_prompts=True).complete()
    texts = ViewTexts.of(prior, request)
    cond = texts(rows_of(AZIMUTH, ELEVATION))
    expected = prior.encode_text([f"a, {side} view" for side in SIDE])
    assert len({tuple(row.flatten().tolist()) for row in expected["text"]}) == 4
    torch.testing.assert_close(cond["text"], expected["text"], rtol=0, atol=0)
    led = texts.elsewhere(cond)
    away = prior.encode_text([f"a, {'back' if side == 'front' else 'front'} view" for side in SIDE])
    torch.testing.assert_close(led["text"], away["text"], rtol=0, atol=0)
    assert (led["text"] - cond["text"]).flatten(1).abs().amax(1).min() > 0
    one = ViewTexts.of(prior, ObjectRequest("a", "sds").complete())(rows_of(AZIMUTH, ELEVATION))
    torch.testing.assert_close(one["text"], prior.encode_text(["a"])["text"], rtol=0, atol=0)


class Noted(PriorWrapper):
    """Remembers what it was asked."""

    def eps(self, x_t, t, cond=None):
        self.asked = [*getattr(self, "asked", []), {**cond}]
        return self.prior.eps(x_t, t, cond)


@pytest.mark.parametrize("negative", ["", "fog"])
def test_perp_neg_leads_away_from_the_other_side_in_one_call(prior, negative):
    request = ObjectRequest("a", "sds", perp_neg=True, negative_prompt=negative).complete()
    texts = ViewTexts.of(prior, request)
    cond = texts(rows_of([0.0, 90.0, 180.0], [0.0, 0.0, 0.0]))
    noted = Noted(prior)
    x, t = torch.randn(3, 4, 8, 8, generator=torch.Generator().manual_seed(0)), torch.full((3,), 0.5)
    found = guided(request, prior, Counted(noted), texts).eps(x, t, cond)
    assert len(noted.asked) == 1
    said = ["a, front view", "a, side view", "a, back view", "a, back view", "a, front view", "a, front view"]
    said = ["", "", "", *said, *(["fog"] * 3 if negative else [])]
    torch.testing.assert_close(noted.asked[0]["text"], prior.encode_text(said)["text"], rtol=0, atol=0)
    e = dict(zip("0cn", (prior.eps(x, t, prior.encode_text(said[k : k + 3])) for k in (0, 3, 6)), strict=True))
    d, away = e["c"] - e["0"], [e["n"] - e["0"]]
    if negative:
        away.append(prior.eps(x, t, prior.encode_text(["fog"] * 3)) - e["0"])
    inner = lambda a, b: (a * b).sum((1, 2, 3), keepdim=True)
    expected = e["0"] + request.guidance * (d - sum(v - inner(v, d) / inner(d, d) * d for v in away))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_a_negative_may_be_a_function_of_the_condition(prior):
    cond, x, t = prior.encode_text(["a", "b"]), torch.randn(2, 4, 8, 8), torch.full((2,), 0.4)
    swapped = {"text": cond["text"].flip(0)}
    one = PerpNeg(prior, 3.0, [(lambda c: {"text": c["text"].flip(0)}, -0.7)]).eps(x, t, cond)
    other = PerpNeg(prior, 3.0, [(swapped, -0.7)]).eps(x, t, cond)
    torch.testing.assert_close(one, other, rtol=0, atol=0)
    assert (one - Guided(prior, 3.0).eps(x, t, cond)).abs().max() > 1e-4


def test_a_method_that_guides_by_itself_would_not_see_a_negative_prompt(prior):
    """Why sdi refuses one: what it asks is the network behind guidance."""
    assert plain(Guided(prior, 3.0, uncond=prior.encode_text(["fog"]))) is prior


@pytest.mark.parametrize("method", ["sds", "vsd"])
def test_perp_neg_costs_a_row_more(prior, method):
    usual, led = (small(prior, method, steps=1, perp_neg=on).counts for on in (False, True))
    assert led["rows"] / usual["rows"] == 1.5
    assert led["calls"] == usual["calls"]


# Resuming


def interrupted(prior, out, at, **settings):
    def stop(step, scene):
        if step.index == at:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        small(prior, out=out, steps=3, callback=stop, **settings)


@pytest.mark.parametrize(
    "settings",
    [
        {"method": "sds"},
        {"method": "vsd", "perp_neg": True, "background": "random", "shading": "mixed"},
        {"method": "msd_same_noise", "seed": 3, "views": 1, "follow": 2},
        {"method": "csd", "shape": "splats"},
    ],
    ids=lambda settings: settings["method"],
)
def test_a_resumed_run_ends_as_if_it_had_not_stopped(prior, tmp_path, short, monkeypatch, settings):
    monkeypatch.setattr(running, "SPLATS", 60)
    monkeypatch.setattr(ObjectDirectory, "finish", lambda self, result: None)
    whole = small(prior, steps=3, **settings)
    interrupted(prior, tmp_path, 1, **settings)
    assert (tmp_path / "checkpoint.safetensors").is_file()
    indices = []
    resumed = small(
        prior, steps=3, out=tmp_path, resume=True, callback=lambda step, scene: indices.append(step.index), **settings
    )
    assert indices == [1, 2]
    assert_same(state_of(resumed.scene), state_of(whole.scene))
    if settings.get("shape") != "splats":
        assert int(resumed.scene.occupancy.count) == int(whole.scene.occupancy.count) > 0
    assert resumed.history == whole.history
    assert resumed.counts == whole.counts
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 3


def test_resuming_needs_the_same_settings_and_an_unfinished_run(prior, tmp_path, short):
    interrupted(prior, tmp_path / "run", 1)
    with pytest.raises(ValueError, match="has another lr, shading: give the same settings"):
        small(prior, out=tmp_path / "run", resume=True, steps=3, lr=0.5, shading="mixed")
    with pytest.raises(ValueError, match="holds no run to resume"):
        small(prior, out=tmp_path / "none", resume=True)
    (tmp_path / "run" / "checkpoint.safetensors").unlink()
    (tmp_path / "run" / "result.json").write_text("{}")
    with pytest.raises(ValueError, match="already finished"):
        small(prior, out=tmp_path / "run", resume=True, steps=3)


# The output directory


def ball(density=22.18, strength=40.0, size=(16, 16)):
    """A red ball whose surface, where layers of 1/32 are half opaque, has radius 1/2: log(2) 32 = 22.18."""
    field = Field(DenseGrid((2,), 1, std=0.0), layers=0, blob=(strength, 0.5), density=density)
    with torch.no_grad():
        field.layers[0].weight.zero_()
        field.layers[0].bias.copy_(torch.tensor([0.0, 3.0, -3.0, -3.0]))
    return NeRF(field, 32, size=size)


class Done(Step):
    """A finished step of which only the number is known."""

    def __init__(self, index, steps):
        object.__setattr__(self, "index", index)
        object.__setattr__(self, "steps", steps)

    def state_dict(self):
        return {"next": self.index + 1}


def finished(scene, path, prompt="a <red> ball", **settings):
    """result.json of a run that made the scene in two steps."""
    request = ObjectRequest(prompt, "sds", size=16, **settings).complete()
    directory, history = ObjectDirectory(path, request), []
    assert directory.open(request) == (None, [])
    for index in range(2):
        history.append({"t": 0.5, "grad_norm": 1.0 + index})
        directory.record(Done(index, 2), history[-1], {"rows": 4}, 0.1, lambda step: four_sides(scene))
    counts = {"rows": 8, "calls": 2, "encoded": 0, "decoded": 0}
    directory.finish(ObjectResult(scene, views_of(scene), request, counts, 0.25, history))
    return json.loads((path / "result.json").read_text())


def frames_of(path):
    if path.suffix == ".gif":
        return Image.open(path).n_frames
    av = pytest.importorskip("av")
    with av.open(str(path)) as video:
        return sum(1 for _ in video.decode(video=0))


def test_the_output_directory_of_a_radiance_field_is_complete(tmp_path, short):
    trimesh = pytest.importorskip("trimesh")
    pytest.importorskip("xatlas")
    pytest.importorskip("skimage")
    scene = ball()
    result = finished(scene, tmp_path)
    names = {path.name for path in tmp_path.iterdir()}
    assert names >= {
        "config.json", "metrics.jsonl", "result.json", "report.html", "video.gif", "preview.png", "turntable.gif",
        "sheet.png", "mesh.glb", "scene.safetensors",
    }  # fmt: skip
    assert not names & {"checkpoint.safetensors", ".frames", "splats.ply"}
    assert result["missing"] == ""
    assert (result["rows"], result["seconds"]) == (8, 0.25)
    assert {"clip_sim", "clip_sim_worst_view", "view_consistency"} <= set(result)
    assert result["clip_sim_worst_view"] <= result["clip_sim"]
    shape = trimesh.load(tmp_path / "mesh.glb", force="mesh", process=False)
    assert shape.extents == pytest.approx([1.0, 1.0, 1.0], rel=0.02)
    assert shape.bounds.mean(0) == pytest.approx([0.0, 0.0, 0.0], abs=0.02)
    texture = shape.visual.material.baseColorTexture.convert("RGB")
    red, green, _ = texture.getpixel((texture.width // 4, texture.height // 4))
    assert texture.size == (512, 512)
    assert red > 230 > 30 > green
    assert frames_of(tmp_path / "turntable.gif") == 8
    if (tmp_path / "turntable.mp4").exists():
        assert frames_of(tmp_path / "turntable.mp4") == 8
    report = (tmp_path / "report.html").read_text()
    assert "a &lt;red&gt; ball" in report
    assert "<red>" not in report
    assert json.loads((tmp_path / "config.json").read_text())["request"]["prompt"] == "a <red> ball"
    again = ball()
    again.load_state_dict(load_state(tmp_path / "scene.safetensors"))
    assert_same(state_of(again), state_of(scene))
    assert Image.open(tmp_path / "preview.png").width >= 4 * 128


def test_splats_come_back_from_their_file(tmp_path, short):
    scene = Splats(30, size=(16, 16), rng=torch.Generator().manual_seed(0))
    result = finished(scene, tmp_path, shape="splats")
    assert result["missing"] == ""
    assert not (tmp_path / "mesh.glb").exists()
    back = read_ply(tmp_path / "splats.ply")
    torch.testing.assert_close(back.means, scene.means.detach())
    torch.testing.assert_close(back.colors, scene.colors.detach(), rtol=1e-5, atol=1e-5)


def test_an_object_without_a_surface_says_so_instead_of_failing(tmp_path, short):
    pytest.importorskip("skimage")
    result = finished(ball(1e-3, 0.0), tmp_path)
    assert result["missing"].startswith("no mesh: nothing is solid")
    assert not (tmp_path / "mesh.glb").exists()
    assert (tmp_path / "report.html").is_file()


def test_a_new_run_replaces_the_files_of_the_old_one(prior, tmp_path, short, monkeypatch):
    monkeypatch.setattr(three_d_output, "export_scene", lambda scene, path, levels: "")
    small(prior, out=tmp_path, steps=3)
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [set(row) for row in rows] == [{"t", "grad_norm"}] * 3
    assert "clip_sim" not in json.loads((tmp_path / "result.json").read_text())
    (tmp_path / "mesh.glb").write_text("of before")
    small(prior, out=tmp_path, steps=1, overwrite=True)
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 1
    assert not (tmp_path / "mesh.glb").exists()


def test_directories_of_others_are_not_touched(prior, tmp_path):
    (tmp_path / "diary.txt").write_text("mine")
    with pytest.raises(ValueError, match="holds other files: give a new directory"):
        small(prior, out=tmp_path)
    with pytest.raises(ValueError, match="is a file: give a directory"):
        small(prior, out=tmp_path / "diary.txt")
    assert [path.name for path in tmp_path.iterdir()] == ["diary.txt"]


# Sampling from a noised sample


def test_ddim_from_a_noised_sample_takes_equal_steps_to_0(mixture, rng):
    x = torch.randn(4, 2, generator=rng, dtype=torch.float64)
    found, by_hand, times = ddim(mixture, x, 5, start=0.6), x, torch.linspace(0.6, 0, 6, dtype=torch.float64)
    for now, then in pairwise(times):
        by_hand = ddim_step(mixture, by_hand, now.expand(4), then.expand(4))
    torch.testing.assert_close(found, by_hand, rtol=1e-9, atol=1e-9)
    assert (found - ddim(mixture, x, 5)).abs().max() > 0.01


def test_ddim_started_at_1_reaches_the_law_as_usual(mixture, rng):
    x = torch.randn(600, 2, generator=rng, dtype=torch.float64)
    torch.testing.assert_close(ddim(mixture, x, 25, start=1.0), ddim(mixture, x, 25), rtol=1e-9, atol=1e-9)
    found = ddim(mixture, x, 25, start=1.0)
    weights = mixture.weights / mixture.weights.sum()
    mean = (weights[:, None] * mixture.means).sum(0)
    assert (found.mean(0) - mean).abs().max() < 0.1


@pytest.mark.parametrize("start", [0.0, -0.1, 1.01, math.nan])
def test_ddim_cannot_start_where_nothing_is(mixture, start):
    with pytest.raises(ValueError, match="start must be above 0 and at most 1"):
        ddim(mixture, torch.zeros(1, 2, dtype=torch.float64), 2, start=start)


# The command


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["", "--method", "sds"], "the prompt is empty"),
        (["a cup", "--method", "ism"], "unknown method 'ism'"),
        (["a cup", "--elevation", "40", "10"], "elevation must be two rising numbers"),
        (["a cup", "--perp-neg", "--method", "sdi"], "sdi guides by itself"),
        (["a cup", "--prior", "./nowhere"], "nowhere"),
    ],
)
def test_wrong_commands_are_one_sentence(arguments, sentence, tmp_path, refused):
    assert sentence in refused("object", *arguments, "--out", tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_the_command_generates_an_object(prior, tmp_path, monkeypatch, capsys, short):
    monkeypatch.setattr(session, "load_prior", lambda *_, **__: prior)
    monkeypatch.setattr(three_d_output, "export_scene", lambda scene, path, levels: "")
    out = tmp_path / "cup"
    cli.main(["object", "a", "--method", "sds", "--steps", "1", "--views", "2", "--size", "16", "--out", str(out)])
    assert "4 network evaluations (NFE), " in capsys.readouterr().out
    config = json.loads((out / "config.json").read_text())["request"]
    assert (config["steps"], config["views"], config["size"], config["prompt"]) == (1, 2, 16, "a")


def test_scenes_are_listed_and_made(tmp_path, capsys, refused):
    cli.main(["scene", "list"])
    listed = capsys.readouterr().out.split()
    assert "duck" in listed
    assert refused("scene", "make").startswith("scoredistill: say which scene to make: one of ")
    assert "there is no scene 'teapot'" in refused("scene", "make", "teapot", "--out", tmp_path / "new")
    pytest.importorskip("pybullet")
    cli.main(["scene", "make", "duck", "--views", "6", "--held-out", "2", "--size", "16", "--out", str(tmp_path / "d")])
    from scoredistill.three_d.capture import read_capture

    capture = read_capture(tmp_path / "d")
    assert (len(capture), len(capture.held_out), capture.cameras.size) == (8, 2, (16, 16))
    assert "not an empty folder" in refused("scene", "make", "duck", "--out", tmp_path / "d")


def test_views_are_from_all_sides():
    scene = ball()
    images = views_of(scene, 4)
    assert [image.size for image in images] == [(16, 16)] * 4
    with torch.no_grad():
        one = scene.render(orbit(4, running.ELEVATION, running.RADIUS, running.FOV, (16, 16))[2]).rgb
    from scoredistill.media.images import to_tensor

    assert (to_tensor([images[2]]) - one).abs().max() < 0.003


def test_a_method_of_ones_own_is_run_like_the_others(prior):
    like = small(prior, "sds", guidance=2.0, lr=0.03)
    made = small(prior, Recipe(SDS, guidance=2.0, lr=0.03, particles=2), steps=2, views=None)
    assert_same(state_of(made.scene), state_of(like.scene))
    assert made.request.method == "SDS"
