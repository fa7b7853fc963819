"""A mesh with a texture as a generator: exact gradients, levels of the texture, what was seen, and light."""

import math

import pytest
import torch

trimesh = pytest.importorskip("trimesh")
pytest.importorskip("xatlas")
pytest.importorskip("scipy")

from scoredistill.three_d.camera import around, orbit
from scoredistill.three_d.mesh import Mesh, TexturedMesh, read_mesh, seam_error
from scoredistill.three_d.scenes import textured
from scoredistill.three_d.scenes.base import AMBIENT, SHADINGS, Look
from scoredistill.three_d.scenes.textured import Textured, reflected


@pytest.fixture(scope="module")
def ball(tmp_path_factory):
    path = tmp_path_factory.mktemp("mesh") / "ball.stl"
    trimesh.creation.icosphere(2).export(path)
    return read_mesh(path, texture=64).model


def quad(size=64, side=1.6):
    """A square in the plane x z, seen from the front, whose texture is upright."""
    a = side / 2
    vertices = torch.tensor([[-a, 0, -a], [a, 0, -a], [a, 0, a], [-a, 0, a]])
    normals = torch.tensor([[0.0, -1.0, 0.0]]).expand(4, 3)
    uv = torch.tensor([[0.0, 0], [1, 0], [1, 1], [0, 1]])
    texture = torch.rand(3, size, size, generator=torch.Generator().manual_seed(0))
    mesh = Mesh(vertices, normals, vertices * 0, torch.tensor([[0, 1, 2], [0, 2, 3]]))
    return TexturedMesh(mesh, uv, texture)


def test_gradients_are_exact(ball):
    shading = dict.fromkeys(SHADINGS, 1.0)
    scene = Textured(ball, 16, grids=(2, 3), finish=True, samples=1, size=(4, 4), shading=shading).double()
    names = [name for name, _ in scene.named_parameters()]
    assert sorted(names) == ["encoding.values.0", "encoding.values.1", "texels"]
    views, rng = scene.views(3, torch.Generator().manual_seed(0)).double(), torch.Generator().manual_seed(1)
    assert len(views[:, 19].unique()) > 1  # several shadings
    parameters = list(scene.parameters())
    for p in parameters:
        p.data = 0.05 * torch.randn(p.shape, generator=rng, dtype=p.dtype)
    render = lambda *values: torch.func.functional_call(scene, dict(zip(names, values, strict=True)), views)
    assert torch.autograd.gradcheck(render, parameters, fast_mode=True)


def test_views_are_linear_in_the_texture(ball):
    scene = Textured(ball, 32, size=(16, 16))
    cameras = orbit(2, size=(16, 16))
    gray = scene.render(cameras)
    assert torch.allclose(gray.rgb, 0.5 * gray.opacity + 1 - gray.opacity, atol=1e-6)
    with torch.no_grad():
        scene.texels += torch.randn(scene.texels.shape, generator=torch.Generator().manual_seed(0))
        once = scene.render(cameras).rgb - gray.rgb
        scene.texels *= 2
        assert torch.allclose(scene.render(cameras).rgb - gray.rgb, 2 * once, atol=1e-5)
    assert float(once.abs().max()) > 0.01


def test_a_magnified_view_interpolates_the_texture_and_a_distant_one_averages_it():
    model = quad()
    scene = Textured(model, 64, start=True, grids=(), samples=1)
    # 64 pixels on the width of the square: each pixel center is the center of a texel
    focal = 3.0 * 64 / 1.6
    cameras = around(torch.tensor([0.0]), 0.0, 3.0, math.degrees(2 * math.atan(32 / focal)), (64, 64))
    with torch.no_grad():
        seen = scene.render(cameras)
        assert torch.allclose(seen.rgb[0], model.texture, atol=1e-4)
        assert torch.equal(seen.opacity, torch.ones_like(seen.opacity))
        assert torch.allclose(seen.depth, torch.tensor(3.0), atol=1e-5)
        quarter = scene.render(cameras.resized((16, 16))).rgb[0]
        mean = torch.nn.functional.avg_pool2d(model.texture[None], 4)[0]
        assert torch.allclose(quarter, mean, atol=1e-4)
        between = scene.render(cameras.resized((45, 45))).rgb[0]  # between two levels
    assert mean.std() < between.std() < model.texture.std()


