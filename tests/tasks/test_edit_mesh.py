"""Editing of meshes: the request, what changes and what does not, resuming, the output directory, and the command."""

import importlib
import json

import numpy as np
import pytest
import torch
from PIL import Image

trimesh = pytest.importorskip("trimesh")
pytest.importorskip("xatlas")
pytest.importorskip("scipy")

from scoredistill import cli
from scoredistill.tasks import edit_mesh, three_d_output
from scoredistill.tasks.mesh_editing.edit_mesh import seen_from_all_sides, spiral
from scoredistill.tasks.mesh_editing.output import MeshEditDirectory
from scoredistill.tasks.mesh_editing.request import VIEWS, MeshEditRequest
from scoredistill.three_d.mesh import read_mesh

module = importlib.import_module("scoredistill.tasks.mesh_editing.edit_mesh")  # `tasks` has a function of that name
SMALL = {"use": 3, "views": 2, "rounds": 2, "edit_steps": 4, "sweeps": 2, "texture": 32, "rays": 300}


@pytest.fixture(autouse=True)
def coarse(monkeypatch):
    """Small grids in space."""
    monkeypatch.setattr(module, "GRIDS", (2, 4))


@pytest.fixture(scope="module")
def ball(tmp_path_factory):
    """A red ball of radius 3 away from the origin, with a texture."""
    path = tmp_path_factory.mktemp("mesh") / "ball.glb"
    made = trimesh.creation.icosphere(1, radius=3.0)
    uv = np.stack([0.5 + made.vertices[:, 0] / 8, 0.5 + made.vertices[:, 1] / 8], 1)
    material = trimesh.visual.material.PBRMaterial(baseColorTexture=Image.new("RGB", (8, 8), (200, 30, 20)))
    made.visual = trimesh.visual.TextureVisuals(uv=uv, material=material)
    trimesh.Scene(made.apply_translation([10.0, 0.0, 0.0])).export(path)
    return path


@pytest.fixture
def short(monkeypatch):
    """Small videos."""
    monkeypatch.setattr(three_d_output, "VIDEO_SECONDS", 0.25)
    monkeypatch.setattr(three_d_output, "VIDEO_SIZE", 32)


def small(mesh, prior, instruction="make it night", method="csd", **settings):
    return edit_mesh(mesh, instruction, prior, method, **{**SMALL, **settings})


def test_what_is_not_given_is_usual():
    full = MeshEditRequest("make it night").complete()
    assert (full.method, full.use, full.views, full.size, full.texture) == ("csd", VIEWS, 16, 64, 256)
    assert None not in full.__dict__.values()
    assert full.complete() == full
    assert MeshEditRequest("make it night").complete(512).size == 256


WRONG = [
    ({"instruction": " "}, "the instruction is empty"),
    ({"method": "windows"}, "unknown method 'windows' for scenes"),
    ({"use": 1}, "use must be a whole number of at least 2, not 1"),
    ({"rounds": 0}, "rounds must be a whole number of at least 1"),
    ({"texture": 8}, "texture must be a whole number of at least 16"),
    ({"layout": "old"}, "unknown layout 'old'"),
    ({"kernel": 0.0}, "kernel must be a finite number"),
]


@pytest.mark.parametrize(("wrong", "sentence"), WRONG)
def test_impossible_settings_are_one_sentence(wrong, sentence, ball, tmp_path, no_model):
    given = {"instruction": "make it night", **wrong}
    with pytest.raises(ValueError, match=sentence) as caught:
        edit_mesh(ball, given.pop("instruction"), out=tmp_path / "new", **given)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "new").exists()


def test_views_lie_evenly_around_the_mesh():
    cameras = spiral(40, (8, 8), 1.0)
    directions = cameras.eyes / 3.0
    assert torch.allclose(directions.norm(dim=-1), torch.ones(40), atol=1e-5)
    assert torch.allclose(directions.T @ directions / 40, torch.eye(3) / 3, atol=0.02)  # as on a sphere
    nearest = (directions @ directions.T - 2 * torch.eye(40)).amax(1).acos()
    assert float(nearest.min()) > 0.6 * float(nearest.max())
    assert float(spiral(40, (8, 8)).elevation.abs().max()) < 64.2  # asin 0.9


