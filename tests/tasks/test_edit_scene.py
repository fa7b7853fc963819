"""Editing of scenes: the request, the schedule of rounds, cost, what stays unchanged, output directory, canvases."""

import importlib
import json
import math

import pytest
import torch

from scoredistill.checkpoint import load_state
from scoredistill.estimators import CSDEdit
from scoredistill.metrics import psnr
from scoredistill.optional import MissingExtra
from scoredistill.priors.base import Editor
from scoredistill.priors.counted import Counted
from scoredistill.priors.vocabulary import Instruction, Vocabulary
from scoredistill.sampling import ddim
from scoredistill.schedule import VP
from scoredistill.tasks import edit_scene
from scoredistill.tasks import three_d_output as exports
from scoredistill.tasks.image_editing.canvas import Canvas
from scoredistill.tasks.image_editing.request import BUNDLED_SCALES, USUAL_SCALES
from scoredistill.tasks.known_words import UnknownWords
from scoredistill.tasks.scene_editing import run as running
from scoredistill.tasks.scene_editing.output import SceneDirectory
from scoredistill.tasks.scene_editing.recipes import DDIM_STEPS, NOISED, SCENE_METHODS
from scoredistill.tasks.scene_editing.request import SceneRequest
from scoredistill.tasks.scene_editing.run import SceneEditing, prepared, spread_over
from scoredistill.three_d.camera import around
from scoredistill.three_d.capture import Capture, normalized, read_capture, write_colmap, write_transforms
from scoredistill.three_d.encodings import DenseGrid
from scoredistill.three_d.fitting import held_out_psnr
from scoredistill.three_d.scenes.nerf import Field, NeRF
from scoredistill.three_d.scenes.splats import Splats

module = importlib.import_module("scoredistill.tasks.scene_editing.edit_scene")  # `tasks` has a function of that name
METHODS = list(SCENE_METHODS)
QUICK = {"fit_steps": 3, "edit_steps": 6, "rays": 64, "samples": 8, "sweeps": 2, "rounds": 2}


def ball():
    """A ball with colors on white."""
    rng = torch.Generator().manual_seed(0)
    field = Field(DenseGrid((4,), 2, std=1.0, rng=rng), layers=0, blob=(40.0, 0.5), density=50.0, rng=rng)
    return NeRF(field, 24)


def capture_of(n=6, held_out=(), size=(16, 16), scale=1.0):
    """Renders of the ball from around, in a world that may be larger."""
    cameras = around(torch.arange(n) * (360.0 / n), torch.linspace(5, 40, n), 3.0, 40.0, size)
    with torch.no_grad():
        images = ball().render(cameras).rgb.clamp(0, 1)
    poses = cameras.poses.clone()
    poses[:, :3, 3] *= scale
    cameras = type(cameras)(poses, cameras.focal, cameras.center, cameras.size)
    return Capture(images, cameras, tuple(f"{i}.png" for i in range(n)), held_out)


def small(capture, prior, method="csd", instruction="make it night", **settings):
    return edit_scene(capture, instruction, prior, method, **{**QUICK, **settings})


def same(one, other):
    one, other = one.state_dict(), other.state_dict()
    return set(one) == set(other) and all(torch.equal(one[name], other[name]) for name in one)


# The request


def test_what_is_not_given_is_usual():
    full = SceneRequest("make it night").complete()
    assert (full.text_scale, full.image_scale) == BUNDLED_SCALES
    other = SceneRequest("make it night", prior="owner/model", text_scale=3.0).complete()
    assert (other.text_scale, other.image_scale) == (3.0, USUAL_SCALES[1])
    assert (full.method, full.views, full.use, full.rounds, full.size) == ("csd", 16, 40, 3, 64)
    assert (full.sweeps, full.kernel) == (6, 1.0)
    assert json.loads(json.dumps(full.__dict__)) == full.__dict__
    assert None not in full.__dict__.values()
    assert full.complete() == full


