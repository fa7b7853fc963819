"""Quaternions and rotation matrices: a known turn, round trips, and rotations that bring a direction to +z."""

import math

import pytest
import torch
from torch.nn.functional import normalize

from scoredistill.three_d.rotations import matrix_to_quaternion, quaternion_product, quaternion_to_matrix, rotation_to_z

DOUBLE = torch.float64


def test_a_quarter_turn_as_a_quaternion():
    half = math.sqrt(0.5)
    turned = quaternion_to_matrix(torch.tensor([half, 0.0, 0.0, half], dtype=DOUBLE))  # about z: x to y
    expected = torch.tensor([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]], dtype=DOUBLE)
    torch.testing.assert_close(turned, expected)
    torch.testing.assert_close(quaternion_to_matrix(5 * torch.tensor([half, 0.0, 0.0, half], dtype=DOUBLE)), expected)


def test_matrices_are_rotations_and_quaternions_come_back(rng):
    quaternions = torch.cat([torch.randn(50, 4, generator=rng, dtype=DOUBLE), torch.eye(4, dtype=DOUBLE)])
    matrices = quaternion_to_matrix(quaternions.reshape(6, 9, 4))
    torch.testing.assert_close(matrices @ matrices.mT, torch.eye(3, dtype=DOUBLE).expand_as(matrices))
    torch.testing.assert_close(torch.linalg.det(matrices), torch.ones(6, 9, dtype=DOUBLE))
    back = matrix_to_quaternion(matrices)
    assert (back[..., 0] >= 0).all()
    same = (back * normalize(quaternions, dim=-1).reshape(6, 9, 4)).sum(-1).abs()  # q and -q are one rotation
    torch.testing.assert_close(same, torch.ones_like(same))


@pytest.mark.parametrize("direction", [(0.0, 0.0, 1.0), (0.0, 0.0, -1.0), (0.6, 0.0, 0.8), (0.48, -0.64, -0.6)])
def test_the_smallest_rotation_takes_a_direction_to_z(direction):
    up = torch.tensor(direction, dtype=DOUBLE)
    turn = rotation_to_z(up)
    torch.testing.assert_close(turn @ up, torch.tensor([0.0, 0.0, 1.0], dtype=DOUBLE))
    torch.testing.assert_close(turn @ turn.T, torch.eye(3, dtype=DOUBLE))
    torch.testing.assert_close((turn.trace() - 1) / 2, up[2])  # the angle is that between the two directions


def test_products_of_quaternions_are_rotations_one_after_the_other(rng):
    a, b = torch.randn(2, 5, 4, generator=rng, dtype=torch.float64)
    product = quaternion_product(a, b)
    torch.testing.assert_close(
        quaternion_to_matrix(product), quaternion_to_matrix(a) @ quaternion_to_matrix(b), atol=1e-12, rtol=0
    )
    torch.testing.assert_close(product.norm(dim=1), a.norm(dim=1) * b.norm(dim=1))
    torch.testing.assert_close(quaternion_product(a[0], b)[3], quaternion_product(a[0], b[3]))