def test_the_source_is_what_the_mesh_looks_like(ball):
    source = read_mesh(ball, 32)
    scene, world = seen_from_all_sides(source, MeshEditRequest("a", size=16, use=3).complete())
    inside = world.mask.bool().expand(-1, 3, -1, -1)
    color = torch.tensor([200.0, 30, 20])[None, :, None, None] / 255
    assert torch.allclose(world.images[inside], color.expand_as(world.images)[inside], atol=0.01)
    assert 0.4 < float(world.mask.mean()) < 0.7
    assert torch.allclose(scene.maps(), color[0].expand(3, 256, 256), atol=0.01)


@pytest.mark.parametrize("method", ["csd", "one_view"])
def test_an_edit_changes_the_texture_and_nothing_else(method, ball, prior):
    made = small(ball, prior, method=method, **({"views": 16, "sweeps": None} if method == "one_view" else {}))
    assert float((made.scene.maps() - made.before.maps()).abs().detach().mean()) > 1e-3
    assert torch.equal(made.model.mesh.faces, made.source.model.mesh.faces)
    assert torch.allclose(made.model.mesh.vertices.mean(0), torch.tensor([10.0, 0, 0]), atol=0.3)
    assert made.edited.shape == (3, 3, 16, 16)
    assert made.views == (0, 1, 2)
    assert len(made.history) == 4
    assert made.counts["rows"] > 0
    assert not made.before.seen.any()


def test_the_bundled_editor_makes_a_red_ball_dark(ball, bundled):
    made = small(ball, bundled, "make it night", edit_steps=30, rounds=1, use=4, views=4)
    atlas = made.scene.atlas
    before, after = (scene.maps().detach()[0][atlas.row, atlas.column].mean() for scene in (made.before, made.scene))
    assert after < before - 0.25


def test_a_finished_edit_is_not_repeated_if_its_results_could_not_be_written(ball, prior, tmp_path, short, monkeypatch):
    finish = MeshEditDirectory.finish
    monkeypatch.setattr(MeshEditDirectory, "finish", lambda self, result: (_ for _ in ()).throw(OSError(28, "full")))
    with pytest.raises(OSError, match="--resume continues"):
        small(ball, prior, out=tmp_path)
    monkeypatch.setattr(MeshEditDirectory, "finish", finish)
    monkeypatch.setattr(module, "edit_fitted", lambda *_: pytest.fail("the edit was repeated"))
    with pytest.raises(ValueError, match="has another rounds"):
        small(ball, prior, out=tmp_path, resume=True, rounds=1)
    trimesh.creation.box().export(tmp_path.parent / "other.glb")
    with pytest.raises(ValueError, match="edits another mesh: give the same to resume"):
        small(tmp_path.parent / "other.glb", prior, out=tmp_path, resume=True)
    made = small(ball, prior, out=tmp_path, resume=True)
    assert made.counts["rows"] > 0
    names = {path.name for path in tmp_path.iterdir()}
    assert names >= {
        "config.json", "result.json", "report.html", "before.gif", "after.gif", "mesh.glb",
        "texture.png", "viewer.html", "scene.safetensors", "views",
    }  # fmt: skip
    assert "checkpoint.safetensors" not in names
    result = json.loads((tmp_path / "result.json").read_text())
    assert {"coverage", "seam_difference", "uv"} <= set(result)
    shape = trimesh.load(tmp_path / "mesh.glb", force="mesh", process=False)
    np.testing.assert_allclose(shape.bounds, trimesh.load(ball, force="mesh").bounds, atol=1e-4)
    assert "3 renders" in (tmp_path / "report.html").read_text()


def test_the_command_edits_meshes_and_refuses_foreign_options(ball, model, tmp_path, short, capsys, refused):
    options = [word for name, value in SMALL.items() for word in (f"--{name.replace('_', '-')}", str(value))]
    line = ["edit", str(ball), "make it night", "--prior", str(model), "--out", str(tmp_path / "run"), "--no-progress"]
    cli.main([*line, *options])
    assert "3 views, " in capsys.readouterr().out
    assert json.loads((tmp_path / "run" / "config.json").read_text())["request"]["use"] == 3
    for option, value in (("--fit-steps", "3"), ("--samples", "3"), ("--stride", "1"), ("--flow", "2")):
        assert f"a mesh has no {option}: leave out that option" in refused("edit", ball, "make it night", option, value)
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    assert "an image has no --texture" in refused("edit", tmp_path / "a.png", "make it night", "--texture", "64")
    assert "is not a file" in refused("edit", tmp_path / "none.glb", "make it night")