WRONG = [
    ({"instruction": " "}, "the instruction is empty"),
    ({"method": "windows"}, "unknown method 'windows' for scenes: use one of csd, uncoupled, common_noise"),
    *(({name: 0}, f"{name} must be a whole number of at least 1, not 0") for name in (
        "views", "rounds", "sweeps", "fit_steps", "edit_steps", "rays", "samples")),
    ({"use": 1}, "use must be a whole number of at least 2, not 1"),
    ({"size": 7}, "size must be a whole number of at least 8, not 7"),
    ({"text_scale": -1.0}, "text_scale must be a finite number of at least 0, not -1.0"),
    ({"image_scale": math.inf}, "image_scale must be a finite number of at least 0, not inf"),
    ({"kernel": 0.0}, "kernel must be a finite number of at least 1e-06"),
    ({"seed": -1}, "seed must be a whole number of at least 0, not -1"),
    ({"seed": 2**62}, "seed must be below 2"),
]  # fmt: skip


@pytest.mark.parametrize(("wrong", "sentence"), WRONG)
def test_impossible_settings_are_one_sentence(wrong, sentence, tmp_path):
    given = {"instruction": "make it night", **wrong}
    with pytest.raises(ValueError, match=sentence) as caught:
        edit_scene(capture_of(2), given.pop("instruction"), out=tmp_path / "new", **given)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("name", ["use", "size", "seed", "views"])
def test_numbers_that_are_not_whole_are_refused(name):
    full = SceneRequest("make it night").complete()
    object.__setattr__(full, name, 2.5)  # as Python lets users give what annotations forbid
    with pytest.raises(ValueError, match=f"{name} must be a whole number of at least"):
        full.check_values()


def test_what_cannot_be_edited_is_refused_before_any_work(prior, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "fit_scene", lambda *_, **__: pytest.fail("a fit was made"))
    capture = capture_of(4)
    with pytest.raises(ValueError, match="is not a posed scene"):
        small(tmp_path, prior)
    with pytest.raises(ValueError, match="is not a folder"):
        small(tmp_path / "nowhere", prior)
    with pytest.raises(ValueError, match="use asks for 5 of 4 training views: use at most 4"):
        small(capture, prior, use=5)
    with pytest.raises(ValueError, match="emoji follows no instructions about an image"):
        edit_scene(capture, "make it night", "emoji", out=tmp_path / "new")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "diary.txt").write_text("mine")
    with pytest.raises(ValueError, match="holds other files"):
        small(capture, prior, out=tmp_path / "full")
    assert not (tmp_path / "new").exists()


def test_photographs_are_decoded_at_the_working_size_which_is_said(prior, tmp_path, monkeypatch, capsys):
    write_transforms(capture_of(4, size=(60, 80)), tmp_path)
    sizes, read = [], module.read_capture
    monkeypatch.setattr(
        module, "read_capture", lambda path, size, **more: sizes.append(size) or read(path, size, **more)
    )
    result = small(tmp_path, prior, rounds=1, progress=True)
    assert sizes == [16]
    assert result.capture.images.shape == (4, 3, 16, 21)
    assert "4 photographs of 80x60 pixels, edited at 21x16" in capsys.readouterr().out


# The schedule


def editing_of(prior, n=7, size=(16, 16), **settings):
    """An edit of n views that has not begun."""
    capture = capture_of(n, size=size)
    request = SceneRequest("make it night", prior="tiny", **{**QUICK, **settings}).complete(16, n)
    return prepared(capture, request, ball(), prior, Counted(prior))[0]


def test_views_to_use_are_spread_over_all():
    assert spread_over(6, None) == [0, 1, 2, 3, 4, 5]
    assert spread_over(6, 6) == [0, 1, 2, 3, 4, 5]
    assert spread_over(6, 3) == [0, 2, 4]
    assert spread_over(40, 16) == [0, 2, 5, 7, 10, 12, 15, 17, 20, 22, 25, 27, 30, 32, 35, 37]


def test_a_round_edits_every_view_once_in_even_batches(prior):
    plan = editing_of(prior, 7, views=3, rounds=3, edit_steps=10)._rounds()
    assert [index for index, _ in plan] == [0, 3, 6]
    divided = set()
    for turn, (_, updates) in enumerate(plan):
        assert [len(update.which) for update in updates] == [3, 2, 2]
        assert sorted(i for update in updates for i in update.which.tolist()) == list(range(7))
        assert {update.turn for update in updates} == {turn}
        divided.add(tuple(tuple(update.which.tolist()) for update in updates))
    assert len(divided) == 3  # every time otherwise
    salts = [update.salt for _, updates in plan for update in updates]
    assert len(set(salts)) == len(salts)