def test_slanted_and_distant_surfaces_are_seen_at_coarser_levels():
    scene = Textured(quad(), 64, grids=(), samples=1)

    def level(azimuth, distance):
        """That of the pixel in the middle of a view of 7 degrees, 6 tan(3.5 degrees) / 9 wide at distance 3."""
        cameras = around(torch.tensor([azimuth]), 0.0, distance, 7.0, (9, 9))
        fragments = scene._fragments(cameras)
        levels = torch.zeros(9, 9)
        levels[fragments.hit[0]] = scene._level(fragments, cameras)
        return float(levels[4, 4])

    front = level(0.0, 3.0)
    assert front == pytest.approx(math.log2(6 * math.tan(math.radians(3.5)) / 9 * 64 / 1.6), abs=1e-3)
    assert level(60.0, 3.0) == pytest.approx(front + 0.5, abs=1e-3)  # half the cosine: twice the area
    assert level(0.0, 3.0 * math.sqrt(2)) == pytest.approx(front + 0.5, abs=1e-3)


def test_normals_face_the_camera_and_light_shades():
    scene = Textured(quad(), 16, samples=1)
    front, behind = (around(torch.tensor([a]), 0.0, 3.0, 20.0, (8, 8)) for a in (0.0, 180.0))
    with torch.no_grad():
        assert torch.allclose(scene.render(front, normals=True).normal[0, 1], torch.tensor(-1.0))
        assert torch.allclose(scene.render(behind, normals=True).normal[0, 1], torch.tensor(1.0))  # both sides show
        lit = scene.render(front, Look(torch.tensor([[0.0, -100.0, 100.0]]), torch.tensor([1.0]))).rgb
        assert torch.allclose(lit, torch.tensor(0.5 * (AMBIENT + (1 - AMBIENT) * math.sqrt(0.5))), atol=5e-3)
        assert scene.render(front).normal is None


def test_shining_surfaces_reflect_where_the_light_is_mirrored():
    one = torch.ones(1, 1)
    normal, up = torch.tensor([[0.0, -1.0, 0.0]]), torch.tensor([[0.0, -1.0, 1.0]])
    down = torch.tensor([[0.0, -1.0, -1.0]])
    shine = lambda rough, metal, eye: float(
        reflected(torch.full((1, 3), 0.5), rough * one, metal * one, normal, up, eye)[0, 0]
    )
    assert shine(0.2, 0.0, down) > 20 * shine(0.2, 0.0, up)
    assert shine(0.2, 1.0, down) > 5 * shine(0.2, 0.0, down)  # metals reflect more
    assert shine(0.9, 0.0, down) < 0.1 * shine(0.2, 0.0, down)  # rough surfaces spread it
    # in the mirror direction: D = 1 / (pi a^2), F, the shadow of both directions, and the radiance pi (1 - ambient)
    a = 0.2**2
    cosine, k = math.sqrt(0.5), a / 2
    shadow = 1 / (cosine * (1 - k) + k) ** 2
    fresnel = 0.04 + 0.96 * (1 - cosine) ** 5
    want = (1 - AMBIENT) * fresnel / a**2 * shadow / 4 * cosine
    assert shine(0.2, 0.0, down) == pytest.approx(want, rel=1e-3)


