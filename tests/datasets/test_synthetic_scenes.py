"""Images of pybullet's meshes: the projection is exact, light is fixed in the world, views agree with each other."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch

pytest.importorskip("pybullet")

from scoredistill.datasets import synthetic_scenes
from scoredistill.datasets.synthetic_scenes import AMBIENT, DIFFUSE, LIGHTS, SCENES, Piece, Scene, make, render, spread
from scoredistill.three_d.camera import Cameras, around, look_at, orbit
from scoredistill.three_d.capture import is_capture, read_capture

SMALL = ("duck", "ring", "toys")


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Three small scenes of 24 views of 48 x 48, six of them held out."""
    out = tmp_path_factory.mktemp("scenes")
    for name in SMALL:
        make(name, out / name, views=18, held_out=6, size=48)
    return {name: out / name for name in SMALL}


@pytest.fixture
def stage(monkeypatch):
    """Registers a scene of the given pieces, in their own units."""

    def put(*pieces):
        monkeypatch.setitem(synthetic_scenes.SCENES, "own", Scene(pieces))
        return "own"

    return put


def points(cameras, depth):
    """Points of the surface under the pixel centers, [n, h, w, 3]."""
    origins, directions = cameras.rays()
    along = (directions * cameras.forward[:, None, None]).sum(-1)
    return origins + (depth[:, 0] / along)[..., None] * directions


def test_a_cube_face_has_its_depth_and_its_size(stage):
    # The faces of this cube are at 0.5 from the origin, so 2.5 away from an eye at 3.
    cameras = around(torch.tensor([0.0, 90.0, 180.0, 270.0]), 0.0, 3.0, 40.0, (64, 96))
    shots = render(stage(Piece("cube.obj")), cameras, samples=1)
    torch.testing.assert_close(shots.depth[:, 0, 20:44, 36:60], torch.full((4, 24, 24), 2.5), atol=1e-4, rtol=0)
    side = float(cameras.focal[0, 0]) / 2.5  # 35.2 pixels, of which 35 or 36 are sampled
    assert (shots.alpha[:, 0].sum((1, 2)).sqrt() - side).abs().max() < 1


def test_silhouettes_lie_where_the_vertices_project(stage):
    """Lens and poses are crooked: unequal focal lengths, principal point off the middle, no symmetry."""
    corners = torch.tensor([[x, y, z] for x in (-0.5, 0.5) for y in (-0.5, 0.5) for z in (-0.5, 0.5)]) * 0.8
    eyes = torch.tensor([[1.2, -2.5, 1.0], [-2.0, 1.0, -1.5], [0.3, 0.4, 2.8]])
    poses = look_at(eyes, torch.tensor([[0.1, -0.05, 0.08]]))
    cameras = Cameras(
        poses, torch.tensor([[150.0, 120.0]]).repeat(3, 1), torch.tensor([[75.0, 55.0]]).repeat(3, 1), (120, 140)
    )
    alpha = render(stage(Piece("cube.obj", scale=0.8)), cameras.resized((960, 1120)), samples=1).alpha[:, 0]
    seen = 8 * cameras.project(corners)[0]
    for i in range(3):
        rows, columns = alpha[i].amax(1).nonzero()[:, 0], alpha[i].amax(0).nonzero()[:, 0]
        box = torch.tensor([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1])
        # A sharp corner may slip through between samples; these stand 1/8 of a pixel apart.
        assert (box - torch.cat([seen[i].amin(0), seen[i].amax(0)])).abs().max() < 1.5


def test_a_sphere_is_round_centered_and_has_its_depth(stage):
    cameras = orbit(3, elevation=20.0, fov=30.0, size=(80, 80))
    name = stage(Piece("sphere_smooth.obj", scale=0.5))
    exact, smooth = render(name, cameras, samples=1), render(name, cameras, samples=3)
    on = points(cameras, exact.depth)[exact.alpha[:, 0] > 0]
    assert (on.norm(dim=-1) - 0.5).abs().max() < 0.01 * 0.5  # its facets lie up to 0.6 % inside
    grid = torch.arange(80) + 0.5
    for axis in (1, 2):
        coverage = smooth.alpha[:, 0].sum(axis)
        torch.testing.assert_close(
            (coverage * grid).sum(1) / coverage.sum(1), torch.full((3,), 40.0), atol=0.03, rtol=0
        )