def test_one_view_after_the_other_is_spread_over_the_steps_and_over_views(prior):
    editing = editing_of(prior, 4, method="one_view", edit_steps=50, rounds=2, sweeps=6)
    plan = editing._one_by_one()
    seen = [int(update.which) for _, updates in plan for update in updates]
    assert len(seen) == round(5 * 4 * 8 / 60) == 3
    assert [index for index, _ in plan] == [0, 16, 33]
    more = editing_of(prior, 4, method="one_view", edit_steps=50, rounds=8, sweeps=9)._one_by_one()
    often = [sum(int(u.which) == view for _, updates in more for u in updates) for view in range(4)]
    assert len(more) == 10
    assert max(often) - min(often) <= 1


def followed(editing, monkeypatch):
    """(step, which views) of every update of a run, and the number of steps."""
    events, taken, update = [], [0], SceneEditing._update
    note = lambda self, u: events.append((taken[0], u.turn, sorted(u.which.tolist()))) or update(self, u)
    monkeypatch.setattr(SceneEditing, "_update", note)
    for _ in editing.steps():
        taken[0] += 1
    return events, taken[0]


def test_all_views_are_edited_before_the_first_step(prior, monkeypatch):
    editing = editing_of(prior, 4, views=2, rounds=2, sweeps=1)
    before = editing.photographs.images.clone()
    events, steps = followed(editing, monkeypatch)
    assert steps == 6
    assert [(at, turn) for at, turn, _ in events] == [(0, 0), (0, 0), (3, 1), (3, 1)]
    assert (editing.photographs.images - before).abs().flatten(1).amax(1).min() > 0


def test_no_round_is_lost_when_there_are_fewer_steps_than_rounds(prior, monkeypatch):
    events, steps = followed(editing_of(prior, 2, rounds=3, edit_steps=2, sweeps=1), monkeypatch)
    assert steps == 2
    assert [(at, turn) for at, turn, _ in events] == [(0, 0), (0, 1), (1, 2)]


@pytest.mark.parametrize("size", [(16, 16), (16, 24)])
def test_rows_are_those_that_csd_asks_for_and_one_view_gets_as_many(prior, size):
    capture, settings = capture_of(4, size=size), {"rounds": 2, "sweeps": 2, "views": 3}
    together = small(capture, prior, "csd", **settings).counts["rows"]
    editing = editing_of(prior, 4, size=size, **settings)
    assert editing.rows == together
    del settings["views"]  # it takes one view at a time
    alone = small(capture, prior, "one_view", **settings).counts["rows"]
    assert abs(alone - together) <= DDIM_STEPS * 3  # one update
    if size == (16, 16):
        assert together == 5 * 4 * (2 + 1)


# Edits


@pytest.mark.parametrize("method", METHODS)
def test_every_method_edits_all_views(prior, method):
    capture = capture_of(4, held_out=(1,))
    steps = []
    views = {} if method == "one_view" else {"views": 2}
    result = small(capture, prior, method, rounds=1, callback=lambda step, scene: steps.append(step.index), **views)
    assert steps == list(range(6))
    assert result.views == (0, 2, 3)
    assert result.edited.shape == (3, 3, 16, 16)
    assert 0 <= float(result.edited.min()) <= float(result.edited.max()) <= 1
    assert len(result.history) == 6
    assert all(math.isfinite(row["loss"]) for row in result.history)
    assert not same(result.scene, result.before)
    assert result.fit_psnr == pytest.approx(held_out_psnr(result.before, capture))
    assert result.request.views == (3 if method == "one_view" else 2)
    assert result.counts["encoded"] >= 2 * 3
    assert result.counts["decoded"] >= 1


