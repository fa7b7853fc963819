"""Distances of sets of images, against distributions with a known distance."""

import math

import pytest
import torch

from scoredistill.metrics import diversity, frechet_distance, kernel_distance, mmd


def normal(n, mean=0.0, scale=1.0, seed=0, f=3):
    return mean + scale * torch.randn(n, f, generator=torch.Generator().manual_seed(seed))


def test_the_frechet_distance_of_gaussians_is_their_wasserstein_distance():
    a, b = normal(50_000), normal(50_000, torch.tensor([1.0, 2.0, 0.0]), torch.tensor([2.0, 1.0, 0.5]), seed=1)
    assert frechet_distance(a, b) == pytest.approx(5 + 1 + 0.25, rel=0.02)
    rotation = torch.linalg.qr(normal(3, seed=2)).Q
    assert frechet_distance(a @ rotation, b @ rotation) == pytest.approx(frechet_distance(a, b), rel=1e-5)
    assert frechet_distance(a, a) == pytest.approx(0.0, abs=1e-6)


def test_the_frechet_distance_of_few_images_is_finite():
    assert frechet_distance(normal(4, f=64), normal(4, seed=1, f=64)) > 0


def test_the_kernel_distance_is_unbiased_and_sees_a_shift():
    same = torch.tensor([kernel_distance(normal(8, seed=2 * k), normal(8, seed=2 * k + 1)) for k in range(400)])
    assert abs(same.mean()) < 3 * same.std() / 20
    # E over both laws: for the kernel (xy + 1)^3 in one dimension, means 0 and m, unit variances
    m = 1.0
    moments = lambda c: torch.tensor([1.0, c, c**2 + 1, c**3 + 3 * c])
    weights = torch.tensor([1.0, 3.0, 3.0, 1.0])
    expected = (weights * (moments(0.0) - moments(m)).square()).sum()
    found = torch.tensor(
        [kernel_distance(normal(500, seed=k, f=1), normal(500, m, seed=k + 50, f=1)) for k in range(40)]
    )
    assert abs(found.mean() - expected) < 3 * found.std() / 40**0.5


def test_on_unit_features_kid_is_the_distance_of_means_and_a_narrow_kernel_sees_more():
    """Signed axes of 128 dimensions, one axis or all of them: the means are equal, the distributions are not.

    With a = 1/d and q = exp(-4/2h^2): E k is (1 + q) / 2 for one axis, and a (1 + q) / 2 + (1 - a) sqrt(q) otherwise.
    """
    d, h = 128, 0.5
    one = torch.eye(d)[:1].repeat(d, 1)
    same_mean = [torch.cat([axes, -axes]) for axes in (one, torch.eye(d))]
    shifted = [axes + 0.1 * torch.eye(d)[1] for axes in same_mean[:1]] + same_mean[1:]
    assert abs(kernel_distance(*same_mean)) < 3 / d**2
    assert kernel_distance(*(torch.nn.functional.normalize(x, dim=1) for x in shifted)) < 2 * 3 / d * 0.1**2
    q = math.exp(-4 / (2 * h**2))
    expected = (1 - 1 / d) * ((1 + q) / 2 - math.sqrt(q))
    assert mmd(*same_mean, h) == pytest.approx(expected, rel=0.02)  # each set holds its distribution once
    wide = mmd(*same_mean, 10.0)  # as in CMMD
    assert abs(wide) < 0.01 * mmd(*same_mean, h)


def test_diversity_is_the_mean_distance_of_pairs():
    square = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    assert diversity(square) == pytest.approx((4 + 2 * 2**0.5) / 6)
    assert diversity(torch.ones(5, 3)) == 0.0


def test_sets_that_have_no_distance_are_refused():
    with pytest.raises(ValueError, match="sets of 1 and 4 images are too small"):
        frechet_distance(normal(1), normal(4))
    with pytest.raises(ValueError, match="not finite"):
        kernel_distance(normal(4) / 0, normal(4))
