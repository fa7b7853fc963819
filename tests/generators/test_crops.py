"""Windows of another generator's images, and where their gradients go."""

import pytest
import torch

from scoredistill.generators import Pixels
from scoredistill.generators.crops import Crops


@pytest.fixture
def pixels(rng):
    return Pixels(2, (6, 9), rng=rng)


def test_windows_cover_the_images_from_border_to_border(pixels):
    crops = Crops(pixels, (6, 9), (4, 4), (2, 3))
    places = {tuple(place) for place in crops.views().tolist()}
    assert places == {(i, top, left) for i in (0, 1) for top in (0, 2) for left in (0, 2, 5)}  # 2.5 is rounded to even
    assert crops.views(3, torch.Generator().manual_seed(0)).shape == (3, 3)
    views = torch.tensor([[1, 2, 5]])
    torch.testing.assert_close(crops(views)[0], pixels.values[1, :, 2:6, 5:9])
    torch.testing.assert_close(crops.images(views, lambda x: 0 * x), crops(views))


def test_a_mask_lets_gradients_pass_in_part_and_changes_no_image(pixels):
    mask = torch.rand(1, 1, 6, 9)
    crops = Crops(pixels, (6, 9), (6, 9), (6, 9), mask)
    x = crops(crops.views())
    torch.testing.assert_close(x, pixels.values)
    x.backward(torch.ones_like(x))
    torch.testing.assert_close(pixels.values.grad, mask.expand(2, 3, -1, -1))


def test_windows_that_do_not_fit_are_refused(pixels):
    with pytest.raises(ValueError, match="10 x 4 do not fit into images of 6 x 9"):
        Crops(pixels, (6, 9), (10, 4), (2, 2))