def test_only_some_views_are_used_and_nothing_is_judged_without_held_out_ones(prior, capsys):
    result = small(capture_of(6), prior, use=3, rounds=1, progress=True)
    assert result.views == (0, 2, 4)
    assert len(result.edited) == 3
    assert result.fit_psnr is None
    assert " dB on" not in capsys.readouterr().out
    small(capture_of(6, held_out=(0, 3)), prior, use=2, rounds=1, progress=True)
    assert " dB on 2 held-out views" in capsys.readouterr().out


def test_a_fitted_scene_is_taken_and_left_as_it_was(prior, monkeypatch):
    monkeypatch.setattr(module, "fit_scene", lambda *_, **__: pytest.fail("a fit was made"))
    fitted = ball()
    kept = ball()
    result = small(capture_of(3), prior, fitted=fitted)
    assert same(fitted, kept)
    assert same(result.before, kept)
    assert not same(result.scene, fitted)


def test_the_same_seed_is_the_same_edit_and_another_one_is_not(prior):
    capture = capture_of(3)
    runs = [small(capture, prior, fitted=ball(), rounds=1, seed=seed) for seed in (0, 0, 1)]
    assert same(runs[0].scene, runs[1].scene)
    assert not torch.equal(runs[0].edited, runs[2].edited)


def test_worlds_of_other_sizes_and_larger_images_are_brought_to_ours(prior, tmp_path):
    capture = capture_of(4, size=(32, 40), scale=10.0)
    result = small(capture, prior, rounds=1)
    assert float(result.capture.cameras.eyes.norm(dim=1).mean()) == pytest.approx(3.0, rel=1e-4)
    assert result.request.size == 16  # the model's
    assert result.capture.cameras.size == (16, 20)
    assert float(result.capture.cameras.focal[0, 0]) == pytest.approx(float(capture.cameras.focal[0, 0]) / 2)
    write_transforms(capture, tmp_path)
    read = small(tmp_path, prior, rounds=1)
    assert read.capture.cameras.size == (16, 20)
    assert (read.capture.images - result.capture.images).abs().mean() < 0.02
    assert small(capture, prior, rounds=1, size=8).capture.cameras.size == (8, 10)


def test_a_directory_of_colmap_is_edited(prior, tmp_path):
    write_colmap(capture_of(9), tmp_path)
    result = small(tmp_path, prior, rounds=1)
    assert len(result.capture) == 9
    assert result.capture.held_out == (0, 8)  # every 8th, as is usual
    assert result.fit_psnr is not None
    turned, _ = normalized(read_capture(tmp_path))
    torch.testing.assert_close(result.capture.cameras.poses, turned.cameras.poses)


class Silent(Editor):
    """An editor of pixels whose prediction knows neither text nor sample: no instruction changes anything."""

    name, latent_shape, factor, schedule = "silent", (3, 16, 16), 1, VP()
    image_size, device, max_rows = (16, 16), torch.device("cpu"), 64

    def encode_text(self, prompts):
        return {"text": torch.zeros(1 if isinstance(prompts, str) else len(prompts), 1)}

    def encode_source(self, images):
        return {"image": 2 * images - 1}

    def encode_image(self, images):
        return 2 * images - 1

    def decode(self, x):
        return (x + 1) / 2

    def null(self, cond):
        return {**cond, "text": torch.zeros_like(cond["text"])}

    def eps(self, x_t, t, cond=None):
        return torch.zeros_like(x_t)


class Dark(Silent):
    """An editor that wants black images, whatever the source, but only if it is told something."""

    def encode_text(self, prompts):
        return {"text": torch.ones(1 if isinstance(prompts, str) else len(prompts), 1)}

    def eps(self, x_t, t, cond=None):
        return cond["text"][:, :, None, None] * torch.ones_like(x_t)


def test_an_edit_that_changes_nothing_leaves_the_scene_as_it_is():
    capture, settings = capture_of(6), {"fitted": ball(), "rays": 512, "edit_steps": 20, "views": 3}
    silent = small(capture, Silent(), **settings)
    dark = small(capture, Dark(), **settings)
    near = lambda result: float(psnr(_seen(result.scene, capture), capture.images).mean())
    assert near(silent) > max(25, near(dark) + 2)
    first = small(capture, Silent(), **{**settings, "rounds": 1, "edit_steps": 1})
    torch.testing.assert_close(first.edited, capture.images, rtol=0, atol=1e-5)


