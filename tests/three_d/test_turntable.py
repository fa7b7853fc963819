"""Turntables of a ball that a formula renders: each side has a color of its own, depths and normals are known."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from scoredistill.three_d.camera import around, orbit
from scoredistill.three_d.turntable import (
    DIM,
    contact_sheet,
    depth_image,
    depth_range,
    normal_image,
    turntable,
    write_turntable,
)

RADIUS = 0.6


def ball(cameras):
    """A ball whose color is that of its normals, on white; exact depths along the axes."""
    assert not torch.is_grad_enabled()
    origins, directions = cameras.rays()
    b = (origins * directions).sum(-1)
    inside = b**2 - (origins**2).sum(-1) + RADIUS**2
    hit = inside > 0
    t = -b - inside.clamp(min=0).sqrt()
    normal = torch.where(hit[..., None], (origins + t[..., None] * directions) / RADIUS, 0.0)
    depth = torch.where(hit, t * (directions * cameras.forward[:, None, None]).sum(-1), 0.0)
    rgb = torch.where(hit[..., None], (normal + 1) / 2, 1.0)
    first = lambda v: v.permute(0, 3, 1, 2)
    return SimpleNamespace(
        rgb=first(rgb), opacity=first(hit[..., None].float()), depth=first(depth[..., None]), normal=first(normal)
    )


class Counted:
    """The ball, recording the number of cameras per call; normals only on request."""

    def __init__(self):
        self.asked = []

    def __call__(self, cameras, normals=False):
        self.asked.append((len(cameras), normals))
        seen = ball(cameras)
        return seen if normals else SimpleNamespace(**{**vars(seen), "normal": None})


def test_frames_come_in_batches_from_equal_steps_around():
    render = Counted()
    frames = list(turntable(render, orbit(10, 0.0, size=(9, 11)), batch=4))
    assert render.asked == [(4, False), (4, False), (2, False)]
    assert len(frames) == 10
    assert frames[0].shape == (3, 9, 11)
    middle = torch.stack([frame[:, 4, 5] for frame in frames])
    angle = torch.deg2rad(torch.arange(10) * 36.0)
    facing = torch.stack([angle.sin(), -angle.cos(), torch.zeros(10)], -1)  # the normal that looks at each camera
    torch.testing.assert_close(middle, (facing + 1) / 2, atol=1e-5, rtol=0)


def test_modes_stand_side_by_side():
    cameras = orbit(3, size=(12, 10))
    seen = None
    with torch.no_grad():
        seen = ball(cameras)
    frames = torch.stack(list(turntable(ball, cameras, modes=("opacity", "rgb", "normals", "depth"))))
    assert frames.shape == (3, 3, 12, 40)
    assert torch.equal(frames[..., :10], seen.opacity.expand(-1, 3, -1, -1))
    assert torch.equal(frames[..., 10:20], seen.rgb)
    torch.testing.assert_close(frames[..., 20:30], normal_image(seen.normal, seen.opacity))
    torch.testing.assert_close(frames[..., 30:], depth_image(seen.depth, seen.opacity))


def test_depth_is_bright_where_near_and_even_in_disparity():
    depth = torch.tensor([2.0, 3.0, 6.0, 0.0]).reshape(1, 1, 1, 4)
    there = torch.tensor([1.0, 1.0, 1.0, 0.0]).reshape(1, 1, 1, 4)
    image = depth_image(depth, there)[0, 0, 0]
    half = (1 / 3 - 1 / 6) / (1 / 2 - 1 / 6)  # of the way between far and near
    torch.testing.assert_close(image, torch.tensor([1.0, DIM + (1 - DIM) * half, DIM, 0.0]))
    fixed = depth_image(depth, there, (1.0, 3.0))[0, 0, 0]
    torch.testing.assert_close(fixed, torch.tensor([DIM + (1 - DIM) * 0.25, DIM, DIM, 0.0]))
    flat = depth_image(torch.full((1, 1, 2, 2), 3.0), torch.ones(1, 1, 2, 2))
    assert torch.equal(flat, torch.ones(1, 3, 2, 2))
    nothing = depth_image(torch.zeros(1, 1, 2, 2), torch.zeros(1, 1, 2, 2))
    assert torch.equal(nothing, torch.zeros(1, 3, 2, 2))


def test_a_video_has_one_range_of_depths():
    near, far = depth_range(ball, orbit(40, 0.0, 3.0, size=(101, 101)))
    assert near == pytest.approx(3 - RADIUS, abs=1e-2)
    assert far == pytest.approx(3 - RADIUS**2 / 3, abs=0.05)  # where rays touch the ball
    frames = torch.stack(list(turntable(ball, orbit(4, 0.0, 3.0, size=(33, 33)), batch=1, modes=("depth",))))
    torch.testing.assert_close(frames[:, 0, 16, 16], torch.ones(4), atol=0.01, rtol=0)


def test_normals_are_colors_in_the_world_or_as_the_camera_sees_them():
    cameras = around(torch.tensor([90.0]), 0.0, 3.0, size=(31, 31))  # at +x
    with torch.no_grad():
        seen = ball(cameras)
    world = normal_image(seen.normal, seen.opacity)[0]
    torch.testing.assert_close(world[:, 15, 15], torch.tensor([1.0, 0.5, 0.5]), atol=1e-5, rtol=0)
    own = normal_image(3 * seen.normal, seen.opacity, cameras)[0]
    torch.testing.assert_close(own[:, 15, 15], torch.tensor([0.5, 0.5, 1.0]), atol=1e-5, rtol=0)  # towards the viewer
    top = int(seen.opacity[0, 0, :, 15].argmax())
    assert own[1, top, 15] > 0.9  # up is green
    assert own[0, 15, 15 + (15 - top)] > 0.9  # right is red
    assert torch.equal(world[:, 0, 0], torch.full((3,), 0.5))


def test_unknown_modes_and_missing_normals_are_refused():
    dull = lambda cameras: SimpleNamespace(**{**vars(ball(cameras)), "normal": None})
    with pytest.raises(ValueError, match="gives no normals"):
        next(turntable(dull, orbit(2), modes=("normals",)))
    with pytest.raises(ValueError, match="unknown mode red: use any of rgb, depth, normals, opacity"):
        turntable(ball, orbit(2), modes=("red",))
    with pytest.raises(ValueError, match="unknown mode none"):
        turntable(ball, orbit(2), modes=())
    with pytest.raises(ValueError, match="at least one frame and one loop"):
        write_turntable(ball, "never.mp4", seconds=0)


def test_a_video_is_one_revolution_whose_ends_do_not_repeat(tmp_path):
    av = pytest.importorskip("av")
    path = write_turntable(ball, tmp_path / "ball.mp4", seconds=1.5, fps=16, size=(48, 64), elevation=0.0)
    with av.open(str(path)) as video:
        stream = video.streams.video[0]
        assert stream.codec_context.pix_fmt == "yuv420p"
        assert (stream.codec_context.height, stream.codec_context.width) == (48, 64)
        frames = [frame.to_ndarray(format="rgb24").astype(float) for frame in video.decode(stream)]
        assert float(stream.duration * stream.time_base) == pytest.approx(1.5, abs=0.01)
    assert len(frames) == 24
    middle = np.array([frame[22:26, 30:34].mean((0, 1)) for frame in frames]) / 255
    angle = 2 * np.pi * np.arange(24) / 24
    facing = np.stack([np.sin(angle), -np.cos(angle), 0 * angle], -1)
    np.testing.assert_allclose(middle, (facing + 1) / 2, atol=0.04)  # H.264 with colors at half the resolution


def test_loops_are_rendered_once_and_repeated(tmp_path):
    pytest.importorskip("av")
    from scoredistill.media.video import open_video

    render = Counted()
    path = write_turntable(
        render, tmp_path / "ball.gif", seconds=0.5, fps=10, size=24, loops=3, batch=5, modes=("rgb", "normals")
    )
    assert render.asked == [(5, True)]
    video = open_video(path)
    assert (len(video), video.height, video.width) == (15, 24, 48)
    assert video.duration == pytest.approx(1.5)
    frames = list(video.frames())
    np.testing.assert_array_equal(frames[0], frames[5])
    assert (frames[0] != frames[4]).any()


def test_a_contact_sheet_has_a_row_per_mode():
    sheet = contact_sheet(ball, n=4, size=40)
    assert sheet.size == (4 * 42 + 2, 3 * (42 + 16) + 2)
    pixels = np.asarray(sheet)
    across, down = [2 + 42 * i + 20 for i in range(4)], [2 + 58 * j + 20 for j in range(3)]
    assert pixels[down[0], across[1]][0] > 230  # the view from +x, onto the red side
    assert pixels[down[0], across[3]][0] < 25
    assert (pixels[down[1], across] > 235).all()  # nearest
    assert (pixels[down[1] - 19, across] == 0).all()
    assert (abs(pixels[down[2] - 19, across].astype(int) - 128) <= 1).all()
