"""Compositing and resampling of RGBA emoji."""

import numpy as np
import pytest
import torch
from torch.nn import functional

from scoredistill.training import compose


def resample(image: torch.Tensor, size: int, scale=1.0, at=(0.5, 0.5), mirror=False) -> torch.Tensor:
    """A square image with its center at a point of a square of `size` pixels."""
    sides, middle, side = (size, image.shape[-1]), torch.tensor([0.5]), torch.tensor([scale])
    x = compose.resampling_weights(torch.tensor([at[0]]), middle, -side if mirror else side, sides)
    y = compose.resampling_weights(torch.tensor([at[1]]), middle, side, sides)
    return compose.resampled(image[None], x, y)[0]


def a_bar(color: int) -> torch.Tensor:
    rgba = np.zeros((1, 64, 64, 4), np.uint8)
    rgba[:, 12:52, 24:40] = (color, color, color, 255)
    return compose.premultiplied(rgba)


def test_premultiplied_colors_vanish_with_alpha():
    rgba = np.zeros((2, 3, 4, 4), np.uint8)
    rgba[0, 1, 2] = (255, 128, 0, 51)
    image = compose.premultiplied(rgba)
    assert image.shape == (2, 4, 3, 4)
    assert torch.allclose(
        image[0, :, 1, 2], torch.tensor([1.0, 128 / 255, 0.0, 1.0]) * 0.2 + torch.tensor([0, 0, 0, 0.0])
    )
    assert image.sum() == pytest.approx(0.2 * (2 + 128 / 255))


def test_compositing_keeps_opaque_colors_and_shows_the_background():
    image = compose.over(a_bar(230), compose.named_backgrounds(["blue"]))
    assert torch.allclose(image[0, :, 32, 32] * 255, torch.tensor([230.0, 230.0, 230.0]))
    assert torch.allclose(image[0, :, 0, 0], torch.tensor(compose.BACKGROUNDS["blue"]))


def test_background_colors_are_far_apart():
    colors = torch.tensor([(1.0, 1.0, 1.0), *compose.BACKGROUNDS.values()])
    distance = torch.cdist(colors, colors) + 9 * torch.eye(len(colors))
    assert distance.min() > 0.15
    assert 0 <= colors.min() <= colors.max() <= 1


def test_resampled_edges_do_not_darken():
    placed = compose.place(a_bar(250), torch.tensor([0.8]), torch.tensor([[0.1, 0.03]]), torch.ones(1))
    assert compose.over(placed, torch.ones(1, 3, 1, 1)).min() > 0.97
    averaged = resample(a_bar(250)[0], 50, 0.7, (0.43, 0.61))
    assert compose.over(averaged[None], torch.ones(1, 3, 1, 1)).min() > 0.97


def test_place_scales_moves_and_mirrors():
    image = torch.zeros(1, 1, 64, 64)
    image[..., 24:40, 40:48] = 1
    axis = (torch.arange(64) + 0.5) / 32 - 1
    y, x = torch.meshgrid(axis, axis, indexing="ij")

    def center(placed: torch.Tensor) -> tuple[float, float]:
        mass = placed[0, 0] / placed.sum()
        return float((mass * x).sum()), float((mass * y).sum())

    one = torch.ones(1)
    before = center(image)
    assert center(compose.place(image, one / 2, torch.zeros(1, 2), one)) == pytest.approx(
        [c / 2 for c in before], abs=1e-3
    )
    moved = compose.place(image, one, torch.tensor([[0.25, -0.5]]), one)
    assert center(moved) == pytest.approx((before[0] + 0.25, before[1] - 0.5), abs=1e-3)
    mirrored = compose.place(image, one, torch.tensor([[0.25, 0.0]]), -one)
    assert center(mirrored) == pytest.approx((0.25 - before[0], before[1]), abs=1e-3)


def test_resampling_to_the_same_place_changes_nothing(rng):
    image = torch.rand(4, 16, 16, generator=rng)
    assert torch.allclose(resample(image, 16), image, atol=1e-6)
    assert torch.allclose(resample(image, 16, mirror=True), image.flip(-1), atol=1e-6)


def test_whole_pixels_are_shifted_exactly(rng):
    image = torch.rand(4, 16, 16, generator=rng)
    moved = resample(image, 16, at=(0.5 + 3 / 16, 0.5 - 2 / 16))
    assert torch.allclose(moved[:, :14, 3:], image[:, 2:, :13], atol=1e-6)
    assert moved[:, 14:].abs().max() == moved[:, :, :3].abs().max() == 0


def test_halving_averages_squares_of_pixels(rng):
    image = torch.rand(4, 16, 16, generator=rng)
    assert torch.allclose(resample(image, 8), functional.avg_pool2d(image, 2), atol=1e-6)
    half = resample(image, 16, 0.5)
    assert torch.allclose(half[:, 4:12, 4:12], functional.avg_pool2d(image, 2), atol=1e-6)


@pytest.mark.parametrize("scale", [0.25, 0.4, 0.77])
def test_shrinking_keeps_the_mean_color_at_any_place_and_does_not_alias(scale):
    stripes = (torch.arange(64) % 2).float().expand(1, 64, 64).clone()
    for at in ((0.5, 0.5), (0.513, 0.481)):
        small = resample(stripes, 64, scale, at)
        assert float(small.sum()) == pytest.approx(scale**2 * float(stripes.sum()), rel=1e-4)
        inner = small[0, 30:35, 30:35]  # a box of 1 / scale pixels: between its stripes may be one half more or less
        assert (inner - 0.5).abs().max() <= min(0.5, scale / 2 + 1e-4)


def test_enlarging_interpolates_linearly():
    ramp = torch.arange(8.0).expand(1, 8, 8).clone()
    large = resample(ramp, 24)
    assert torch.allclose(large[0, 12, 2:-2], (torch.arange(2, 22) + 0.5) / 3 - 0.5, atol=1e-5)
