"""Counting of operations, and rates."""

import torch

from scoredistill.training import throughput


def test_operations_of_products_and_convolutions_with_their_gradients():
    weight = torch.randn(8, 16, requires_grad=True)
    x = torch.randn(32, 16)
    assert throughput.operations(lambda: x @ weight.detach().T) == 2 * 32 * 16 * 8
    assert throughput.operations(lambda: (x @ weight.T).sum().backward()) == 2 * 2 * 32 * 16 * 8
    kernel, image = torch.randn(4, 3, 3, 3), torch.randn(1, 3, 8, 8)
    assert throughput.operations(lambda: torch.nn.functional.conv2d(image, kernel, padding=1)) == 2 * 64 * 4 * 27


def test_the_peak_is_a_rate_of_large_products():
    assert throughput.peak(torch.float32, side=128, repetitions=2) > 1e7


def test_instructions_are_known_ones():
    assert set(throughput.bfloat16_instructions()) <= set(throughput.INSTRUCTIONS)