@torch.no_grad()
def _seen(scene, capture):
    return scene.render(capture.cameras).rgb.clamp(0, 1)


def test_one_view_is_sampled_from_its_noised_render(monkeypatch):
    """Given its photograph; with a prediction of no noise what comes out is the noised render itself, scaled."""
    asked = []
    monkeypatch.setattr(running, "ddim", lambda *given, **more: asked.append((given, more)) or ddim(*given, **more))
    small(capture_of(2), Silent(), "one_view", text_scale=2.0, image_scale=1.5, rounds=6, sweeps=4)
    assert len(asked) == 2  # 100 rows of 60
    for (prior, noised, steps, cond), more in asked:
        assert steps == DDIM_STEPS
        assert noised.shape == cond["image"].shape == (1, 3, 16, 16)
        assert NOISED[0] <= more["start"] <= NOISED[1]
        assert (prior.text_scale, prior.image_scale) == (2.0, 1.5)
    assert asked[0][1]["start"] != asked[1][1]["start"]


# The output directory


@pytest.fixture
def short(monkeypatch):
    monkeypatch.setattr(exports, "VIDEO_SECONDS", 0.25)
    monkeypatch.setattr(exports, "VIDEO_SIZE", 16)
    write = exports.write_glb
    monkeypatch.setattr(
        exports, "write_glb", lambda mesh, path, field, *_, **more: write(mesh, path, field, None, **more)
    )