def test_light_is_fixed_in_the_world(stage):
    color = torch.tensor([0.8, 0.4, 0.2])
    cameras = around(torch.tensor([0.0, 90.0, 200.0]), torch.tensor([10.0, 40.0, -20.0]), 3.0, 25.0)
    shots = render(stage(Piece("sphere_smooth.obj", scale=0.5, color=(0.8, 0.4, 0.2))), cameras, samples=1)
    normal = points(cameras, shots.depth)
    normal = normal / normal.norm(dim=-1, keepdim=True)
    towards = torch.tensor(LIGHTS) / torch.tensor(LIGHTS).norm(dim=-1, keepdim=True)
    expected = AMBIENT + DIFFUSE * (normal @ towards.T).clamp(min=0).sum(-1)
    off = (shots.rgb - expected[:, None] * color[:, None, None]).abs().amax(1)
    assert off[shots.alpha[:, 0] > 0].max() < 3 / 255  # two images of 8 bits, rounded down


@pytest.mark.parametrize("name", SCENES)
def test_scenes_fill_the_unit_ball(name):
    cameras = spread(12, (-60.0, 90.0), 64)
    shots = render(name, cameras, samples=1)
    reach = points(cameras, shots.depth)[shots.alpha[:, 0] > 0].norm(dim=-1).max()
    assert 0.9 < reach < 1.01
    border = torch.cat([shots.alpha[..., (0, -1), :].flatten(), shots.alpha[..., (0, -1)].flatten()])
    assert border.max() == 0
    boxes = torch.maximum(shots.alpha.amax(2).sum(-1), shots.alpha.amax(3).sum(-1))
    assert boxes.max() > 0.8 * 64  # in the view that shows its longest side


def test_scenes_are_colored():
    for name in SCENES:
        shots = render(name, orbit(2, size=(48, 48)), samples=1)
        pixels = shots.rgb.permute(0, 2, 3, 1)[shots.alpha[:, 0] > 0]
        colorful = (pixels.amax(-1) - pixels.amin(-1)) > 0.15
        assert colorful.float().mean() > 0.2, name
        assert (pixels.amin(-1) < 0.985).all(), name  # white objects stand out from the white background


@pytest.mark.parametrize("name", SMALL)
def test_two_views_agree_on_the_color_of_what_both_see(folders, name):
    capture = read_capture(folders[name])
    cameras, size = capture.cameras, 48
    surface = points(cameras, capture.depth)
    solid = torch.nn.functional.avg_pool2d(capture.alpha, 3, 1, 1)[:, 0] > 0.999  # away from silhouettes
    pairs, differences = 0, []
    for i in range(len(capture)):
        where, depth = cameras.project(surface[i][solid[i]])
        at = (2 * where / size - 1)[:, None]
        layers = torch.cat([capture.images, capture.depth, solid[:, None].float()], 1)
        found = torch.nn.functional.grid_sample(layers, at, align_corners=False)[:, :, 0]
        color, there, whole = found[:, :3], found[:, 3], found[:, 4]
        seen = (whole > 0.99) & ((there - depth).abs() < 0.02)
        seen[i] = False
        own = capture.images[i][:, solid[i]]
        differences.append((color - own).abs().mean(1)[seen])
        pairs += int(seen.sum())
    differences = torch.cat(differences)
    assert pairs > 20000
    # Edges of textures are blurred by a pixel, so that few points differ much.
    assert differences.median() < 0.015
    assert differences.mean() < 0.04
    assert (differences > 0.15).float().mean() < 0.06


def test_the_folder_reads_back(folders):
    capture = read_capture(folders["toys"])
    again = render("toys", capture.cameras)
    assert is_capture(folders["toys"])
    assert capture.images.shape == (24, 3, 48, 48)
    assert len(capture.held_out) == 6
    torch.testing.assert_close(capture.images, again.rgb, atol=0.51 / 255, rtol=0)
    torch.testing.assert_close(capture.alpha, again.alpha, atol=0.51 / 255, rtol=0)
    torch.testing.assert_close(capture.depth, again.depth, atol=0.51e-3, rtol=0)
    content = json.loads((folders["toys"] / "transforms.json").read_text())
    assert len(content["train_filenames"]) == 18
    assert content["val_filenames"] == [f"images/{i:04d}.png" for i in (2, 6, 10, 14, 18, 22)]


