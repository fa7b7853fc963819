"""The rasterizer of meshes against casting one ray per pixel, at shared edges, and around the plane of the camera."""

import torch

from scoredistill.three_d.camera import Cameras, around, look_at, orbit
from scoredistill.three_d.mesh import rasterize_views
from scoredistill.three_d.mesh.views import candidates


def cast(corners, cameras):
    """Nearest triangle and distance by intersecting every ray with every triangle (Moeller and Trumbore), float64."""
    origins, directions = (v.double() for v in cameras.rays())
    a, b, c = corners.double().unbind(1)
    p = torch.linalg.cross(directions[..., None, :], (c - a).expand(*directions.shape[:-1], -1, 3))
    determinant = ((b - a) * p).sum(-1)
    s = origins[..., None, :] - a
    u = (s * p).sum(-1) / determinant
    q = torch.linalg.cross(s, (b - a).expand_as(s))
    v = (directions[..., None, :] * q).sum(-1) / determinant
    t = ((c - a) * q).sum(-1) / determinant
    hit = (u >= 0) & (v >= 0) & (u + v <= 1) & (t > 0)
    t = torch.where(hit, t, torch.inf)
    distance, face = t.min(-1)
    one, other = (w.gather(-1, face[..., None])[..., 0] for w in (u, v))
    return torch.where(distance.isfinite(), face, -1), torch.stack([1 - one - other, one, other], -1), distance


def agree(corners, cameras):
    """Check that the rasterizer sees what the rays see; the fraction of pixels that see something."""
    found = rasterize_views(corners, cameras)
    face, corner, distance = cast(corners, cameras)
    assert torch.equal(found.face, face)
    hit = face >= 0
    assert torch.allclose(found.corner[hit].double(), corner[hit], atol=1e-5)
    ahead = (cameras.rays()[1] * cameras.forward[:, None, None]).sum(-1).double()
    assert torch.allclose(found.depth[hit].double(), (distance * ahead)[hit], rtol=1e-5)
    assert not found.corner[~hit].any()
    assert not found.depth[~hit].any()
    assert torch.equal(found.hit, hit)
    return float(hit.float().mean())


def test_pixels_see_what_their_rays_hit(rng, monkeypatch):
    monkeypatch.setattr("scoredistill.three_d.mesh.views.CANDIDATES", 500)  # in many parts
    corners = torch.randn(40, 1, 3, generator=rng) * 0.5 + 0.4 * torch.randn(40, 3, 3, generator=rng)
    cameras = around(torch.tensor([0.0, 75.0, 200.0]), torch.tensor([10.0, -50.0, 80.0]), 3.0, 40.0, (17, 23))
    assert agree(corners, cameras) > 0.3


def test_triangles_through_the_plane_of_the_camera_are_seen(rng):
    corners = torch.randn(30, 3, 3, generator=rng)  # all around the camera
    cameras = Cameras(
        look_at(torch.tensor([[0.05, -0.1, 0.0]]), torch.tensor([[1.0, 0.4, 0.2]])), torch.full((1, 2), 9.0),
        torch.full((1, 2), 8.0), (16, 16),
    )  # fmt: skip
    ahead = ((corners - cameras.eyes[:, None]) * cameras.forward).sum(-1)
    assert int(((ahead > 0).any(1) & (ahead < 0).any(1)).sum()) > 5
    assert agree(corners, cameras) > 0.5


def test_neighbors_leave_no_gap_and_equal_depths_take_the_first():
    """A fan of triangles in the plane x z around a point that lies exactly on pixel centers and edges."""
    angle = torch.arange(8) * (torch.pi / 4)
    rim = torch.stack([angle.cos(), torch.zeros(8), angle.sin()], -1) * 4
    fan = torch.stack([torch.zeros(8, 3), rim, rim.roll(-1, 0)], 1)
    cameras = orbit(1, elevation=0.0, size=(33, 33))  # the middle pixel looks at the common corner, its row at edges
    found = rasterize_views(torch.cat([fan, fan]), cameras)
    assert bool(found.hit.all())
    assert int(found.face.max()) < 8
    assert torch.allclose(found.depth, torch.full_like(found.depth, 3.0))


def test_nothing_is_seen_of_what_is_behind_or_beside_or_flat():
    behind = torch.tensor([[[-1.0, -5, -1], [1, -5, -1], [0, -5, 1]]])
    beside = torch.tensor([[[50.0, 0, 0], [51, 0, 0], [50, 0, 1]]])
    flat = torch.tensor([[[-1.0, 0, 0], [0, 0, 0], [1, 0, 0]]])
    found = rasterize_views(torch.cat([behind, beside, flat]), orbit(1, 0.0, size=(8, 8)))
    assert not found.hit.any()
    assert not rasterize_views(torch.zeros(0, 3, 3), orbit(2, size=(4, 4))).hit.any()


def test_candidates_are_all_pixels_of_all_boxes():
    low, high = torch.tensor([[1, 2], [5, 5], [0, 0]]), torch.tensor([[2, 4], [4, 5], [0, 1]])  # the second is empty
    for most in (1, 4, 100):
        pairs = [tuple(v) for part in candidates(low, high, most) for v in torch.stack(part, 1).tolist()]
        want = [(0, x, y) for y in (2, 3, 4) for x in (1, 2)] + [(2, 0, 0), (2, 0, 1)]
        assert sorted(pairs) == sorted(want)