def test_the_output_directory_is_complete(prior, tmp_path, short):
    pytest.importorskip("trimesh")
    pytest.importorskip("skimage")
    capture = capture_of(4, held_out=(1,))
    out = tmp_path / "night"
    result = small(capture, prior, instruction="make it <night>", fitted=ball(), rounds=1, edit_steps=1, out=out)
    names = {path.name for path in out.iterdir()}
    assert names >= {
        "config.json", "result.json", "report.html", "preview.png", "before.gif", "after.gif", "views",
        "before.safetensors", "scene.safetensors", "mesh.glb",
    }  # fmt: skip
    found = json.loads((out / "result.json").read_text())
    assert found["missing"] == ""
    assert found["fit_psnr"] == pytest.approx(result.fit_psnr)
    assert found["rows"] == result.counts["rows"]
    report = (out / "report.html").read_text()
    assert "make it &lt;night&gt;" in report
    assert "<night>" not in report
    back = read_capture(out / "views", held_out=0)
    assert back.names == ("0.png", "2.png", "3.png")
    assert (back.images - result.edited).abs().max() < 0.51 / 255
    torch.testing.assert_close(back.cameras.poses, capture.cameras[[0, 2, 3]].poses, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(back.cameras.focal, capture.cameras[[0, 2, 3]].focal)
    for name, scene in (("before", result.before), ("scene", result.scene)):
        again = ball()
        again.load_state_dict(load_state(out / f"{name}.safetensors"))
        assert all(torch.equal(a, b) for a, b in zip(again.parameters(), scene.parameters(), strict=True))
    with pytest.raises(ValueError, match="already finished"):
        small(capture, prior, instruction="make it <night>", rounds=1, edit_steps=1, out=out, resume=True)


def test_resuming_keeps_the_fit_and_ends_at_the_same_scene(prior, tmp_path, monkeypatch):
    monkeypatch.setattr(SceneDirectory, "finish", lambda self, result: None)
    capture, fits, fit = capture_of(3), [], running.fit
    monkeypatch.setattr(running, "fit", lambda *given, **more: fits.append(more["steps"]) or fit(*given, **more))
    whole = small(capture, prior)

    def stop(step, scene):
        if step.index == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        small(capture, prior, out=tmp_path, callback=stop)
    assert fits.count(QUICK["fit_steps"]) == 2
    with pytest.raises(ValueError, match="has another kernel: give the same settings"):
        small(capture, prior, out=tmp_path, resume=True, kernel=2.0)
    with pytest.raises(ValueError, match="edits other photographs"):
        small(capture_of(4), prior, out=tmp_path, resume=True)
    resumed = small(capture, prior, out=tmp_path, resume=True)
    assert fits.count(QUICK["fit_steps"]) == 2  # no third fit
    assert same(resumed.before, whole.before)
    assert same(resumed.scene, whole.scene)
    with pytest.raises(ValueError, match="holds no run to resume"):
        small(capture, prior, out=tmp_path / "none", resume=True)


# Canvases


def images(n, height=20, width=24):
    return torch.rand(n, 3, height, width, generator=torch.Generator().manual_seed(n))


def test_some_of_a_canvas_is_a_fresh_canvas_without_its_cost(prior):
    whole = Canvas(prior, images(4))
    assert whole.encoded == 8  # sources and images
    some, fresh = whole.some(torch.tensor([2, 0])), Canvas(prior, images(4)[[2, 0]])
    torch.testing.assert_close(some.source, fresh.source, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(some.image, fresh.image, rtol=1e-4, atol=1e-5)
    assert (some.frames, some.size, some.window, some.encoded, some.decoded) == (2, (20, 24), whole.window, 0, 0)
    made = some.decode(some.source)
    assert made.shape == (2, 3, 20, 24)
    assert (some.decoded, whole.decoded, whole.encoded) == (2, 0, 8)


def test_other_images_are_encoded_as_a_canvas_of_theirs(prior):
    canvas, other = Canvas(prior, images(2)), images(3)
    torch.testing.assert_close(canvas.encode(other), Canvas(prior, other).source, rtol=1e-4, atol=1e-5)
    assert canvas.encoded == 4 + 3
    torch.testing.assert_close(canvas.source, Canvas(prior, images(2)).source, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--wrap"], "a scene has no --wrap"),
        (["--region", "0-0.5: make it night", "--flow", "2"], "a scene has no --region, --flow"),
    ],
)
def test_options_of_images_are_refused_for_scenes(options, said, tmp_path, refused):
    (tmp_path / "transforms.json").write_text('{"frames": []}')
    assert said in refused("edit", tmp_path, "make it night", *options)


def test_the_file_of_a_scene_means_its_folder(tmp_path, refused):
    (tmp_path / "transforms.json").write_text('{"frames": []}')
    assert "at least two posed images" in refused("edit", tmp_path / "transforms.json", "make it night")


@pytest.mark.parametrize(
    ("lacking", "said", "files"),
    [
        (
            "write_glb with a texture",
            "mesh.glb has colors of vertices instead of a texture: texture needs",
            ["mesh.glb"],
        ),
        ("write_glb", "no mesh: texture needs", []),
        ("extract", "no mesh: surface needs", []),
    ],
)
def test_a_missing_package_costs_no_run(lacking, said, files, tmp_path, monkeypatch):
    def write(mesh, path, field, side, **_):
        if side or lacking == "write_glb":
            raise MissingExtra("texture needs xatlas" if side else "mesh export needs trimesh")
        path.touch()

    def surface(*_, **__):
        if lacking == "extract":
            raise MissingExtra("surface needs skimage")

    monkeypatch.setattr(exports, "write_glb", write)
    monkeypatch.setattr(exports, "extract", surface)
    assert exports.export_scene(ball(), tmp_path).startswith(said)
    assert [path.name for path in tmp_path.iterdir()] == files


def test_splats_that_cannot_be_drawn_cost_no_run(tmp_path):
    splats = Splats(30)
    with torch.no_grad():
        splats.opacities.fill_(-50)
    assert exports.export_scene(splats, tmp_path).startswith("no splats: no Gaussian can be drawn")


def test_a_method_of_ones_own_edits_like_the_others(prior):
    own = lambda: CSDEdit(weight=lambda alpha, sigma: sigma / alpha, coupled=False)
    made, like = (small(capture_of(), prior, method) for method in (own, "uncoupled"))
    assert torch.equal(made.edited, like.edited)


def test_unknown_edits_are_said_and_judged(prior, monkeypatch):
    monkeypatch.setattr(prior, "vocabulary", Vocabulary(instructions=(Instruction("night", ("make it night",)),)))
    with pytest.warns(UnknownWords, match="'give her a hat' .*it knows 'make it night'"):
        made = small(capture_of(), prior, instruction="give her a hat", views=2)
    assert "'give her a hat'" in made.verdict