def test_what_was_seen_is_the_side_towards_the_cameras(ball):
    scene = Textured(ball, 48, size=(32, 32))
    assert scene.coverage == 0
    with torch.no_grad():
        scene.render(orbit(4, size=(32, 32)))
    assert scene.coverage == 0  # only in training
    scene.render(orbit(1, 0.0, 3.0, size=(32, 32)))
    # a ball of radius r at distance 3 shows the cap above y = r^2 / 3; texels at less than FACING do not count
    y = scene.atlas.point[:, 1]
    assert y[scene.seen].max() < -0.25
    assert bool(scene.seen[y < -0.65].all())
    cap = (1 - 0.98 / 3) / 2
    once = scene.coverage
    assert 0.6 * cap < once < cap
    scene.render(orbit(1, 0.0, 3.0, size=(32, 32), start=180.0))
    assert scene.coverage == pytest.approx(2 * once, rel=0.1)
    again = Textured(ball, 48)
    again.load_state_dict(scene.state_dict())
    assert again.coverage == scene.coverage


def test_what_hides_another_surface_leaves_it_unseen():
    near, far = quad(), quad()
    shift = torch.tensor([0.0, -0.5, 0.0])
    mesh = Mesh(
        torch.cat([0.5 * near.mesh.vertices + shift, far.mesh.vertices]), torch.cat([near.mesh.normals] * 2),
        torch.zeros(8, 3), torch.cat([near.mesh.faces, far.mesh.faces + 4]),
    )  # fmt: skip
    uv = torch.cat([near.uv * 0.4, 0.5 + far.uv * 0.4])
    scene = Textured(TexturedMesh(mesh, uv, torch.zeros(3, 64, 64)), 64, size=(32, 32))
    scene.render(orbit(1, 0.0, size=(32, 32)))
    hidden = (scene.atlas.face >= 2) & (scene.atlas.point.abs().amax(-1) < 0.4)
    assert bool(hidden.any())
    assert not scene.seen[hidden].any()
    near = scene.atlas.face < 2
    assert bool(scene.seen[near & (scene.atlas.point[:, [0, 2]].abs().amax(-1) < 0.35)].all())


def test_unseen_texels_take_the_colors_of_seen_ones_nearby(ball):
    scene = Textured(ball, 48, size=(32, 32), grids=())
    color = 0.5 + 0.4 * scene.atlas.point.T
    with torch.no_grad():
        scene.texels.copy_((color - 0.5) / textured.OWN)
    assert torch.equal(scene.filled(), scene.maps().detach().clamp(0, 1))  # nothing was seen: nothing is filled
    scene.seen[:] = scene.atlas.point[:, 2] > -0.5
    with torch.no_grad():
        scene.texels[:, ~scene.seen] = 9.0
    filled = scene.atlas.taken(scene.filled())
    assert torch.allclose(filled[:, scene.seen], color[:, scene.seen], atol=1e-5)
    low = ~scene.seen
    assert float(filled[2, low].max()) < 0.36  # of the border of what was seen, not 1
    assert float((filled[2, low] - 0.3).abs().max()) < 0.08
    shown = scene.textured()
    error = seam_error(shown)
    assert error.seam < 2 * error.interior


def test_a_view_is_rasterized_once(ball, monkeypatch):
    calls = []
    rasterize = textured.rasterize_views
    monkeypatch.setattr(textured, "rasterize_views", lambda *given: calls.append(given) or rasterize(*given))
    scene = Textured(ball, 32, size=(8, 8))
    one, other = orbit(2, size=(8, 8)), orbit(2, 30.0, size=(8, 8))
    for cameras in (one, one, other, other, one, one.resized((9, 9))):
        scene.render(cameras)
    assert len(calls) == 4


def test_a_random_background_is_seen_around_the_mesh(ball):
    scene = Textured(ball, 32, size=(16, 16), background="random")
    views = scene.views(2, torch.Generator().manual_seed(0))
    with torch.no_grad():
        corner = scene(views)[:, :, 0, 0]
    assert torch.allclose(corner, views[:, -3:])
    assert torch.equal(scene.render(orbit(1, size=(8, 8))).rgb[0, :, 0, 0], torch.ones(3))


def test_impossible_numbers_are_refused(ball):
    for wrong in ({"texture": 8}, {"samples": 0}):
        with pytest.raises(ValueError, match="texture must be at least 16 and samples at least 1"):
            Textured(ball, **wrong)
