"""Texturing of meshes: the request, runs, resuming, the output directory, conditions by shape, and the command."""

import json
import math

import numpy as np
import pytest
import torch

trimesh = pytest.importorskip("trimesh")
pytest.importorskip("xatlas")
pytest.importorskip("scipy")

import tiny
from scoredistill import Recipe, cli, load_prior
from scoredistill.estimators import SDS
from scoredistill.tasks import texture_mesh, three_d_output
from scoredistill.tasks.object_generation.views import BUNDLED_ELEVATION, USUAL_ELEVATION
from scoredistill.tasks.texturing import output, run
from scoredistill.tasks.texturing.recipes import TEXTURE_RECIPES
from scoredistill.tasks.texturing.request import TextureRequest
from scoredistill.three_d.mesh import read_mesh

SMALL = {"steps": 2, "views": 2, "size": 16, "follow": 1, "texture": 32}


@pytest.fixture(scope="module")
def prior(tmp_path_factory):
    return load_prior(tiny.stable_diffusion(tmp_path_factory.mktemp("tiny")))


@pytest.fixture(scope="module")
def ball(tmp_path_factory):
    path = tmp_path_factory.mktemp("mesh") / "ball.obj"
    made = trimesh.creation.icosphere(1, radius=3.0)
    made.apply_translation([10.0, 0.0, 0.0]).export(path)
    return path


@pytest.fixture(autouse=True)
def coarse(monkeypatch):
    """Small grids in space."""
    monkeypatch.setattr(run, "GRIDS", (2, 4))


@pytest.fixture
def short(monkeypatch, every_step):
    """Small videos and sheets, and a checkpoint after every step."""
    monkeypatch.setattr(three_d_output, "VIDEO_SECONDS", 0.5)
    monkeypatch.setattr(three_d_output, "VIDEO_SIZE", 32)
    sheet = output.contact_sheet
    monkeypatch.setattr(output, "contact_sheet", lambda render, n, size, **given: sheet(render, 2, 16, **given))


def small(mesh, prior, method="sds", **settings):
    return texture_mesh(mesh, "a", prior, method, **{**SMALL, **settings})


def test_what_is_not_given_is_the_recipes_or_the_priors():
    for method, recipe in TEXTURE_RECIPES.items():
        full = TextureRequest("a cup", method).complete()
        for name in ("steps", "views", "guidance", "lr", "follow"):
            assert getattr(full, name) == getattr(recipe, name)
        assert (full.elevation, full.view_prompts, full.size) == (BUNDLED_ELEVATION, False, 64)
    other = TextureRequest("a cup", prior="owner/model").complete(512)
    assert (other.elevation, other.view_prompts, other.size) == (USUAL_ELEVATION, True, 64)
    assert None not in other.__dict__.values()
    assert other.complete() == other


WRONG = [
    ({"prompt": " "}, "the prompt is empty: say what the mesh should look like"),
    ({"method": "sdss"}, "unknown method 'sdss': use one of sds, csd, msd"),
    ({"steps": 0}, "steps must be a whole number of at least 1"),
    ({"size": 7}, "size must be a whole number of at least 8, not 7"),
    ({"texture": 15}, "texture must be a whole number of at least 16, not 15"),
    ({"texture": 5000}, "texture must be at most 4096, not 5000"),
    ({"layout": "old"}, "unknown layout 'old': use one of auto, keep, new"),
    ({"up": "x"}, "unknown up 'x': use one of auto, y, z"),
    ({"lr": math.nan}, "lr must be a finite number of at least 0"),
    ({"elevation": (30.0, 10.0)}, "elevation must be two rising numbers in"),
    ({"perp_neg": True, "view_prompts": False}, "needs view prompts: leave them on"),
    ({"perp_neg": True, "method": "sdi"}, "sdi guides by itself: leave out Perp-Neg"),
    ({"negative_prompt": "fog", "method": "sdi"}, "sdi guides by itself: leave out the negative prompt"),
    ({"seed": -1}, "seed must be a whole number of at least 0"),
]


@pytest.mark.parametrize(("wrong", "sentence"), WRONG)
def test_impossible_settings_are_one_sentence(wrong, sentence, ball, tmp_path, no_model):
    given = {"prompt": "a", **wrong}
    with pytest.raises(ValueError, match=sentence) as caught:
        texture_mesh(ball, given.pop("prompt"), out=tmp_path / "new", **given)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "new").exists()


def test_a_mesh_that_cannot_be_textured_is_refused_before_the_model(tmp_path, no_model):
    with pytest.raises(ValueError, match=r"none\.glb is not a file"):
        texture_mesh(tmp_path / "none.glb", "a")
    (tmp_path / "bad.obj").write_text("v 0 0 0")
    with pytest.raises(ValueError, match=r"bad\.obj"):
        texture_mesh(tmp_path / "bad.obj", "a")
    with pytest.raises(ValueError, match="holds other files"):
        texture_mesh(tmp_path / "bad.obj", "a", out=tmp_path)


@pytest.mark.parametrize("method", [*TEXTURE_RECIPES, "own"])
def test_every_method_moves_the_texture_and_nothing_else(method, ball, prior):
    how = Recipe(SDS, steps=2) if method == "own" else method
    made = small(ball, prior, how)
    assert float(made.scene.maps().detach().std()) > 1e-3
    assert 0.3 < made.scene.coverage <= 1
    assert len(made.history) == 2
    assert torch.equal(made.model.mesh.faces, made.source.model.mesh.faces)
    assert torch.allclose(made.model.mesh.vertices.mean(0), torch.tensor([10.0, 0, 0]), atol=0.2)  # in its own place
    assert float(made.model.texture.min()) >= 0
    assert float(made.model.texture.max()) <= 1


