"""Images: values survive conversion to 8 bits and back, image grids place pixels correctly, GIFs keep time."""

import numpy as np
import pytest
import torch
from PIL import Image

from scoredistill.media.images import grid, save_gif, to_pil, to_tensor


def plain(color, size=(8, 6)):
    return Image.new("RGB", size, color)


def test_round_trip_keeps_every_8_bit_value():
    values = torch.arange(256).float().reshape(1, 1, 16, 16).expand(2, 3, 16, 16) / 255
    images = to_pil(values)
    assert [image.size for image in images] == [(16, 16), (16, 16)]
    torch.testing.assert_close(to_tensor(images), values, atol=0, rtol=0)


def test_height_width_and_channels_keep_their_places():
    x = torch.zeros(1, 3, 4, 7)
    x[0, 1, 3, 6] = 1
    (image,) = to_pil(x)
    assert image.size == (7, 4)
    assert image.getpixel((6, 3)) == (0, 255, 0)
    assert np.asarray(image).sum() == 255


def test_to_pil_clips_and_rounds_to_nearest():
    x = torch.tensor([-3.0, 0.499 / 255, 0.501 / 255, 7.0]).reshape(1, 1, 2, 2).expand(1, 3, 2, 2)
    assert np.asarray(to_pil(x)[0])[..., 0].ravel().tolist() == [0, 0, 1, 255]


def test_to_pil_accepts_half_precision_with_gradient():
    x = torch.full((1, 3, 2, 2), 0.5, dtype=torch.bfloat16, requires_grad=True)
    assert to_pil(x)[0].getpixel((0, 0)) == (128, 128, 128)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_to_pil_names_the_broken_image(bad):
    x = torch.zeros(3, 3, 2, 2)
    x[1, 0, 0, 0] = bad
    with pytest.raises(ValueError, match=r"images \[1\] of 3"):
        to_pil(x)


@pytest.mark.parametrize("shape", [(3, 4, 4), (1, 4, 4, 4), (1, 4, 4, 3)])
def test_to_pil_refuses_other_shapes(shape):
    # The annotation refuses some of these first where types are checked, with an error of its own.
    with pytest.raises(Exception, match=r"shape|type"):
        to_pil(torch.zeros(shape))


def test_to_tensor_lays_transparency_over_white():
    image = Image.new("RGBA", (2, 2), (255, 0, 0, 0))
    assert to_tensor(image).eq(1).all()


def test_to_tensor_refuses_mixed_sizes_and_nothing():
    with pytest.raises(ValueError, match="one size"):
        to_tensor([plain("red"), plain("red", (9, 6))])
    with pytest.raises(ValueError, match="no image"):
        to_tensor([])


def test_grid_places_images_row_by_row():
    image_grid = grid([plain("red"), plain("lime"), plain("blue")], columns=2, pad=2)
    assert image_grid.size == (2 + 2 * 10, 2 + 2 * 8)
    assert image_grid.getpixel((2, 2)) == (255, 0, 0)
    assert image_grid.getpixel((12, 2)) == (0, 255, 0)
    assert image_grid.getpixel((2, 10)) == (0, 0, 255)
    assert image_grid.getpixel((12, 10)) == (255, 255, 255)  # the empty cell
    assert image_grid.getpixel((0, 0)) == image_grid.getpixel((10, 2)) == (255, 255, 255)


def test_grid_labels_add_a_line_of_text_and_leave_images_alone():
    without, labeled = (grid([plain("red", (64, 64))] * 2, 2, labels=labels) for labels in (None, ["one", "x" * 99]))
    assert labeled.width == without.width
    text = np.asarray(labeled)[66:]
    assert (np.asarray(labeled)[2:66] == np.asarray(without)[2:66]).all()
    assert (text[:, 2:66] < 128).any()
    assert (text[:, 68:132] < 128).any()
    assert (text[:, 66:68] == 255).all()  # a long label stays in its cell


def test_grid_refuses_what_does_not_fit():
    with pytest.raises(ValueError, match="1 labels for 2"):
        grid([plain("red")] * 2, 2, labels=["a"])
    with pytest.raises(ValueError, match="at least one"):
        grid([], 2)


def video(n):
    return [plain((i * 255 // max(n - 1, 1), 0, 80), (8, 4)) for i in range(n)]


def durations(path):
    with Image.open(path) as gif:
        return [(gif.seek(i), gif.info["duration"])[1] for i in range(gif.n_frames)]


@pytest.mark.parametrize(("n", "seconds"), [(7, 1.0), (24, 4.0), (30, 1.0)])
def test_gif_keeps_all_frames_and_its_time(tmp_path, n, seconds):
    path = save_gif(video(n), tmp_path / "new" / "a.gif", seconds=seconds, size=32)
    times = durations(path)
    assert len(times) == n
    assert sum(times) == 1000 * seconds
    with Image.open(path) as gif:
        assert gif.size == (32, 16)
        assert gif.info["loop"] == 0


def test_gif_thins_what_browsers_cannot_play(tmp_path):
    times = durations(save_gif(video(200), tmp_path / "a.gif", seconds=1.0, size=16))
    assert len(times) <= 50
    assert min(times) >= 20
    assert sum(times) == 1000


def test_gif_of_one_frame_and_of_none(tmp_path):
    assert save_gif(video(1), tmp_path / "a.gif").exists()
    with pytest.raises(ValueError, match="at least one frame"):
        save_gif([], tmp_path / "b.gif")
    with pytest.raises(ValueError, match="positive duration"):
        save_gif(video(2), tmp_path / "b.gif", seconds=float("nan"))