def test_views_are_spread_evenly():
    cameras = spread(48, (-5.0, 60.0), seed=3)
    assert cameras.elevation.min() > -5
    assert cameras.elevation.max() < 60
    directions = cameras.eyes / 3
    angles = torch.rad2deg(torch.acos((directions @ directions.T).clamp(-1, 1) - 2 * torch.eye(48)).clamp(max=180))
    # 48 equal caps on this part of the sphere have a radius of 11.5 degrees: neighbors are 23 apart at the best.
    nearest = torch.where(torch.eye(48).bool(), torch.tensor(180.0), angles).amin(1)
    assert nearest.min() > 13
    assert not spread(4, (0.0, 0.0), seed=1).poses.equal(spread(4, (0.0, 0.0), seed=2).poses)


def test_images_repeat(folders, tmp_path):
    make("ring", tmp_path / "ring", views=18, held_out=6, size=48)
    for path in sorted(folders["ring"].rglob("*.*")):
        assert (tmp_path / "ring" / path.relative_to(folders["ring"])).read_bytes() == path.read_bytes()


def test_background_shows_where_nothing_covers():
    cameras = orbit(2, size=(32, 32))
    white, blue = render("duck", cameras), render("duck", cameras, background=(0.0, 0.0, 1.0))
    empty = (white.alpha == 0).expand(-1, 3, -1, -1)
    assert empty.float().mean() > 0.4
    assert (white.rgb[empty] == 1).all()
    assert (white.depth[white.alpha == 0] == 0).all()
    difference = (1 - white.alpha) * torch.tensor([1.0, 1.0, 0.0])[:, None, None]
    torch.testing.assert_close(white.rgb - blue.rgb, difference, atol=1e-5, rtol=0)
    assert ((white.alpha > 0) & (white.alpha < 1)).any()  # edges are smooth


def test_samples_average_to_the_same_image():
    cameras = orbit(1, size=(24, 24))
    coarse, fine = render("toys", cameras, samples=2), render("toys", cameras, samples=6)
    assert (coarse.alpha - fine.alpha).abs().mean() < 0.02
    assert (coarse.rgb - fine.rgb).abs().mean() < 0.02


def test_no_camera_gives_no_image():
    assert render("duck", orbit(2)[torch.zeros(0, dtype=torch.long)]).rgb.shape == (0, 3, 64, 64)


def test_the_client_is_disconnected_after_an_error(stage, monkeypatch):
    import pybullet

    connect, clients = pybullet.connect, []
    monkeypatch.setattr(pybullet, "connect", lambda mode: clients.append(connect(mode)) or clients[-1])
    with pytest.raises(pybullet.error):
        render(stage(Piece("no such mesh.urdf")), orbit(1))
    assert len(clients) == 1
    assert not pybullet.isConnected(clients[0])


def test_nothing_is_printed():
    code = (
        "from scoredistill.datasets import synthetic_scenes as s; "
        "s.render('rover', s.spread(1, (0.0, 10.0), 8)); print('done')"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (result.stdout, result.returncode) == ("done\n", 0)
    assert "pybullet" not in result.stderr


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "pybullet", None)
    with pytest.raises(ImportError, match=r"pip install 'scoredistill\[scenes\]'"):
        render("duck", orbit(1))


def test_refusals(tmp_path):
    with pytest.raises(ValueError, match="use one of duck, "):
        make("ducks", tmp_path / "a")
    (tmp_path / "note.txt").write_text("mine")
    with pytest.raises(ValueError, match="not an empty folder"):
        make("duck", tmp_path)
    with pytest.raises(ValueError, match="views >= 2"):
        make("duck", tmp_path / "a", views=1)
    with pytest.raises(ValueError, match="low <= high"):
        make("duck", tmp_path / "a", elevation=(50.0, 10.0))
    with pytest.raises(ValueError, match="samples"):
        render("duck", orbit(1), samples=0)
    with pytest.raises(ValueError, match="background"):
        render("duck", orbit(1), background=(1.0, 2.0, 0.0))
    assert not (tmp_path / "a").exists()
    assert np.array_equal([p.name for p in tmp_path.iterdir()], ["note.txt"])