def test_a_texture_can_start_at_the_mesh_s_own(ball, prior):
    source = read_mesh(ball, 32)
    kept = small(source, prior, steps=1, lr=0.0, start=True)
    assert torch.allclose(kept.scene.maps(), source.model.texture.mean(), atol=1e-5)
    gray = small(source, prior, steps=1, lr=0.0)
    assert torch.allclose(gray.scene.maps(), torch.tensor(0.5))


def test_conditions_see_the_shape_of_the_views_of_each_step(ball, prior):
    seen = []

    def conditions(rendering):
        seen.append(rendering)
        return {"depth": rendering.depth}

    asked = []
    eps = prior.eps
    prior.eps = lambda x, t, cond=None: asked.append(cond) or eps(x, t, {k: v for k, v in cond.items() if k != "depth"})
    try:
        small(ball, prior, conditions=conditions, guidance=1.0)
    finally:
        del prior.eps
    assert len(seen) == 2
    assert seen[0].depth.shape == (2, 1, 16, 16)
    assert seen[0].normal.shape == (2, 3, 16, 16)
    assert not seen[0].rgb.requires_grad
    assert float(seen[0].depth.max()) > 1.5
    assert any(cond is not None and "depth" in cond for cond in asked)


@pytest.mark.parametrize("settings", [{}, {"method": "msd", "finish": True, "follow": 2}], ids=["sds", "msd"])
def test_a_resumed_run_ends_as_if_it_had_not_stopped(settings, ball, prior, tmp_path, short, killed, monkeypatch):
    monkeypatch.setattr(output.TextureDirectory, "finish", lambda self, result: None)
    whole = small(ball, prior, steps=3, **{"method": "sds", **settings})
    exception, after = killed
    with pytest.raises(exception):
        small(ball, prior, steps=3, out=tmp_path, callback=after(1), **settings)
    resumed = small(ball, prior, steps=3, out=tmp_path, resume=True, **settings)
    for name, value in whole.scene.state_dict().items():
        assert torch.equal(resumed.scene.state_dict()[name], value), name
    assert resumed.history == whole.history
    assert resumed.counts == whole.counts


def test_another_mesh_does_not_continue_a_run(ball, prior, tmp_path, short, killed):
    exception, after = killed
    with pytest.raises(exception):
        small(ball, prior, steps=3, out=tmp_path / "run", callback=after(1))
    trimesh.creation.icosphere(1, radius=3.0).subdivide().export(tmp_path / "other.obj")
    with pytest.raises(ValueError, match="edits another mesh: give the same to resume"):
        small(tmp_path / "other.obj", prior, steps=3, out=tmp_path / "run", resume=True)


@pytest.mark.parametrize("finish", [False, True])
def test_the_output_directory_is_complete(finish, ball, prior, tmp_path, short):
    made = small(ball, prior, out=tmp_path, finish=finish)
    names = {path.name for path in tmp_path.iterdir()}
    files = {
        "config.json", "metrics.jsonl", "result.json", "report.html", "video.gif", "preview.png", "turntable.gif",
        "sheet.png", "mesh.glb", "texture.png", "viewer.html", "scene.safetensors",
    }  # fmt: skip
    assert names >= files | ({"finish.png"} if finish else set())
    assert not {"checkpoint.safetensors", ".frames"} & names
    result = json.loads((tmp_path / "result.json").read_text())
    assert result["uv"] == "new"
    assert result["coverage"] == pytest.approx(100 * made.scene.coverage, abs=0.01)
    assert result["rows"] == made.counts["rows"]
    assert 0 <= result["seam_difference"] < 1
    shape = trimesh.load(tmp_path / "mesh.glb", force="mesh", process=False)
    np.testing.assert_allclose(shape.bounds, trimesh.load(ball, force="mesh").bounds, atol=1e-4)  # where it was
    material = shape.visual.material
    assert material.baseColorTexture.size == (32, 32)
    assert (material.metallicRoughnessTexture is not None) == finish
    again = read_mesh(tmp_path / "mesh.glb", 32)
    assert again.kept
    assert torch.allclose(again.model.texture, made.model.texture, atol=1 / 255)
    assert "seam_difference" in (tmp_path / "report.html").read_text()


def test_the_command_textures_and_refuses(ball, tmp_path, short, monkeypatch, capsys, refused):
    saved = tiny.saved(tmp_path / "tiny")
    options = ["--steps", "1", "--views", "1", "--size", "16", "--follow", "1", "--texture", "32", "--no-progress"]
    cli.main(["texture", str(ball), "a", "--prior", str(saved), "--out", str(tmp_path / "run"), *options])
    assert "of the surface seen, " in capsys.readouterr().out
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert (config["request"]["prompt"], config["request"]["texture"]) == ("a", 32)
    assert config["command"]
    assert "holds a finished run" in refused(
        "texture", ball, "a", "--prior", saved, "--out", tmp_path / "run", *options
    )
    assert "is not a file" in refused("texture", tmp_path / "none.glb", "a")
    assert "give a file of .glb" in refused("texture", tmp_path / "a.png", "a")
