"""Cameras: rays and projection are inverse, orbits come back as angles, random views follow their distribution."""

import math

import pytest
import torch

from scoredistill.three_d.camera import Cameras, RandomViews, around, look_at, orbit


def crooked(n=3, size=(6, 9)):
    """Cameras with unequal focal lengths and principal points off the middle, float64."""
    g = torch.Generator().manual_seed(1)
    eyes = 3 * torch.randn(n, 3, generator=g, dtype=torch.float64)
    focal = 5 + 4 * torch.rand(n, 2, generator=g, dtype=torch.float64)
    center = 2 + 3 * torch.rand(n, 2, generator=g, dtype=torch.float64)
    return Cameras(look_at(eyes, torch.randn(1, 3, generator=g, dtype=torch.float64)), focal, center, size)


def test_projection_is_the_inverse_of_rays():
    cameras = crooked()
    origins, directions = cameras.rays()
    torch.testing.assert_close(directions.norm(dim=-1), torch.ones(3, 6, 9, dtype=torch.float64))
    for i in range(3):
        for j in range(9):
            points = origins[i, :, j] + 2.5 * directions[i, :, j]
            found, depth = cameras[i].project(points)
            expected = torch.tensor([[j + 0.5, row + 0.5] for row in range(6)], dtype=torch.float64)
            torch.testing.assert_close(found[0], expected, atol=1e-9, rtol=0)
            torch.testing.assert_close(depth[0], 2.5 * directions[i, :, j] @ cameras.forward[i])


def test_projection_by_hand():
    # From (0, -2, 0) towards +y, up z: (1, 2, 0.5) is at depth 4, 1/4 to the right and 1/8 upwards.
    cameras = Cameras(
        look_at(torch.tensor([[0.0, -2, 0]])), torch.tensor([[8.0, 16]]), torch.tensor([[5.0, 7]]), (14, 10)
    )
    found, depth = cameras.project(torch.tensor([[1.0, 2.0, 0.5], [0.0, -3.0, 0.0]]))
    torch.testing.assert_close(found[0, 0], torch.tensor([5 + 8 / 4, 7 - 16 / 8]))
    torch.testing.assert_close(depth[0], torch.tensor([4.0, -1.0]))


def test_azimuth_zero_sees_the_front_and_ninety_the_side_of_x():
    eyes = around(torch.tensor([0.0, 90.0, 180.0, 270.0]), 0.0, 2.0).eyes
    expected = torch.tensor([[0.0, -2, 0], [2, 0, 0], [0, 2, 0], [-2, 0, 0]])
    torch.testing.assert_close(eyes, expected, atol=1e-6, rtol=0)
    front = around(torch.tensor([0.0]), 0.0, 2.0)
    right, up = front.project(torch.tensor([[0.5, 0.0, 0.0], [0.0, 0.0, 0.5]]))[0][0]
    assert right[0] > 32
    assert up[1] < 32


def test_orbit_gives_its_angles_back():
    cameras = orbit(7, elevation=25.0, radius=2.5, start=10.0)
    torch.testing.assert_close(cameras.azimuth, 10 + torch.arange(7) * (360 / 7), atol=1e-3, rtol=0)
    torch.testing.assert_close(cameras.elevation, torch.full((7,), 25.0), atol=1e-4, rtol=0)
    torch.testing.assert_close(cameras.eyes.norm(dim=-1), torch.full((7,), 2.5))
    torch.testing.assert_close(cameras.forward, -cameras.eyes / 2.5, atol=1e-6, rtol=0)


def test_field_of_view_is_vertical():
    cameras = orbit(1, elevation=0.0, radius=3.0, fov=60.0, size=(40, 80))
    rim = torch.tensor([[0.0, 0.0, 3 * math.tan(math.radians(30))]])
    torch.testing.assert_close(cameras.project(rim)[0][0, 0], torch.tensor([40.0, 0.0]), atol=1e-4, rtol=0)


@pytest.mark.parametrize("height", [2.0, -2.0])
def test_straight_down_and_up_put_y_upwards(height):
    pose = look_at(torch.tensor([[0.0, 0.0, height]]))[0, :3, :3]
    torch.testing.assert_close(pose[:, 1], torch.tensor([0.0, 1.0, 0.0]))
    torch.testing.assert_close(pose[:, 2], torch.tensor([0.0, 0.0, math.copysign(1, height)]))
    assert torch.linalg.det(pose) == pytest.approx(1)


def test_poses_are_rotations_and_horizons_are_level():
    poses = crooked(20).poses[:, :3, :3]
    torch.testing.assert_close(poses.mT @ poses, torch.eye(3, dtype=torch.float64).expand(20, 3, 3))
    torch.testing.assert_close(torch.linalg.det(poses), torch.ones(20, dtype=torch.float64))
    assert poses[:, 2, 0].abs().max() < 1e-12  # the right axis has no z
    assert (poses[:, 2, 1] > 0).all()


def test_target_moves_the_camera_along():
    target = torch.tensor([[0.3, -0.2, 0.5]])
    cameras = around(torch.tensor([30.0]), 20.0, 2.0, target=target)
    found, depth = cameras.project(target)
    torch.testing.assert_close(found[0, 0], torch.tensor([32.0, 32.0]), atol=1e-4, rtol=0)
    assert depth.item() == pytest.approx(2.0, abs=1e-5)


def test_resized_keeps_the_rays():
    cameras = crooked(2, (4, 6))
    fine = cameras.resized((12, 18))
    # The middle pixel of each 3 x 3 has the same center as the coarse one.
    torch.testing.assert_close(fine.rays()[1][:, 1::3, 1::3], cameras.rays()[1])


