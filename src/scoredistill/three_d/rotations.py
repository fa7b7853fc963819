r"""Rotations: quaternions to matrices and back, their products, and the smallest rotation that takes a direction to +z.

A quaternion (w, x, y, z) of length 1 stands for the rotation

    [ 1 - 2 (y^2 + z^2)   2 (x y - w z)       2 (x z + w y)     ]
    [ 2 (x y + w z)       1 - 2 (x^2 + z^2)   2 (y z - w x)     ]
    [ 2 (x z - w y)       2 (y z + w x)       1 - 2 (x^2 + y^2) ]

References: Bar-Itzhack (2000), New method for extracting the quaternion from a rotation matrix; Rodrigues' formula.
"""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize


def quaternion_to_matrix(quaternions: Float[Tensor, " *b 4"]) -> Float[Tensor, " *b 3 3"]:
    """Rotation matrices of quaternions (w, x, y, z), which are normalized first.

    Args:
        quaternions: of any length but 0; a quaternion of length 0 gives the identity.
    """
    w, x, y, z = normalize(quaternions, dim=-1).unbind(-1)
    rows = [
        1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y),
        2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x),
        2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y),
    ]  # fmt: skip
    return torch.stack(rows, -1).unflatten(-1, (3, 3))


def matrix_to_quaternion(matrices: Float[Tensor, " *b 3 3"]) -> Float[Tensor, " *b 4"]:
    """Unit quaternions (w, x, y, z), w >= 0, of rotation matrices.

    The quaternion is the eigenvector of Bar-Itzhack's symmetric matrix with the largest eigenvalue, which is well
    conditioned for every rotation.
    """
    a, b, c, d, e, f, g, h, i = matrices.flatten(-2).unbind(-1)
    symmetric = torch.stack(
        [
            a + e + i, h - f, c - g, d - b,
            h - f, a - e - i, b + d, c + g,
            c - g, b + d, e - a - i, f + h,
            d - b, c + g, f + h, i - a - e,
        ],
        -1,
    ).unflatten(-1, (4, 4))  # fmt: skip
    quaternions = torch.linalg.eigh(symmetric)[1][..., -1]
    return torch.where(quaternions[..., :1] >= 0, quaternions, -quaternions)


def quaternion_product(a: Float[Tensor, " *#b 4"], b: Float[Tensor, " *#b 4"]) -> Float[Tensor, " *b 4"]:
    """The product a b of quaternions (w, x, y, z): the rotation b, followed by a."""
    w, x, y, z = a.unbind(-1)
    p, q, r, s = b.unbind(-1)
    parts = [w * p - x * q - y * r - z * s, w * q + x * p + y * s - z * r]
    return torch.stack([*parts, w * r - x * s + y * p + z * q, w * s + x * r - y * q + z * p], -1)


def rotation_to_z(direction: Float[Tensor, " 3"]) -> Float[Tensor, "3 3"]:
    """The smallest rotation that takes a unit vector to +z; for -z, half a turn about x."""
    x, y, z = direction.tolist()
    if z < -1 + 1e-9:
        return torch.diag(direction.new_tensor([1.0, -1.0, -1.0]))
    cross = direction.new_tensor([[0, 0, -x], [0, 0, -y], [x, y, 0]])  # of the axis direction x z = (y, -x, 0)
    return torch.eye(3, dtype=direction.dtype) + cross + cross @ cross / (1 + z)
