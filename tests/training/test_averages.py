"""Power-function averages, and their reconstruction from snapshots, against closed forms and direct averages."""

import math

import numpy as np
import pytest
import torch

from scoredistill.training import averages


class Point(torch.nn.Module):
    """A network of a few parameters."""

    def __init__(self, n=6):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(n, dtype=torch.float64))
        self.register_buffer("seen", torch.zeros(()))


@pytest.mark.parametrize("std", [0.01, 0.05, 0.1, 0.25])
def test_the_exponent_gives_the_length_of_the_average(std):
    g = averages.exponent(std)
    s = (np.arange(200_000) + 0.5) / 200_000
    p = (g + 1) * s**g / 200_000
    mean = (p * s).sum()
    assert (p.sum(), math.sqrt((p * (s - mean) ** 2).sum())) == pytest.approx((1, std), rel=1e-3)


def test_the_published_exponents():
    """Karras et al. 2024, section 3.1: 16.97 and 6.94 for lengths of 5 % and 10 %."""
    assert [averages.exponent(std) for std in (0.05, 0.10)] == pytest.approx([16.97, 6.94], abs=0.005)


@pytest.mark.parametrize("std", [0.0, 0.3])
def test_impossible_lengths_are_refused(std):
    with pytest.raises(ValueError, match=r"in \(0, 0.28\]"):
        averages.exponent(std)


def test_products_of_weights_are_their_integrals():
    s = (np.arange(100_000) + 0.5) / 100
    for t, g, u, h in ((400.0, 3.0, 1000.0, 7.0), (1000.0, 7.0, 400.0, 3.0), (500.0, 6.9, 500.0, 17.0)):
        weights = [(e + 1) / end * (s / end) ** e * (s < end) for end, e in ((t, g), (u, h))]
        assert averages.product(t, g, u, h) == pytest.approx((weights[0] * weights[1]).sum() / 100, rel=1e-3)


def test_an_average_of_a_power_of_time_is_its_closed_form():
    """(g + 1) / t^(g + 1) int s^g s^k ds = (g + 1) / (g + k + 1) t^k."""
    network, t = Point(), 4000
    kept = averages.Averages(network)
    powers = torch.arange(6, dtype=torch.float64)
    for step in range(1, t + 1):
        with torch.no_grad():
            network.weight.copy_((step / t) ** powers)
            network.seen.fill_(step)
        kept.update(network, step)
    for std, mean in kept.networks.items():
        g = averages.exponent(std)
        assert torch.allclose(mean.weight, (g + 1) / (g + powers + 1), atol=2e-3)
        assert mean.seen == t
        assert not mean.weight.requires_grad


@pytest.mark.parametrize("std", [0.05, 0.07, 0.12, 0.15, 0.2])
def test_any_length_is_reconstructed_from_snapshots(std, tmp_path):
    """Gradient descent with noise on a quadratic, averaged directly with the wanted length beside it."""
    network, t, rng = Point(), 2000, torch.Generator().manual_seed(0)
    rates = 0.002 * 2.0 ** torch.arange(6, dtype=torch.float64)
    kept, direct = averages.Averages(network), torch.zeros(6, dtype=torch.float64)
    with torch.no_grad():
        for step in range(1, t + 1):
            noise = torch.randn(6, generator=rng, dtype=torch.float64)
            network.weight -= rates * (network.weight - 1 + 0.1 * noise)
            kept.update(network, step)
            direct += (1 - (1 - 1 / step) ** (averages.exponent(std) + 1)) * (network.weight - direct)
            if step % 125 == 0:
                kept.snapshot(tmp_path, step, torch.float32)
    found = averages.reconstruct(tmp_path, network, std).weight
    others = [mean.weight for mean in kept.networks.values()]
    error = (found - direct).abs().max()
    assert error < 0.1 * (0.001 + min((other - direct).abs().max() for other in others))


def test_an_earlier_time_is_reconstructed_from_earlier_snapshots(tmp_path):
    network = Point()
    kept = averages.Averages(network)
    for step in range(1, 401):
        with torch.no_grad():
            network.weight.fill_(step / 400)
        kept.update(network, step)
        if step % 25 == 0:
            kept.snapshot(tmp_path, step, torch.float32)
    g = averages.exponent(0.08)
    found = averages.reconstruct(tmp_path, network, 0.08, time=200).weight
    assert torch.allclose(found, torch.full_like(found, 0.5 * (g + 1) / (g + 2)), atol=5e-3)


def test_later_snapshots_are_not_read(tmp_path):
    network = Point()
    kept = averages.Averages(network)
    for step in range(1, 81):
        with torch.no_grad():
            network.weight.fill_(1.0 if step <= 40 else float("nan"))
        kept.update(network, step)
        if step % 10 == 0:
            kept.snapshot(tmp_path, step, torch.float32)
    assert torch.allclose(
        averages.reconstruct(tmp_path, network, 0.08, time=40).weight, torch.ones(6).double(), atol=0.02
    )


def test_snapshots_that_are_missing_are_reported(tmp_path):
    with pytest.raises(FileNotFoundError, match="train with snapshots > 0"):
        averages.reconstruct(tmp_path, Point(), 0.1)
