"""Optical flow of textures with a known shift, and cuts of concatenated videos."""

import sys

import numpy as np
import pytest
import torch

from scoredistill.media.images import blurred
from scoredistill.media.motion import LEAST, _steps, optical_flow, scene_cuts, visible, warp
from scoredistill.optional import MissingExtra


def texture(height=96, width=112, seed=0):
    """Noise of two sizes in [0, 1], [3, h, w]: as in photographs, the coarse one leads to the fine one."""
    noise = torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(seed))
    soft = blurred(noise, 2.0) + 4 * blurred(noise, 8.0)
    return ((soft - soft.min()) / (soft.max() - soft.min()))[0]


def shifted(image, dx, dy):
    """A window of 64 x 80 pixels: what is at p in `texture` is at p + (dx, dy) in this one."""
    return image[:, 16 - dy : 80 - dy, 16 - dx : 96 - dx]


def video(seed, frames, speed=0.0, size=48):
    """A window that moves over a scene of its own colors, strong in contrast, [frames, size, size, 3] of 8 bits."""
    scene = texture(size, size + 800, seed)
    scene = torch.sigmoid(20 * (scene - scene.mean()) + seed - 1)
    starts = [round(speed * k) for k in range(frames)]
    return [(255 * scene[:, :, x : x + size]).round().to(torch.uint8).permute(1, 2, 0).numpy() for x in starts]


@pytest.mark.parametrize(("dx", "dy"), [(3, -2), (-5, 0), (0, 6)])
def test_the_flow_of_a_shift_is_the_shift(dx, dy):
    pytest.importorskip("skimage")
    image = texture()
    first, second = shifted(image, 0, 0), shifted(image, dx, dy)
    flow = optical_flow(first, second)
    inner = flow[:, 12:-12, 12:-12]
    assert (inner - torch.tensor([dx, dy])[:, None, None]).abs().mean() < 0.1
    back = warp(second, flow)[:, 12:-12, 12:-12]
    assert (back - first[:, 12:-12, 12:-12]).abs().mean() < 0.01
    dark = optical_flow(0.1 * first, 0.1 * second)  # only the contrast is less
    torch.testing.assert_close(dark, flow, atol=0.05, rtol=0)


def test_the_flow_of_a_zoom_grows_from_the_center():
    pytest.importorskip("skimage")
    image = texture(64, 64)
    y, x = torch.meshgrid(torch.arange(64.0), torch.arange(64.0), indexing="ij")
    truth = 0.06 * torch.stack([x - 31.5, y - 31.5])
    flow = optical_flow(warp(image, truth), image)
    assert (flow - truth)[:, 8:-8, 8:-8].norm(dim=0).mean() < 0.15  # up to 2 pixels are moved


def test_nothing_moves_in_flat_and_equal_frames():
    pytest.importorskip("skimage")
    assert not optical_flow(torch.full((3, 16, 20), 0.4), torch.full((3, 16, 20), 0.4)).any()
    assert optical_flow(texture(), texture()).abs().max() < 1e-3


def test_a_warp_by_whole_and_half_pixels_is_exact():
    image = torch.arange(3 * 5 * 7.0).view(3, 5, 7)
    flow = torch.zeros(2, 5, 7)
    torch.testing.assert_close(warp(image, flow), image)
    flow[0], flow[1] = 2, -1  # p + (2, -1)
    torch.testing.assert_close(warp(image, flow)[:, 1:, :5], image[:, :4, 2:])
    torch.testing.assert_close(warp(image, flow)[:, 1:, 6], image[:, :4, 6])  # the border is repeated
    flow[0], flow[1] = 0.5, 0.25  # of a plane: + 1 a column and + 7 a row
    torch.testing.assert_close(warp(image, flow)[:, :4, :6], image[:, :4, :6] + 0.5 + 7 * 0.25)


def test_visible_is_what_comes_back_and_stays_inside():
    forward = torch.zeros(2, 6, 8)
    forward[0] = 3.0
    seen = visible(forward, -forward)
    assert seen[:, :5].all()  # 4 + 3 is the last column
    assert not seen[:, 5:].any()
    assert visible(forward + 0.4, -forward - 0.4)[:5, :5].all()  # up to half a pixel is on the last one
    assert visible(0 * forward - 0.4, 0 * forward + 0.4).all()
    # all come back one pixel off, squared error 1 against .01 (9 + 4) + .5
    backward = -forward + torch.tensor([1.0, 0.0])[:, None, None]
    assert not visible(forward, backward).any()
    assert visible(forward, backward, tolerance=0.88)[:, :5].all()
    assert not visible(forward, backward, tolerance=0.86).any()