def test_packed_rows_come_back_at_any_size():
    cameras = crooked(3)
    again = Cameras.unpacked(cameras.packed(), cameras.size)
    for name in ("poses", "focal", "center"):
        torch.testing.assert_close(getattr(again, name), getattr(cameras, name))
    larger = Cameras.unpacked(cameras.packed(), (12, 18))
    torch.testing.assert_close(larger.rays()[1], cameras.resized((12, 18)).rays()[1])


def test_indices_and_joining():
    cameras = crooked(4)
    both = Cameras.cat([cameras[3], cameras[:2]])
    torch.testing.assert_close(both.eyes, cameras.eyes[[3, 0, 1]])
    assert len(cameras[torch.tensor([1, 2])]) == 2
    with pytest.raises(ValueError, match="one image size"):
        Cameras.cat([cameras, cameras.resized((2, 3))])
    with pytest.raises(ValueError, match="at least one"):
        Cameras.cat([])


def test_random_azimuths_are_stratified():
    for seed in range(5):
        azimuth = RandomViews()(8, torch.Generator().manual_seed(seed)).azimuth
        assert sorted((azimuth / 45).int().tolist()) == list(range(8))


def test_random_views_stay_in_their_ranges(rng):
    views = RandomViews(elevation=(-20.0, 40.0), azimuth=(30.0, 90.0), radius=(2.0, 2.5), fov=(30.0, 50.0))
    cameras = views(500, rng, (20, 30))
    angle = 2 * torch.rad2deg(torch.atan(10 / cameras.focal[:, 1]))
    for value, (low, high) in (
        (cameras.elevation, views.elevation),
        (cameras.azimuth, views.azimuth),
        (cameras.eyes.norm(dim=-1), views.radius),
        (angle, views.fov),
    ):
        span = high - low
        assert low - 1e-3 <= value.min() < low + 0.02 * span
        assert high - 0.02 * span < value.max() <= high + 1e-3
    assert cameras.size == (20, 30)


@pytest.mark.parametrize("by_area", [True, False])
def test_elevations_follow_the_angle_or_the_area(rng, by_area):
    # Of a uniform u in [0, 1] the largest gap to its own distribution is below 1.95 / sqrt(n) with 99.9 %
    # (Kolmogorov); of the other distribution it is 0.067 here.
    n = 4000
    elevation = RandomViews(elevation=(0.0, 80.0), by_area=by_area)(n, rng).elevation.double()
    high = math.radians(80)
    area, angle = torch.deg2rad(elevation).sin() / math.sin(high), torch.deg2rad(elevation) / high
    gap = lambda u: float((u.sort().values - (torch.arange(n) + 0.5) / n).abs().max())
    right, wrong = (area, angle) if by_area else (angle, area)
    assert gap(right) < 1.95 / math.sqrt(n) < gap(wrong)


def test_jitter_moves_the_target(rng):
    cameras = RandomViews(jitter=0.1, radius=(3.0, 3.0))(2000, rng)
    center = cameras.eyes + 3 * cameras.forward
    assert center.std().item() == pytest.approx(0.1, rel=0.05)


def test_lights_stand_around_the_camera(rng):
    views = RandomViews()
    cameras = views(4000, rng)
    lights = views.lights(cameras, rng)
    distance = lights.norm(dim=-1)
    assert 0.8 <= distance.min() < 0.81
    assert 1.49 < distance.max() <= 1.5
    eyes = cameras.eyes / cameras.eyes.norm(dim=-1, keepdim=True)
    # E cos of the angle between e and N(e, 1)/|N(e, 1)| in three dimensions, by quadrature: with radius r along the
    # direction u, density ~ r^2 exp(-(r^2 - 2 r u + 1)/2).
    r, u = torch.linspace(0.005, 9.995, 1000, dtype=torch.float64), torch.linspace(-0.999, 0.999, 1000).double()
    weight = r[:, None] ** 2 * torch.exp(-(r[:, None] ** 2 - 2 * r[:, None] * u + 1) / 2)
    expected = float((weight * u).sum() / weight.sum())
    assert ((lights / distance[:, None]) * eyes).sum(-1).mean().item() == pytest.approx(expected, abs=0.03)
    torch.testing.assert_close(RandomViews(light=None).lights(cameras), cameras.eyes)


def test_random_views_repeat_with_their_generator():
    a, b, c = (RandomViews()(4, torch.Generator().manual_seed(seed)) for seed in (3, 3, 4))
    assert a.poses.equal(b.poses)
    assert not a.poses.equal(c.poses)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"focal": torch.ones(2, 2)}, r"\[n, 2\]"),
        ({"focal": -torch.ones(3, 2)}, "positive"),
        ({"center": torch.full((3, 2), float("nan"))}, "finite"),
        ({"size": (0, 4)}, "at least 1x1"),
    ],
)
def test_broken_cameras_are_refused(change, sentence):
    parts = {
        "poses": torch.eye(4).repeat(3, 1, 1),
        "focal": torch.ones(3, 2),
        "center": torch.ones(3, 2),
        "size": (4, 4),
    }
    # The annotations refuse shapes first where types are checked, with an error of their own.
    with pytest.raises(Exception, match=rf"{sentence}|type"):
        Cameras(**{**parts, **change})


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: look_at(torch.zeros(1, 3)), "stands at its target"),
        (lambda: orbit(0), "at least one"),
        (lambda: around(torch.zeros(1), radius=-1.0), "radius"),
        (lambda: around(torch.zeros(1), fov=180.0), "fov"),
        (lambda: RandomViews(elevation=(-100.0, 0.0)), "elevation"),
        (lambda: RandomViews(radius=(3.0, 2.0)), "radius"),
        (lambda: RandomViews(jitter=-1.0), "jitter"),
    ],
)
def test_numbers_out_of_range_are_refused(call, sentence):
    with pytest.raises(ValueError, match=sentence):
        call()