def test_frames_without_a_flow_are_refused(monkeypatch):
    image = texture()
    with pytest.raises(ValueError, match="frames of one size"):
        optical_flow(image, image[:, :64])
    with pytest.raises(ValueError, match="not finite"):
        optical_flow(image, image * torch.nan)
    with pytest.raises(ValueError, match="flow of size"):
        warp(image, torch.zeros(2, 4, 4))
    monkeypatch.setitem(sys.modules, "skimage.registration", None)
    with pytest.raises(MissingExtra, match=r"optical flow needs skimage, .*: pip install 'scoredistill\[video\]'"):
        optical_flow(image, image)


def test_two_scenes_have_one_cut():
    assert scene_cuts(video(0, 12, 1.0) + video(1, 9, 0.5)) == [12]
    assert scene_cuts(video(0, 5) + video(1, 5) + video(2, 5)) == [5, 10]
    assert scene_cuts(video(0, 12, 2.0) + video(1, 1)) == [12]  # the last frame alone


def test_the_motion_of_a_scene_that_is_over_does_not_count():
    pan = video(0, 24, 32.0)
    white, gray = np.full_like(pan[0], 255), np.full_like(pan[0], 190)
    assert scene_cuts(pan + [white] * 4 + [gray] * 6) == [24, 28]  # 2.5 times the pan is .7, white to gray is .5


def test_lasting_changes_are_no_cuts():
    still, other, pan = video(0, 20), video(1, 20), video(0, 24, 32.0)  # two thirds of an image in every step
    changes = [step.change for step in _steps(pan)]
    assert np.median(changes) > LEAST  # most steps would be cuts in a still scene
    assert scene_cuts(pan) == []
    assert scene_cuts([pan[0]] * 12 + pan) == []  # a pan that starts at once
    assert scene_cuts(pan + [pan[-1]] * 12) == []  # and one that stops
    assert scene_cuts(pan[:12] + [frame for frame in pan[12:] for _ in range(2)]) == []  # and one that begins to jerk
    assert scene_cuts(still) == scene_cuts(still[:1]) == scene_cuts([]) == []
    fade = [((1 - a) * still[0] + a * other[0]).astype(np.uint8) for a in np.linspace(0, 1, 5)]
    assert max(step.change for step in _steps(fade)) > LEAST
    assert scene_cuts(still + fade + other) == []


def test_colors_that_change_count_twice_those_that_change_place():
    left = np.zeros((48, 48, 3), np.uint8)
    left[:, :24] = 255
    black, white = np.zeros_like(left), np.full_like(left, 255)
    assert [step.change for step in _steps([left, left[:, ::-1], black, white])] == pytest.approx([1.0, 1.0, 2.0])
    assert scene_cuts([left] * 4 + [left[:, ::-1]] * 4, least=0.9) == [4]
    assert scene_cuts([left] * 4 + [left[:, ::-1]] * 4, least=1.1) == []
    assert scene_cuts([black] * 4 + [white] * 4, least=1.9) == [4]


@pytest.mark.parametrize("length", [1, 2])
def test_a_flash_is_no_cut(length):
    still = video(0, 10, 1.0)
    flash = [np.full_like(still[0], 255)] * length
    assert scene_cuts(still[:5] + flash + still[5:]) == []
    assert scene_cuts(still + flash + video(1, 10)) == [10]  # between two scenes it belongs to the second


def test_a_video_is_read_once_and_not_kept():
    alive = []

    def frames():
        for k in range(30):
            frame = video(0 if k < 15 else 1, 1)[0]
            alive.append(k)
            yield frame

    assert scene_cuts(frames()) == [15]
    assert alive == list(range(30))


def test_frames_that_are_no_images_are_refused():
    frame = video(0, 1)[0]
    with pytest.raises(ValueError, match=r"frame 1 is float32 of shape \[48, 48, 3\], not uint8"):
        scene_cuts([frame, frame.astype(np.float32)])
    with pytest.raises(ValueError, match=r"frame 1 has shape \[48, 40, 3\]"):
        scene_cuts([frame, frame[:, :40]])
